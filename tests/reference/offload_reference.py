"""Segmentation and coalescing in their plainest form: one packet at a time, one field after another.

Written from RFC 791, RFC 8200, RFC 768, RFC 9293, RFC 3168 and virtio 1.2 section 5.1.6, and from what Linux
does (tcp_gso_segment, __udp_gso_segment, inet_gso_segment, skb_checksum_help, tcp_gro_receive); it shares no
code with espudp.offload.
"""

from dataclasses import dataclass

from espudp.wire.vnet import (
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    Frame,
    Offload,
    VnetHeader,
)
from tests.reference.inner_reference import ones_sum, put16, u16

FIN, SYN, RST, PSH, URG, CWR = 0x01, 0x02, 0x04, 0x08, 0x20, 0x80
TCP, UDP = 6, 17
HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS = 0, 43, 60
MOST_OCTETS = 65535
MOST_DATAGRAMS = 64


@dataclass
class Parsed:
    """A packet in its parts."""

    version: int
    ip: bytes
    """The IP header with its options or extension headers."""
    protocol: int
    l4: bytes
    """TCP or UDP header."""
    payload: bytes

    @property
    def flags(self) -> int:
        return self.l4[13] if self.protocol == TCP else 0

    @property
    def sum_at(self) -> int:
        return 16 if self.protocol == TCP else 6


def parse(packet: bytes) -> Parsed | None:
    """None for what is not TCP or UDP, is a fragment or ends within its headers."""
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        at, protocol = (packet[0] & 15) * 4, packet[9]
        if at < 20 or u16(packet, 6) & 0x3FFF:
            return None
    elif len(packet) >= 40 and packet[0] >> 4 == 6:
        at, protocol = 40, packet[6]
        while protocol in (HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS):
            if at + 8 > len(packet):
                return None
            protocol, at = packet[at], at + 8 * (packet[at + 1] + 1)
    else:
        return None
    if protocol == UDP:
        end = at + 8
    elif protocol == TCP and at + 20 <= len(packet):
        end = at + 4 * (packet[at + 12] >> 4)
        if end < at + 20:
            return None
    else:
        return None
    if end > len(packet):
        return None
    return Parsed(packet[0] >> 4, packet[:at], protocol, packet[at:end], packet[end:])


def pseudo_header(parsed: Parsed, octets: int) -> bytes:
    if parsed.version == 4:
        return parsed.ip[12:20] + bytes([0, parsed.protocol]) + octets.to_bytes(2, "big")
    return parsed.ip[8:40] + octets.to_bytes(4, "big") + parsed.protocol.to_bytes(4, "big")


# What the kernel left undone


def complete(frame: Frame) -> bytes:
    """The packet of a frame that may lack its checksum."""
    header, packet = frame.header, frame.packet
    if not header.flags & NEEDS_CSUM:
        return packet
    total = 0xFFFF - ones_sum(packet[header.csum_start :])
    if total == 0 and header.csum_offset == 6:
        total = 0xFFFF
    return put16(packet, header.csum_start + header.csum_offset, total)


def segment(frame: Frame) -> list[bytes]:
    """The packets of a frame, which may be a super-packet."""
    if frame.header.gso_type == GSO_NONE:
        return [complete(frame)]
    parsed = parse(frame.packet)
    assert parsed is not None
    size = frame.header.gso_size
    pieces = [parsed.payload[at : at + size] for at in range(0, len(parsed.payload), size)] or [b""]
    if frame.header.flags & NEEDS_CSUM:
        # Linux takes the length out of the pseudo-header's sum that stands there and puts another in.
        seed = u16(parsed.l4, parsed.sum_at) + 0xFFFF - (len(parsed.l4) + len(parsed.payload)) % 0xFFFF
    else:
        seed = ones_sum(pseudo_header(parsed, 0))
    return [
        _segment(parsed, piece, seed, number, size, number == len(pieces) - 1)
        for number, piece in enumerate(pieces)
    ]


