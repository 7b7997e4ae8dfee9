"""The octet that two IP headers share in a tunnel: DSCP and ECN, outward and inward (RFC 2983, RFC 6040).

IPv4 calls it TOS, IPv6 traffic class: six bits that ask for a treatment, two that report congestion. Outward
both are copied (RFC 6040 section 4.1, "normal mode"; RFC 4301 section 5.1.2), or the first is set to one
value for all. Inward only what routers on the way reported is taken over (RFC 6040 section 4.2).
"""

from espudp.errors import ConfigError
from espudp.wire.buffer import Buffer
from espudp.wire.ip import IPV4, adjusted_checksum

# RFC 3168 section 5
NOT_ECT, ECT_1, ECT_0, CE = range(4)
ECN = 0x03

# RFC 2474 section 3
MAX_DSCP = 63

# What `merged` says of a packet that must not go on.
DROP = -1

# RFC 6040 section 4.2, figure 4: by the inner field, then by the outer one. Congestion cannot be told to
# a sender that does not listen, except by losing its packet.
_MERGED = (
    (NOT_ECT, NOT_ECT, NOT_ECT, DROP),
    (ECT_1, ECT_1, ECT_1, CE),
    (ECT_0, ECT_1, ECT_0, CE),
    (CE, CE, CE, CE),
)


def check_dscp(dscp: int | None) -> None:
    """None means to copy it. Raises ConfigError for a value that six bits do not hold."""
    if dscp is not None and not 0 <= dscp <= MAX_DSCP:
        raise ConfigError(
            f"{dscp} is no DSCP",
            field="dscp",
            remedy=f"Choose 0 to {MAX_DSCP}, or copy it from the inner packet.",
        )


def outer_octets(dscp: int | None = None) -> bytes:
    """The outer octet for each inner one: 256 of them. `dscp` None: copied. Raises ConfigError."""
    check_dscp(dscp)
    return bytes(inner if dscp is None else dscp << 2 | inner & ECN for inner in range(256))


def tos_of(packet: Buffer) -> int:
    """The octet of a packet whose IP header is whole. In IPv6 it lies across the first two."""
    if packet[0] >> 4 == IPV4:
        return packet[1]
    return (packet[0] & 0x0F) << 4 | packet[1] >> 4


def is_news(outer: int) -> bool:
    """Whether an outer octet can change an inner packet at all: if it says ECT(1) or CE."""
    return outer & ECN in (ECT_1, CE)


def merged(inner: int, outer: int) -> int:
    """The inner ECN field after decapsulation, from two octets of which only ECN counts; or DROP."""
    return _MERGED[inner & ECN][outer & ECN]


def merge(packet: bytearray | memoryview, outer: int) -> bool:
    """Take over into a packet, in place, what its outer header reported; False: it must be dropped.

    The DSCP stays (RFC 4301 section 5.1.2). The IPv4 header checksum follows the change, so that
    a broken one stays broken.
    """
    inner = tos_of(packet)
    ecn = merged(inner, outer)
    if ecn == DROP:
        return False
    if ecn == inner & ECN:
        return True
    if packet[0] >> 4 != IPV4:
        packet[1] = packet[1] & 0xCF | ecn << 4
        return True
    before = packet[0] << 8 | packet[1]
    packet[1] = packet[1] & ~ECN | ecn
    old = packet[10] << 8 | packet[11]
    new = adjusted_checksum(old, before, before & ~ECN | ecn)
    packet[10], packet[11] = new >> 8, new & 0xFF
    return True
