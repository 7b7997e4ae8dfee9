"""Where the headers of a TCP or UDP packet lie, and how they differ from one segment to the next."""

import struct
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from espudp.wire import ip
from espudp.wire.buffer import Buffer

TCP_HEADER_OCTETS = 20
UDP_HEADER_OCTETS = 8

# RFC 9293 section 3.1, RFC 3168 section 6.1
FIN = 0x01
SYN = 0x02
RST = 0x04
PSH = 0x08
URG = 0x20
CWR = 0x80

IPV4_LENGTH = 2
IPV4_IDENTIFICATION = 4
IPV4_CHECKSUM = 10
IPV6_LENGTH = 4
TCP_SEQUENCE = 4
TCP_OFFSET = 12
TCP_FLAGS = 13
TCP_CHECKSUM = 16
UDP_LENGTH = 4
UDP_CHECKSUM = 6

# Headers that are copied into every segment, as the kernel's ipv6_gso_segment does. A Fragment header is not.
EXTENSIONS = frozenset({ip.HOP_BY_HOP, ip.ROUTING, ip.DESTINATION_OPTIONS})
_MORE_OR_OFFSET = 0x3FFF
_KEPT = 128


class Shape(NamedTuple):
    """Offsets in octets from the start of the packet. All but the last two are multiples of 4."""

    version: int
    protocol: int
    l4: int
    """Where the TCP or UDP header starts."""
    header: int
    """Where the payload starts."""
    checksum: int
    """Of TCP or UDP."""
    flags: int
    """Of TCP; 0 for UDP."""


@lru_cache(_KEPT)
def _tcp(version: int, l4: int, octets: int) -> Shape:
    return Shape(version, ip.TCP, l4, l4 + octets, l4 + TCP_CHECKSUM, l4 + TCP_FLAGS)


@lru_cache(_KEPT)
def _udp(version: int, l4: int) -> Shape:
    return Shape(version, ip.UDP, l4, l4 + UDP_HEADER_OCTETS, l4 + UDP_CHECKSUM, 0)


def shape_of(packet: Buffer) -> Shape | None:
    """None unless this is TCP or UDP and no fragment, with all of its headers there.

    What IP and UDP say of the length is not looked at.
    """
    octets = len(packet)
    if octets < ip.IPV4_HEADER_OCTETS + UDP_HEADER_OCTETS:
        return None
    version = packet[0] >> 4
    if version == ip.IPV4:
        l4, protocol = (packet[0] & 0x0F) * 4, packet[9]
        if l4 < ip.IPV4_HEADER_OCTETS or packet[7] or packet[6] & _MORE_OR_OFFSET >> 8:
            return None
    elif version == ip.IPV6 and octets >= ip.IPV6_HEADER_OCTETS:
        l4, protocol = ip.IPV6_HEADER_OCTETS, packet[6]
        if protocol in EXTENSIONS:
            l4, protocol = _behind_extensions(packet)
    else:
        return None
    if protocol == ip.TCP and l4 + TCP_HEADER_OCTETS <= octets:
        shape = _tcp(version, l4, (packet[l4 + TCP_OFFSET] >> 4) * 4)
        return shape if l4 + TCP_HEADER_OCTETS <= shape.header <= octets else None
    if protocol == ip.UDP and l4 + UDP_HEADER_OCTETS <= octets:
        return _udp(version, l4)
    return None


def _behind_extensions(packet: Buffer) -> tuple[int, int]:
    """Where the header behind the IPv6 extension headers starts, and of which protocol it is."""
    protocol, at = packet[6], ip.IPV6_HEADER_OCTETS
    for _ in range(ip.MAX_EXTENSION_HEADERS):
        if protocol not in EXTENSIONS or at + 8 > len(packet):
            break
        protocol, at = packet[at], at + (packet[at + 1] + 1) * 8
    return at, protocol


def pseudo_sum(packet: Buffer, shape: Shape, octets: int) -> int:
    """The pseudo-header's sum (RFC 9293 section 3.1) for `octets` of TCP or UDP, below 0xFFFF."""
    addresses = packet[12:20] if shape.version == ip.IPV4 else packet[8:40]
    return (int.from_bytes(addresses, "big") + shape.protocol + octets) % 0xFFFF


def set_lengths(header: bytearray, shape: Shape, size: int) -> None:
    """Writes the lengths of a packet of `size` octets, and the IPv4 header's checksum."""
    if shape.version == ip.IPV4:
        struct.pack_into("!H", header, IPV4_LENGTH, size)
        header[IPV4_CHECKSUM : IPV4_CHECKSUM + 2] = b"\0\0"
        checksum = -int.from_bytes(header[: shape.l4], "big") % 0xFFFF
        struct.pack_into("!H", header, IPV4_CHECKSUM, checksum)
    else:
        struct.pack_into("!H", header, IPV6_LENGTH, size - ip.IPV6_HEADER_OCTETS)
    if shape.protocol == ip.UDP:
        struct.pack_into("!H", header, shape.l4 + UDP_LENGTH, size - shape.l4)


def steps(shape: Shape, gso_size: int, count: int) -> NDArray[np.uint32]:
    """What each 32-bit word of a segment's header has more than that of the first.

    The IPv4 identification counts up by one, and its checksum down for as long as neither passes through 0;
    the TCP sequence number counts up by the payload.
    """
    table = np.zeros((count, shape.header // 4), np.uint32)
    number = np.arange(count, dtype=np.uint32)
    if shape.version == ip.IPV4:
        table[:, IPV4_IDENTIFICATION // 4] = number << np.uint32(16)
        table[:, IPV4_CHECKSUM // 4] = -number
    if shape.protocol == ip.TCP:
        table[:, (shape.l4 + TCP_SEQUENCE) // 4] = number * np.uint32(gso_size)
    return table


def counts_straight(header: Buffer, count: int) -> bool:
    """Whether identification and checksum of an IPv4 header stay within 16 bits for `count` segments."""
    identification, checksum = struct.unpack_from("!4xH4xH", header)
    return bool(identification + count <= 0x10000 and count <= checksum < 0xFFFF)
