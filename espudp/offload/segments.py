"""What the kernel left undone: super-packets are cut into segments, checksums completed.

The segments are those that the kernel's tcp_gso_segment, __udp_gso_segment, inet_gso_segment and
ipv6_gso_segment would make.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from espudp.errors import WireError
from espudp.offload.rows import Rows, blank, rows_of
from espudp.offload.shape import (
    CWR,
    FIN,
    PSH,
    TCP_FLAGS,
    TCP_SEQUENCE,
    Shape,
    pseudo_sum,
    set_lengths,
    shape_of,
)
from espudp.wire import ip
from espudp.wire.buffer import Buffer
from espudp.wire.vnet import (
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    Frame,
    VnetHeader,
)

_KINDS = {
    GSO_TCPV4: (ip.IPV4, ip.TCP),
    GSO_TCPV6: (ip.IPV6, ip.TCP),
}
# A multiple of 0xFFFF beyond any sum of a packet's 32-bit words
_CEILING = np.uint64(0xFFFF << 40)
_MODULUS = np.uint64(0xFFFF)

# Where the UDP checksum lies in its header; there a sum of 0 is written as 0xFFFF (RFC 768).
_UDP_CHECKSUM_OFFSET = 6

_STEPS_KEPT = 32
_MAX_PACKET_OCTETS = 0xFFFF


def segment(frame: Frame) -> Rows:
    """The packets that a super-packet stands for. Borrowed: they hold until the next call in this module.

    Raises WireError for a frame that no kernel hands out.
    """
    header = frame.header
    packet = frame.parts[0] if len(frame.parts) == 1 else frame.packet
    shape = _checked_shape(header, packet)
    gso_size = header.gso_size
    size = shape.header + gso_size
    full, rest = divmod(len(packet) - shape.header, gso_size)
    count = full + (rest > 0)
    if count < 2:
        return _uncut(header, packet, shape)
    rows = blank(count, size)
    rows.last = shape.header + (rest or gso_size)
    _fill_headers(rows, packet, shape, gso_size, _seed(header, packet, shape))
    payload = np.frombuffer(packet, np.uint8)[shape.header :]
    matrix = rows.matrix
    matrix[:full, shape.header : size] = payload[: full * gso_size].reshape(full, gso_size)
    if rest:
        matrix[full, shape.header : rows.last] = payload[full * gso_size :]
    _complete(rows, shape.l4, shape.checksum, zero=0xFFFF if shape.protocol == ip.UDP else 0)
    return rows


def _checked_shape(header: VnetHeader, packet: Buffer) -> Shape:
    if not header.gso_size:
        raise WireError("a super-packet of segments without octets")
    if len(packet) > _MAX_PACKET_OCTETS:
        raise WireError(f"a super-packet of {len(packet)} octets")
    shape = shape_of(packet)
    if shape is None:
        raise WireError("a super-packet that is neither whole TCP nor whole UDP")
    kind = header.gso_type & ~GSO_ECN
    wanted = _KINDS.get(kind, (shape.version, ip.UDP) if header.gso_type == GSO_UDP_L4 else None)
    if wanted != (shape.version, shape.protocol):
        raise WireError(f"a super-packet of IPv{shape.version} protocol {shape.protocol} as type {kind}")
    if header.flags & NEEDS_CSUM and (header.csum_start, header.csum_start + header.csum_offset) != (
        shape.l4,
        shape.checksum,
    ):
        raise WireError(f"a super-packet whose checksum is to start at octet {header.csum_start}")
    return shape


def _seed(header: VnetHeader, packet: Buffer, shape: Shape) -> int:
    """The pseudo-header's sum without the length.

    Taken from the checksum field when the kernel left it there: with a routing header it is not made of the
    addresses in the IP header (RFC 8200 section 8.1).
    """
    if header.flags & NEEDS_CSUM:
        (seed,) = struct.unpack_from("!H", packet, shape.checksum)
        return (int(seed) - (len(packet) - shape.l4)) % 0xFFFF
    return pseudo_sum(packet, shape, 0)


def _uncut(header: VnetHeader, packet: Buffer, shape: Shape) -> Rows:
    """A super-packet of one segment or none, which the kernel takes for a plain packet."""
    whole = bytearray(packet)
    seed = (_seed(header, packet, shape) + len(packet) - shape.l4) % 0xFFFF
    struct.pack_into("!H", whole, shape.checksum, seed)
    return rows_of([_completed(whole, shape.l4, shape.checksum - shape.l4)])


def _fill_headers(rows: Rows, packet: Buffer, shape: Shape, gso_size: int, seed: int) -> None:
    """Writes all headers, with what each row's TCP or UDP checksum starts from in its field."""
    matrix, size, count = rows.matrix, rows.size, len(rows)
    head = bytearray(packet[: shape.header])
    flags = head[shape.l4 + TCP_FLAGS] if shape.protocol == ip.TCP else 0
    if flags & (FIN | PSH | CWR):
        head[shape.l4 + TCP_FLAGS] = flags & ~(FIN | PSH | CWR)
    last = head[:]
    for header, octets in ((head, size), (last, rows.last)):
        set_lengths(header, shape, octets)
        struct.pack_into("!H", header, shape.checksum, (seed + octets - shape.l4) % 0xFFFF)
    template: NDArray[np.uint32] = np.frombuffer(head, ">u4") + steps(shape, gso_size, count)
    template[-1] += np.frombuffer(last, ">u4") - np.frombuffer(head, ">u4")
    if shape.version == ip.IPV4:
        identification = head[4] << 8 | head[5]
        template[:, 2] = _ttl_and_checksum(template, count, identification, shape)
    matrix[:, : shape.header].view(">u4")[:] = template
    if flags & CWR:
        matrix[0, shape.l4 + TCP_FLAGS] |= CWR
    if flags & (FIN | PSH):
        matrix[-1, shape.l4 + TCP_FLAGS] |= flags & (FIN | PSH)


