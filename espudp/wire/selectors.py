"""Traffic selectors: which packets an SA may carry (RFC 4301 section 4.4.1.1, RFC 7296 section 2.9)."""

import ipaddress
from dataclasses import dataclass
from typing import Self

from espudp.errors import WireError

ANY_PROTOCOL = 0
MAX_PORT = 0xFFFF


@dataclass(frozen=True, slots=True)
class TrafficSelector:
    """One contiguous range of addresses, one protocol (0: any) and one range of ports.

    `first` and `last` are both IPv4 or both IPv6 and inclusive, as are the ports. For ICMP the "port"
    is type * 256 + code (RFC 7296 section 3.13.1). A port range of 65535-0 means OPAQUE
    (RFC 4301 section 4.4.1.1): packets whose ports cannot be seen.
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
        """Addresses as 4 or 16 octets. Raises WireError if the range is backwards or mixes families."""
        if len(first) != len(last) or len(first) not in (4, 16):
            raise WireError("traffic selector with mismatched addresses")
        if first > last:
            raise WireError("traffic selector whose range runs backwards")
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
        return self.protocol == ANY_PROTOCOL and self.first_port == 0 and self.last_port == MAX_PORT

    def contains(self, other: "TrafficSelector") -> bool:
        """Whether every packet of `other` is one of ours."""
        return self.intersect(other) == other

    def intersect(self, other: "TrafficSelector") -> "TrafficSelector | None":
        """The packets of both, or None where there are none."""
        if self.version != other.version:
            return None
        if ANY_PROTOCOL not in (self.protocol, other.protocol) and self.protocol != other.protocol:
            return None
        # Compared as octets: the two families never mix here, and typing knows it.
        first = max(self.first, other.first, key=lambda a: a.packed)
        last = min(self.last, other.last, key=lambda a: a.packed)
        first_port = max(self.first_port, other.first_port)
        last_port = min(self.last_port, other.last_port)
        if first.packed > last.packed or first_port > last_port:
            return None
        return TrafficSelector(first, last, self.protocol or other.protocol, first_port, last_port)

    def networks(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        """The fewest CIDR blocks that cover exactly the address range."""
        return list(ipaddress.summarize_address_range(self.first, self.last))

    def __str__(self) -> str:
        blocks = self.networks()
        where = str(blocks[0]) if len(blocks) == 1 else f"{self.first}-{self.last}"
        if self.any_traffic:
            return where
        if (self.first_port, self.last_port) == (0, MAX_PORT):
            ports = "any"
        elif self.first_port == self.last_port:
            ports = str(self.first_port)
        else:
            ports = f"{self.first_port}-{self.last_port}"
        return f"{where}[{self.protocol or 'any'}/{ports}]"
