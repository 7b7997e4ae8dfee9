"""Traffic selectors: which packets an SA may carry (RFC 4301 section 4.4.1.1, RFC 7296 section 2.9)."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

from espudp.errors import WireError

ANY_PROTOCOL = 0
MAX_PORT = 0xFFFF
# RFC 4301 section 4.4.1.1, RFC 7296 section 3.13.1
ALL_PORTS = (0, MAX_PORT)
OPAQUE = (MAX_PORT, 0)

# IANA, Assigned Internet Protocol Numbers: those that people know by name.
_PROTOCOL_NAMES = {0: "any", 1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp", 132: "sctp"}


@dataclass(frozen=True, slots=True)
class TrafficSelector:
    """One contiguous range of addresses, one protocol (0: any) and one range of ports.

    `first` and `last` are both IPv4 or both IPv6 and inclusive, as are the ports. For ICMP the "port"
    is type * 256 + code (RFC 7296 section 3.13.1). A port range of 65535-0 means OPAQUE
    (RFC 4301 section 4.4.1.1): packets whose ports cannot be seen, such as later fragments. All ports
    include OPAQUE; any narrower range does not.
    """

    first: ipaddress.IPv4Address | ipaddress.IPv6Address
    last: ipaddress.IPv4Address | ipaddress.IPv6Address
    protocol: int = ANY_PROTOCOL
    first_port: int = 0
    last_port: int = MAX_PORT

    @classmethod
    def from_network(cls, cidr: str) -> Self:
        """A selector for every packet of a network such as `10.1.0.0/16`. Raises ValueError."""
        network = ipaddress.ip_network(cidr, strict=False)
        return cls(network.network_address, network.broadcast_address)

    @classmethod
    def from_octets(cls, first: bytes, last: bytes, protocol: int, first_port: int, last_port: int) -> Self:
        """Addresses as 4 or 16 octets. Raises WireError if a range is backwards or mixes families."""
        if len(first) != len(last) or len(first) not in (4, 16):
            raise WireError("traffic selector with mismatched addresses")
        if first > last:
            raise WireError("traffic selector whose range runs backwards")
        if first_port > last_port and (first_port, last_port) != OPAQUE:
            raise WireError("traffic selector whose ports run backwards")
        return cls(ipaddress.ip_address(first), ipaddress.ip_address(last), protocol, first_port, last_port)

    @property
    def version(self) -> int:
        """4 or 6."""
        return self.first.version

    @property
    def is_host(self) -> bool:
        """One address, any protocol and port."""
        return self.first == self.last and self.any_traffic

    @property
    def any_traffic(self) -> bool:
        """No restriction beyond the addresses."""
        return self.protocol == ANY_PROTOCOL and self.ports == ALL_PORTS

    @property
    def ports(self) -> tuple[int, int]:
        """First and last port."""
        return self.first_port, self.last_port

    @property
    def is_opaque(self) -> bool:
        """Only packets whose ports cannot be seen."""
        return self.ports == OPAQUE

    def contains(self, other: "TrafficSelector") -> bool:
        """Whether every packet of `other` is one of ours."""
        return self.intersect(other) == other

    def intersect(self, other: "TrafficSelector") -> "TrafficSelector | None":
        """The packets of both, or None where there are none."""
        if self.version != other.version:
            return None
        if ANY_PROTOCOL not in (self.protocol, other.protocol) and self.protocol != other.protocol:
            return None
        ports = _intersect_ports(self.ports, other.ports)
        if ports is None:
            return None
        # Compared as octets: the two families never mix here, and typing knows it.
        first = max(self.first, other.first, key=lambda a: a.packed)
        last = min(self.last, other.last, key=lambda a: a.packed)
        if first.packed > last.packed:
            return None
        return TrafficSelector(first, last, self.protocol or other.protocol, *ports)

    def networks(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        """The fewest CIDR blocks that cover exactly the address range."""
        return list(ipaddress.summarize_address_range(self.first, self.last))

    def __str__(self) -> str:
        blocks = self.networks()
        where = str(blocks[0]) if len(blocks) == 1 else f"{self.first}-{self.last}"
        if self.any_traffic:
            return where
        if self.ports == ALL_PORTS:
            ports = "any"
        elif self.is_opaque:
            ports = "opaque"
        elif self.first_port == self.last_port:
            ports = str(self.first_port)
        else:
            ports = f"{self.first_port}-{self.last_port}"
        return f"{where}[{_PROTOCOL_NAMES.get(self.protocol, self.protocol)}/{ports}]"


def only_host(selectors: Iterable[TrafficSelector]) -> str | None:
    """The one address that all of them are for; None if it is not one."""
    ends = {end for selector in selectors for end in (selector.first, selector.last)}
    return str(ends.pop()) if len(ends) == 1 else None


def at_host(selectors: Iterable[TrafficSelector], address: str) -> tuple[TrafficSelector, ...]:
    """The same protocols and ports of another host."""
    ip = ipaddress.ip_address(address)
    return tuple(dict.fromkeys(replace(selector, first=ip, last=ip) for selector in selectors))


def _intersect_ports(ours: tuple[int, int], theirs: tuple[int, int]) -> tuple[int, int] | None:
    if OPAQUE in (ours, theirs):
        # RFC 4301 section 4.4.1.1: ANY encompasses OPAQUE, and nothing else does
        return OPAQUE if {ours, theirs} <= {OPAQUE, ALL_PORTS} else None
    first, last = max(ours[0], theirs[0]), min(ours[1], theirs[1])
    return (first, last) if first <= last else None
