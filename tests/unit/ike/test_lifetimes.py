"""Lifetimes: soft before hard, and jitter that only ever makes the soft limits come earlier."""

import pytest

from espudp.errors import ConfigError
from espudp.ike.lifetimes import LifetimeConfig, jittered

_CONFIG = LifetimeConfig(
    soft_seconds=3000.0, hard_seconds=3600.0, soft_bytes=1000, hard_bytes=2000, soft_packets=1, jitter=0.1
)


def test_no_luck_no_jitter() -> None:
    lifetime = jittered(_CONFIG, bytes)
    assert lifetime.soft_seconds == 3000.0
    assert (lifetime.soft_bytes, lifetime.hard_bytes) == (1000, 2000)


def test_the_most_jitter_there_is() -> None:
    lifetime = jittered(_CONFIG, lambda n: b"\xff" * n)
    assert lifetime.soft_seconds is not None
    assert 2700.0 < lifetime.soft_seconds < 2700.1
    assert lifetime.soft_bytes == 900
    assert lifetime.soft_packets == 1
    assert lifetime.hard_seconds == 3600.0
    assert lifetime.hard_packets is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"soft_seconds": 3600.0, "hard_seconds": 3600.0},
        {"soft_bytes": 10, "hard_bytes": 5},
        {"soft_packets": 0},
        {"hard_seconds": -1.0, "soft_seconds": None},
        {"jitter": 1.0},
        {"jitter": -0.1},
    ],
)
def test_limits_that_cannot_work(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError) as error:
        LifetimeConfig(**wrong)  # type: ignore[arg-type]  # the wrong ones among them
    assert error.value.remedy
