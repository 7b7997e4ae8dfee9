"""The event loop around a tunnel, with a tunnel that does what a test says."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import pytest
import uvloop

from espudp.errors import HostError
from espudp.host.driver import BACKLOG_TRAINS, BATCH, TURN, Driver, Drop
from espudp.host.ipsocket import SocketSet
from espudp.host.tun import TunDevice
from espudp.host.udp import UdpSocket
from espudp.ike.events import Diagnostic
from espudp.tunnel import Event, Tunnel
from espudp.wire.address import Path, UdpAddress
from espudp.wire.train import Burst, Train


class FakeTunnel:
    """Sends and delivers what is put into it, and remembers what came in."""

    def __init__(self) -> None:
        self.received: list[tuple[str, Any]] = []
        self.trains: list[Train] = []
        self.packets: list[bytes] = []
        self.events: list[Event] = []
        self.deadline: float | None = None
        self.timers: list[float] = []
        self.on_packets: Callable[[], None] = lambda: None
        self.on_datagrams: Callable[[], None] = lambda: None

    def receive_packets(self, packets: Sequence[bytes], now: float) -> None:
        self.received.append(("packets", list(packets)))
        self.on_packets()

    def receive_datagrams(self, datagrams: Sequence[bytes], path: Path, now: float, tos: int) -> None:
        self.received.append(("datagrams", list(datagrams)))
        self.on_datagrams()
        if datagrams == [b"boom"]:
            raise ZeroDivisionError

    def datagrams_to_send(self, now: float) -> list[Train]:
        trains, self.trains = self.trains, []
        return trains

    def packets_to_deliver(self) -> list[bytes]:
        packets, self.packets = self.packets, []
        return packets

    def next_event(self) -> Event | None:
        return self.events.pop(0) if self.events else None

    def poll_timer(self) -> float | None:
        return self.deadline

    def handle_timer(self, now: float) -> None:
        self.timers.append(now)
        if self.deadline is not None and now >= self.deadline:
            self.deadline = None


class FakeTun:
    """A pair of datagram sockets in the place of a TUN device."""

    def __init__(self) -> None:
        self.ours, self.kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.ours.setblocking(False)
        self.written: list[bytes] = []
        self.answer = b""
        self.gone = False

    def fileno(self) -> int:
        return self.ours.fileno()

    def read_batch(self, limit: int) -> list[bytes]:
        if self.gone:
            raise HostError("It is gone.")
        packets: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            while len(packets) < limit:
                packets.append(self.ours.recv(65535))
        return packets

    def write_batch(self, packets: Sequence[bytes]) -> None:
        self.written += packets
        if packets and self.answer:
            self.kernel.send(self.answer)

    def close(self) -> None:
        self.ours.close()
        self.kernel.close()


class ChokedSocket(UdpSocket):
    """Has room for `room` datagrams."""

    room = 1_000_000

    def send(self, train: Train) -> int:
        count = min(self.room, len(train[1]))
        self.room -= count
        return super().send(Train(train.path, train.datagrams[:count]))


class Bench:
    """A driver with everything around it."""

    def __init__(self) -> None:
        self.tunnel, self.tun, self.udp = FakeTunnel(), FakeTun(), ChokedSocket("127.0.0.1", 0)
        self.peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.peer.bind(("127.0.0.1", 0))
        self.peer.setblocking(False)
        self.path = Path(UdpAddress("127.0.0.1", self.udp.port), UdpAddress(*self.peer.getsockname()))
        self.events: list[Event] = []
        self.failures: list[HostError] = []
        self.driver = Driver(
            cast(Tunnel, self.tunnel),
            SocketSet([self.udp]),
            cast(TunDevice, self.tun),
            on_event=self.events.append,
            on_failure=self.failures.append,
        )
        self.driver.start()

    def arrived(self) -> list[bytes]:
        datagrams: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            while True:
                datagrams.append(self.peer.recv(65535))
        return datagrams

    def close(self) -> None:
        self.driver.stop()
        for thing in (self.tun, self.udp, self.peer):
            thing.close()


def _on_bench(test: Callable[[Bench], Any]) -> Callable[[], None]:
    """The test runs as a task on uvloop."""

    async def run() -> None:
        bench = Bench()
        try:
            await test(bench)
        finally:
            bench.close()

    def wrapped() -> None:
        uvloop.run(run())

    return wrapped


async def _until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 2
    while not condition():
        assert time.monotonic() < deadline, "it does not happen"
        await asyncio.sleep(0.002)


def _all_in(bench: Bench, kind: str) -> list[bytes]:
    return [item for what, items in bench.tunnel.received for item in items if what == kind]


@_on_bench
async def test_packets_and_datagrams_go_in_in_order(bench: Bench) -> None:
    packets = [b"packet%d" % number for number in range(200)]
    datagrams = [b"datagram%d" % number for number in range(200)]
    for packet, datagram in zip(packets, datagrams, strict=True):
        bench.tun.kernel.send(packet)
        bench.peer.sendto(datagram, bench.path.local)
    await _until(lambda: sum(len(items) for _, items in bench.tunnel.received) == 400)
    assert _all_in(bench, "packets") == packets
    assert _all_in(bench, "datagrams") == datagrams
    assert max(len(items) for _, items in bench.tunnel.received) == BATCH
    assert len(bench.tunnel.received) < 20


@_on_bench
async def test_after_a_lull_the_first_goes_alone(bench: Bench) -> None:
    for number in range(3):
        bench.tun.kernel.send(b"%d" % number)
    await _until(lambda: len(_all_in(bench, "packets")) == 3)
    assert bench.tunnel.received == [("packets", [b"0"]), ("packets", [b"1", b"2"])]


@_on_bench
async def test_a_source_that_never_dries_up_does_not_starve_the_others(bench: Bench) -> None:
    def refill() -> None:
        bench.tun.kernel.send(b"more")

    bench.tunnel.on_packets = refill
    bench.tun.kernel.send(b"more")
    bench.peer.sendto(b"datagram", bench.path.local)
    await _until(lambda: _all_in(bench, "datagrams"))
    bench.tunnel.on_packets = lambda: None
    kinds = [kind for kind, _ in bench.tunnel.received]
    assert kinds.index("datagrams") <= 2 * TURN


@_on_bench
async def test_what_answers_a_datagram_at_once_is_not_waited_for(bench: Bench) -> None:
    """A host that is asked for an echo has written it to the device before our write returns."""
    bench.tunnel.on_datagrams = lambda: bench.tunnel.packets.append(b"question")
    bench.tunnel.on_packets = lambda: bench.tunnel.trains.append(Train(bench.path, [b"sealed answer"]))
    bench.tun.answer = b"answer"
    bench.peer.sendto(b"sealed question", bench.path.local)
    bench.driver._datagrams_wait(bench.udp)  # one wake-up
    assert bench.tun.written == [b"question"]
    assert bench.arrived() == [b"sealed answer"]


@_on_bench
async def test_only_inner_packets_that_come_alone_are_told_of(bench: Bench) -> None:
    lulls: list[int] = []
    bench.driver.on_lull = lambda: lulls.append(len(bench.tunnel.received))
    await asyncio.sleep(0.01)
    bench.peer.sendto(b"keepalive", bench.path.local)
    await _until(lambda: len(bench.tunnel.received) == 1)
    assert lulls == []
    await asyncio.sleep(0.01)
    bench.tunnel.on_datagrams = lambda: bench.tunnel.packets.append(b"inner")
    bench.peer.sendto(b"sealed", bench.path.local)
    await _until(lambda: lulls == [2])
    await asyncio.sleep(0.01)
    bench.tun.kernel.send(b"packet")
    await _until(lambda: lulls == [2, 3])


@_on_bench
async def test_everything_that_comes_out_is_handed_on(bench: Bench) -> None:
    def answer() -> None:
        bench.tunnel.trains = [Train(bench.path, [b"one", b"two"])]
        bench.tunnel.packets = [b"inner"]
        bench.tunnel.events = [Diagnostic(1, "a"), Diagnostic(1, "b")]

    bench.tunnel.on_packets = answer
    bench.tun.kernel.send(b"packet")
    await _until(lambda: len(bench.events) == 2)
    assert bench.tun.written == [b"inner"]
    assert bench.arrived() == [b"one", b"two"]


@_on_bench
async def test_a_command_is_followed_by_what_it_causes(bench: Bench) -> None:
    def act(tunnel: Tunnel, now: float) -> str:
        bench.tunnel.trains = [Train(bench.path, [b"at once"])]
        return "result"

    assert bench.driver.command(act) == "result"
    assert bench.arrived() == [b"at once"]


@_on_bench
async def test_commands_given_by_the_handler_of_an_event_are_served(bench: Bench) -> None:
    def obey(event: Event) -> None:
        bench.driver.command(lambda *_: bench.tunnel.trains.append(Train(bench.path, [b"obeyed"])))

    bench.driver._on_event = obey
    bench.tunnel.events = [Diagnostic(1, "a"), Diagnostic(1, "b")]
    bench.driver.command(lambda *_: None)
    assert bench.arrived() == [b"obeyed", b"obeyed"]


@_on_bench
async def test_the_timer_fires_at_the_deadline_and_not_before(bench: Bench) -> None:
    start = time.monotonic()
    bench.tunnel.deadline = start + 10
    bench.driver.command(lambda *_: None)
    bench.tunnel.deadline = start + 0.03
    bench.driver.command(lambda *_: None)
    await _until(lambda: bench.tunnel.deadline is None)
    assert 0.025 < bench.tunnel.timers[-1] - start < 0.5
    assert len(bench.tunnel.timers) <= 2


@_on_bench
async def test_a_deadline_that_moves_away_costs_one_call_for_nothing(bench: Bench) -> None:
    start = time.monotonic()
    for delay in (0.01, 0.04):
        bench.tunnel.deadline = start + delay
        bench.driver.command(lambda *_: None)
    await _until(lambda: bench.tunnel.deadline is None)
    assert bench.tunnel.timers[-1] - start > 0.035
    assert 2 <= len(bench.tunnel.timers) <= 4


@_on_bench
async def test_a_deadline_in_the_past_that_does_not_go_away_does_not_spin(bench: Bench) -> None:
    bench.tunnel.handle_timer = lambda now: bench.tunnel.timers.append(now)  # type: ignore[method-assign]
    bench.tunnel.deadline = 0.0
    bench.driver.command(lambda *_: None)
    await asyncio.sleep(0.05)
    assert 0 < len(bench.tunnel.timers) <= 51


@_on_bench
async def test_a_full_socket_holds_packets_back_and_loses_none(bench: Bench) -> None:
    bench.udp.room = 2
    sent = [b"%d" % number for number in range(6)]
    bench.driver.command(
        lambda *_: bench.tunnel.trains.extend([Train(bench.path, sent[:4]), Train(bench.path, sent[4:])])
    )
    bench.tun.kernel.send(b"packet")
    await asyncio.sleep(0.02)
    assert bench.arrived() == sent[:2]
    assert bench.tunnel.received == []  # waits in the device
    bench.udp.room = 100
    await _until(lambda: bench.tunnel.received)
    assert bench.arrived() == sent[2:]
    assert not bench.driver.drops


@_on_bench
async def test_a_burst_that_waits_is_kept_as_it_was(bench: Bench) -> None:
    """Its memory is the tunnel's, which overwrites it with the next one."""
    memory = bytearray(b"aabbccddee")
    for room in (0, 2):
        bench.udp.room = room
        train = Train(bench.path, Burst(memory, 2))
        bench.driver.command(lambda *_, train=train: bench.tunnel.trains.extend([train, train]))
        memory[:] = b"0123456789"
        assert bench.arrived() == [b"aa", b"bb"][:room]
        bench.udp.room = 100
        await _until(lambda: not bench.driver._backlog)
        memory[:] = b"aabbccddee"
        assert bench.arrived() == ([b"aa", b"bb", b"cc", b"dd", b"ee"] * 2)[room:]


