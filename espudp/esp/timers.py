"""One deadline out of many: a heap, so that thousands of SAs cost no more per packet than one."""

import heapq
from collections.abc import Iterator
from math import inf
from typing import Generic, TypeVar

T = TypeVar("T")

# Entries out of date are swept out when they outnumber the others, and never below so many.
_SWEEP_ABOVE = 64


class Timers(Generic[T]):
    """At most one deadline per item, which must be hashable. Times are seconds on the clock of `now`."""

    __slots__ = ("_heap", "_live", "_serial")

    def __init__(self) -> None:
        # The serial number keeps items of equal deadlines in order, and tells whether an entry still holds.
        self._heap: list[tuple[float, int, T]] = []
        self._live: dict[T, int] = {}
        self._serial = 0

    def set(self, item: T, when: float) -> None:
        """Replaces the item's deadline; infinity means none."""
        if when == inf:
            self.discard(item)
            return
        self._serial += 1
        self._live[item] = self._serial
        heapq.heappush(self._heap, (when, self._serial, item))
        if len(self._heap) > 2 * len(self._live) + _SWEEP_ABOVE:
            self._heap = [entry for entry in self._heap if self._holds(entry)]
            heapq.heapify(self._heap)

    def discard(self, item: T) -> None:
        self._live.pop(item, None)

    def poll(self) -> float | None:
        """The earliest deadline, or None."""
        while self._heap and not self._holds(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> Iterator[T]:
        """The items whose deadline has come, earliest first, each without a deadline from then on."""
        while (when := self.poll()) is not None and when <= now:
            item = heapq.heappop(self._heap)[2]
            del self._live[item]
            yield item

    def _holds(self, entry: tuple[float, int, T]) -> bool:
        return self._live.get(entry[2]) == entry[1]