def _ttl_and_checksum(
    template: NDArray[np.uint32], count: int, identification: int, shape: Shape
) -> NDArray[np.uint32]:
    header: NDArray[np.uint64] = template[:, : shape.l4 // 4].astype(np.uint64)
    header[:, 2] &= np.uint64(0xFFFF0000)
    sums = (_CEILING - header.sum(axis=1)) % _MODULUS
    words: NDArray[np.uint32] = (header[:, 2] | sums).astype(np.uint32)
    return words


@lru_cache(_STEPS_KEPT)
def steps(shape: Shape, gso_size: int, count: int) -> NDArray[np.uint32]:
    """What each 32-bit word of a segment's header has more than that of the first: the IPv4 identification
    counts up by one, the TCP sequence number by the payload."""
    table = np.zeros((count, shape.header // 4), np.uint32)
    number = np.arange(count, dtype=np.uint32)
    if shape.version == ip.IPV4:
        table[:, 1] = number << np.uint32(16)
    if shape.protocol == ip.TCP:
        table[:, (shape.l4 + TCP_SEQUENCE) // 4] = number * np.uint32(gso_size)
    return table


def _complete(rows: Rows, start: int, field: int, *, zero: int) -> None:
    """Sums each row from `start` (a multiple of 4) and writes the checksum at `field`; 0 becomes `zero`."""
    matrix, end = rows.matrix, -(-rows.size // 4) * 4
    matrix[:, rows.size : end] = 0
    matrix[-1, rows.last : end] = 0
    sums = np.add.reduce(matrix[:, start:end].view("<u4"), axis=1, dtype=np.uint64)
    checksums = _MODULUS - sums % _MODULUS if zero else (_CEILING - sums) % _MODULUS
    matrix[:, field : field + 2].view("<u2")[:, 0] = checksums


def finish(frames: Sequence[Frame]) -> Rows:
    """The packets of frames that lack their checksum, all of one length and with one header.

    Borrowed: they hold until the next call in this module. Raises WireError where the checksum would lie
    outside of the packet.
    """
    header = frames[0].header
    if header.gso_type != GSO_NONE:
        raise WireError("a super-packet where a packet is expected")
    packets = [frame.parts[0] if len(frame.parts) == 1 else frame.packet for frame in frames]
    if not header.flags & NEEDS_CSUM:
        return rows_of(packets)
    start, offset = header.csum_start, header.csum_offset
    field = start + offset
    if start % 4 or field % 2 or len(packets) == 1:
        return rows_of([_completed(bytearray(packet), start, offset) for packet in packets])
    rows = rows_of(packets)
    if field + 2 > rows.size:
        raise WireError(f"a checksum at octet {field} of {rows.size}")
    _complete(rows, start, field, zero=0xFFFF if offset == _UDP_CHECKSUM_OFFSET else 0)
    return rows


def _completed(packet: bytearray, start: int, offset: int) -> bytearray:
    """One packet, its checksum filled in."""
    field = start + offset
    if field + 2 > len(packet):
        raise WireError(f"a checksum at octet {field} of {len(packet)}")
    octets = len(packet) - start
    total = int.from_bytes(packet[start:], "big") << (octets % 2 * 8)
    checksum = -total % 0xFFFF
    if not checksum and offset == _UDP_CHECKSUM_OFFSET:
        checksum = 0xFFFF
    struct.pack_into("!H", packet, field, checksum)
    return packet
