"""The configuration payload (RFC 7296 sections 2.19, 2.20, 3.15; split DNS: RFC 8598).

Whoever dials asks for addresses and for what goes with them (`request`, `read_reply`); whoever listens hands
them out (`assign`, `reply`). Attributes that nobody here knows are passed over.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from espudp.errors import PeerError
from espudp.ike.given import APPLICATION, NOTHING, Given, ipv4_network, is_usable, printable
from espudp.ike.handout import Handout, TrustAnchor, domain_name
from espudp.ike.pool import AddressPool, Holder
from espudp.wire.ikev2.constants import CfgAttribute, CfgType, NotifyType
from espudp.wire.ikev2.payloads import Configuration

_ADDRESS = {4: CfgAttribute.INTERNAL_IP4_ADDRESS, 6: CfgAttribute.INTERNAL_IP6_ADDRESS}
_DNS = {4: CfgAttribute.INTERNAL_IP4_DNS, 6: CfgAttribute.INTERNAL_IP6_DNS}
_SUBNET = {4: CfgAttribute.INTERNAL_IP4_SUBNET, 6: CfgAttribute.INTERNAL_IP6_SUBNET}

# RFC 7296 section 3.15.1, SUPPORTED_ATTRIBUTES: what we have an answer to.
_SUPPORTED = (
    *_ADDRESS.values(),
    *_DNS.values(),
    *_SUBNET.values(),
    CfgAttribute.INTERNAL_IP4_NETMASK,
    CfgAttribute.APPLICATION_VERSION,
    CfgAttribute.SUPPORTED_ATTRIBUTES,
    CfgAttribute.INTERNAL_DNS_DOMAIN,
)

# RFC 7296 section 3.15.1: an IPv6 address is followed by a prefix length; we hand out single addresses.
_IPV6_OCTETS = 16
_HOST_PREFIX = b"\x80"

# Our bounds on what a peer may tell us
_MAX_DNS = 8
_MAX_DOMAINS = 32
_MAX_SUBNETS = 64
_MAX_TEXT = 128

# RFC 8598 section 4.2: key tag, algorithm and digest type stand in front of the digest.
_DIGEST_AT = 4

_Pairs = Iterator[tuple[int, bytes]]


# Who dials


def request(addresses: Sequence[str]) -> Configuration:
    """CFG_REQUEST for `any4`, `any6` or addresses that we had before, and for what goes with them."""
    attributes: list[tuple[int, bytes]] = []
    versions = []
    for wanted in addresses:
        version = _version(wanted)
        value = b"" if wanted in ("any4", "any6") else _encode(wanted)
        attributes.append((_ADDRESS[version], value))
        versions.append(version)
    for version in dict.fromkeys(versions):
        attributes += [(_DNS[version], b""), (_SUBNET[version], b"")]
    # RFC 8598 section 3.1: without it there is no split DNS. We take no trust anchors, and ask for none.
    attributes += [(CfgAttribute.INTERNAL_DNS_DOMAIN, b""), (CfgAttribute.APPLICATION_VERSION, b"")]
    return Configuration(CfgType.REQUEST, tuple(attributes))


def read_reply(given: Configuration | None, asked: Sequence[str]) -> Given:
    """What the peer says; nothing if it says nothing that can be used.

    `asked` is what `request` got: of each IP version no more addresses are taken than were asked for.
    """
    if given is None or given.cfg_type != CfgType.REPLY:
        return NOTHING
    servers = filter(is_usable, _addresses(given, _DNS))
    dns = tuple(dict.fromkeys(servers))[:_MAX_DNS]
    # RFC 8598 section 3.2: domains without a server to ask about them mean nothing.
    domains, anchors = _split_dns(given) if dns else ((), ())
    return Given(
        _taken(_addresses(given, _ADDRESS), asked),
        dns,
        domains,
        anchors,
        tuple(dict.fromkeys(_subnets(given)))[:_MAX_SUBNETS],
        _application(given),
    )


def _taken(offered: Iterator[str], asked: Sequence[str]) -> tuple[str, ...]:
    room = Counter(_version(address) for address in asked)
    taken: list[str] = []
    for address in dict.fromkeys(filter(is_usable, offered)):
        version = _version(address)
        if room[version]:
            room[version] -= 1
            taken.append(address)
    return tuple(taken)


def _split_dns(given: Configuration) -> tuple[tuple[str, ...], tuple[TrustAnchor, ...]]:
    """RFC 8598 section 4.2: a trust anchor belongs to the domain right in front of it, or to none."""
    domains: dict[str, None] = {}
    anchors: list[TrustAnchor] = []
    domain: str | None = None
    for type_, value in given.attributes:
        if type_ == CfgAttribute.INTERNAL_DNS_DOMAIN:
            domain = domain_name(value) if len(domains) < _MAX_DOMAINS else None
            if domain is not None:
                domains[domain] = None
        elif type_ == CfgAttribute.INTERNAL_DNSSEC_TA and domain is not None and value:
            tag, digest = int.from_bytes(value[:2]), value[_DIGEST_AT:]
            if len(anchors) < _MAX_DOMAINS:
                anchors.append(TrustAnchor(domain, tag, value[2], value[3], digest))
        else:
            domain = None
    return tuple(domains), tuple(anchors)


def _subnets(given: Configuration) -> Iterator[str]:
    """RFC 7296 section 3.15.2: an address with its netmask says the same as a subnet."""
    for value in given.values(_SUBNET[4]):
        yield from _network(value[:4], value[4:])
    for value in given.values(_SUBNET[6]):
        yield from _network(value[:_IPV6_OCTETS], value[_IPV6_OCTETS:])
    masks, addresses = given.values(CfgAttribute.INTERNAL_IP4_NETMASK), given.values(_ADDRESS[4])
    if masks and addresses:
        yield from _network(addresses[0], masks[0])


def _network(address: bytes, mask: bytes) -> Iterator[str]:
    """Nothing where the mask has holes, or is longer than the address, or is that of a host."""
    if not address or not mask:
        return
    try:
        if len(address) == _IPV6_OCTETS:
            six = IPv6Network((address, mask[0]), strict=False)
            yield from [] if six.num_addresses == 1 else [str(six)]
        else:
            four = ipv4_network(address, mask)
            yield from [] if four is None or four.num_addresses == 1 else [str(four)]
    except ValueError:
        return


def _application(given: Configuration) -> str:
    """Only what can be shown as it is (RFC 7296 section 2.20)."""
    for value in given.values(CfgAttribute.APPLICATION_VERSION):
        return printable(value[:_MAX_TEXT])
    return ""


# Who listens


def wants_address(asked: Configuration | None) -> bool:
    """Whether this asks for a virtual address at all."""
    if asked is None or asked.cfg_type != CfgType.REQUEST:
        return False
    return any(type_ in _ADDRESS.values() for type_, _ in asked.attributes)


def assign(
    asked: Configuration,
    pool: AddressPool,
    holder: Holder,
    connection: int,
    within: Sequence[IPv4Network | IPv6Network],
) -> tuple[str, ...]:
    """The addresses that are asked for, of each version as many as there are in the pool.

    `within` are those of its networks that are for this peer. Raises PeerError if there is none.
    """
    wanted = {
        version: [_decode(value) for value in asked.values(attribute)]
        for version, attribute in _ADDRESS.items()
    }
    assigned = pool.assign_each(holder, connection, wanted, within)
    if not assigned:
        raise PeerError(
            "the pool has no address left for this peer",
            notify=NotifyType.INTERNAL_ADDRESS_FAILURE,
            remedy="Make the pool larger, or add one of the IP version that the peer asks for.",
        )
    return assigned


def reply(asked: Configuration, addresses: Sequence[str], handout: Handout) -> Configuration:
    """CFG_REPLY: the addresses, and of the rest what was asked for."""
    attributes = [*_addresses_for(addresses), *_netmask(asked, addresses, handout), *_dns(asked, handout)]
    for network in handout.subnets:
        if asked.values(_SUBNET[network.version]):
            mask = bytes([network.prefixlen]) if network.version == 6 else network.netmask.packed
            attributes.append((_SUBNET[network.version], network.network_address.packed + mask))
    return Configuration(CfgType.REPLY, (*attributes, *_about_us(asked)))


def answer(asked: Configuration | None, addresses: Sequence[str], handout: Handout) -> list[Configuration]:
    """What goes into the answer to a configuration payload after IKE_AUTH; perhaps nothing.

    Some peers ask for their addresses again with each child SA: they get those that they have.
    """
    if asked is None:
        return []
    if asked.cfg_type == CfgType.SET:
        # RFC 7296 section 3.15: we let nobody configure us, which an empty CFG_ACK says.
        return [Configuration(CfgType.ACK)]
    if asked.cfg_type != CfgType.REQUEST:
        return []
    return [reply(asked, addresses if wants_address(asked) else (), handout)]


def _addresses_for(addresses: Sequence[str]) -> _Pairs:
    for address in addresses:
        yield _ADDRESS[ip_address(address).version], _encode(address)


def _netmask(asked: Configuration, addresses: Sequence[str], handout: Handout) -> _Pairs:
    """RFC 7296 section 3.15.1: one at most, and only beside an address."""
    if not asked.values(CfgAttribute.INTERNAL_IP4_NETMASK):
        return
    for address in map(ip_address, addresses):
        for network in handout.pools:
            if isinstance(address, IPv4Address) and address in network:
                yield CfgAttribute.INTERNAL_IP4_NETMASK, network.netmask.packed
                return


def _dns(asked: Configuration, handout: Handout) -> _Pairs:
    told = False
    for server in map(ip_address, handout.dns):
        if asked.values(_DNS[server.version]):
            told = True
            yield _DNS[server.version], server.packed
    # RFC 8598 sections 3.1 and 3.2: only to who understands it, and not without a server.
    if told and asked.values(CfgAttribute.INTERNAL_DNS_DOMAIN):
        for domain in handout.domains:
            yield CfgAttribute.INTERNAL_DNS_DOMAIN, domain.encode()


def _about_us(asked: Configuration) -> _Pairs:
    if asked.values(CfgAttribute.APPLICATION_VERSION):
        yield CfgAttribute.APPLICATION_VERSION, APPLICATION.encode()
    if asked.values(CfgAttribute.SUPPORTED_ATTRIBUTES):
        supported = b"".join(attribute.to_bytes(2) for attribute in sorted(_SUPPORTED))
        yield CfgAttribute.SUPPORTED_ATTRIBUTES, supported


# Both


def _addresses(given: Configuration, kinds: dict[int, CfgAttribute]) -> Iterator[str]:
    for kind in kinds.values():
        yield from (_decode(value) for value in given.values(kind) if value)


def _version(address: str) -> int:
    return int(address[-1]) if address in ("any4", "any6") else ip_address(address).version


def _encode(address: str) -> bytes:
    ip = ip_address(address)
    return ip.packed + _HOST_PREFIX if isinstance(ip, IPv6Address) else ip.packed


def _decode(value: bytes) -> str:
    """The payload's parser has checked the sizes: empty, 4, or 16 and perhaps a prefix length."""
    return str(ip_address(value[:_IPV6_OCTETS])) if value else ""
