"""Packets of one size as the rows of a matrix, so that one numpy call works on the same field of all."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from espudp.errors import WireError
from espudp.wire.buffer import Buffer
from espudp.wire.train import TOGETHER

TRAILER_ROOM = 64
"""Octets free behind each packet in rows made here: an ESP trailer and an ICV may be put there."""

# A sheet has room for what one datagram burst or one super-packet holds, of as many rows as UDP GSO sends; or
# for several of them.
_SHEET_ROWS = 64
_SHEET_OCTETS = 0x10000
_SHEETS = 16
# Widths are rounded up to this, so that traffic of all sizes shares few sheets.
_WIDTH_STEP = 64
_SLICINGS = 32


class _Sheet:
    """Memory of rows, with what has been cut out of it once."""

    __slots__ = ("matrix", "slicings", "whole", "words")

    def __init__(self, matrix: NDArray[np.uint8]) -> None:
        self.matrix = matrix
        self.words: NDArray[np.uint32] = matrix.view("<u4")
        self.whole = [memoryview(row) for row in matrix]
        self.slicings: dict[tuple[int, int], list[memoryview]] = {}


class Rows:
    """Packets of `size` octets, one a row; the last is `last` octets long and may be shorter.

    Rows may go on behind the packet. The memory is borrowed: it holds until whoever made the rows makes the
    next ones. Iterating hands out copies.
    """

    __slots__ = ("_count", "_sheet", "last", "size")

    def __init__(self, matrix: NDArray[np.uint8], size: int, last: int = 0) -> None:
        """`matrix`: one row for each packet, the octets of a row adjacent, a multiple of 4 of them.

        `last` is `size` unless given.
        """
        self._sheet = _Sheet(matrix)
        self._count = len(matrix)
        self.size = size
        self.last = last or size

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[bytes]:
        return map(bytes, self.packets())

    @property
    def matrix(self) -> NDArray[np.uint8]:
        """The octets."""
        return self._sheet.matrix[: self._count]

    @property
    def words(self) -> NDArray[np.uint32]:
        """The same memory as little-endian 32-bit words."""
        return self._sheet.words[: self._count]

    def head(self, count: int, size: int, last: int = 0) -> "Rows":
        """The first `count` rows, as packets of `size` octets. It is the same memory."""
        rows = Rows.__new__(Rows)
        rows._sheet = self._sheet
        rows._count = count
        rows.size = size
        rows.last = last or size
        return rows

    def slices(self, start: int, stop: int) -> list[memoryview]:
        """Of each row the octets from `start` up to `stop`.

        They are kept with the memory, of which there may be more rows than here. Not to be changed.
        """
        sheet = self._sheet
        kept = sheet.slicings.get((start, stop))
        if kept is None:
            if len(sheet.slicings) >= _SLICINGS:
                sheet.slicings.clear()
            kept = sheet.slicings[start, stop] = []
        if len(kept) < self._count:
            kept.extend([row[start:stop] for row in sheet.whole[len(kept) : self._count]])
        return kept

    @property
    def whole(self) -> list[memoryview]:
        """Each row with all that lies behind the packet; likewise kept, and not to be changed."""
        return self._sheet.whole

    def packets(self, start: int = 0) -> list[memoryview]:
        """All of them, in place, without their first `start` octets."""
        found = self.slices(start, self.size)[: self._count]
        if self.last < self.size:
            found[-1] = found[-1][: self.last - start]
        return found


def blank(count: int, size: int) -> Rows:
    """Rows to be filled, with TRAILER_ROOM behind each packet. The next call may hand out the same memory."""
    width = (size + TRAILER_ROOM + _WIDTH_STEP - 1) // _WIDTH_STEP * _WIDTH_STEP
    for packets in (1, TOGETHER):
        if count <= packets * _sheet_rows(width):
            return _sheet(width, packets).head(count, size)
    return Rows(np.zeros((count, width), np.uint8), size)


def _sheet_rows(width: int) -> int:
    shortest = width - TRAILER_ROOM - _WIDTH_STEP + 1
    return min(_SHEET_ROWS, _SHEET_OCTETS // max(shortest, 1) + 1)


@lru_cache(_SHEETS)
def _sheet(width: int, packets: int) -> Rows:
    return Rows(np.zeros((packets * _sheet_rows(width), width), np.uint8), width)


def rows_of(packets: Sequence[Buffer]) -> Rows:
    """Packets, at least one and all of one length, copied into rows."""
    size = len(packets[0])
    rows = blank(len(packets), size)
    if len(packets) == 1:
        rows.whole[0][:size] = packets[0]
        return rows
    joined = np.frombuffer(b"".join(packets), np.uint8)
    if joined.size != size * len(packets):
        raise WireError("packets of different lengths in one batch")
    rows.matrix[:, :size] = joined.reshape(len(packets), size)
    return rows
