"""A worker process: the ESP of some SAs, on sockets and a TUN queue that it inherits, and nothing else.

It is started by `Workers` and lives as long as the one that started it: it ends when that hangs up.
"""

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import uvloop

from espudp.errors import HostError
from espudp.esp.events import Event, PeerMoved
from espudp.esp.messages import Ask, Astray, Command, Steer
from espudp.esp.worker import Worker
from espudp.host.driver import Driver
from espudp.host.inbox import Inbox, Outboxes
from espudp.host.ipsocket import OuterSocket, SocketSet
from espudp.host.link import Limit, Link, Mistake, Ready, Setup
from espudp.host.rawesp import NO_PORT, RawEspSocket
from espudp.host.tun import TunQueue
from espudp.host.udp import UdpSocket
from espudp.host.usage import usage

# How often the front is told where peers are.
MOVES_SECONDS = 0.1


class Moves:
    """Passes events on, but moves of peers now and then, of each connection the last.

    A peer may come from elsewhere with each of its datagrams, and the front has more to do for one than we.
    """

    def __init__(self, send: Callable[[Event], None]) -> None:
        self._send = send
        self._kept: dict[int, PeerMoved] = {}
        self._pausing = False

    def tell(self, event: Event) -> None:
        """Soon."""
        if isinstance(event, PeerMoved) and self._pausing:
            self._kept[event.connection] = event
            return
        self._send(event)
        if isinstance(event, PeerMoved):
            self._pause()

    def _pause(self) -> None:
        self._pausing = True
        asyncio.get_running_loop().call_later(MOVES_SECONDS, self._go_on)

    def _go_on(self) -> None:
        self._pausing = False
        kept, self._kept = self._kept, {}
        for event in kept.values():
            self._send(event)
        if kept:
            self._pause()


class WorkerProcess:
    """The objects of one."""

    def __init__(self, setup: Setup, link: Link) -> None:
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._alone: asyncio.Future[None] = self._loop.create_future()
        self._loop.set_exception_handler(self._unexpected)
        self._sockets = SocketSet(
            self._inherit(ip, port, descriptor, setup.mark) for ip, port, descriptor in setup.sockets
        )
        self._queue = TunQueue(
            setup.device,
            setup.queue,
            header=setup.header,
            offloads=setup.offloads,
            on_limit=self._tun_limited,
        )
        self._aside = setup.aside
        self._inbox = Inbox(socket.socket(fileno=setup.inbox))
        outboxes = {number: socket.socket(fileno=fd) for number, fd in setup.outboxes.items()}
        self._worker = Worker(
            os.urandom,
            setup.worker,
            setup.workers,
            report=link.send,
            hand_over=Outboxes(outboxes).hand_over,
            catch_up=self._catch_up,
            dscp=setup.dscp,
        )
        self._worker.set_offloads(setup.offloads)
        self._driver = Driver(
            self._worker,
            self._sockets,
            self._queue,
            on_event=Moves(link.send).tell,
            on_failure=self._device_gone,
        )

    def _inherit(self, ip: str, port: int, descriptor: int, mark: int) -> OuterSocket:
        if port == NO_PORT:
            return RawEspSocket(ip, mark=mark, inherited=descriptor)
        return UdpSocket(ip, port, mark=mark, on_limit=self._limit, inherited=descriptor)

    async def live(self) -> None:
        """Until the other end hangs up."""
        self._loop.add_reader(self._inbox.fileno(), self._take_over)
        self._driver.start()
        self._link.watch(self._command_waits)
        self._loop.call_soon(self._command_waits)  # what came together with the setup is here already
        self._link.send(Ready())
        await self._alone
        self._driver.stop()

    def _command_waits(self) -> None:
        command = self._link.take()
        if command is not None:
            # By way of the loop: what goes wrong with one is reported, and the next is obeyed.
            self._loop.call_soon(self._command_waits)
            self._driver.command(partial(self._obey, command))
        elif self._link.is_down and not self._alone.done():
            self._alone.set_result(None)

    def _catch_up(self, now: float) -> bool:
        """For traffic that came faster than the command that it follows from."""
        command = self._link.take()
        if command is None:
            return False
        self._loop.call_soon(self._command_waits)
        while command is not None:
            self._obey(command, self._worker, now)
            command = self._link.take()
        return True

    def _obey(self, command: Command, worker: Worker, now: float) -> None:
        worker.obey(command, now)
        if isinstance(command, Steer):
            self._queue.write_through(None if command.by_return else self._aside)
        elif isinstance(command, Ask):
            self._link.send(usage(self._driver, self._sockets, self._queue))

    def _take_over(self) -> None:
        for astray in self._inbox.read():
            self._driver.command(partial(_take_over, astray))

    def _device_gone(self, _: HostError) -> None:
        """The front sees it too, and tells."""

    def _limit(self, text: str) -> None:
        self._link.send(Limit(text))

    def _tun_limited(self, text: str) -> None:
        self._limit(text)
        self._worker.set_offloads(self._queue.offloads)

    def _unexpected(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        # The type alone: the text of an error that nobody foresaw may contain anything, a key as well.
        self._link.send(Mistake(type(error).__name__ if error else str(context.get("message", ""))))


def _take_over(astray: Astray, worker: Worker, now: float) -> None:
    worker.take_over(astray, now)


async def _run(end: socket.socket) -> None:
    link = Link(end)
    setup = await link.receive()
    if isinstance(setup, Setup):
        await WorkerProcess(setup, link).live()


def main() -> None:
    """The one argument is the descriptor of the link."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # They are for the one that started us, which has something to say to the peers before it hangs up.
        signal.signal(number, signal.SIG_IGN)
    end = socket.socket(fileno=int(sys.argv[1]))
    gc.freeze()  # as in `run_session`
    uvloop.run(_run(end))


if __name__ == "__main__":
    main()
