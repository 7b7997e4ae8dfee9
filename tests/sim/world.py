"""The world of a scenario: a clock that only moves when told, and all the chance there is, from a seed."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random

# Nothing may rely on a clock that starts at zero.
START = 1000.0

# The time of day then, by which certificates are judged.
EPOCH = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass(order=True, slots=True)
class Timer:
    """A call to come. Calls at the same instant happen in the order in which they were asked for."""

    when: float
    number: int
    callback: Callable[[], None] = field(compare=False)
    cancelled: bool = field(default=False, compare=False)

    def cancel(self) -> None:
        """Make the call not happen."""
        self.cancelled = True


class World:
    """A virtual clock in seconds and an event queue. The same seed gives the same story."""

    def __init__(self, seed: int = 0) -> None:
        self.now = START
        self.seed = seed
        self.steps = 0
        self._timers: list[Timer] = []
        self._count = 0

    @property
    def wall_clock(self) -> datetime:
        """The time of day."""
        return EPOCH + timedelta(seconds=self.now - START)

    def chance(self, name: str) -> Random:
        """The randomness of one thing in the world; it does not change when others come or go."""
        return Random(f"{self.seed}/{name}")

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Have something happen at a time; what lies in the past happens next."""
        self._count += 1
        timer = Timer(max(when, self.now), self._count, callback)
        heapq.heappush(self._timers, timer)
        return timer

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Have something happen after a delay in seconds."""
        return self.call_at(self.now + delay, callback)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._step(end):
            pass
        self.now = end

    def run_until(self, condition: Callable[[], bool], within: float) -> None:
        """Let time pass until something is so; AssertionError if it is not so `within` seconds."""
        end = self.now + within
        while not condition():
            if not self._step(end):
                raise AssertionError(
                    f"not within {within} s (seed {self.seed}, now {self.now - START:.3f} s)"
                )

    def _step(self, end: float) -> bool:
        while self._timers and self._timers[0].when <= end:
            timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                self.now = timer.when
                self.steps += 1
                timer.callback()
                return True
        return False
