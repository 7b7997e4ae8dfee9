"""Where the headers of a TCP or UDP packet lie, and what its checksums come to."""

import struct
from typing import NamedTuple

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
TCP_FLAGS = 13
TCP_SEQUENCE = 4
TCP_CHECKSUM = 16
UDP_LENGTH = 4
UDP_CHECKSUM = 6

# Headers that are copied into every segment, as the kernel's ipv6_gso_segment does. A Fragment header is not.
_PASSED_OVER = frozenset({ip.HOP_BY_HOP, ip.ROUTING, ip.DESTINATION_OPTIONS})
_MORE_OR_OFFSET = 0x3FFF


class Shape(NamedTuple):
    """Offsets are octets from the start of the packet, all multiples of 4."""

    version: int
    protocol: int
    l4: int
    """Where the TCP or UDP header starts."""
    header: int
    """Where the payload starts."""

    @property
    def checksum(self) -> int:
        """Where the TCP or UDP checksum is."""
        return self.l4 + (TCP_CHECKSUM if self.protocol == ip.TCP else UDP_CHECKSUM)


def shape_of(packet: Buffer) -> Shape | None:
    """None unless this is TCP or UDP, whole or a super-packet, with all its headers there. No lengths of IP's
    or UDP's own are looked at."""
    found = _upper(packet)
    if found is None:
        return None
    version, protocol, l4 = found
    if protocol == ip.UDP:
        header = l4 + UDP_HEADER_OCTETS
    elif protocol == ip.TCP and l4 + TCP_HEADER_OCTETS <= len(packet):
        header = l4 + (packet[l4 + 12] >> 4) * 4
        if header < l4 + TCP_HEADER_OCTETS:
            return None
    else:
        return None
    return Shape(version, protocol, l4, header) if header <= len(packet) else None


def _upper(packet: Buffer) -> tuple[int, int, int] | None:
    """Version, upper-layer protocol and where its header starts."""
    if len(packet) < ip.IPV4_HEADER_OCTETS:
        return None
    version = packet[0] >> 4
    if version == ip.IPV4:
        header = (packet[0] & 0x0F) * 4
        fragment = (packet[6] << 8 | packet[7]) & _MORE_OR_OFFSET
        return None if header < ip.IPV4_HEADER_OCTETS or fragment else (version, packet[9], header)
    if version != ip.IPV6 or len(packet) < ip.IPV6_HEADER_OCTETS:
        return None
    protocol, at = packet[6], ip.IPV6_HEADER_OCTETS
    for _ in range(ip.MAX_EXTENSION_HEADERS):
        if protocol not in _PASSED_OVER:
            return version, protocol, at
        if at + 8 > len(packet):
            return None
        protocol, at = packet[at], at + (packet[at + 1] + 1) * 8
    return None


def pseudo_sum(packet: Buffer, shape: Shape, octets: int) -> int:
    """The pseudo-header's sum for `octets` of TCP or UDP, below 0xFFFF."""
    addresses = packet[12:20] if shape.version == ip.IPV4 else packet[8:40]
    return (int.from_bytes(addresses, "big") + shape.protocol + octets) % 0xFFFF


def set_lengths(header: bytearray, shape: Shape, size: int) -> None:
    """Writes the lengths of a packet of `size` octets, and the IPv4 header's checksum."""
    if shape.version == ip.IPV4:
        struct.pack_into("!H", header, 2, size)
        header[10:12] = bytes(2)
        struct.pack_into("!H", header, 10, -int.from_bytes(header[: (header[0] & 15) * 4], "big") % 0xFFFF)
    else:
        struct.pack_into("!H", header, 4, size - ip.IPV6_HEADER_OCTETS)
    if shape.protocol == ip.UDP:
        struct.pack_into("!H", header, shape.l4 + UDP_LENGTH, size - shape.l4)
