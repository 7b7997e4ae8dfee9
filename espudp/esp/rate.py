"""How often something may happen."""


class TokenBucket:
    """Allows `burst` at once and `per_second` in the long run."""

    __slots__ = ("_burst", "_last", "_per_second", "_tokens")

    def __init__(self, burst: int, per_second: float) -> None:
        self._burst = float(burst)
        self._per_second = per_second
        self._tokens = float(burst)
        self._last: float | None = None

    def take(self, now: float) -> bool:
        """Whether it may happen now, which then counts."""
        if self._last is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._last) * self._per_second)
        self._last = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
