"""Datagrams that travel together: over one path, with one traffic class, in order."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, overload

from espudp.wire.address import Path
from espudp.wire.buffer import Buffer

# Our choice: so many bursts, or super-packets, of one flow are worked on together. What it costs to decide
# about them is shared; with more of them their octets would fall out of the processor's cache in between.
TOGETHER = 4


class Burst(Sequence[bytes]):
    """Datagrams of one size lying one behind the other in memory; the last may be shorter.

    A piece of it is what one call sends with UDP_SEGMENT, and what one call receives with UDP_GRO. As a
    sequence it hands out copies. The pieces are borrowed: they hold until their owner is next given something
    to do.
    """

    __slots__ = ("pieces", "size")

    def __init__(self, data: Buffer, size: int, *more: Buffer) -> None:
        """`size`: octets of each datagram but the last; at least 1.

        With `more` pieces of memory behind it, `data` and all of them but the last are of one length, and
        hold whole datagrams; the last is not longer. Raises ValueError if that is not so.
        """
        self.pieces = memoryview(data), *(memoryview(piece) for piece in more)
        self.size = size
        if more:
            octets = [len(piece) for piece in self.pieces]
            if octets[0] % size or octets[:-1] != octets[:1] * len(more) or not 0 < octets[-1] <= octets[0]:
                raise ValueError(f"pieces of {octets} octets are no burst of {size} octets each")

    @property
    def data(self) -> Buffer:
        """The octets; copied where there are several pieces."""
        pieces = self.pieces
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @property
    def octets(self) -> int:
        """Of all datagrams together."""
        pieces = self.pieces
        return len(pieces[0]) * (len(pieces) - 1) + len(pieces[-1])

    def __repr__(self) -> str:
        return f"<Burst of {len(self)}, {self.size} octets each>"

    def __len__(self) -> int:
        return -(-self.octets // self.size)

    @overload
    def __getitem__(self, index: int) -> bytes: ...

    @overload
    def __getitem__(self, index: slice) -> list[bytes]: ...

    def __getitem__(self, index: int | slice) -> bytes | list[bytes]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        piece, start = divmod(range(len(self))[index] * self.size, len(self.pieces[0]))
        return bytes(self.pieces[piece][start : start + self.size])

    def __iter__(self) -> Iterator[bytes]:
        size = self.size
        return (bytes(p[at : at + size]) for p in self.pieces for at in range(0, len(p), size))

    def copy(self) -> "Burst":
        """One that owns its memory, to be kept."""
        return Burst(bytes(self.pieces[0]), self.size, *map(bytes, self.pieces[1:]))


class Train(NamedTuple):
    """Datagrams over one path, in order."""

    path: Path
    datagrams: Sequence[bytes]
    tos: int = 0
    """The outer header's TOS or traffic class octet: DSCP and ECN (RFC 2474, RFC 3168)."""

    def behind(self, marker: bytes) -> "Train":
        """The same datagrams, each with a marker in front."""
        return self._replace(datagrams=[marker + datagram for datagram in self.datagrams])

    def copy(self) -> "Train":
        """One that owns its memory, to be kept."""
        burst = self.datagrams
        return self._replace(datagrams=burst.copy()) if isinstance(burst, Burst) else self
