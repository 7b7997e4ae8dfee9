"""Fragments of this host's own IP layer, put together again: transport mode is for whole datagrams.

RFC 4303 section 3.1.1 has an implementation beneath the IP layer do so, and ESP is fragmented afterwards. Our
kernel hands the fragments of a datagram over one behind the other, so little is waited for, and not for long.
"""

import struct
from collections import Counter, OrderedDict
from typing import NamedTuple

from espudp.esp.drops import Drop
from espudp.wire import ip
from espudp.wire.buffer import Buffer

# Our bounds: on datagrams that are waited for, for how many seconds, of how many fragments, and on what ESP
# in UDP can carry of one, in octets.
MAX_WAITING = 16
PATIENCE_SECONDS = 1.0
MAX_PIECES = 128
MAX_OCTETS = 0xFFFF - 256

# RFC 791 section 3.1; RFC 8200 section 4.5
_MORE = 0x2000
_OFFSET = 0x1FFF
_MORE_IN_IPV6 = 0x0001
_OFFSET_IN_IPV6 = 0xFFF8
_FRAGMENT_HEADER_OCTETS = 8


class Hosts:
    """Between whom there are child SAs in transport mode, whichever worker has them."""

    def __init__(self) -> None:
        self._counts: Counter[bytes] = Counter()

    def __contains__(self, addresses: bytes) -> bool:
        """For the source and destination of what goes out, packed one behind the other."""
        return addresses in self._counts

    def add(self, addresses: bytes) -> None:
        """One more child SA; see `Transport.hosts`."""
        self._counts[addresses] += 1

    def discard(self, addresses: bytes) -> None:
        """One less."""
        self._counts[addresses] -= 1
        if self._counts[addresses] <= 0:
            del self._counts[addresses]


class Joined(NamedTuple):
    """A datagram, and the fragments that it came in, in the order of what they hold."""

    whole: bytes
    fragments: list[bytes]


class _Piece(NamedTuple):
    """A fragment. `start` and the length of `data` are octets of the datagram behind its IP header."""

    key: bytes
    protocol: int
    header: bytes
    start: int
    more: bool
    data: bytes
    fragment: bytes


class _Waiting:
    """What there is of one datagram."""

    __slots__ = ("pieces", "since", "size")

    def __init__(self, now: float) -> None:
        self.since = now
        self.pieces: dict[int, _Piece] = {}
        self.size: int | None = None

    def take(self, piece: _Piece) -> bool:
        """False: it cannot be of this datagram, or is one too many."""
        end = piece.start + len(piece.data)
        if end > MAX_OCTETS or len(self.pieces) == MAX_PIECES or (piece.more and len(piece.data) % 8):
            return False
        if self.size is not None and (end > self.size or not piece.more):
            return False
        # RFC 8200 section 4.5: whatever overlaps is given up.
        if any(piece.start < at + len(other.data) and at < end for at, other in self.pieces.items()):
            return False
        self.pieces[piece.start] = piece
        if not piece.more:
            self.size = end
        return True

    @property
    def joined(self) -> Joined | None:
        """The datagram, once all of it is there."""
        first = self.pieces.get(0)
        if first is None or sum(len(piece.data) for piece in self.pieces.values()) != self.size:
            return None
        pieces = [piece for _, piece in sorted(self.pieces.items())]
        whole = _join(first.header, first.protocol, b"".join(piece.data for piece in pieces))
        return Joined(whole, [piece.fragment for piece in pieces])


class Reassembly:
    """Bounded in memory and in time. What comes to nothing is counted by fragment."""

    def __init__(self, drops: Counter[Drop]) -> None:
        self._drops = drops
        self._waiting: OrderedDict[bytes, _Waiting] = OrderedDict()

    def add(self, packet: Buffer, now: float) -> Joined | None:
        """The datagram that a fragment completes, without Don't Fragment; None: it does not.

        `packet` is what `is_fragment` says yes to.
        """
        self._give_up_old(now)
        piece = _piece_of(packet)
        if piece is None:
            self._drops[Drop.FRAGMENT] += 1
            return None
        waiting = self._waiting.setdefault(piece.key, _Waiting(now))
        if not waiting.take(piece):
            self._drops[Drop.FRAGMENT] += 1
            self._give_up(piece.key)
            return None
        joined = waiting.joined
        if joined is not None:
            del self._waiting[piece.key]
        elif len(self._waiting) > MAX_WAITING:
            self._give_up(next(iter(self._waiting)))
        return joined

    def _give_up_old(self, now: float) -> None:
        while self._waiting:
            key, oldest = next(iter(self._waiting.items()))
            if now - oldest.since < PATIENCE_SECONDS:
                return
            self._give_up(key)

    def _give_up(self, key: bytes) -> None:
        self._drops[Drop.FRAGMENT] += len(self._waiting.pop(key).pieces)


def is_fragment(packet: Buffer) -> bool:
    """Whether a packet whose IP header is whole is a fragment as our own kernel makes them."""
    if packet[0] >> 4 == ip.IPV4:
        return bool((packet[6] << 8 | packet[7]) & (_MORE | _OFFSET))
    return packet[6] == ip.FRAGMENT


def _piece_of(packet: Buffer) -> _Piece | None:
    octets = bytes(packet)
    if octets[0] >> 4 == ip.IPV4:
        at = (octets[0] & 0x0F) * 4
        field = int.from_bytes(octets[6:8])
        key = octets[12:20] + octets[9:10] + octets[4:6]
        start, more = (field & _OFFSET) * 8, bool(field & _MORE)
        return _Piece(key, octets[9], octets[:at], start, more, octets[at:], octets)
    at = ip.IPV6_HEADER_OCTETS
    if len(octets) < at + _FRAGMENT_HEADER_OCTETS:
        return None
    following, _, field, number = struct.unpack_from("!BBH4s", octets, at)
    start, more = field & _OFFSET_IN_IPV6, bool(field & _MORE_IN_IPV6)
    data = octets[at + _FRAGMENT_HEADER_OCTETS :]
    return _Piece(octets[8:40] + number, following, octets[:at], start, more, data, octets)


def _join(header: bytes, protocol: int, data: bytes) -> bytes:
    whole = bytearray(header)
    if header[0] >> 4 == ip.IPV6:
        whole[4:6], whole[6] = len(data).to_bytes(2), protocol
        return bytes(whole) + data
    whole[2:4], whole[6:8], whole[10:12] = (len(header) + len(data)).to_bytes(2), bytes(2), bytes(2)
    whole[10:12] = ip.checksum(whole).to_bytes(2)
    return bytes(whole) + data
