"""One deadline out of many."""

import random
from math import inf

from espudp.esp.rate import TokenBucket
from espudp.esp.timers import Timers


def test_earliest_first_and_each_once() -> None:
    timers: Timers[str] = Timers()
    assert timers.poll() is None
    for name, when in (("late", 30.0), ("early", 10.0), ("middle", 20.0), ("same", 20.0)):
        timers.set(name, when)
    assert timers.poll() == 10.0
    assert list(timers.due(9.9)) == []
    assert list(timers.due(20.0)) == ["early", "middle", "same"]
    assert list(timers.due(20.0)) == []
    assert timers.poll() == 30.0


def test_the_last_deadline_said_holds() -> None:
    timers: Timers[str] = Timers()
    timers.set("a", 10.0)
    timers.set("a", 50.0)
    assert timers.poll() == 50.0
    timers.set("a", 5.0)
    assert list(timers.due(100.0)) == ["a"]
    timers.set("a", 5.0)
    timers.set("a", inf)
    assert timers.poll() is None
    timers.set("a", 5.0)
    timers.discard("a")
    timers.discard("b")
    assert list(timers.due(100.0)) == []


def test_setting_it_again_while_due() -> None:
    timers: Timers[int] = Timers()
    timers.set(1, 1.0)
    seen = []
    for item in timers.due(10.0):
        seen.append(item)
        timers.set(item + 1, 4.0 * (item + 1))
    assert seen == [1, 2]
    assert timers.poll() == 12.0


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
            assert sorted(timers.due(now)) == due
            model = {item: when for item, when in model.items() if when > now}
        assert timers.poll() == min(model.values(), default=None)


def test_token_bucket() -> None:
    bucket = TokenBucket(3, 2.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(0.4)
    assert bucket.take(0.5)
    assert not bucket.take(0.5)
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
