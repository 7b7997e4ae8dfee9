"""The event loop around a tunnel: whatever can be read goes in, whatever comes out is sent.

Every wake-up is the same: take what one source has, a batch, a train or a super-packet at a time; tell the
tunnel; transmit. `transmit` sends the datagrams, delivers the packets, hands the events on, and re-arms the
one timer.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

from espudp.errors import HostError
from espudp.host.ipsocket import OuterSocket, SocketSet
from espudp.host.tun import TunQueue
from espudp.wire.address import Path
from espudp.wire.buffer import Buffer
from espudp.wire.train import Burst, Train

T = TypeVar("T")
M = TypeVar("M", bound="Machine")

# Single packets or datagrams taken at a time: as many as leave in one burst.
BATCH = 64

# Batches, super-packets or trains of one source that a wake-up takes, so that no source starves the others.
TURN = 2

# After so long without a wake-up the next one is served for the least delay, not for the largest batch.
LULL_SECONDS = 0.001

# Trains that wait for room in a socket's buffer: past it they are dropped, as in any queue.
BACKLOG_TRAINS = 64

# The event loop counts in milliseconds; a deadline that rounds to now must not make it spin.
MIN_SLEEP_SECONDS = 0.001


class Drop(Enum):
    """Why a datagram that the tunnel wanted to send was not."""

    BACKLOG = "send queue full"
    NO_SOCKET = "no socket for its path"


class Machine(Protocol):
    """What is driven: a `Tunnel`, or the part of one that a worker process has."""

    def receive_packets(self, packets: Sequence[Any], now: float) -> None: ...
    def receive_datagrams(
        self, datagrams: Sequence[Buffer], path: Path, now: float, tos: int = 0
    ) -> None: ...
    def handle_timer(self, now: float) -> None: ...
    def poll_timer(self) -> float | None: ...
    def datagrams_to_send(self, now: float) -> Sequence[Train]: ...
    def packets_to_deliver(self) -> Sequence[Any]: ...
    def next_event(self) -> Any: ...


class Driver(Generic[M]):
    """Moves packets and datagrams between a tunnel and the operating system, on the running event loop."""

    def __init__(
        self,
        tunnel: M,
        sockets: SocketSet,
        tun: TunQueue,
        *,
        on_event: Callable[[Any], None],
        on_failure: Callable[[HostError], None],
    ) -> None:
        """`on_event` gets the tunnel's events, `on_failure` what makes it useless to go on."""
        self._tunnel = tunnel
        self._sockets = sockets
        self._tun = tun
        self._on_event = on_event
        self._on_failure = on_failure
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._deadline: float | None = None
        self.woken = 0.0
        """When a packet or datagram last woke us, by the monotonic clock."""
        self.on_lull: Callable[[], None] = lambda: None
        """Called when an inner packet that came alone, after a pause, has been served."""
        self._delivered = False
        self._transmitting = False
        self._device_gone = False
        self._backlog: dict[OuterSocket, deque[Train]] = {}
        self.drops: Counter[Drop] = Counter()

    def start(self) -> None:
        """Begin to read."""
        for udp in self._sockets.sockets:
            self._loop.add_reader(udp.fileno(), self._datagrams_wait, udp)
        self._loop.add_reader(self._tun.fileno(), self._packets_wait)
        self._transmit()

    def stop(self) -> None:
        """Let go of the loop. The sockets and the device stay open."""
        for udp in self._sockets.sockets:
            self._loop.remove_reader(udp.fileno())
            self._loop.remove_writer(udp.fileno())
        self._loop.remove_reader(self._tun.fileno())
        if self._timer is not None:
            self._timer.cancel()

    def command(self, act: Callable[[M, float], T]) -> T:
        """Give the tunnel a command, and send what follows from it."""
        result = act(self._tunnel, time.monotonic())
        self._transmit()
        return result

    # Wake-ups

    def _packets_wait(self) -> None:
        if self._after_lull():
            if self._take_packets(1):
                self.on_lull()
            return
        for _ in range(TURN):
            if not self._take_packets(BATCH):
                return

    def _datagrams_wait(self, udp: OuterSocket) -> None:
        if self._after_lull():
            self._delivered = False
            self._take_datagrams(udp, 1)
            self._take_packets(1)  # a host answers an echo before it has returned from taking it
            if self._delivered:  # nobody waits for keepalives, and strangers shall not make us work
                self.on_lull()
            return
        for _ in range(TURN):
            if not self._take_datagrams(udp, BATCH):
                return

    def _after_lull(self) -> bool:
        """What wakes us now is probably alone: somebody waits for it, and nothing for the rest of a batch."""
        now = time.monotonic()
        alone = now - self.woken > LULL_SECONDS
        self.woken = now
        return alone

    def _take_packets(self, limit: int) -> bool:
        """From the device into the tunnel; whether there were any. While sockets are full they wait there."""
        if self._backlog or self._device_gone:
            return False
        try:
            packets = self._tun.read_batch(limit)
        except HostError as error:
            self._device_gone = True
            self._loop.remove_reader(self._tun.fileno())
            self._on_failure(error)
            return False
        if not packets:
            return False
        try:
            self._tunnel.receive_packets(packets, time.monotonic())
        finally:
            self._transmit()
        return True

    def _take_datagrams(self, udp: OuterSocket, limit: int) -> bool:
        """From a socket into the tunnel; whether there were any."""
        trains = udp.receive(limit)
        if not trains:
            return False
        now = time.monotonic()
        try:
            for path, datagrams, tos in trains:
                self._tunnel.receive_datagrams(datagrams, path, now, tos)
                if type(datagrams) is Burst and len(trains) > 1:
                    self._transmit()  # what came of it lies where the next burst is going to
        finally:  # a mistake of ours over one train must not hold back what came of the others
            self._transmit()
        return True

    def _time_is_up(self) -> None:
        self._timer = self._deadline = None
        try:
            self._tunnel.handle_timer(time.monotonic())
        finally:
            self._transmit()

    def _room_waits(self, udp: OuterSocket) -> None:
        """The socket takes datagrams again: first those that have waited."""
        backlog = self._backlog[udp]
        while backlog:
            rest = _send(udp, backlog[0])
            if rest is not None:
                backlog[0] = rest
                return
            backlog.popleft()
        del self._backlog[udp]
        self._loop.remove_writer(udp.fileno())
        if not self._backlog and not self._device_gone:
            self._loop.add_reader(self._tun.fileno(), self._packets_wait)

    # What comes out

    def _transmit(self) -> None:
        """Empty the tunnel. An event's handler may give commands: those are served by the outer call."""
        if self._transmitting:
            return
        self._transmitting = True
        try:
            while True:
                for train in self._tunnel.datagrams_to_send(time.monotonic()):
                    self._send(train)
                if packets := self._tunnel.packets_to_deliver():
                    self._delivered = True
                    self._tun.write_batch(packets)
                event = self._tunnel.next_event()
                if event is None:
                    break
                self._on_event(event)
        finally:
            self._transmitting = False
            self._arm()

    def _send(self, train: Train) -> None:
        udp = self._sockets.for_path(train[0])
        if udp is None:
            self.drops[Drop.NO_SOCKET] += len(train[1])
            return
        backlog = self._backlog.get(udp)
        if backlog is not None:
            if len(backlog) < BACKLOG_TRAINS:
                backlog.append(train.copy())
            else:
                self.drops[Drop.BACKLOG] += len(train[1])
            return
        rest = _send(udp, train)
        if rest is not None:
            self._wait_for_room(udp, rest)

    def _wait_for_room(self, udp: OuterSocket, rest: Train) -> None:
        """The socket's buffer is full: packets wait in the TUN device, whose queue their senders feel."""
        self._loop.remove_reader(self._tun.fileno())
        self._backlog[udp] = deque([rest])
        self._loop.add_writer(udp.fileno(), self._room_waits, udp)

    def _arm(self) -> None:
        """One timer. A deadline that moves away leaves it alone: it fires for nothing once, is re-armed."""
        deadline = self._tunnel.poll_timer()
        if deadline is None or (self._deadline is not None and self._deadline <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._deadline = deadline
        delay = max(MIN_SLEEP_SECONDS, deadline - time.monotonic())
        self._timer = self._loop.call_later(delay, self._time_is_up)


def _send(udp: OuterSocket, train: Train) -> Train | None:
    """What is left of the train when the socket takes no more; it is ours to keep."""
    done = udp.send(train)
    if done == len(train.datagrams):
        return None
    return train.copy() if done == 0 else train._replace(datagrams=train.datagrams[done:])
