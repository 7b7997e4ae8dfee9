"""Packets of one flow, one behind the other, become the super-packet whose segments they are.

Only what `segment` would give back octet for octet is joined, with the rules of the kernel's
tcp_gro_receive; a packet whose checksums do not verify stays as it is.
"""

import struct

import numpy as np

from espudp.offload.rows import Rows
from espudp.offload.shape import (
    CWR,
    FIN,
    PSH,
    RST,
    SYN,
    TCP_FLAGS,
    TCP_SEQUENCE,
    UDP_LENGTH,
    URG,
    Shape,
    pseudo_sum,
    set_lengths,
    shape_of,
)
from espudp.wire import ip
from espudp.wire.buffer import Buffer
from espudp.wire.vnet import (
    GSO_ECN,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    Frame,
    Offload,
    VnetHeader,
)

MAX_SUPER_PACKET_OCTETS = 65535
# linux/udp.h UDP_MAX_SEGMENTS before Linux 6.9
MAX_UDP_SEGMENTS = 64

_MODULUS = np.uint64(0xFFFF)

_GSO = {
    (ip.IPV4, ip.TCP): (Offload.TSO4, GSO_TCPV4),
    (ip.IPV6, ip.TCP): (Offload.TSO6, GSO_TCPV6),
    (ip.IPV4, ip.UDP): (Offload.USO4, GSO_UDP_L4),
    (ip.IPV6, ip.UDP): (Offload.USO6, GSO_UDP_L4),
}


def coalesce(rows: Rows, takes: Offload) -> list[Buffer | Frame]:
    """The packets in order, those that a super-packet stands for as one frame. All of it borrows the rows'
    memory. `takes`: the kinds of super-packet that are wanted."""
    packets = rows.packets()
    found: list[Buffer | Frame] = []
    known: dict[Shape, bytes] = {}
    at = 0
    while at < len(packets):
        end = at + 1
        shape = _joinable(packets[at], takes) if end < len(packets) else None
        if shape is not None and _same_flow(packets[at], packets[end], shape):
            if shape not in known:
                known[shape] = _continues(rows, shape)
            end = known[shape].find(0, end, at + _most(shape, rows.size))
            if end < 0:
                end = min(len(packets), at + _most(shape, rows.size))
        if shape is None or end == at + 1:
            found.append(packets[at])
        else:
            found.append(_super_packet(packets[at:end], rows, shape))
        at = end
    return found


def _joinable(packet: memoryview, takes: Offload) -> Shape | None:
    """The shape of a packet that may be the first of a super-packet, as far as its headers tell."""
    shape = shape_of(packet)
    if shape is None or (shape.version == ip.IPV4 and shape.l4 != ip.IPV4_HEADER_OCTETS):
        return None
    if not _GSO[shape.version, shape.protocol][0] & takes or shape.header == len(packet):
        return None
    if shape.protocol == ip.TCP and packet[shape.l4 + TCP_FLAGS] & (SYN | RST | URG | FIN | PSH):
        return None
    if ip.inner_octets(packet, len(packet)) != len(packet):
        return None
    return shape


def _same_flow(first: memoryview, second: memoryview, shape: Shape) -> bool:
    """A quick look at addresses and ports, so that flows that alternate cost little."""
    start, end = (12 if shape.version == ip.IPV4 else 8), shape.l4 + 4
    return first[start:end] == second[start:end]


def _most(shape: Shape, size: int) -> int:
    """How many packets of `size` octets a super-packet holds."""
    most = (MAX_SUPER_PACKET_OCTETS - shape.header) // (size - shape.header)
    return most if shape.protocol == ip.TCP else min(most, MAX_UDP_SEGMENTS)