@_on_bench
async def test_what_waits_for_a_full_socket_is_bounded(bench: Bench) -> None:
    bench.udp.room = 0
    train = Train(bench.path, [b"a", b"b"])
    bench.driver.command(lambda *_: bench.tunnel.trains.extend([train] * (BACKLOG_TRAINS + 3)))
    assert bench.driver.drops == {Drop.BACKLOG: 6}


@_on_bench
async def test_a_train_without_a_socket_is_counted(bench: Bench) -> None:
    elsewhere = Path(UdpAddress("::1", 1), UdpAddress("::1", 2))
    bench.driver.command(lambda *_: bench.tunnel.trains.append(Train(elsewhere, [b"a", b"b"])))
    assert bench.driver.drops == {Drop.NO_SOCKET: 2}


@_on_bench
async def test_a_removed_device_ends_it_and_is_told_once(bench: Bench) -> None:
    bench.tun.gone = True
    bench.tun.kernel.send(b"wake up")
    await _until(lambda: bench.failures)
    await asyncio.sleep(0.02)
    bench.peer.sendto(b"after a lull the device is looked at, too", bench.path.local)
    await _until(lambda: bench.tunnel.received)
    bench.udp.room = 0
    bench.driver.command(lambda *_: bench.tunnel.trains.append(Train(bench.path, [b"goodbye"])))
    bench.udp.room = 1
    await _until(bench.arrived)
    await asyncio.sleep(0.02)
    assert [str(failure) for failure in bench.failures] == ["It is gone."]


