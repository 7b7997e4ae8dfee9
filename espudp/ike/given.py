"""What a peer configures us with (RFC 7296 section 3.15, IKEv1's mode config), and how its parts are read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, ip_address

from espudp.ike.events import AddressAssigned
from espudp.ike.handout import TrustAnchor
from espudp.ike.narrowing import EVERYTHING
from espudp.wire.selectors import TrafficSelector

# RFC 7296 section 2.20: whoever has authenticated may know this much, and no version that has known holes.
APPLICATION = "espudp"

# RFC 919 section 7
_BROADCAST = IPv4Address("255.255.255.255")


@dataclass(frozen=True, slots=True)
class Given:
    """What the peer configures us with."""

    addresses: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    """Those that the DNS servers are for (RFC 8598); none: they are for everything."""
    trust_anchors: tuple[TrustAnchor, ...] = ()
    subnets: tuple[str, ...] = ()
    """What the peer says it protects."""
    application: str = ""
    """What the peer says it is."""
    banner: str = ""
    """What people are to read, in lines (Cisco Unity)."""
    split_include: tuple[TrafficSelector, ...] = ()
    """All that is to go into a tunnel that was negotiated for everything (Cisco Unity); none: everything."""

    def beside(self, remote: Sequence[TrafficSelector], *, anonymous: bool = False) -> "Given":
        """The same, for a tunnel to `remote`. RFC 8598 section 2: where everything goes through the tunnel
        all names do, so that no gateway can claim public domains. Section 8: nor may one that is `anonymous`
        claim any.
        """
        everything = any(selector.contains(whole) for selector in remote for whole in EVERYTHING.values())
        return replace(self, domains=(), trust_anchors=()) if everything or anonymous else self

    def event(self, connection: int) -> AddressAssigned:
        """What the rest is told."""
        return AddressAssigned(
            connection,
            self.addresses,
            self.dns,
            self.domains,
            self.trust_anchors,
            self.subnets,
            self.application,
            self.banner,
        )


NOTHING = Given()


def is_usable(address: str) -> bool:
    """Whether a host can have this address."""
    ip = ip_address(address)
    return not (ip.is_unspecified or ip.is_loopback or ip.is_multicast or ip == _BROADCAST)


def ipv4_network(address: bytes, mask: bytes) -> IPv4Network | None:
    """None where the address or the mask is not one, or the mask has holes."""
    try:
        # As text: a number of four octets would be read as a prefix length, or as a mask turned round
        return IPv4Network((address, str(IPv4Address(mask))), strict=False)
    except ValueError:
        return None


def printable(value: bytes) -> str:
    """Only what can be shown as it is, on one line."""
    return "".join(chr(octet) for octet in value if 0x20 <= octet < 0x7F)
