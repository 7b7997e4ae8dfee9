"""One deadline out of many; how often something may happen."""

import random
from math import inf

from espudp.timing import Timers, TokenBucket


def test_earliest_first_and_each_once() -> None:
    timers: Timers[str] = Timers()
    assert timers.poll() is None
    for name, when in (("late", 30.0), ("early", 10.0), ("middle", 20.0), ("same", 20.0)):
        timers.set(name, when)
    assert timers.poll() == 10.0
    assert timers.take_due(9.9) == []
    assert timers.take_due(20.0) == ["early", "middle", "same"]
    assert timers.take_due(20.0) == []
    assert timers.poll() == 30.0


def test_the_last_deadline_said_holds() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 10.0)
    timers.set("a", 50.0)
    assert timers.poll() == 50.0
    timers.set("a", 5.0)
    assert timers.take_due(100.0) == ["a"]
    timers.set("a", 5.0)
    timers.set("a", inf)
    assert timers.poll() is None
    timers.set("a", 5.0)
    timers.discard("a")
    timers.discard("b")
    assert timers.take_due(100.0) == []


def test_what_is_due_again_at_once_waits_for_the_next_call() -> None:
    timers: Timers[int] = Timers()
    timers.set(1, 1.0)
    for item in timers.take_due(10.0):
        timers.set(item, 2.0)
    assert timers.poll() == 2.0
    assert timers.take_due(10.0) == [1]
    assert timers.poll() is None


def test_no_deadline() -> None:
    timers: Timers[int] = Timers()
    for never in (None, inf):
        timers.set(1, 1.0)
        timers.set(1, never)
        assert timers.poll() is None


def test_memory_is_bounded_by_what_is_live() -> None:
    timers: Timers[int] = Timers()
    for number in range(10_000):
        timers.set(number % 10, float(number))
    assert len(timers._heap) < 100
    for number in range(10):
        timers.discard(number)
    timers.set(0, 1.0)
    assert timers.poll() == 1.0


def test_against_sorting() -> None:
    choose = random.Random(3)
    timers: Timers[int] = Timers()
    model: dict[int, float] = {}
    for step in range(2000):
        item, when = choose.randrange(50), float(choose.randrange(1000))
        timers.set(item, when)
        model[item] = when
        if step % 40 == 0:
            now = float(choose.randrange(300))
            due = sorted(item for item, when in model.items() if when <= now)
            assert sorted(timers.take_due(now)) == due
            model = {item: when for item, when in model.items() if when > now}
        assert timers.poll() == min(model.values(), default=None)


def test_token_bucket() -> None:
    bucket = TokenBucket(3, 2.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(0.4)
    assert bucket.take(0.5)
    assert not bucket.take(0.5)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(0.0)  # a clock that goes back gives nothing away
    assert bucket.is_spent(0.4)
    assert not bucket.is_spent(0.5)
    assert bucket.take(0.5)
