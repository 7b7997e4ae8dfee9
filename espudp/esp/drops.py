"""Why a packet went no further: drops are counted by reason, never raised through the loop."""

from enum import Enum


class Drop(Enum):
    """A reason, for all SAs together in `DataPath.drops` and for each SA in its snapshot."""

    # Outbound
    NOT_IP = "not IP"
    """From the TUN device, and no whole IPv4 or IPv6 packet."""
    NO_POLICY = "no policy"
    """No outbound SA has selectors for it, or the one that had has reached the end of its life."""
    FRAGMENT = "fragment"
    """Transport mode carries whole datagrams (RFC 4303 section 3.3.4), for the peer itself: one of a datagram
    that was never completed."""
    TOO_BIG = "too big"
    """Larger than the inner MTU, and not to be fragmented: answered with ICMP where that is allowed."""

    # Either way
    HAND_OVER = "hand-over queue full"
    """Another worker's, which is too busy to take it."""

    # Inbound, before the ICV has been verified
    RUNT = "runt"
    """Too short to be an ESP packet of its SA."""
    RESERVED_SPI = "reserved SPI"
    """SPI 0 to 255 (RFC 4303 section 2.1)."""
    UNKNOWN_SPI = "unknown SPI"
    REPLAY = "replay"
    """Received before, or too old for the window to tell."""
    INTEGRITY = "integrity"
    """The ICV is wrong: altered on the way, forged, or sealed with other keys."""

    # Inbound, authentic
    EXPIRED = "expired"
    """The SA has reached a hard limit of its life."""
    PADDING = "padding"
    """Padding that is not 1, 2, 3 ... (RFC 4303 section 2.4), or longer than the packet."""
    DUMMY = "dummy"
    """Sent to be dropped (RFC 4303 section 2.6)."""
    NEXT_HEADER = "next header"
    """Carries something else than IPv4 or IPv6, and is not in transport mode; or what that must not carry."""
    INNER_HEADER = "inner header"
    """The inner packet is not of the IP version announced, or does not fit into what was sealed."""
    SELECTORS = "selectors"
    """The inner packet is not one that the SA may carry (RFC 4301 section 5.2)."""
    CONGESTION = "congestion"
    """A router had no room for it, and its sender knows no other way to be told (RFC 6040 section 4.2)."""
