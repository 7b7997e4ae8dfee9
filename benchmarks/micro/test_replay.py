"""The anti-replay window: check, and after the ICV, commit."""

import itertools

import pytest

from benchmarks.micro.conftest import Measure
from benchmarks.micro.packets import SEGMENTS
from espudp.esp.replay import ReplayWindow

WINDOWS = pytest.mark.parametrize("esn", [False, True], ids=["", "ESN"])


@WINDOWS
def test_one_after_another(measure: Measure, esn: bool) -> None:
    window, numbers = ReplayWindow(esn=esn), itertools.count(1)
    done = measure.of("replay window", packets=1)

    def next_number() -> None:
        seq = window.check(next(numbers))
        if seq is None:
            raise RuntimeError("a new number is taken for a replay")
        window.commit(seq)

    done(next_number)


@WINDOWS
def test_a_train(measure: Measure, esn: bool) -> None:
    window, starts = ReplayWindow(esn=esn), itertools.count(1, SEGMENTS)
    done = measure.of("replay window", packets=SEGMENTS)

    def next_train() -> None:
        start = next(starts)
        numbers = list(range(start, start + SEGMENTS))
        first = window.check_run(numbers)
        if first is None:
            raise RuntimeError("new numbers are taken for replays")
        window.commit_run(first, numbers)

    done(next_train)


def test_a_replay(measure: Measure) -> None:
    window = ReplayWindow(highest=5000)
    done = measure.of("replay window", packets=1)
    if done(window.check, 4990) is not None:
        raise RuntimeError("a replay got through")
