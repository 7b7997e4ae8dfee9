"""What IKE and ESP both need of time: deadlines, one out of many, and how often something may happen.

No clock is read here: `now` is in seconds, on whatever clock the caller has.
"""

import heapq
from math import inf
from typing import Generic, TypeVar

T = TypeVar("T")

# Entries out of date are swept out when they outnumber the others, and never below so many.
_SWEEP_ABOVE = 64


class Timers(Generic[T]):
    """At most one deadline per item, which must be hashable. Changing one costs O(log n)."""

    __slots__ = ("_heap", "_live", "_serial")

    def __init__(self) -> None:
        # The serial number keeps items of equal deadlines in order, and tells whether an entry still holds.
        self._heap: list[tuple[float, int, T]] = []
        self._live: dict[T, tuple[float, int]] = {}
        self._serial = 0

    def set(self, item: T, when: float | None) -> None:
        """Replaces the item's deadline; None and infinity mean none."""
        if when is None or when == inf:
            self.discard(item)
            return
        if item in self._live and self._live[item][0] == when:
            return
        self._serial += 1
        self._live[item] = when, self._serial
        heapq.heappush(self._heap, (when, self._serial, item))
        if len(self._heap) > 2 * len(self._live) + _SWEEP_ABOVE:
            self._heap = [entry for entry in self._heap if self._holds(entry)]
            heapq.heapify(self._heap)

    def discard(self, item: T) -> None:
        """The item has no deadline any more; nothing happens if it had none."""
        self._live.pop(item, None)

    def poll(self) -> float | None:
        """The earliest deadline, or None."""
        while self._heap and not self._holds(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def take_due(self, now: float) -> list[T]:
        """The items whose deadline has come, earliest first, each without a deadline from then on."""
        due = []
        while (when := self.poll()) is not None and when <= now:
            item = heapq.heappop(self._heap)[2]
            del self._live[item]
            due.append(item)
        return due

    def _holds(self, entry: tuple[float, int, T]) -> bool:
        when, serial, item = entry
        return self._live.get(item) == (when, serial)


class TokenBucket:
    """Allows `burst` at once and `per_second` in the long run. A clock that goes back gives nothing away."""

    __slots__ = ("_burst", "_filled_at", "_per_second", "_tokens")

    def __init__(self, burst: int, per_second: float) -> None:
        self._burst = float(burst)
        self._per_second = per_second
        self._tokens = float(burst)
        self._filled_at = -inf

    def is_spent(self, now: float) -> bool:
        """Whether `take` would say no."""
        if self._tokens < self._burst:
            passed = max(0.0, now - self._filled_at)
            self._tokens = min(self._burst, self._tokens + passed * self._per_second)
        self._filled_at = now
        return self._tokens < 1.0

    def take(self, now: float, tokens: float = 1.0) -> bool:
        """Whether it may happen now, which then counts. What counts for more than there is leaves a debt."""
        if self.is_spent(now):
            return False
        self._tokens -= tokens
        return True
