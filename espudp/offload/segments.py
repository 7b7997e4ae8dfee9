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
    IPV4_CHECKSUM,
    PSH,
    UDP_CHECKSUM,
    Shape,
    counts_straight,
    pseudo_sum,
    set_lengths,
    shape_of,
    steps,
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

_TYPES = {
    (ip.IPV4, ip.TCP): (GSO_TCPV4, GSO_TCPV4 | GSO_ECN),
    (ip.IPV6, ip.TCP): (GSO_TCPV6, GSO_TCPV6 | GSO_ECN),
    (ip.IPV4, ip.UDP): (GSO_UDP_L4,),
    (ip.IPV6, ip.UDP): (GSO_UDP_L4,),
}
_MAX_PACKET_OCTETS = 0xFFFF

_MODULUS = np.uint64(0xFFFF)
# A multiple of 0xFFFF beyond any sum of a packet's 32-bit words
_CEILING = np.uint64(0xFFFF << 40)
_U64 = np.dtype(np.uint64)
_U32 = np.dtype(np.uint32)
_GEOMETRIES = 64
_MAX_KEPT_SEGMENTS = 64


def segment(frame: Frame) -> Rows:
    """The packets that a super-packet stands for. They hold until the next rows are made.

    Raises WireError for a frame that no kernel hands out.
    """
    header, parts = frame
    packet = parts[0] if len(parts) == 1 else b"".join(parts)
    shape = _checked_shape(header, packet)
    if header.flags & NEEDS_CSUM:
        # Of the kernel's making. With a Routing header the address that counts is not the one in the IP
        # header (RFC 8200 section 8.1).
        seed = (packet[shape.checksum] << 8 | packet[shape.checksum + 1]) - (len(packet) - shape.l4)
    else:
        seed = pseudo_sum(packet, shape, 0)
    count = -(-(len(packet) - shape.header) // header.gso_size)
    if count < 2:
        return _uncut(packet, shape, seed)
    geometry = _geometry if count <= _MAX_KEPT_SEGMENTS else _Geometry
    return geometry(shape, header.gso_size, count, 1).cut((packet,), (seed,))


def segment_all(frames: Sequence[Frame]) -> Rows | None:
    """As `segment` for super-packets of one length with one header, each in one part, all of whose segments
    are full.

    None: each has to be cut by itself.
    """
    header, parts = frames[0]
    packets = [frame.parts[0] for frame in frames]
    shape = shape_of(parts[0])
    if shape is None or not header.gso_size or not header.flags & NEEDS_CSUM:
        return None
    count, rest = divmod(len(packets[0]) - shape.header, header.gso_size)
    if rest or not 1 < count <= _MAX_KEPT_SEGMENTS:
        return None
    try:
        if any(_checked_shape(header, packet) is not shape for packet in packets):
            return None
    except WireError:
        return None
    at, less = shape.checksum, len(packets[0]) - shape.l4
    seeds = [(packet[at] << 8 | packet[at + 1]) - less for packet in packets]
    return _geometry(shape, header.gso_size, count, len(packets)).cut(packets, seeds)


def _checked_shape(header: VnetHeader, packet: Buffer) -> Shape:
    shape = shape_of(packet)
    if shape is None:
        raise WireError("a super-packet that is neither whole TCP nor whole UDP")
    if header.gso_type not in _TYPES[shape[:2]]:
        raise WireError(f"a super-packet of type {header.gso_type} in IPv{shape.version}")
    if not header.gso_size:
        raise WireError("a super-packet of segments without octets")
    if len(packet) > _MAX_PACKET_OCTETS:
        raise WireError(f"a super-packet of {len(packet)} octets")
    if header.flags & NEEDS_CSUM and (
        header.csum_start != shape.l4 or header.csum_start + header.csum_offset != shape.checksum
    ):
        raise WireError(f"a super-packet whose checksum starts at octet {header.csum_start}")
    return shape


def _uncut(packet: Buffer, shape: Shape, seed: int) -> Rows:
    """A super-packet of one segment or none is a packet that lacks its checksum."""
    whole = bytearray(packet)
    struct.pack_into("!H", whole, shape.checksum, (seed + len(packet) - shape.l4) % 0xFFFF)
    return rows_of([_completed(whole, shape.l4, shape.checksum - shape.l4)])


class _Geometry:
    """Segments of super-packets of one shape, size and number: views of the memory that they are put into."""

    def __init__(self, shape: Shape, gso_size: int, count: int, packets: int) -> None:
        """`count`: segments of each super-packet."""
        self.shape = shape
        self.gso_size = gso_size
        self.count = count
        self.size = size = shape.header + gso_size
        self.rows = rows = blank(count * packets, size)
        matrix = rows.matrix
        heads: NDArray[np.uint32] = matrix[:, : shape.header].view(">u4")
        self.heads = heads.reshape(packets, count, -1)
        self.bodies = [
            matrix[start : start + count - 1, shape.header : size] for start in range(0, len(matrix), count)
        ]
        self.ends = rows.whole
        self.steps = steps(shape, gso_size, count)
        self.checksums = _Checksums(rows, shape.l4, shape.checksum, udp=shape.protocol == ip.UDP)

    def cut(self, packets: Sequence[Buffer], seeds: Sequence[int]) -> Rows:
        """All of one length. `seeds`: the sums of their pseudo-headers without the length."""
        header, body = self.shape.header, self.bodies[0].size
        last = len(packets[0]) - body
        rows = self.rows.head(len(self.rows), self.size, last)
        self._fill_headers(packets, last, seeds)
        end = self.count - 1
        for packet, bodies in zip(packets, self.bodies, strict=True):
            bodies[:] = np.frombuffer(packet, np.uint8, body, header).reshape(bodies.shape)
            self.ends[end][header:last] = packet[header + body :]
            end += self.count
        self.checksums.complete(last)
        return rows

    def _fill_headers(self, packets: Sequence[Buffer], last: int, seeds: Sequence[int]) -> None:
        """Writes all headers, with what a TCP or UDP checksum starts from in its place."""
        shape, count = self.shape, self.count
        heads = [self._head(packet, seed) for packet, seed in zip(packets, seeds, strict=True)]
        table = np.frombuffer(b"".join(heads), ">u4").astype(_U32).reshape(len(heads), 1, -1) + self.steps
        if shape.version == ip.IPV4:
            for index, head in enumerate(heads):
                if not counts_straight(head, count):
                    table[index] = _around_the_corner(head, self.steps, shape)
        self.heads[:] = table
        final = self.ends[len(self.rows) - 1]
        if last < self.size:
            header = bytearray(final[: shape.header])
            set_lengths(header, shape, last)
            struct.pack_into("!H", header, shape.checksum, (seeds[-1] + last - shape.l4) % 0xFFFF)
            final[: shape.header] = header
        for index, packet in enumerate(packets):
            flags = packet[shape.flags] if shape.flags else 0
            if flags & (FIN | PSH):
                self.ends[index * count + count - 1][shape.flags] |= flags & (FIN | PSH)
            if flags & CWR:
                self.ends[index * count][shape.flags] |= CWR

    def _head(self, packet: Buffer, seed: int) -> bytearray:
        """The first segment's header, without flags that not all segments have."""
        shape = self.shape
        head = bytearray(packet[: shape.header])
        if shape.flags:
            head[shape.flags] &= 0xFF ^ (FIN | PSH | CWR)
        set_lengths(head, shape, self.size)
        struct.pack_into("!H", head, shape.checksum, (seed + self.size - shape.l4) % 0xFFFF)
        return head


_geometry = lru_cache(_GEOMETRIES)(_Geometry)


def _around_the_corner(head: bytearray, table: NDArray[np.uint32], shape: Shape) -> NDArray[np.uint32]:
    """Headers whose IPv4 identification or checksum passes through 0 on the way."""
    heads: NDArray[np.uint32] = np.frombuffer(head, ">u4").astype(_U32) + table
    heads[:, IPV4_CHECKSUM // 4] = int.from_bytes(head[8:10], "big") << 16
    sums = np.add.reduce(heads[:, : shape.l4 // 4], axis=1, dtype=_U64)
    heads[:, IPV4_CHECKSUM // 4] |= ((_CEILING - sums) % _MODULUS).astype(_U32)
    return heads


class _Checksums:
    """Completes rows: sums each from `start`, a multiple of 4, and writes the checksum at `field`."""

    def __init__(self, rows: Rows, start: int, field: int, *, udp: bool) -> None:
        self.size = rows.size
        end = -(-rows.size // 4) * 4
        matrix = rows.matrix
        self.words: NDArray[np.uint32] = matrix[:, start:end].view("<u4")
        self.fields: NDArray[np.uint16] = matrix[:, field : field + 2].view("<u2")[:, 0]
        self.padding = matrix[:, rows.size : end]
        self.final = matrix[-1, :end]
        self.udp = udp

    def complete(self, last: int) -> NDArray[np.uint64]:
        """`last`: the length of the last row. Returns the sums; one of 0 was of nothing but zeros."""
        if self.padding.size:
            self.padding[:] = 0
        if last < self.size:
            self.final[last:] = 0
        # A sum with end-around carry is the remainder modulo 0xFFFF, in either order of octets (RFC 1071).
        sums: NDArray[np.uint64] = np.add.reduce(self.words, 1, _U64)
        # RFC 768: a computed 0 is sent as 0xFFFF
        self.fields[:] = _MODULUS - sums % _MODULUS if self.udp else (_CEILING - sums) % _MODULUS
        return sums


def finished(frame: Frame) -> bytearray:
    """The packet of one frame that lacks its checksum.

    A TCP sum that comes to 0 is written as 0, as in segments; Linux itself would write 0xFFFF here, which is
    as right and no segment has. Raises WireError where the checksum would lie outside of the packet.
    """
    header, parts = frame
    packet = bytearray(parts[0]) if len(parts) == 1 else bytearray().join(parts)
    if header.gso_type != GSO_NONE:
        raise WireError("a super-packet where a packet is expected")
    if not header.flags & NEEDS_CSUM:
        return packet
    return _completed(packet, header.csum_start, header.csum_offset)


def _completed(packet: bytearray, start: int, offset: int) -> bytearray:
    field = start + offset
    if field + 2 > len(packet):
        raise WireError(f"a checksum at octet {field} of {len(packet)}")
    total = int.from_bytes(packet[start:], "big") << ((len(packet) - start) % 2 * 8)
    checksum = -total % 0xFFFF
    if not checksum and (offset == UDP_CHECKSUM or not total):
        checksum = 0xFFFF
    packet[field] = checksum >> 8
    packet[field + 1] = checksum & 0xFF
    return packet


def finish(frames: Sequence[Frame]) -> Rows:
    """The packets of frames that lack their checksum, all of one length and with one header.

    They hold until the next rows are made. Raises WireError as `finished` does, and for different lengths.
    """
    header = frames[0].header
    start, field = header.csum_start, header.csum_start + header.csum_offset
    by_column = header.flags & NEEDS_CSUM and header.gso_type == GSO_NONE and not start % 4 and not field % 2
    if len(frames) == 1 or not by_column:
        return rows_of([finished(frame) for frame in frames])
    rows = rows_of([frame.parts[0] if len(frame.parts) == 1 else frame.packet for frame in frames])
    if field + 2 > rows.size:
        raise WireError(f"a checksum at octet {field} of {rows.size}")
    checksums = _Checksums(rows, start, field, udp=header.csum_offset == UDP_CHECKSUM)
    sums = checksums.complete(rows.last)
    if not sums.all():
        checksums.fields[sums == 0] = 0xFFFF
    return rows
