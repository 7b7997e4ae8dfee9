"""The inner packet: IPv4 and IPv6 headers, what a selector looks at, checksums, TCP MSS, fragments.

Packets come from the TUN device or out of an authentic ESP packet. Either may hold anything, so no
length is believed before it has been compared with the octets that are there.
"""

import struct
from typing import NamedTuple

from espudp.wire.buffer import Buffer

IPV4 = 4
IPV6 = 6
IPV4_HEADER_OCTETS = 20
IPV6_HEADER_OCTETS = 40

# IANA "Assigned Internet Protocol Numbers"
HOP_BY_HOP = 0
ICMP = 1
TCP = 6
UDP = 17
DCCP = 33
ROUTING = 43
FRAGMENT = 44
ICMPV6 = 58
DESTINATION_OPTIONS = 60
SCTP = 132
MOBILITY = 135
UDP_LITE = 136

# RFC 4301 section 4.4.1.1: a protocol or port that exists and cannot be seen, as in a later fragment
OPAQUE = -1
# RFC 4301 section 4.4.1.3: ICMP and Mobility Header have one "port" each, that of whoever sends it
ABSENT = -2

_PORTS = frozenset({TCP, UDP, DCCP, SCTP, UDP_LITE})
_TYPE_AND_CODE = frozenset({ICMP, ICMPV6})
# RFC 4301 section 4.4.1.1: the headers to look behind. AH and ESP are not among them.
EXTENSIONS = frozenset({HOP_BY_HOP, ROUTING, FRAGMENT, DESTINATION_OPTIONS})
# Far more than any sender uses (RFC 8200 section 4.1 lists five). A longer chain is not followed.
MAX_EXTENSION_HEADERS = 8

_DONT_FRAGMENT = 0x4000
_MORE_FRAGMENTS = 0x2000
_FRAGMENT_OFFSET = 0x1FFF

_TCP_SYN = 0x02
_TCP_HEADER_OCTETS = 20
_OPTION_END = 0
_OPTION_NOP = 1
_OPTION_MSS = 2

_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_IPV6 = struct.Struct("!IHBB16s16s")


class Flow(NamedTuple):
    """What selectors and queues look at. Addresses are packed, 4 or 16 octets.

    `sport` and `dport` are ports, or OPAQUE where they cannot be seen. For ICMP `sport` is type * 256 +
    code, for the Mobility Header type * 256, and `dport` is ABSENT. `protocol` is OPAQUE in a later IPv6
    fragment whose upper-layer protocol stands in the first one. `length` is the packet's own, header
    included; more octets may follow (RFC 4303 section 2.7).
    """

    src: bytes
    dst: bytes
    protocol: int
    sport: int
    dport: int
    version: int
    tos: int
    length: int


def parse_flow(packet: Buffer) -> Flow | None:
    """None for what is not a whole IPv4 or IPv6 packet, or hides its protocol on purpose."""
    if len(packet) < IPV4_HEADER_OCTETS:
        return None
    version = packet[0] >> 4
    if version == IPV4:
        return _parse_ipv4(packet)
    if version == IPV6 and len(packet) >= IPV6_HEADER_OCTETS:
        return _parse_ipv6(packet)
    return None


def _parse_ipv4(packet: Buffer) -> Flow | None:
    first, tos, length, _, fragment, _, protocol, _, src, dst = _IPV4.unpack_from(packet)
    header = (first & 0x0F) * 4
    if not IPV4_HEADER_OCTETS <= header <= length <= len(packet):
        return None
    sport = dport = OPAQUE
    if not fragment & _FRAGMENT_OFFSET:
        sport, dport = _ports(packet, protocol, header, length)
    elif protocol == TCP and fragment & _FRAGMENT_OFFSET == 1:
        # RFC 3128 section 2.2: would overwrite the flags of the first fragment when reassembled
        return None
    return Flow(src, dst, protocol, sport, dport, IPV4, tos, length)


def _parse_ipv6(packet: Buffer) -> Flow | None:
    first, payload, _, _, src, dst = _IPV6.unpack_from(packet)
    length = IPV6_HEADER_OCTETS + payload
    if length > len(packet):
        return None
    upper = _upper_layer(packet, length)
    if upper is None:
        return None
    protocol, at = upper
    sport, dport = (OPAQUE, OPAQUE) if at < 0 else _ports(packet, protocol, at, length)
    return Flow(src, dst, protocol, sport, dport, IPV6, first >> 20 & 0xFF, length)


def _upper_layer(packet: Buffer, length: int) -> tuple[int, int] | None:
    """The upper-layer protocol of an IPv6 packet and where its header starts, or -1 in a later fragment.

    None if an extension header crosses the packet's end or there are too many of them.
    """
    protocol, at = packet[6], IPV6_HEADER_OCTETS
    for _ in range(MAX_EXTENSION_HEADERS):
        if protocol not in EXTENSIONS:
            return protocol, at
        if at + 8 > length:
            return None
        following = packet[at]
        if protocol == FRAGMENT:
            # RFC 8200 section 4.5: the offset is the upper 13 bits
            if packet[at + 2] << 8 | packet[at + 3] & 0xF8:
                return (OPAQUE if following in EXTENSIONS else following), -1
            at += 8
        else:
            at += (packet[at + 1] + 1) * 8
        protocol = following
    return None


