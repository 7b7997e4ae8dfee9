"""The rehearsal: packets of our own that keep the real ones' way warm."""

import asyncio
import errno
import time
from collections.abc import Callable
from typing import Any, cast

import pytest
import uvloop

from espudp.crypto.suites import EspSuite, parse_esp_suite
from espudp.host.driver import Driver
from espudp.host.rehearsal import INTERVAL_SECONDS, MOMENT_SECONDS, Rehearsal


class Real:
    """What the rehearsal sees of the driver that it is for."""

    woken = 0.0
    on_lull: Callable[[], None]


def _run(test: Callable[[Rehearsal], Any], suite: EspSuite | None = None, real: Real | None = None) -> None:
    async def run() -> None:
        driver = cast(Driver[Any], real or Real())
        rehearsal = Rehearsal(suite or parse_esp_suite("aes128gcm16"), driver)
        try:
            await test(rehearsal)
        finally:
            rehearsal.close()

    uvloop.run(run())


@pytest.mark.parametrize(
    "name", ["aes128gcm16", "aes256gcm16-esn", "chacha20poly1305", "aes128-sha256", "aes256-sha512-esn"]
)
def test_packets_come_through_with_every_kind_of_suite(name: str) -> None:
    async def test(rehearsal: Rehearsal) -> None:
        rehearsal.keep_on()
        await asyncio.sleep(20 * INTERVAL_SECONDS)
        assert 3 <= rehearsal.rounds <= 21

    _run(test, parse_esp_suite(name))


def test_it_is_silent_until_asked_and_stops_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("espudp.host.rehearsal.MOMENT_SECONDS", 0.05)
    assert MOMENT_SECONDS >= 1

    async def test(rehearsal: Rehearsal) -> None:
        await asyncio.sleep(0.05)
        assert rehearsal.rounds == 0
        for _ in range(2):
            before = rehearsal.rounds
            rehearsal.keep_on()
            rehearsal.keep_on()  # one timer, not two
            await asyncio.sleep(0.15)
            first = rehearsal.rounds
            assert before + 3 <= first <= before + 0.05 / INTERVAL_SECONDS + 2
            await asyncio.sleep(0.05)
            assert rehearsal.rounds == first

    _run(test)


def test_a_busy_way_is_left_alone() -> None:
    real = Real()

    async def test(rehearsal: Rehearsal) -> None:
        real.on_lull()
        real.woken = time.monotonic() + 10
        await asyncio.sleep(20 * INTERVAL_SECONDS)
        assert rehearsal.rounds == 0
        real.woken = 0.0
        await asyncio.sleep(20 * INTERVAL_SECONDS)
        assert rehearsal.rounds >= 3

    _run(test, real=real)


def test_it_ends_at_any_time() -> None:
    async def test(rehearsal: Rehearsal) -> None:
        rehearsal.keep_on()
        await asyncio.sleep(2 * INTERVAL_SECONDS)
        rehearsal.close()
        await asyncio.sleep(5 * INTERVAL_SECONDS)

    _run(test)


def test_a_host_without_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("espudp.host.rehearsal.LOOPBACK", "192.0.2.77")

    async def test(_: Rehearsal) -> None:
        raise AssertionError

    with pytest.raises(OSError, match="assign") as caught:
        _run(test)
    assert caught.value.errno == errno.EADDRNOTAVAIL