@_on_bench
async def test_a_mistake_over_one_datagram_does_not_stop_the_others(bench: Bench) -> None:
    seen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context["exception"]))
    bench.peer.sendto(b"boom", bench.path.local)
    await _until(lambda: seen)
    bench.peer.sendto(b"fine", bench.path.local)
    await _until(lambda: len(bench.tunnel.received) == 2)
    assert isinstance(seen[0], ZeroDivisionError)


@pytest.mark.root
@pytest.mark.tun
def test_a_real_device_is_watched_by_uvloop() -> None:
    """An event loop may treat descriptors of its own kind only: this one must not."""
    from espudp.host.netns import Namespace

    async def watch(tun: TunDevice) -> None:
        readable = asyncio.Event()
        asyncio.get_running_loop().add_reader(tun.fileno(), readable.set)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, tun.name.encode())
            sender.sendto(b"out", ("192.0.2.1", 9))
        await asyncio.wait_for(readable.wait(), 2)
        assert len(tun.read_batch(8)) == 1
        asyncio.get_running_loop().remove_reader(tun.fileno())

    with Namespace() as namespace, namespace.inside():
        tun = TunDevice("esp%d", 1400)
        tun.up()
        namespace.add_address(tun.name, "10.7.0.1/24")
        uvloop.run(watch(tun))
        tun.close()
