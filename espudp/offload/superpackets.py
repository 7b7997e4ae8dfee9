"""Packets of one flow, one behind the other, become the super-packet whose segments they are.

Only what `segment` would give back octet for octet is joined, by the rules of the kernel's tcp_gro_receive;
a packet whose checksums do not verify stays as it is.
"""

import struct
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from espudp.offload.rows import Rows
from espudp.offload.shape import (
    CWR,
    EXTENSIONS,
    FIN,
    IPV4_CHECKSUM,
    IPV4_LENGTH,
    IPV6_LENGTH,
    PSH,
    RST,
    SYN,
    TCP_HEADER_OCTETS,
    TCP_OFFSET,
    UDP_LENGTH,
    URG,
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
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    Frame,
    Offload,
    VnetHeader,
)

MAX_SUPER_PACKET_OCTETS = 65535
# linux/udp.h UDP_MAX_SEGMENTS, before it became 128
MAX_UDP_SEGMENTS = 64

_GSO_TYPES = {
    (ip.IPV4, ip.TCP): GSO_TCPV4,
    (ip.IPV6, ip.TCP): GSO_TCPV6,
    (ip.IPV4, ip.UDP): GSO_UDP_L4,
    (ip.IPV6, ip.UDP): GSO_UDP_L4,
}
_OFFLOADS = {
    (ip.IPV4, ip.TCP): Offload.TSO4,
    (ip.IPV6, ip.TCP): Offload.TSO6,
    (ip.IPV4, ip.UDP): Offload.USO4,
    (ip.IPV6, ip.UDP): Offload.USO6,
}
_NEVER_JOINED = SYN | RST | URG
_MODULUS = np.uint64(0xFFFF)
_U64 = np.dtype(np.uint64)
_U32 = np.dtype(np.uint32)
_KEPT = 128
_MAX_KEPT_ROWS = 256
# Each further shape among packets costs another look at all of them; those of still further ones stay alone.
_MAX_SHAPES = 16

_Run = tuple[int, int]
"""From one row up to another."""


def coalesce(rows: Rows, takes: Offload, each: int = 0) -> list[Buffer | Frame]:
    """The packets in order, those that a super-packet stands for as one frame.

    All of it borrows the memory of `rows`. `takes`: the kinds of super-packet that are wanted. `each`: so
    many came together, and are probably what a super-packet was once cut into; 0: all.
    """
    packets = rows.packets()
    count = len(packets)
    if count < 2:
        return [*packets]
    kinds = _kinds(takes)
    shape = _joinable(packets[0], kinds)
    if shape is not None and _goes_on(packets[0], packets[1], shape):
        runs = [(start, min(start + (each or count), count)) for start in range(0, count, each or count)]
        if _fit(rows, runs, shape) and _are_whole(rows, packets, runs, shape, kinds):
            payloads = rows.packets(shape.header)
            return [_super_packet(rows, payloads[start:end], start, end, shape) for start, end in runs]
    return [*packets] if _none_can_join(rows, packets[0], kinds) else _in_runs(rows, packets, kinds)


def _in_runs(
    rows: Rows, packets: list[memoryview], kinds: frozenset[tuple[int, int]]
) -> list[Buffer | Frame]:
    """Several super-packets, or packets that stay alone, or both."""
    found: list[Buffer | Frame] = []
    known: dict[Shape, tuple[bytes, bool]] = {}
    at, count = 0, len(packets)
    while at < count:
        shape = _joinable(packets[at], kinds) if at + 1 < count else None
        if shape is None or (len(known) == _MAX_SHAPES and shape not in known):
            found.append(packets[at])
            at += 1
            continue
        if shape not in known:
            known[shape] = _continuing(rows, packets, shape), _are_alike(rows, packets[at], shape)
        continuing, alike = known[shape]
        limit = _limit(rows, at, shape)
        end = continuing.find(0, at + 1, limit)
        end = limit if end < 0 else end
        if end > at + 1:
            payloads = rows.packets(shape.header)[at:end]
            found.append(_super_packet(rows, payloads, at, end, shape))
        else:
            if alike:
                # `end` itself may go on and only have no room: then the next run starts with it.
                following = continuing.find(1, end + 1)
                end = count if following < 0 else following - 1
            found += packets[at:end]
        at = end
    return found


