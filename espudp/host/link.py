"""What the processes of one session say to each other: Python objects, one after another, over a socket pair.

What is said is with the kernel at once, and what has come can be taken at any moment, without a turn of the
event loop: commands must not come after the traffic that they cause.

Pickle is for this alone: both ends are ours, and nobody else can get at either.
"""

import asyncio
import pickle
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from espudp.esp.messages import Command, Report
from espudp.host.usage import Usage
from espudp.wire.vnet import Offload

_LENGTH_OCTETS = 4
_READ_OCTETS = 1 << 16


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker process is made of: descriptors that it inherits, and its place among the others."""

    worker: int
    workers: int
    sockets: tuple[tuple[str, int, int], ...]
    """Address, port and descriptor."""
    mark: int
    device: str
    queue: int
    aside: int
    """A queue to write into that the kernel learns nothing from."""
    header: bool
    offloads: Offload
    inbox: int
    outboxes: dict[int, int]
    """By worker."""
    dscp: int | None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All that it inherits."""
        sockets = (descriptor for _, _, descriptor in self.sockets)
        return (*sockets, self.queue, self.aside, self.inbox, *self.outboxes.values())


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker reads."""


@dataclass(frozen=True, slots=True)
class Limit:
    """A line for a person about what this host turns out not to be able to do."""

    text: str


@dataclass(frozen=True, slots=True)
class Mistake:
    """One of ours: an exception of this type went up to the event loop."""

    what: str


ToWorker = Setup | Command
FromWorker = Report | Ready | Limit | Mistake | Usage


class Link:
    """One end."""

    def __init__(self, end: socket.socket) -> None:
        """Over one socket of a connected pair, which belongs to the link from now on."""
        end.setblocking(False)
        self._end = end
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._unsent = bytearray()
        self.is_down = False
        """The other end is gone, or this one; what has come before can still be taken."""

    def send(self, message: ToWorker | FromWorker) -> None:
        """At once, as far as there is room; nothing happens if the other end is gone."""
        if self.is_down:
            return
        octets = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
        waits = bool(self._unsent)
        self._unsent += len(octets).to_bytes(_LENGTH_OCTETS) + octets
        if not waits:
            self._push()
            if self._unsent:
                self._loop.add_writer(self._end.fileno(), self._room_waits)

    def _room_waits(self) -> None:
        self._push()
        if not self._unsent:
            self._loop.remove_writer(self._end.fileno())

    def _push(self) -> None:
        try:
            del self._unsent[: self._end.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:  # nobody to hear it; reading tells
            self._unsent.clear()

    def take(self) -> Any:
        """The next message, if it is here; else None."""
        while (message := self._parse()) is None and self._pull():
            pass
        return message

    def _parse(self) -> Any:
        if len(self._received) < _LENGTH_OCTETS:
            return None
        end = _LENGTH_OCTETS + int.from_bytes(self._received[:_LENGTH_OCTETS])
        if len(self._received) < end:
            return None
        message = pickle.loads(self._received[_LENGTH_OCTETS:end])
        del self._received[:end]
        return message

    def _pull(self) -> bool:
        """Whether anything has come."""
        if self.is_down:
            return False
        try:
            octets = self._end.recv(_READ_OCTETS)
        except BlockingIOError:
            return False
        except OSError:
            octets = b""
        self.is_down = not octets
        self._received += octets
        return bool(octets)

    async def receive(self) -> Any:
        """The next message; None: the other end is gone."""
        while (message := self.take()) is None and not self.is_down:
            something = asyncio.Event()
            self.watch(something.set)
            try:
                await something.wait()
            finally:
                if not self.is_down:
                    self._loop.remove_reader(self._end.fileno())
        return message

    def watch(self, on_message: Callable[[], object]) -> None:
        """Have it called whenever something has come, until that is taken; also when the other end goes."""
        self._loop.add_reader(self._end.fileno(), on_message)

    def hang_up(self) -> None:
        """At once, even if the event loop does not come round any more."""
        self.is_down = True
        if not self._loop.is_closed():
            self._loop.remove_reader(self._end.fileno())
            self._loop.remove_writer(self._end.fileno())
        with suppress(OSError):  # the other end has
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()
