"""How often something can be done."""

import time
from collections.abc import Callable

ROUNDS = 5


def rates(*actions: Callable[[], object], seconds: float) -> list[float]:
    """How often per second each action can be done: the best of several rounds, in turn.

    The best round is the one that other programs disturbed least, and taking turns lets a change of the
    machine's pace fall on all of them. `seconds` are for each action.
    """
    best = [0.0] * len(actions)
    for _ in range(ROUNDS):
        for index, action in enumerate(actions):
            best[index] = max(best[index], _round(action, seconds / ROUNDS))
    return best


def _round(action: Callable[[], object], seconds: float) -> float:
    count, started = 0, time.perf_counter()
    while True:
        action()
        count += 1
        elapsed = time.perf_counter() - started
        if elapsed >= seconds:
            return count / elapsed
