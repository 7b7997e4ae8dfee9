"""The configuration payload (RFC 7296 sections 2.19, 3.15): virtual addresses and DNS servers."""

from collections import Counter
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address

from espudp.errors import PeerError
from espudp.ike.identity import Identity
from espudp.ike.pool import AddressPool
from espudp.wire.ikev2.constants import CfgAttribute, CfgType, NotifyType
from espudp.wire.ikev2.payloads import Configuration

_ADDRESS = {4: CfgAttribute.INTERNAL_IP4_ADDRESS, 6: CfgAttribute.INTERNAL_IP6_ADDRESS}
_DNS = {4: CfgAttribute.INTERNAL_IP4_DNS, 6: CfgAttribute.INTERNAL_IP6_DNS}

# RFC 7296 section 3.15.1: an IPv6 address is followed by a prefix length; we hand out single addresses.
_IPV6_OCTETS = 16
_HOST_PREFIX = b"\x80"

# Our bound on what a peer may tell us.
_MAX_DNS = 8


def request(addresses: Sequence[str]) -> Configuration:
    """CFG_REQUEST for `any4`, `any6` or addresses that we had before, and for DNS servers."""
    attributes: list[tuple[int, bytes]] = []
    versions = []
    for wanted in addresses:
        version = _version(wanted)
        value = b"" if wanted in ("any4", "any6") else _encode(wanted)
        attributes.append((_ADDRESS[version], value))
        versions.append(version)
    attributes += [(_DNS[version], b"") for version in dict.fromkeys(versions)]
    return Configuration(CfgType.REQUEST, tuple(attributes))


def wants_address(asked: Configuration | None) -> bool:
    """Whether this asks for a virtual address at all."""
    if asked is None or asked.cfg_type != CfgType.REQUEST:
        return False
    return any(type_ in _ADDRESS.values() for type_, _ in asked.attributes)


def assign(asked: Configuration, pool: AddressPool, identity: Identity, connection: int) -> tuple[str, ...]:
    """An address of each version that is asked for and in the pool. Raises PeerError if there is none."""
    assigned = []
    for version, attribute in _ADDRESS.items():
        wanted = asked.values(attribute)
        if wanted:
            given = pool.assign(identity, connection, version=version, requested=_decode(wanted[0]))
            assigned += [given] if given is not None else []
    if not assigned:
        raise PeerError(
            "the pool has no address left for this peer",
            notify=NotifyType.INTERNAL_ADDRESS_FAILURE,
            remedy="Make the pool larger, or add one of the IP version that the peer asks for.",
        )
    return tuple(assigned)


def reply(asked: Configuration, addresses: Sequence[str], dns: Sequence[str]) -> Configuration:
    """CFG_REPLY: the addresses, and the DNS servers if they were asked for."""
    attributes: list[tuple[int, bytes]] = []
    for address in addresses:
        attributes.append((_ADDRESS[ip_address(address).version], _encode(address)))
    for server in dns:
        packed = ip_address(server)
        if asked.values(_DNS[packed.version]):
            attributes.append((_DNS[packed.version], packed.packed))
    return Configuration(CfgType.REPLY, tuple(attributes))


def read_reply(given: Configuration | None, asked: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Our addresses and DNS servers, as the peer says; nothing if it says nothing that can be used.

    `asked` is what `request` got: of each IP version no more addresses are taken than were asked for.
    """
    if given is None or given.cfg_type != CfgType.REPLY:
        return (), ()
    addresses = [_decode(v) for kind in _ADDRESS.values() for v in given.values(kind) if v]
    servers = [_decode(v) for kind in _DNS.values() for v in given.values(kind) if v]
    room = Counter(_version(address) for address in asked)
    taken: list[str] = []
    for address in dict.fromkeys(filter(_usable, addresses)):
        version = _version(address)
        if room[version]:
            room[version] -= 1
            taken.append(address)
    return tuple(taken), tuple(dict.fromkeys(servers))[:_MAX_DNS]


def _version(address: str) -> int:
    return int(address[-1]) if address in ("any4", "any6") else ip_address(address).version


def _usable(address: str) -> bool:
    ip = ip_address(address)
    return not (ip.is_unspecified or ip.is_loopback or ip.is_multicast)


def _encode(address: str) -> bytes:
    ip = ip_address(address)
    return ip.packed + _HOST_PREFIX if isinstance(ip, IPv6Address) else ip.packed


def _decode(value: bytes) -> str:
    """The payload's parser has checked the sizes: empty, 4, or 16 and perhaps a prefix length."""
    return str(ip_address(value[:_IPV6_OCTETS])) if value else ""
