"""The clock and the event queue."""

from functools import partial

import pytest

from tests.sim.world import START, World


def test_things_happen_in_order_and_on_time() -> None:
    world = World()
    story: list[tuple[str, float]] = []

    def happens(name: str) -> None:
        story.append((name, world.now - START))

    for name, delay in (("c", 2.0), ("a", 1.0), ("b", 1.0)):
        world.call_later(delay, partial(happens, name))
    world.run(1.5)
    assert story == [("a", 1.0), ("b", 1.0)]
    assert world.now == START + 1.5
    world.run(1.0)
    assert story[-1] == ("c", 2.0)


def test_what_was_cancelled_does_not_happen() -> None:
    world = World()
    world.call_later(1.0, lambda: pytest.fail("happened")).cancel()
    world.run(2.0)


def test_what_lies_in_the_past_happens_now() -> None:
    world = World()
    times: list[float] = []
    world.call_at(START - 10.0, lambda: times.append(world.now))
    world.run(0.0)
    assert times == [START]


def test_waiting_for_something() -> None:
    world = World(seed=7)
    done: list[int] = []
    world.call_later(3.0, lambda: done.append(1))
    world.run_until(lambda: bool(done), within=5.0)
    assert world.now == START + 3.0
    with pytest.raises(AssertionError, match="seed 7"):
        world.run_until(lambda: len(done) > 1, within=1.0)


def test_chance_comes_from_the_seed_and_the_name() -> None:
    def draw(seed: int, name: str) -> float:
        return World(seed).chance(name).random()

    assert draw(1, "x") == draw(1, "x")
    assert len({draw(1, "x"), draw(2, "x"), draw(1, "y")}) == 3
