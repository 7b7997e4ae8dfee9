"""Transport mode: which addresses its packets have at either end (RFC 4303 section 3.1.1, RFC 3948 3.1.2)."""

from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address


class Mode(Enum):
    """What a child SA carries."""

    TUNNEL = "tunnel"
    """Packets of any hosts, whole."""
    TRANSPORT = "transport"
    """Packets between the two hosts themselves, without their IP header."""


@dataclass(frozen=True, slots=True)
class Transport:
    """A child SA in transport mode: it carries packets between the two hosts themselves, without IP header.

    Where a NAT is between, each host sees the two outer addresses in its own way, and makes its TCP and UDP
    checksums of what it sees. Addresses are textual, IPv4 or IPv6. The selectors of the child SA have the
    addresses that this host sees, `local` and `shown`.
    """

    local: str
    """Ours, as this host sees it."""

    remote: str
    """The peer's, as we see it, and have told the peer that we do."""

    local_there: str = ""
    """Ours, as the peer sees it; empty: not known, and checksums are made anew."""

    remote_there: str = ""
    """The peer's, as it sees it itself, behind a NAT perhaps; empty: not known."""

    stand_in: str = ""
    """What this host is shown in place of `remote`, where another peer behind the same NAT is already."""

    @property
    def shown(self) -> str:
        """The peer's address in packets to and from this host."""
        return self.stand_in or self.remote

    @property
    def hosts(self) -> bytes:
        """Source and destination of this host's packets, packed one behind the other."""
        return ip_address(self.local).packed + ip_address(self.shown).packed