@lru_cache(_KEPT)
def _kinds(takes: Offload) -> frozenset[tuple[int, int]]:
    """IP versions and protocols of super-packets."""
    return frozenset(kind for kind, offload in _OFFLOADS.items() if offload in takes)


def _joinable(packet: memoryview, kinds: frozenset[tuple[int, int]]) -> Shape | None:
    """The shape of a packet that may start a super-packet, as far as its headers tell."""
    shape = shape_of(packet)
    if shape is None or shape[:2] not in kinds:
        return None
    if shape.version == ip.IPV4:
        # The kernel's inet_gro_receive joins no packets with options.
        octets = packet[2] << 8 | packet[3]
        plain = shape.l4 == ip.IPV4_HEADER_OCTETS
    else:
        octets, plain = ip.IPV6_HEADER_OCTETS + (packet[4] << 8 | packet[5]), True
    if not plain or not shape.header < octets == len(packet):
        return None
    if shape.protocol == ip.UDP:
        # One that is wrong may be summed up rightly, and segmentation would set it right.
        said = packet[shape.l4 + UDP_LENGTH] << 8 | packet[shape.l4 + UDP_LENGTH + 1]
        return shape if said == octets - shape.l4 else None
    return None if shape.flags and packet[shape.flags] & (_NEVER_JOINED | PSH | FIN) else shape


def _goes_on(first: memoryview, second: memoryview, shape: Shape) -> bool:
    """A quick look at whether the second packet may go on where the first ends."""
    l4 = shape.l4
    if first[l4 : l4 + 4] != second[l4 : l4 + 4]:  # ports
        return False
    if shape.flags:
        return _step(first[l4 + 4 : l4 + 8], second[l4 + 4 : l4 + 8], 32) == len(first) - shape.header
    return shape.version == ip.IPV6 or _step(first[4:6], second[4:6], 16) == 1


def _step(number: memoryview, following: memoryview, bits: int) -> int:
    return (int.from_bytes(following, "big") - int.from_bytes(number, "big")) % (1 << bits)


def _none_can_join(rows: Rows, first: memoryview, kinds: frozenset[tuple[int, int]]) -> bool:
    """A quick look at whether all packets are of a kind that is never joined; it may say no wrongly."""
    if rows.size < ip.IPV4_HEADER_OCTETS:
        return True
    version = first[0] >> 4
    field, l4 = (9, ip.IPV4_HEADER_OCTETS) if version == ip.IPV4 else (6, ip.IPV6_HEADER_OCTETS)
    protocol = first[field]
    matrix = rows.matrix
    if not _is_constant(matrix[:, 0]) or not _is_constant(matrix[:, field]):
        return False
    if (version, protocol) not in kinds:
        return version == ip.IPV4 or protocol not in EXTENSIONS
    if protocol != ip.TCP or rows.size < l4 + TCP_HEADER_OCTETS:
        return False
    # Acknowledgments without data
    octets = (first[l4 + TCP_OFFSET] >> 4) * 4
    return rows.size <= l4 + octets and _is_constant(matrix[:, l4 + TCP_OFFSET])


def _are_alike(rows: Rows, first: memoryview, shape: Shape) -> bool:
    """Whether all packets have this shape. It may be no although they have."""
    matrix = rows.matrix
    if shape.version == ip.IPV6 and shape.l4 > ip.IPV6_HEADER_OCTETS:
        return False
    field = 9 if shape.version == ip.IPV4 else 6
    columns = (0, field, shape.l4 + TCP_OFFSET) if shape.protocol == ip.TCP else (0, field)
    return all(_is_constant(matrix[:, column]) for column in columns)


def _is_constant(column: NDArray[np.uint8]) -> bool:
    octets = column.tobytes()
    return octets.count(octets[0]) == len(octets)


def _limit(rows: Rows, start: int, shape: Shape) -> int:
    """The first row that a super-packet from row `start` on does not hold, for want of room."""
    count, gso_size = len(rows), rows.size - shape.header
    segments, room = divmod(MAX_SUPER_PACKET_OCTETS - shape.header, gso_size)
    if start + segments + 1 == count and rows.last - shape.header <= room:
        segments += 1
    if shape.protocol == ip.UDP and segments > MAX_UDP_SEGMENTS:
        segments = MAX_UDP_SEGMENTS
    return min(count, start + segments)


