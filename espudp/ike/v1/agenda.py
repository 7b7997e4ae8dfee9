"""What is to be done for a connection at a later time."""

import heapq
from collections.abc import Callable
from itertools import count

Act = Callable[[float], None]
"""Gets the time at which it happens."""


class Agenda:
    """Entries are few, and each happens once."""

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Act]] = []
        self._order = count()

    def at(self, when: float, act: Act) -> None:
        heapq.heappush(self._entries, (when, next(self._order), act))

    @property
    def deadline(self) -> float | None:
        return self._entries[0][0] if self._entries else None

    def handle_timer(self, now: float) -> None:
        """Does what is due. Any of it may clear the rest."""
        while self._entries and self._entries[0][0] <= now:
            heapq.heappop(self._entries)[2](now)

    def clear(self) -> None:
        self._entries.clear()
