"""The client identifiers of quick mode, IDci and IDcr, and the traffic they stand for (RFC 2407 4.6.2).

There is one for each side: an address, a subnet or a range, and perhaps one protocol and one port. Without
them an SA is for the two peers themselves (RFC 2409 section 5.5).
"""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from espudp.errors import ConfigError, PeerError, WireError
from espudp.wire.ikev1.constants import IdType, NotifyType, name_of_id_type
from espudp.wire.ikev1.payloads import Identification
from espudp.wire.selectors import ALL_PORTS, MAX_PORT, TrafficSelector

_ADDRESSES = (IdType.IPV4_ADDR, IdType.IPV6_ADDR)
_SUBNETS = (IdType.IPV4_ADDR_SUBNET, IdType.IPV6_ADDR_SUBNET)
_RANGES = (IdType.IPV4_ADDR_RANGE, IdType.IPV6_ADDR_RANGE)


def identification_of(selector: TrafficSelector) -> Identification:
    """Raises ConfigError for what has no identifier: several ports, but not all."""
    if selector.ports == ALL_PORTS:
        port = 0
    elif selector.first_port == selector.last_port:
        port = selector.first_port
    else:
        raise ConfigError(
            f"IKEv1 cannot say {selector}",
            field="subnet",
            remedy="Name one port, or leave it out for all of them.",
        )
    v6 = selector.version == 6
    networks = selector.networks()
    if selector.first == selector.last:
        kind, data = _ADDRESSES[v6], selector.first.packed
    elif len(networks) == 1:
        kind, data = _SUBNETS[v6], networks[0].network_address.packed + networks[0].netmask.packed
    else:
        kind, data = _RANGES[v6], selector.first.packed + selector.last.packed
    return Identification(kind, data, selector.protocol, port)


def selector_of(identification: Identification) -> TrafficSelector:
    """The traffic that a peer means. Raises PeerError for names and for addresses that are none."""
    kind, data = identification.id_type, identification.data
    try:
        if kind in _ADDRESSES:
            return at(identification, str(ip_address(data)))
        half = len(data) // 2
        first, last = data[:half], data[half:]
        if kind in _SUBNETS:
            return _of(identification, *_network(first, last))
        if kind in _RANGES:
            return _of(identification, ip_address(first), ip_address(last))
    except (ValueError, WireError) as error:
        raise refused(f"{name_of_id_type(kind)} of {data.hex()}: {error}") from None
    raise refused(f"traffic cannot be told by {name_of_id_type(kind)}")


def at(identification: Identification, address: str) -> TrafficSelector:
    """The traffic of one address, with the identifier's protocol and port: of transport mode, where the
    address in the identifier is one that only the sender knows, or none at all.
    """
    host = ip_address(address)
    return _of(identification, host, host)


def is_name(identification: Identification) -> bool:
    """Whether it tells no address. Old Windows says its host name, behind a NAT."""
    return identification.id_type not in (*_ADDRESSES, *_SUBNETS, *_RANGES)


def refused(text: str) -> PeerError:
    """RFC 2409 section 5.5: identifiers that are not acceptable."""
    return PeerError(text, notify=NotifyType.INVALID_ID_INFORMATION)


def _of(
    identification: Identification, first: IPv4Address | IPv6Address, last: IPv4Address | IPv6Address
) -> TrafficSelector:
    # RFC 2407 section 4.6.2: zero is any.
    ports = (identification.port, identification.port) if identification.port else (0, MAX_PORT)
    return TrafficSelector.from_octets(first.packed, last.packed, identification.protocol, *ports)


def _network(address: bytes, mask: bytes) -> tuple[IPv4Address | IPv6Address, IPv4Address | IPv6Address]:
    """Raises ValueError for a mask with holes."""
    bits = int.from_bytes(mask)
    length = bits.bit_count()
    if bits != (1 << 8 * len(mask)) - (1 << 8 * len(mask) - length):
        raise ValueError("a mask with holes")
    network = ip_network((address, length), strict=False)
    return network.network_address, network.broadcast_address
