"""What mode config carries (draft-dukes-ike-mode-cfg-02): what IKEv2's configuration payload does, and Unity.

Whoever dials asks (`request`, `read`), or is told without asking; whoever listens answers (`reply`) or
tells (`everything`). Attributes that nobody here knows are passed over, and so are those of a wrong size.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv6Network, ip_address

from espudp.ike.given import APPLICATION, Given, ipv4_network, is_usable, printable
from espudp.ike.handout import Handout
from espudp.ike.ikev1_config import Ikev1Policy
from espudp.ike.v1 import unity
from espudp.wire.ikev1.attributes import Attribute
from espudp.wire.ikev1.constants import CfgAttribute, CfgType
from espudp.wire.ikev1.payloads import Attributes

_ADDRESS = {4: CfgAttribute.INTERNAL_IP4_ADDRESS, 6: CfgAttribute.INTERNAL_IP6_ADDRESS}
_DNS = {4: CfgAttribute.INTERNAL_IP4_DNS, 6: CfgAttribute.INTERNAL_IP6_DNS}
_SUBNET = {4: CfgAttribute.INTERNAL_IP4_SUBNET, 6: CfgAttribute.INTERNAL_IP6_SUBNET}
_OCTETS = {4: 4, 6: 16}

# What we have an answer to, and ask for: of Unity only that from which something follows here. The exclusion
# of local networks is not asked for: what leaves the tunnel is this side's to decide.
_UNITY = (
    CfgAttribute.UNITY_BANNER,
    CfgAttribute.UNITY_DEFAULT_DOMAIN,
    CfgAttribute.UNITY_SPLIT_DNS,
    CfgAttribute.UNITY_SPLIT_INCLUDE,
)
_SUPPORTED = (
    *_ADDRESS.values(),
    *_DNS.values(),
    *_SUBNET.values(),
    CfgAttribute.INTERNAL_IP4_NETMASK,
    CfgAttribute.APPLICATION_VERSION,
    CfgAttribute.SUPPORTED_ATTRIBUTES,
    *_UNITY,
    CfgAttribute.UNITY_SAVE_PASSWORD,
    CfgAttribute.UNITY_BACKUP_SERVERS,
)

# Some send an IPv6 address with a prefix length behind it, as IKEv2 does.
_PREFIX_AT = 16
_HOST_PREFIX = b"\x80"

# Our bounds on what a peer may tell us
_MAX_DNS = 8
_MAX_TEXT = 128
_MAX_SUBNETS = 64

_Attributes = Iterator[Attribute]


# Who dials


def request(addresses: Sequence[str], *, cisco: bool) -> tuple[Attribute, ...]:
    """REQUEST for `any4`, `any6` or addresses that we had before, and for what goes with them. `cisco`: the
    peer knows Unity."""
    asked: list[Attribute] = []
    for wanted in addresses:
        value = b"" if wanted in ("any4", "any6") else ip_address(wanted).packed
        asked.append(Attribute(_ADDRESS[_version(wanted)], value))
    versions = dict.fromkeys(map(_version, addresses))
    kinds: list[int] = [CfgAttribute.INTERNAL_IP4_NETMASK] if 4 in versions else []
    for version in versions:
        kinds += [_DNS[version], _SUBNET[version]]
    kinds += _UNITY if cisco else ()
    asked += [Attribute(kind, b"") for kind in kinds]
    return (*asked, Attribute(CfgAttribute.APPLICATION_VERSION, APPLICATION.encode()))


def read(told: Attributes, asked: Sequence[str]) -> Given:
    """What the peer says. `asked` are the addresses that we want: of each IP version no more are taken."""
    dns = tuple(dict.fromkeys(filter(is_usable, _addresses(told, _DNS))))[:_MAX_DNS]
    domains: tuple[str, ...] = ()
    if dns and any(told.values(CfgAttribute.UNITY_SPLIT_DNS)):
        # The default domain is one of names to complete; alone it says nothing of what the servers are for.
        domains = unity.read_domains(
            [
                *told.values(CfgAttribute.UNITY_SPLIT_DNS),
                *told.values(CfgAttribute.UNITY_DEFAULT_DOMAIN),
            ]
        )
    return Given(
        _taken(_addresses(told, _ADDRESS), asked),
        dns,
        domains,
        subnets=tuple(dict.fromkeys(_subnets(told)))[:_MAX_SUBNETS],
        application=_text(told, CfgAttribute.APPLICATION_VERSION),
        banner=unity.banner_text(b"\n".join(told.values(CfgAttribute.UNITY_BANNER))),
        split_include=unity.read_networks(told.values(CfgAttribute.UNITY_SPLIT_INCLUDE)),
    )


def _taken(offered: Iterator[str], asked: Sequence[str]) -> tuple[str, ...]:
    room = Counter(map(_version, asked))
    taken: list[str] = []
    for address in dict.fromkeys(filter(is_usable, offered)):
        version = _version(address)
        if room[version]:
            room[version] -= 1
            taken.append(address)
    return tuple(taken)


def _subnets(told: Attributes) -> Iterator[str]:
    """A netmask beside the address says the same as a subnet; one of a host says nothing."""
    masks = told.values(CfgAttribute.INTERNAL_IP4_NETMASK)
    pairs = [(value[:4], value[4:]) for value in told.values(_SUBNET[4])]
    pairs += list(zip(told.values(_ADDRESS[4]), masks, strict=False))
    for address, mask in pairs:
        network = ipv4_network(address, mask)
        if network is not None and network.num_addresses > 1:
            yield str(network)
    for value in told.values(_SUBNET[6]):
        if len(value) == _PREFIX_AT + 1 and value[_PREFIX_AT] < 128:
            yield str(IPv6Network((value[:_PREFIX_AT], value[_PREFIX_AT]), strict=False))


def _text(told: Attributes, kind: int) -> str:
    return next((printable(value[:_MAX_TEXT]) for value in told.values(kind)), "")


# Who listens


def wants_address(asked: Attributes) -> bool:
    """Whether this asks for a virtual address at all."""
    return any(asked.values(kind) for kind in _ADDRESS.values())


def wanted_addresses(asked: Attributes) -> dict[int, list[str]]:
    """Of each IP version, the addresses that the peer asks for, "" for any."""
    return {
        version: [_decode(value, version) for value in asked.values(kind)]
        for version, kind in _ADDRESS.items()
    }


def reply(
    asked: Attributes, addresses: Sequence[str], handout: Handout, policy: Ikev1Policy
) -> tuple[Attribute, ...]:
    """The addresses, and of the rest what was asked for."""
    kinds = {attribute.type for attribute in asked.attributes}
    supported = b"".join(kind.to_bytes(2, "big") for kind in sorted(_SUPPORTED))
    all_of_it = everything(addresses, handout, policy, cisco=True)
    told = [a for a in all_of_it if a.type in kinds or a.type in _ADDRESS.values()]
    if CfgAttribute.SUPPORTED_ATTRIBUTES in kinds:
        told.append(Attribute(CfgAttribute.SUPPORTED_ATTRIBUTES, supported))
    return tuple(told)


def everything(
    addresses: Sequence[str], handout: Handout, policy: Ikev1Policy, *, cisco: bool
) -> _Attributes:
    """All that there is to tell, as a SET has it. `cisco`: the peer knows Unity."""
    for address in map(ip_address, addresses):
        suffix = _HOST_PREFIX if address.version == 6 else b""
        yield Attribute(_ADDRESS[address.version], address.packed + suffix)
    yield from _netmask(addresses, handout)
    for server in map(ip_address, handout.dns):
        yield Attribute(_DNS[server.version], server.packed)
    # One attribute each, and peers take so many. Unity's, which clients go by, are all in one.
    for network in handout.subnets if len(handout.subnets) <= _MAX_SUBNETS else ():
        mask = bytes([network.prefixlen]) if network.version == 6 else network.netmask.packed
        yield Attribute(_SUBNET[network.version], network.network_address.packed + mask)
    yield Attribute(CfgAttribute.APPLICATION_VERSION, APPLICATION.encode())
    yield from _of_unity(handout, policy) if cisco else ()


def _netmask(addresses: Sequence[str], handout: Handout) -> _Attributes:
    """One at most, and only beside an address: that of its pool."""
    for address in map(ip_address, addresses):
        for network in handout.pools:
            if isinstance(address, IPv4Address) and address in network:
                yield Attribute(CfgAttribute.INTERNAL_IP4_NETMASK, network.netmask.packed)
                return


def _of_unity(handout: Handout, policy: Ikev1Policy) -> _Attributes:
    values = {
        CfgAttribute.UNITY_BANNER: policy.banner.encode(),
        CfgAttribute.UNITY_DEFAULT_DOMAIN: unity.names_value(handout.domains[:1]),
        CfgAttribute.UNITY_SPLIT_DNS: unity.names_value(handout.domains if handout.dns else ()),
        CfgAttribute.UNITY_SPLIT_INCLUDE: unity.networks_value(handout.subnets),
        CfgAttribute.UNITY_BACKUP_SERVERS: unity.names_value(policy.backup_servers),
    }
    for kind, value in values.items():
        if value:
            yield Attribute(kind, value)
    yield Attribute.of(CfgAttribute.UNITY_SAVE_PASSWORD, int(policy.save_password))


# Both


def answer_to_set(told: Attributes, taken: Callable[[int], bool]) -> Attributes:
    """ACK (draft section 3.3): the attributes that are taken, without their values."""
    kinds = dict.fromkeys(attribute.type for attribute in told.attributes if taken(attribute.type))
    return Attributes(CfgType.ACK, told.identifier, tuple(Attribute(kind, b"") for kind in kinds))


def is_known(kind: int) -> bool:
    """Whether we make anything of an attribute, as who dials."""
    return kind in _SUPPORTED


def _addresses(told: Attributes, kinds: dict[int, CfgAttribute]) -> Iterator[str]:
    for version, kind in kinds.items():
        yield from filter(None, (_decode(value, version) for value in told.values(kind)))


def _decode(value: bytes, version: int) -> str:
    octets = _OCTETS[version]
    if len(value) == octets or (version == 6 and len(value) == octets + 1):
        return str(ip_address(value[:octets]))
    return ""


def _version(address: str) -> int:
    return int(address[-1]) if address in ("any4", "any6") else ip_address(address).version
