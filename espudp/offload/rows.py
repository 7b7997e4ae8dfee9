"""Packets of one size as the rows of a matrix, so that one numpy call works on the same field of all."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from espudp.errors import WireError
from espudp.wire.buffer import Buffer

Octets = NDArray[np.uint8]

TRAILER_ROOM = 64
"""Octets free behind each packet in rows made here: an ESP trailer and an ICV may be put there."""

_SHEET_ROWS = 64
_SHEETS = 32
"""Matrices kept, of as many widths. Widths are rounded up, so that traffic of any sizes needs few."""
_WIDTH_STEP = 64


class Rows:
    """Packets of `size` octets, one a row; the last is `last` octets long and may be shorter.

    Rows may go on behind the packet. The memory is borrowed: it holds until whoever made the rows makes the
    next ones. Iterating hands out copies.
    """

    __slots__ = ("_slices", "last", "matrix", "size")

    def __init__(self, matrix: Octets, size: int, last: int = 0) -> None:
        """`matrix`: one row for each packet, its octets in a row adjacent, rows a multiple of 4 apart.

        `last` is `size` unless given.
        """
        self.matrix = matrix
        self.size = size
        self.last = last or size
        self._slices: dict[tuple[int, int], list[memoryview]] = {}

    def __len__(self) -> int:
        return len(self.matrix)

    def __iter__(self) -> Iterator[bytes]:
        return map(bytes, self.packets())

    def head(self, count: int, size: int, last: int = 0) -> "Rows":
        """The first `count` rows as packets of `size` octets. The memory is shared, and slices of it kept."""
        rows = Rows(self.matrix[:count], size, last)
        rows._slices = self._slices
        return rows

    def slices(self, start: int, stop: int) -> list[memoryview]:
        """Of each row the octets from `start` up to `stop`. Made once for this memory: not to be changed.

        There may be more of them than there are rows here.
        """
        key = start, stop
        kept = self._slices.get(key)
        if kept is None or len(kept) < len(self.matrix):
            if len(self._slices) >= _SHEETS:
                self._slices.clear()
            kept = self._slices[key] = [memoryview(row)[start:stop] for row in self.matrix]
        return kept

    def packets(self) -> list[memoryview]:
        """All of them, in place."""
        found = self.slices(0, self.size)[: len(self.matrix)]
        if found and self.last < self.size:
            found[-1] = found[-1][: self.last]
        return found


def blank(count: int, size: int) -> Rows:
    """Rows to be filled, with TRAILER_ROOM behind each packet. The next call may hand out the same memory."""
    width = (size + TRAILER_ROOM + _WIDTH_STEP - 1) // _WIDTH_STEP * _WIDTH_STEP
    if count <= _SHEET_ROWS:
        return _sheet(width).head(count, size)
    return Rows(np.zeros((count, width), np.uint8), size)


@lru_cache(_SHEETS)
def _sheet(width: int) -> Rows:
    return Rows(np.zeros((_SHEET_ROWS, width), np.uint8), width)


def rows_of(packets: Sequence[Buffer]) -> Rows:
    """Packets, at least one and all of one length, copied into rows."""
    size = len(packets[0])
    joined = np.frombuffer(b"".join(packets), np.uint8)
    if joined.size != size * len(packets) or not size:
        raise WireError("packets of different lengths in one batch")
    rows = blank(len(packets), size)
    rows.matrix[:, :size] = joined.reshape(-1, size)
    return rows