def _continues(rows: Rows, shape: Shape) -> bytes:
    """For each row 1 if it goes on where the row before ends, provided that that one is of `shape`."""
    count, size, matrix = len(rows), rows.size, rows.matrix
    end = -(-size // 4) * 4
    matrix = np.zeros((count, end), np.uint8)
    matrix[:, :size] = rows.matrix[:, :size]
    matrix[-1, rows.last :] = 0
    words = matrix[:, : shape.header].view(">u4").astype(np.uint32)
    mask, step = _mask_and_step(shape, size)
    lengths = _set_last_length(words, rows, shape)
    words &= mask
    joined = np.zeros(count, bool)
    joined[1:] = (words[1:] - words[:-1] == step).all(axis=1)
    if not lengths or rows.last <= shape.header:
        joined[-1] = False
    valid = _valid(matrix, rows, shape)
    joined[1:] &= valid[1:] & valid[:-1]
    if shape.protocol == ip.TCP:
        flags = matrix[:, shape.l4 + TCP_FLAGS]
        joined[1:] &= (flags[1:] & CWR == 0) & (flags[:-1] & (FIN | PSH) == 0)
    return joined.tobytes()


def _set_last_length(words: np.ndarray, rows: Rows, shape: Shape) -> bool:
    """Gives the last row the lengths of the others. False if its own are not those of its octets."""
    if rows.last == rows.size:
        return True
    word, shift = (0, 0) if shape.version == ip.IPV4 else (1, 16)
    less = 0 if shape.version == ip.IPV4 else ip.IPV6_HEADER_OCTETS
    if int(words[-1, word]) >> shift & 0xFFFF != rows.last - less:
        return False
    words[-1, word] += np.uint32(rows.size - rows.last << shift)
    if shape.protocol == ip.UDP:
        word = (shape.l4 + UDP_LENGTH) // 4
        if int(words[-1, word]) >> 16 != rows.last - shape.l4:
            return False
        words[-1, word] += np.uint32(rows.size - rows.last << 16)
    return True


def _mask_and_step(shape: Shape, size: int) -> tuple[np.ndarray, np.ndarray]:
    mask = np.full(shape.header // 4, 0xFFFFFFFF, np.uint32)
    step = np.zeros(shape.header // 4, np.uint32)
    if shape.version == ip.IPV4:
        step[1] = 1 << 16
        mask[2] = 0xFFFF0000
    if shape.protocol == ip.TCP:
        step[(shape.l4 + TCP_SEQUENCE) // 4] = size - shape.header
        mask[(shape.l4 + 12) // 4] = 0xFFFFFFFF & ~((CWR | FIN | PSH) << 16)
        mask[shape.checksum // 4] = 0x0000FFFF
    else:
        mask[shape.checksum // 4] = 0xFFFF0000
    return mask, step


def _valid(matrix: np.ndarray, rows: Rows, shape: Shape) -> np.ndarray:
    """Whether each row's checksums are right, and written as a segment's are."""
    size = rows.size
    start = 12 if shape.version == ip.IPV4 else 8
    sums = np.add.reduce(matrix[:, start:].view("<u4"), axis=1, dtype=np.uint64)
    octets = np.full(len(rows), size - shape.l4, np.uint64)
    octets[-1] = rows.last - shape.l4
    octets += np.uint64(shape.protocol)
    if start < 0 or shape.l4 > ip.IPV6_HEADER_OCTETS:
        extension = matrix[:, ip.IPV6_HEADER_OCTETS : shape.l4].view("<u4")
        if shape.version == ip.IPV6:
            sums -= np.add.reduce(extension, axis=1, dtype=np.uint64)
    octets = (octets & np.uint64(0xFF)) << np.uint64(8) | octets >> np.uint64(8)
    valid: np.ndarray = (sums + octets) % _MODULUS == 0
    field = matrix[:, shape.checksum : shape.checksum + 2].view("<u2")[:, 0]
    valid &= field != (0xFFFF if shape.protocol == ip.TCP else 0)
    if shape.protocol == ip.UDP:
        lengths = matrix[:, shape.l4 + UDP_LENGTH : shape.l4 + UDP_LENGTH + 2].view(">u2")[:, 0]
        valid[:-1] &= lengths[:-1] == size - shape.l4
        valid[-1] &= lengths[-1] == rows.last - shape.l4
    if shape.version == ip.IPV4:
        header = np.add.reduce(matrix[:, :20].view("<u4"), axis=1, dtype=np.uint64)
        valid &= (header % _MODULUS == 0) & (matrix[:, 10:12].view("<u2")[:, 0] != 0xFFFF)
    return valid


def _super_packet(packets: list[memoryview], rows: Rows, shape: Shape) -> Frame:
    header = bytearray(packets[0][: shape.header])
    size = sum(map(len, packets)) - shape.header * (len(packets) - 1)
    set_lengths(header, shape, size)
    gso_type = _GSO[shape.version, shape.protocol][1]
    if shape.protocol == ip.TCP:
        header[shape.l4 + TCP_FLAGS] |= packets[-1][shape.l4 + TCP_FLAGS] & (FIN | PSH)
        if header[shape.l4 + TCP_FLAGS] & CWR:
            gso_type |= GSO_ECN
    seed = pseudo_sum(header, shape, size - shape.l4)
    struct.pack_into("!H", header, shape.checksum, seed or 0xFFFF)
    vnet = VnetHeader(
        NEEDS_CSUM, gso_type, shape.header, rows.size - shape.header, shape.l4, shape.checksum - shape.l4
    )
    return Frame(vnet, [header, *(packet[shape.header :] for packet in packets)])
