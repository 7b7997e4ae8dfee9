"""A stock of grids for packets of all sizes, shared by all SAs."""

from collections import OrderedDict
from typing import NamedTuple

from espudp.crypto.rows import MAX_BURSTS, MAX_ROWS, Grid, Layout, make_grid
from espudp.offload.rows import Rows

# About twelve grids for a burst of packets of 1,400 octets, and three for several. To make one costs no more
# than to seal ten packets, or forty.
STOCK_OCTETS = 4 << 20
# What a grid needs beside its packets: objects that stand for slices of them.
_SLICES_OCTETS = 40 << 10

_Key = tuple[Layout, int, int]


class Sheet(NamedTuple):
    """A grid, and its plaintexts as rows."""

    grid: Grid
    plain: Rows


class Grids:
    """Bounded in memory. What is taken holds what was written there until `reclaim`."""

    __slots__ = ("_free", "_limit", "octets", "taken")

    def __init__(self, octets: int = STOCK_OCTETS) -> None:
        self._limit = octets
        self.octets = 0
        """About how much memory they take, those that are taken included."""
        # By layout, octets of plaintext and the bursts that there is room for, least recently used first.
        self._free: OrderedDict[_Key, list[Sheet]] = OrderedDict()
        self.taken: list[tuple[_Key, Sheet]] = []

    def has(self, layout: Layout, plain: int, count: int = 1) -> bool:
        """Whether `take` has no need to make one."""
        return bool(self._free.get(_key(layout, plain, count)))

    def take(self, layout: Layout, plain: int, count: int = 1) -> Sheet:
        """One for `count` plaintexts of `plain` octets, trailers included: at most what MAX_BURSTS bring."""
        key = _key(layout, plain, count)
        free = self._free.get(key)
        if free:
            sheet = free.pop()
        else:
            grid = make_grid(*key)
            sheet = Sheet(grid, Rows(grid.plain, plain))
            self.octets += _octets(sheet)
        self.taken.append((key, sheet))
        return sheet

    def reclaim(self) -> None:
        """All may be written again. Those that were not used for longest go if there are too many."""
        while self.taken:
            key, sheet = self.taken.pop()
            self._free.setdefault(key, []).append(sheet)
            self._free.move_to_end(key)
        while self.octets > self._limit:
            key, sheets = next(iter(self._free.items()))
            if sheets:
                self.octets -= _octets(sheets.pop())
            else:
                del self._free[key]


def _key(layout: Layout, plain: int, count: int) -> _Key:
    # What several small bursts bring goes into the room of one.
    return layout, plain, 1 if count <= layout.rows(plain) else MAX_BURSTS


def _octets(sheet: Sheet) -> int:
    grid = sheet.grid
    return grid.memory.size + sheet.plain.matrix.size + _SLICES_OCTETS * grid.rows // MAX_ROWS