def _ports(packet: Buffer, protocol: int, at: int, end: int) -> tuple[int, int]:
    if at + 4 > end:
        return OPAQUE, OPAQUE
    if protocol in _PORTS:
        return packet[at] << 8 | packet[at + 1], packet[at + 2] << 8 | packet[at + 3]
    if protocol in _TYPE_AND_CODE:
        return packet[at] << 8 | packet[at + 1], ABSENT
    if protocol == MOBILITY:
        # RFC 6275 section 6.1.1: the type is the third octet
        return packet[at + 2] << 8, ABSENT
    return OPAQUE, OPAQUE


def inner_octets(packet: Buffer, available: int) -> int:
    """How long the packet says it is; 0 if that, or its header, does not fit into `available` octets."""
    if available < IPV4_HEADER_OCTETS:
        return 0
    version = packet[0] >> 4
    if version == IPV4:
        length = packet[2] << 8 | packet[3]
        header = (packet[0] & 0x0F) * 4
        return length if IPV4_HEADER_OCTETS <= header <= length <= available else 0
    if version == IPV6 and available >= IPV6_HEADER_OCTETS:
        length = IPV6_HEADER_OCTETS + (packet[4] << 8 | packet[5])
        return length if length <= available else 0
    return 0


def outline(packet: Buffer, available: int) -> tuple[int, bytes, int, bool] | None:
    """All that most packets are judged by, at one look: what `inner_octets` and `addresses_of` give, the TOS
    or traffic class octet, and whether it may be a TCP SYN. None where `inner_octets` gives 0."""
    first = packet[0] if available >= IPV4_HEADER_OCTETS else 0
    if first >> 4 == IPV4:
        octets, at = packet[2] << 8 | packet[3], (first & 0x0F) * 4
        if not IPV4_HEADER_OCTETS <= at <= octets <= available:
            return None
        is_tcp = packet[9] == TCP and at + _TCP_HEADER_OCTETS <= octets
        return octets, bytes(packet[12:20]), packet[1], is_tcp and packet[at + 13] & _TCP_SYN != 0
    octets = inner_octets(packet, available)
    if not octets:
        return None
    return octets, bytes(packet[8:40]), (first & 0x0F) << 4 | packet[1] >> 4, syn_at(packet) > 0


def addresses_of(packet: Buffer) -> bytes:
    """Source and destination, packed one behind the other, of a packet whose header is whole."""
    return bytes(packet[12:20] if packet[0] >> 4 == IPV4 else packet[8:40])


# Checksums


def checksum(data: Buffer) -> int:
    """The Internet checksum (RFC 1071), from 0 to 0xFFFF; an odd octet at the end counts as followed by 0."""
    number = int.from_bytes(data, "big") << (len(data) % 2 * 8)
    # A sum of 16-bit words with end-around carry is the number itself modulo 0xFFFF, whose two
    # zeros are 0 for nothing but zeros and 0xFFFF for everything else.
    total = number % 0xFFFF or (0xFFFF if number else 0)
    return 0xFFFF - total


def adjusted_checksum(old: int, before: int, after: int) -> int:
    """The checksum once a 16-bit word has changed (RFC 1624 section 3). A wrong one stays wrong."""
    total = (0xFFFF - old) + (0xFFFF - before) + after
    total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - ((total & 0xFFFF) + (total >> 16))


def pseudo_header(src: bytes, dst: bytes, protocol: int, octets: int) -> bytes:
    """What TCP, UDP and ICMPv6 sum up first (RFC 9293 section 3.1, RFC 8200 section 8.1)."""
    if len(src) == 4:
        return src + dst + struct.pack("!BBH", 0, protocol, octets)
    return src + dst + struct.pack("!II", octets, protocol)


# TCP maximum segment size


def clamp_mss(packet: Buffer, mss: int) -> Buffer:
    """The packet, if it is a TCP SYN with its MSS option lowered to `mss` octets; never raised.

    The TCP checksum follows the change, so that a broken one stays broken.
    """
    at = syn_at(packet)
    end = min(at + (packet[at + 12] >> 4) * 4, len(packet)) if at else 0
    option = at + _TCP_HEADER_OCTETS
    while option + 4 <= end:
        kind, octets = packet[option], packet[option + 1]
        if kind == _OPTION_MSS and octets == 4:
            return _with_mss(packet, at, option + 2, mss)
        if kind == _OPTION_END or (kind != _OPTION_NOP and octets < 2):
            break
        option += 1 if kind == _OPTION_NOP else octets
    return packet


