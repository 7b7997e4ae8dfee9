"""More cores than one: worker processes beside the one that runs IKE.

Each process owns whole SAs, told by their inbound SPI, and has its own UDP sockets and its own queue of the
one TUN device. All of those are opened here and inherited, so that they outlive a process that dies, and its
successor finds what has come meanwhile. A queue takes part only while there is somebody who reads it.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

from espudp.errors import EspudpError, HostError
from espudp.esp.elsewhere import FRONT
from espudp.esp.front import Front
from espudp.esp.messages import Astray, Command, Incoming, Outgoing, Steer
from espudp.host.driver import Driver
from espudp.host.inbox import Inbox, Outboxes, make_roomy, open_inboxes
from espudp.host.link import FromWorker, Limit, Link, Mistake, Ready, Setup
from espudp.host.options import WORKERS_MAX, Severity
from espudp.host.rawesp import RawEspSocket
from espudp.host.steering import attach, detach, steer
from espudp.host.tun import TunDevice
from espudp.host.udp import UdpSocket
from espudp.host.usage import Usage
from espudp.tunnel import Tunnel

# A worker that dies sooner would die again.
LIFE_SECONDS_MIN = 10.0
END_SECONDS = 2.0
ANSWER_SECONDS = 1.0

EspSocket = UdpSocket | RawEspSocket

_PACKAGE_ROOT = Path(__file__).parents[2]


class Owner(Protocol):
    """What the session does with what a worker process says."""

    def tell(self, text: str, severity: Severity, remedy: str) -> None: ...
    def limit(self, text: str) -> None: ...
    def mistake(self, what: str) -> None: ...
    def fail(self, error: EspudpError) -> None: ...


def usable_cores() -> int:
    """Of those that this process may run on, as many as there can be workers."""
    return min(len(os.sched_getaffinity(0)), WORKERS_MAX)


class Workers:
    """The other workers of a session, which is itself worker 0."""

    def __init__(
        self, count: int, sockets: Iterable[EspSocket], tun: TunDevice, *, mark: int, dscp: int | None
    ) -> None:
        """Open a socket beside each of `sockets` and a queue of `tun` for each of the other workers.

        Raises OSError or HostError if this host cannot do that.
        """
        self.count = count
        self._tun = tun
        self._mark = mark
        self._dscp = dscp
        self._links: dict[int, Link] = {}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._usages: dict[int, Usage] = {}
        self._silent: set[int] = set()
        self._answered = asyncio.Event()
        with ExitStack() as stack:
            self._siblings = [self._share(first, stack) for first in sockets]
            self._queues = [tun.open_queue() for _ in range(1, count)]
            for queue in self._queues:
                stack.callback(queue.close)
                detach(queue.fileno())
            # The kernel sends the packets of a flow to the queue that those of the other direction were last
            # written to; from a queue that takes no part it learns nothing.
            self._aside = tun.open_queue()
            stack.callback(self._aside.close)
            detach(self._aside.fileno())
            self._inboxes = open_inboxes(count)
            for end in (end for pair in self._inboxes for end in pair):
                stack.callback(end.close)
            self._opened = stack.pop_all()
        self._inbox = Inbox(self._inboxes[FRONT][0])
        self.hand_over = Outboxes({other: write for other, (_, write) in enumerate(self._inboxes)}).hand_over

    def _share(self, first: EspSocket, stack: ExitStack) -> list[EspSocket]:
        siblings: list[EspSocket] = []
        for _ in range(1, self.count):
            siblings.append(first.sibling())
            stack.callback(siblings[-1].close)
        if isinstance(first, UdpSocket):
            with socket.socket(fileno=os.dup(first.fileno())) as group:
                steer(group, self.count)
            return siblings
        for number, raw in enumerate((first, *siblings)):
            if isinstance(raw, RawEspSocket):  # the kernel gives each of them a copy of everything
                raw.keep_share(number, self.count)
        return siblings

    # Life

    def start(self, driver: Driver[Tunnel], front: Front, owner: Owner) -> None:
        """Start the processes; they serve `front`, which the tunnel of `driver` has as its data path.

        Raises HostError.
        """
        self._driver, self._front, self._owner = driver, front, owner
        loop = asyncio.get_running_loop()
        loop.add_reader(self._inbox.fileno(), self._take_over)
        for worker in range(1, self.count):
            self._launch(worker)
            self._tasks.append(loop.create_task(self._keep(worker)))

    def close(self) -> None:
        """End them all."""
        for task in self._tasks:
            task.cancel()
        with suppress(RuntimeError):  # no loop any more
            asyncio.get_running_loop().remove_reader(self._inbox.fileno())
        for link in self._links.values():
            link.hang_up()
        for process in self._processes.values():
            _end(process)
        self._opened.close()

    def _launch(self, worker: int) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            setup = self._setup(worker)
            try:
                self._processes[worker] = _start(theirs, setup)
            except HostError:
                ours.close()
                raise
        make_roomy(ours)
        self._links[worker] = link = Link(ours)
        link.send(setup)

    def _setup(self, worker: int) -> Setup:
        siblings = (siblings[worker - 1] for siblings in self._siblings)
        queue = self._queues[worker - 1]
        return Setup(
            worker=worker,
            workers=self.count,
            sockets=tuple((s.ip, s.port, s.fileno()) for s in siblings),
            mark=self._mark,
            device=self._tun.name,
            queue=queue.fileno(),
            aside=self._aside.fileno(),
            header=queue.header,
            offloads=queue.offloads,
            inbox=self._inboxes[worker][0].fileno(),
            outboxes={
                other: write.fileno() for other, (_, write) in enumerate(self._inboxes) if other != worker
            },
            dscp=self._dscp,
        )

    async def _keep(self, worker: int) -> None:
        """Hear what a worker says; when it dies, start another one in its place."""
        loop = asyncio.get_running_loop()
        while True:
            started = time.monotonic()
            while (message := await self._links[worker].receive()) is not None:
                # By way of the loop: a mistake of ours over one message must not be the end of all others.
                loop.call_soon(self._receive, worker, message)
            self._links.pop(worker).hang_up()
            self._usages.pop(worker, None)
            with suppress(OSError):  # it was not attached yet, or the device is gone
                detach(self._queues[worker - 1].fileno())
            code = _end(self._processes[worker])
            what, remedy = f"Worker {worker} ended with code {code}", "Please report it."
            if time.monotonic() - started < LIFE_SECONDS_MIN:
                self._owner.fail(HostError(f"{what}.", remedy=f"Start again with --workers 1. {remedy}"))
                return
            self._owner.tell(f"{what}; its keys are made anew.", Severity.WARNING, remedy)
            try:
                self._launch(worker)
            except HostError as error:
                self._owner.fail(error)
                return
            self._attend(lambda _: self._front.lose(worker))

    # Messages

    def tell(self, worker: int, command: Command) -> None:
        """One that is just being replaced hears nothing: its SAs are made anew."""
        if isinstance(command, Steer) and worker == FRONT:
            self._tun.write_through(None if command.by_return else self._aside.fileno())
        elif (link := self._links.get(worker)) is not None:
            link.send(command)

    def _receive(self, worker: int, message: FromWorker) -> None:
        match message:
            case Usage():
                self._usages[worker] = message
                self._silent.discard(worker)
                if not self._silent:
                    self._answered.set()
            case Ready():
                attach(self._queues[worker - 1].fileno())
            case Limit(text):
                self._owner.limit(text)
            case Mistake(what):
                self._owner.mistake(what)
            case _:
                self._attend(lambda now: self._front.receive(worker, message, now))

    def _attend(self, act: Callable[[float], None]) -> None:
        """Let the front hear of something, and the tunnel act on what the front makes of it."""

        def command(tunnel: Tunnel, now: float) -> None:
            act(now)
            tunnel.attend(now)

        self._driver.command(command)

    def _take_over(self) -> None:
        for astray in self._inbox.read():
            self._driver.command(partial(_take_over, astray, self._front))

    async def usages(self) -> dict[int, Usage]:
        """What each process costs; what `snapshot` shows of the SAs of those that answer is then new."""
        self._silent = set(self._links)
        self._answered.clear()
        self._front.ask()
        if self._silent:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._answered.wait(), ANSWER_SECONDS)
        return {worker: self._usage(worker) for worker in self._links}

    def _usage(self, worker: int) -> Usage:
        known = self._usages.get(worker)
        if known is None:
            return Usage(self._processes[worker].pid, silent=True)
        return replace(known, silent=worker in self._silent)


def _start(link: socket.socket, setup: Setup) -> "subprocess.Popen[bytes]":
    """A process that is told everything else over the link. Raises HostError."""
    folders = filter(None, (str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH")))
    try:
        return subprocess.Popen(
            # -P: nothing is imported from the folder that we happen to be in.
            [sys.executable, "-P", "-m", "espudp.host.worker", str(link.fileno())],
            pass_fds=(link.fileno(), *setup.descriptors),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
            stdin=subprocess.DEVNULL,
            process_group=0,  # Ctrl-C is ours to act on
        )
    except OSError as error:
        raise HostError(
            f"Worker {setup.worker} could not be started: {error.strerror}.",
            remedy="Start again with fewer --workers.",
        ) from None


def _take_over(astray: Astray, front: Front, tunnel: Tunnel, now: float) -> None:
    """What another worker met, and is the front's."""
    with front.closed():
        match astray:
            case Outgoing(packet):
                tunnel.receive_packets([packet], now)
            case Incoming(datagrams, path, tos):
                tunnel.receive_datagrams(datagrams, path, now, tos)


def _end(process: "subprocess.Popen[bytes]") -> int:
    """Wait a moment for a process whose link is closed, then no longer; its exit code."""
    try:
        return process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