def _segment(whole: Parsed, piece: bytes, seed: int, number: int, size: int, last: bool) -> bytes:
    l4 = whole.l4
    octets = len(l4) + len(piece)
    if whole.protocol == TCP:
        sequence = (int.from_bytes(l4[4:8], "big") + number * size) % 2**32
        flags = l4[13] & ~(0 if last else FIN | PSH) & ~(CWR if number else 0)
        l4 = l4[:4] + sequence.to_bytes(4, "big") + l4[8:13] + bytes([flags]) + l4[14:]
    else:
        l4 = put16(l4, 4, octets)
    l4 = put16(l4, whole.sum_at, 0)
    seed += octets
    total = 0xFFFF - ones_sum(ones_sum(l4 + piece).to_bytes(2, "big") + seed.to_bytes(4, "big"))
    if total == 0 and whole.protocol == UDP:
        total = 0xFFFF
    l4 = put16(l4, whole.sum_at, total)
    return _ip_header(whole, octets, number) + l4 + piece


def _ip_header(whole: Parsed, octets: int, number: int) -> bytes:
    if whole.version == 6:
        return put16(whole.ip, 4, len(whole.ip) - 40 + octets)
    header = put16(whole.ip, 2, len(whole.ip) + octets)
    header = put16(header, 4, (u16(header, 4) + number) % 0x10000)
    header = put16(header, 10, 0)
    return put16(header, 10, 0xFFFF - ones_sum(header))


# Super-packets

KINDS = {
    (4, TCP): (Offload.TSO4, GSO_TCPV4),
    (6, TCP): (Offload.TSO6, GSO_TCPV6),
    (4, UDP): (Offload.USO4, GSO_UDP_L4),
    (6, UDP): (Offload.USO6, GSO_UDP_L4),
}


def coalesce(packets: list[bytes], takes: Offload) -> list[bytes | Frame]:
    """In order. A packet joins the one before if segmentation of the two in one gives both back."""
    groups: list[list[bytes]] = []
    for packet in packets:
        if groups and _joins(groups[-1], packet, takes):
            groups[-1].append(packet)
        else:
            groups.append([packet])
    return [super_packet(group) if len(group) > 1 else group[0] for group in groups]


def _joins(group: list[bytes], packet: bytes, takes: Offload) -> bool:
    first, before = parse(group[0]), parse(group[-1])
    if first is None or before is None or not _joinable(first, takes):
        return False
    size = len(first.payload)
    if not 0 < len(packet) - len(first.ip + first.l4) <= size == len(before.payload):
        return False
    if len(first.ip + first.l4) + size * len(group) + len(packet) - len(first.ip + first.l4) > MOST_OCTETS:
        return False
    if first.protocol == UDP and len(group) == MOST_DATAGRAMS:
        return False
    # The pair as a super-packet: only if nothing differs but what segmentation makes differ is it given back.
    return segment(super_packet([group[-1], packet])) == [group[-1], packet]


def _joinable(first: Parsed, takes: Offload) -> bool:
    if first.version == 4 and len(first.ip) > 20:
        return False
    if first.protocol == UDP and not u16(first.l4, 6):
        return False
    return KINDS[first.version, first.protocol][0] in takes and not first.flags & (SYN | RST | URG)


def super_packet(packets: list[bytes]) -> Frame:
    """Segments of one length, the last perhaps shorter, as the super-packet that they are taken for."""
    first = parse(packets[0])
    assert first is not None
    headers = len(first.ip + first.l4)
    size = len(first.payload)
    payload = b"".join(packet[headers:] for packet in packets)
    octets = len(first.l4) + len(payload)
    gso_type = KINDS[first.version, first.protocol][1]
    l4 = first.l4
    if first.protocol == UDP:
        l4 = put16(l4, 4, octets)
    else:
        flags = first.flags | packets[-1][len(first.ip) + 13] & (FIN | PSH)
        gso_type |= GSO_ECN if flags & CWR else 0
        l4 = l4[:13] + bytes([flags]) + l4[14:]
    l4 = put16(l4, first.sum_at, ones_sum(pseudo_header(first, octets)))
    vnet = VnetHeader(NEEDS_CSUM, gso_type, headers, size, len(first.ip), first.sum_at)
    return Frame(vnet, [_ip_header(first, octets, 0) + l4 + payload])