def syn_at(packet: Buffer) -> int:
    """Where the TCP header of a SYN starts, in a packet whose IP header is whole; 0 if this is none."""
    if packet[0] >> 4 == IPV4:
        if packet[9] != TCP:
            return 0
        at = (packet[0] & 0x0F) * 4
        if packet[6] & 0x1F or packet[7]:
            return 0
    elif packet[6] == TCP:
        at = IPV6_HEADER_OCTETS
    elif packet[6] in EXTENSIONS:
        protocol, at = _upper_layer(packet, len(packet)) or (OPAQUE, 0)
        if protocol != TCP or at < 0:
            return 0
    else:
        return 0
    return at if at + _TCP_HEADER_OCTETS <= len(packet) and packet[at + 13] & _TCP_SYN else 0


def _with_mss(packet: Buffer, tcp: int, field: int, mss: int) -> Buffer:
    before = packet[field] << 8 | packet[field + 1]
    if before <= mss:
        return packet
    changed = bytearray(packet)
    struct.pack_into("!H", changed, field, mss)
    if (field - tcp) % 2:
        # The option may start at any octet: in the words that are summed its halves are swapped.
        before, mss = (before << 8 | before >> 8) & 0xFFFF, (mss << 8 | mss >> 8) & 0xFFFF
    (old,) = struct.unpack_from("!H", packet, tcp + 16)
    struct.pack_into("!H", changed, tcp + 16, adjusted_checksum(old, before, mss))
    return bytes(changed)


# Fragments


def may_fragment(packet: Buffer) -> bool:
    """Whether a router may cut this packet up: IPv4 without Don't Fragment (RFC 791 section 2.3)."""
    return packet[0] >> 4 == IPV4 and not packet[6] & _DONT_FRAGMENT >> 8


def fragment(packet: Buffer, mtu: int) -> list[bytes]:
    """An IPv4 packet that `may_fragment`, in pieces of at most `mtu` octets (RFC 791 section 3.2).

    Every network carries 68 octets, the longest header and 8 octets of data: a smaller `mtu` is not met.
    """
    (length, flags) = struct.unpack_from("!2xHxxH", packet)
    header = (packet[0] & 0x0F) * 4
    first = bytes(packet[:header])
    later = _later_header(first)
    pieces: list[bytes] = []
    at = header
    while at < length:
        head = later if pieces else first
        room = max((mtu - len(head)) // 8 * 8, 8)
        data = bytes(packet[at : min(at + room, length)])
        at += len(data)
        more = _MORE_FRAGMENTS if at < length else flags & _MORE_FRAGMENTS
        offset = (flags & _FRAGMENT_OFFSET) + (at - len(data) - header) // 8
        pieces.append(_fragment(head, more | offset, data))
    return pieces


def _later_header(header: bytes) -> bytes:
    """RFC 791 section 3.1: of the options, those with the copied flag go into every fragment."""
    kept = b""
    at = IPV4_HEADER_OCTETS
    while at < len(header) and (kind := header[at]) != _OPTION_END:
        octets = 1 if kind == _OPTION_NOP else header[at + 1] if at + 1 < len(header) else 0
        if octets < 1 or (octets == 1 and kind != _OPTION_NOP):
            break
        if kind & 0x80:
            kept += header[at : at + octets]
        at += octets
    kept += bytes(-len(kept) % 4)
    return bytes([IPV4 << 4 | (IPV4_HEADER_OCTETS + len(kept)) // 4]) + header[1:IPV4_HEADER_OCTETS] + kept


def _fragment(header: bytes, fragment_field: int, data: bytes) -> bytes:
    head = bytearray(header)
    struct.pack_into("!H", head, 2, len(head) + len(data))
    struct.pack_into("!H", head, 6, fragment_field)
    struct.pack_into("!H", head, 10, 0)
    struct.pack_into("!H", head, 10, checksum(head))
    return bytes(head) + data


# Builders


def build_ip(
    src: bytes, dst: bytes, protocol: int, payload: bytes, *, df: bool = True, tos: int = 0, hops: int = 64
) -> bytes:
    """An IP packet without options between packed addresses, both of 4 octets or both of 16."""
    if len(src) == 16:
        return _IPV6.pack(IPV6 << 28 | tos << 20, len(payload), protocol, hops, src, dst) + payload
    length = IPV4_HEADER_OCTETS + len(payload)
    flags = _DONT_FRAGMENT if df else 0
    header = bytearray(_IPV4.pack(IPV4 << 4 | 5, tos, length, 0, flags, hops, protocol, 0, src, dst))
    struct.pack_into("!H", header, 10, checksum(header))
    return bytes(header) + payload


def build_udp(src: bytes, dst: bytes, sport: int, dport: int, payload: bytes, *, df: bool = True) -> bytes:
    """A UDP packet with a right checksum between packed addresses."""
    octets = 8 + len(payload)
    summed = pseudo_header(src, dst, UDP, octets) + struct.pack("!HHHH", sport, dport, octets, 0) + payload
    # RFC 768: a computed 0 is sent as 0xFFFF, for 0 means that there is none
    header = struct.pack("!HHHH", sport, dport, octets, checksum(summed) or 0xFFFF)
    return build_ip(src, dst, UDP, header + payload, df=df)
