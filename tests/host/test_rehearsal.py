"""The rehearsal: packets of our own that keep the real ones' way warm."""

import asyncio
import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import uvloop

from espudp.crypto.suites import EspSuite, parse_esp_suite
from espudp.host.driver import Driver
from espudp.host.netns import Namespace
from espudp.host.rehearsal import INTERVAL_SECONDS, MOMENT_SECONDS, Rehearsal
from tests.host.support import Network, ping


class Real:
    """What the rehearsal sees of the driver that it is for."""

    woken = 0.0
    on_lull: Callable[[], None]


def _run(test: Callable[[Rehearsal], Any], suite: EspSuite | None = None, real: Real | None = None) -> None:
    mistakes: list[dict[str, Any]] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: mistakes.append(context))
        driver = cast(Driver[Any], real or Real())
        rehearsal = Rehearsal(suite or parse_esp_suite("aes128gcm16"), driver)
        try:
            await test(rehearsal)
        finally:
            rehearsal.close()

    uvloop.run(run())
    assert mistakes == []


async def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(INTERVAL_SECONDS)


@pytest.mark.parametrize(
    "name", ["aes128gcm16", "aes256gcm16-esn", "chacha20poly1305", "aes128-sha256", "aes256-sha512-esn"]
)
def test_packets_come_through_with_every_kind_of_suite(name: str) -> None:
    async def test(rehearsal: Rehearsal) -> None:
        started = time.monotonic()
        rehearsal.keep_on()
        await _until(lambda: rehearsal.rounds >= 5)
        assert rehearsal.rounds <= (time.monotonic() - started) / INTERVAL_SECONDS + 1

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
            await _until(lambda: rehearsal._timer is None)
            first = rehearsal.rounds
            assert before < first <= before + 0.05 / INTERVAL_SECONDS + 2
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
        real.on_lull()
        await _until(lambda: rehearsal.rounds >= 3)

    _run(test, real=real)


def test_it_ends_at_any_time_and_for_good() -> None:
    real = Real()

    async def test(rehearsal: Rehearsal) -> None:
        real.on_lull()
        await _until(lambda: rehearsal.rounds >= 1)
        rehearsal.close()
        rounds = rehearsal.rounds
        real.on_lull()
        await asyncio.sleep(5 * INTERVAL_SECONDS)
        assert rehearsal.rounds == rounds

    _run(test, real=real)


def test_a_host_without_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("espudp.host.rehearsal.LOOPBACK", "192.0.2.77")

    async def test(_: Rehearsal) -> None:
        raise AssertionError

    with pytest.raises(OSError, match="assign") as caught:
        _run(test)
    assert caught.value.errno == errno.EADDRNOTAVAIL


@pytest.mark.root
@pytest.mark.tun
def test_it_is_neither_seen_nor_counted_and_can_be_switched_off(tmp_path: Path) -> None:
    with Network.make(tmp_path) as network:
        server = network.listen(host_options={"rehearsal": False})
        client = network.connect()
        assert (loopback_sockets(network.client), loopback_sockets(network.server)) == (1, 0)
        assert ping(network.client, "10.99.0.1", tries=3) == 3
        before = received(network.client)
        time.sleep(20 * INTERVAL_SECONDS)
        assert received(network.client)["lo"] > before["lo"]
        # Twenty rounds, and neighbours may ask for each other's addresses meanwhile.
        assert received(network.client)["wan"] - before["wan"] < 5
        for peer in (client, server):
            status = peer.ask("status")
            assert {sa["packets"] for sa in status["tunnel"]["sas"]} == {3}
            assert status["workers"][0]["packets"] == {"in": 3, "out": 3}
            assert len(status["tunnel"]["connections"]) == 1
        assert (client.stop(), server.stop()) == (0, 0)
        assert loopback_sockets(network.client) == 0


def loopback_sockets(namespace: Namespace) -> int:
    """UDP sockets on 127.0.0.1."""
    with namespace.inside():
        return Path("/proc/thread-self/net/udp").read_text().count(": 0100007F:")


def received(namespace: Namespace) -> dict[str, int]:
    """Packets that each device has received."""
    with namespace.inside():
        lines = Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]
    return {name.strip(): int(counters.split()[1]) for name, _, counters in (x.partition(":") for x in lines)}
