"""What the processes of one session say to each other: Python objects, one after another, over a socket pair.

Pickle is for this alone: both ends are ours, and nobody else can get at either.
"""

import asyncio
import pickle
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from espudp.esp.messages import Command, Report
from espudp.host.usage import Usage
from espudp.wire.vnet import Offload

_LENGTH_OCTETS = 4


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

    def __init__(
        self, end: socket.socket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._end = end
        self._reader = reader
        self._writer = writer

    @classmethod
    async def over(cls, end: socket.socket) -> Self:
        """Over one socket of a connected pair, which belongs to the link from now on."""
        end.setblocking(False)
        return cls(end, *await asyncio.open_connection(sock=end))

    def send(self, message: ToWorker | FromWorker) -> None:
        """Soon; nothing happens if the other end is gone."""
        if not self._writer.is_closing():
            octets = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
            self._writer.write(len(octets).to_bytes(_LENGTH_OCTETS) + octets)

    async def receive(self) -> Any:
        """The next message; None: the other end is gone."""
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH_OCTETS))
            return pickle.loads(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def hang_up(self) -> None:
        """At once, even if the event loop does not come round any more."""
        with suppress(OSError):  # the other end has
            self._end.shutdown(socket.SHUT_RDWR)
        self._writer.close()
