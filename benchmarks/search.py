"""The highest rate that still works, found with short trials."""

from collections.abc import Callable

# Where to look, relative to what a flood brought through: a tunnel may carry a bit more when it is not
# overrun, and much less without loss.
HEADROOM = 1.3
FLOOR = 1 / 16


def highest_rate(carried: Callable[[float], bool], delivered: float, steps: int) -> float:
    """Bisect between nothing much and a bit more than a flood had `delivered`; 0.0 if nothing is carried.

    On a scale of ratios, so that each step halves the uncertainty in per cent.
    """
    if delivered <= 0:
        return 0.0
    best, low, high = 0.0, delivered * FLOOR, delivered * HEADROOM
    rate = delivered  # a good guess at first
    for _ in range(steps):
        if carried(rate):
            best = low = rate
        else:
            high = rate
        rate = (low * high) ** 0.5
    return best
