"""The highest rate that still works, found with short trials."""

from collections.abc import Callable

# From one trial to the next, as long as none has failed or none has worked.
UP, DOWN = 1.5, 0.5


def highest_rate(carried: Callable[[float], bool], start: float, steps: int) -> float:
    """Look around `start` for the limit, then bisect; 0.0 if nothing is carried in so many steps.

    On a scale of ratios, so that each step halves the uncertainty in per cent. What a flood brought through
    is a good place to start: some tunnels carry more when they are not overrun, some less without loss.
    """
    best, limit, rate = 0.0, 0.0, start
    for _ in range(steps if start > 0 else 0):
        if carried(rate):
            best = rate
        else:
            limit = rate
        if best and limit:
            rate = (best * limit) ** 0.5
        else:
            rate *= UP if best else DOWN
    return best