class _Pattern:
    """What packets that continue one another have in common; places are in 32-bit words."""

    def __init__(self, shape: Shape, size: int, count: int, each: int) -> None:
        """`each`: after so many it starts anew."""
        self.steps = np.tile(steps(shape, size - shape.header, each), (-(-count // each), 1))[:count]
        self.words = shape.header // 4
        self.field = shape.checksum // 4
        # Takes out the checksum.
        self.mask = np.uint32(0x0000FFFF if shape.protocol == ip.TCP else 0xFFFF0000)
        self.never = b"\xff\xff" if shape.protocol == ip.TCP else b"\0\0"
        """TCP: a sum that `segment` writes as 0. UDP: no checksum at all."""
        self.flags = shape.flags // 4
        # The sum is made of little-endian words, where the halves of 16 bits are swapped.
        octets = shape.protocol + size - shape.l4
        self.pseudo = np.uint64((octets & 0xFF) << 8 | octets >> 8)
        self.start = (12 if shape.version == ip.IPV4 else 8) // 4
        self.tail = np.uint32((1 << size % 4 * 8) - 1)


_kept_pattern = lru_cache(_KEPT)(_Pattern)


def _pattern(rows: Rows, shape: Shape, each: int = 0) -> _Pattern:
    make = _kept_pattern if len(rows) <= _MAX_KEPT_ROWS else _Pattern
    return make(shape, rows.size, len(rows), each or len(rows))


def _heads(rows: Rows, shape: Shape, pattern: _Pattern, less: int) -> NDArray[np.uint32]:
    """The headers as 32-bit words, without the checksum of TCP or UDP.

    The last, of a packet that is `less` octets shorter, with the lengths that the others have.
    """
    heads: NDArray[np.uint32] = rows.words[:, : pattern.words].view(">u4").astype(_U32)
    column = heads[:, pattern.field]
    np.bitwise_and(column, pattern.mask, column)
    if less:
        version4 = shape.version == ip.IPV4
        heads[-1:, (IPV4_LENGTH if version4 else IPV6_LENGTH) // 4] += np.uint32(less << 16 * (not version4))
        if shape.protocol == ip.UDP:
            heads[-1:, (shape.l4 + UDP_LENGTH) // 4] += np.uint32(less << 16)
    return heads


def _residues(rows: Rows, packets: list[memoryview], shape: Shape, pattern: _Pattern) -> NDArray[np.uint64]:
    """Of each row what the checksum of TCP or UDP comes to: 0 where it is right."""
    size, words = rows.size, rows.words
    sums: NDArray[np.uint64] = np.add.reduce(words[:, pattern.start : size // 4], 1, _U64)
    if size % 4:
        sums += words[:, size // 4] & pattern.tail
    if shape.version == ip.IPV6 and shape.l4 > ip.IPV6_HEADER_OCTETS:
        sums -= np.add.reduce(words[:, ip.IPV6_HEADER_OCTETS // 4 : shape.l4 // 4], 1, _U64)
    sums += pattern.pseudo
    sums %= _MODULUS
    if rows.last < size:
        sums[-1] = _residue(packets[-1], shape)
    return sums


def _residue(packet: memoryview, shape: Shape) -> int:
    octets = len(packet) - shape.l4
    total = int.from_bytes(packet[shape.l4 :], "big") << (octets % 2 * 8)
    return (total + pseudo_sum(packet, shape, octets)) % 0xFFFF


def _fit(rows: Rows, runs: list[_Run], shape: Shape) -> bool:
    """Whether a super-packet has room for each run."""
    longest, last = runs[0], runs[-1]
    return _limit(rows, last[0], shape) >= last[1] and (
        last is longest or _limit(rows, 0, shape) >= longest[1]
    )


def _are_whole(
    rows: Rows, packets: list[memoryview], runs: list[_Run], shape: Shape, kinds: frozenset[tuple[int, int]]
) -> bool:
    """Whether each run is one super-packet; it may be no although they are, but not yes if they are not."""
    less = rows.size - rows.last
    if rows.last <= shape.header:
        return False
    pattern = _pattern(rows, shape, runs[0][1])
    heads = _heads(rows, shape, pattern, less)
    for start, end in runs:
        first, last = packets[start], packets[end - 1]
        if end - start < 2 or (start and _joinable(first, kinds) is not shape):
            return False
        if shape.flags:
            if first[shape.flags] & CWR:
                heads[start, pattern.flags] ^= CWR << 16
            if ends := last[shape.flags] & (PSH | FIN):
                heads[end - 1, pattern.flags] ^= ends << 16
        if shape.version == ip.IPV4 and (
            int.from_bytes(first[: shape.l4], "big") % 0xFFFF or not counts_straight(first, end - start)
        ):
            return False
    if less and shape.version == ip.IPV4:
        # Smaller, and what is taken from it would be taken from the protocol beside it, too.
        if not less <= int.from_bytes(packets[-1][IPV4_CHECKSUM : IPV4_CHECKSUM + 2], "big") < 0xFFFF:
            return False
        heads[-1:, IPV4_CHECKSUM // 4] -= np.uint32(less)
    octets, width = (heads - pattern.steps).tobytes(), shape.header
    for start, end in runs:
        if octets[start * width : end * width] != octets[start * width : (start + 1) * width] * (end - start):
            return False
    fields = rows.matrix[:, shape.checksum : shape.checksum + 2].tobytes()
    if pattern.never in fields:
        return False
    return bytes(8 * len(packets)) == _residues(rows, packets, shape, pattern).tobytes()


def _continuing(rows: Rows, packets: list[memoryview], shape: Shape) -> bytes:
    """For each row 1 if it goes on where the row before ends, provided that that one is of `shape`."""
    pattern = _pattern(rows, shape)
    heads = _heads(rows, shape, pattern, rows.size - rows.last)
    step = pattern.steps[1]
    if shape.version == ip.IPV4:
        step = step.copy()
        step[IPV4_CHECKSUM // 4] = 0
        heads[:, IPV4_CHECKSUM // 4] &= np.uint32(0xFFFF0000)
    if shape.flags:
        heads[:, pattern.flags] &= np.uint32(0xFFFFFFFF ^ (CWR | PSH | FIN) << 16)
    joined = np.zeros(len(rows), np.bool_)
    joined[1:] = (heads[1:] - heads[:-1] == step).all(axis=1)
    if rows.last <= shape.header:
        joined[-1] = False
    continuing = joined.tobytes()
    if 1 not in continuing:
        return continuing
    if shape.flags:
        flags = rows.matrix[:, shape.flags]
        joined[1:] &= (flags[1:] & CWR == 0) & (flags[:-1] & (PSH | FIN) == 0)
    valid = _valid(rows, packets, shape, pattern)
    joined[1:] &= valid[1:] & valid[:-1]
    continuing = joined.tobytes()
    return continuing


def _valid(rows: Rows, packets: list[memoryview], shape: Shape, pattern: _Pattern) -> NDArray[np.bool_]:
    """Of each row whether its checksums are right, and written as `segment` writes them."""
    valid: NDArray[np.bool_] = _residues(rows, packets, shape, pattern) == 0
    fields = rows.matrix[:, shape.checksum : shape.checksum + 2].view("<u2")[:, 0]
    valid &= fields != int.from_bytes(pattern.never, "big")
    if shape.version == ip.IPV4:
        header = rows.words[:, : ip.IPV4_HEADER_OCTETS // 4]
        valid &= np.add.reduce(header, 1, _U64) % _MODULUS == 0
        valid &= header[:, IPV4_CHECKSUM // 4] >> np.uint32(16) != 0xFFFF
    return valid


def _super_packet(rows: Rows, payloads: list[memoryview], start: int, end: int, shape: Shape) -> Frame:
    """Of the rows from `start` up to `end`, which have these payloads."""
    version, protocol, l4, head, checksum, flags = shape
    gso_size = rows.size - head
    size = head + gso_size * (end - start - 1) + len(payloads[-1])
    packets = rows.slices(0, rows.size)
    header = bytearray(packets[start][:head])
    set_lengths(header, shape, size)
    gso_type = _GSO_TYPES[version, protocol]
    if flags:
        header[flags] |= packets[end - 1][flags] & (PSH | FIN)
        if header[flags] & CWR:
            gso_type |= GSO_ECN
    # Not 0, which in UDP means that there is no checksum (RFC 768).
    struct.pack_into("!H", header, checksum, pseudo_sum(header, shape, size - l4) or 0xFFFF)
    header_of_all = VnetHeader(NEEDS_CSUM, gso_type, head, gso_size, l4, checksum - l4)
    return Frame(header_of_all, [header, *payloads])
