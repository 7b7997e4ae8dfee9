"""A running peer, from its first socket to its last rule undone: what connect, listen and manual share."""

import asyncio
import gc
import os
import signal
import socket
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from espudp.crypto.policy import warnings_about
from espudp.crypto.suites import EspSuite
from espudp.errors import ConfigError, EspudpError, HostError
from espudp.esp.elsewhere import FRONT
from espudp.esp.front import Front
from espudp.esp.sa import ChildKeys
from espudp.esp.stand_ins import apart_from
from espudp.host.addresses import own_networks
from espudp.host.commands import Commands
from espudp.host.control import ControlServer
from espudp.host.driver import Driver
from espudp.host.guard import Guard
from espudp.host.ipsocket import SocketSet
from espudp.host.journal import runtime_directory
from espudp.host.netconf import NetConf
from espudp.host.options import HostOptions, Report, Reporter, Severity
from espudp.host.pathmtu import INTERVAL_SECONDS, PathMtus
from espudp.host.rawesp import RawEspSocket, open_raw
from espudp.host.rehearsal import Rehearsal
from espudp.host.routing import Routing
from espudp.host.surroundings import Surroundings
from espudp.host.tun import TunDevice
from espudp.host.udp import GSO_OCTETS, GSO_SEGMENTS, UdpSocket
from espudp.host.usage import Usage, usage
from espudp.host.workers import EspSocket, Workers, usable_cores
from espudp.ike.config import Encapsulation, ListenerConfig
from espudp.ike.events import (
    ChildInstalled,
    ChildRemoved,
    ConnectionDown,
    ConnectionUp,
    Diagnostic,
    IkeRekeyed,
    PathChanged,
)
from espudp.tunnel import Event, ManualUp, MtuChanged, Tunnel
from espudp.wire.address import Path as UdpPath
from espudp.wire.address import UdpAddress

# Marks outer packets, as one bit that others are unlikely to use. All our processes share it, so that none
# takes another's outer packets into its tunnel.
DEFAULT_MARK = 0x2000_0000

# What nearly every path carries, until the path and the suite are known.
INITIAL_MTU = 1400
# RFC 8200 section 5: below it the kernel takes IPv6 away from the device.
MIN_IPV6_MTU = 1280

# How long the peers' answers to our DELETE are waited for.
FAREWELL_SECONDS = 2.0

EXIT_OK, EXIT_FAILURE = 0, 1


class Session(ABC):
    """One TUN device, its sockets and its tunnel. A subclass says what the events mean to it."""

    role = ""

    def __init__(self, options: HostOptions, report: Reporter) -> None:
        self._host_options = options
        self._report = report
        self._mtus: dict[int, int] = {}
        self._suites: set[EspSuite] = set()  # those that were ever in use
        self._warned: set[str] = set()
        self._rehearsal: Rehearsal | None = None
        self._closing = False
        self.workers: Workers | None = None
        self._front: Front | None = None
        self.mark = DEFAULT_MARK if options.mark is None else options.mark
        self.connections: set[int] = set()
        """Those that are up."""
        self.children: Counter[int] = Counter()
        """How many child SAs each has."""
        self.plain_esp = False
        """Whether ESP can go without UDP."""
        self.ike_ports: frozenset[int] = frozenset()
        """Local ports on which IKE goes without the non-ESP marker."""
        self.dns: tuple[str, ...] = ()
        """DNS servers that the peer offers."""
        self.dns_domains: tuple[str, ...] = ()
        """What they are for; none: everything."""
        self.limits: list[str] = []
        """What is slower here than it could be, in words."""
        self.started = time.time()

    # What a subclass says

    @abstractmethod
    def open_sockets(self) -> SocketSet:
        """Raises HostError."""

    @abstractmethod
    def make_tunnel(self) -> Tunnel:
        """Called when `sockets` are open."""

    @abstractmethod
    def encapsulation(self) -> Encapsulation:
        """When ESP goes in UDP."""

    def esp_sockets(self) -> Iterable[UdpSocket]:
        """Those of `sockets` that workers may share; none: there is nothing to share."""
        return ()

    def remotes(self) -> Iterable[str]:
        """IP addresses of peers to whom we choose the way."""
        return ()

    @abstractmethod
    def begin(self) -> None:
        """Everything is open: set addresses, start what is to be started. Raises HostError."""

    @abstractmethod
    def handle(self, event: Event) -> None:
        """What an event means here, after what it means to every session. Raises HostError, ConfigError."""

    # Life

    async def run(self) -> int:
        """Until it ends by itself or by a signal; the exit code. Raises ConfigError, HostError at first."""
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[int] = self._loop.create_future()
        self._all_down = asyncio.Event()
        self._loop.set_exception_handler(self._unexpected)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # before there is anything to undo
            self._loop.add_signal_handler(number, self._on_signal)
        with ExitStack() as stack:
            directory = self._open(stack)
            control = ControlServer(directory, self.netconf.name, Commands(self).handlers())
            await control.start()
            try:
                if self.workers is not None and self._front is not None:
                    self.workers.start(self.driver, self._front, self)
                self.driver.start()
                return await self._live()
            finally:
                self.driver.stop()
                if self._rehearsal is not None:
                    self._rehearsal.close()
                await control.close()

    def _open(self, stack: ExitStack) -> Path:
        options = self._host_options
        self.sockets = self.open_sockets()
        stack.callback(self.sockets.close)
        self.plain_esp = self._open_raw()
        workers = (options.workers or usable_cores()) if self.esp_sockets() else 1
        mtu = options.mtu or INITIAL_MTU
        self.tun = TunDevice(options.device, mtu, queues=workers > 1, on_limit=self.limit)
        stack.callback(self.tun.close)
        if workers > 1 and self.tun.has_queues:
            self._share(workers, stack)
        self.tunnel = self.make_tunnel()
        directory = runtime_directory(create=True)
        self.netconf = NetConf(directory, options.name or self.tun.name)
        stack.callback(self._undo)
        if self.netconf.recovered:
            what = ", ".join(self.netconf.recovered)
            self.tell(f"Undone what a killed espudp had left: {what}.", Severity.DETAIL)
        guard = Guard(self.tun.name, self.mark, self._unguarded)
        stack.callback(guard.close)
        if options.confined_port is not None:
            self.netconf.prohibit(socket.IPPROTO_UDP, options.confined_port)
            guard.close_port(options.confined_port)
        self.tun.up()
        stand_ins = apart_from(own_networks())
        self.routing = Routing(self.netconf, guard, self.tun.name, self.mark, options.routes, stand_ins)
        self.tun.on_limit = self._tun_limited
        self.tunnel.set_offloads(self.tun.offloads)
        self.paths = PathMtus(self._path_mtu_changed, mark=self.mark, bind=options.bind)
        self.driver = Driver(
            self.tunnel, self.sockets, self.tun, on_event=self._on_event, on_failure=self.fail
        )
        self.surroundings = self._surroundings(stack)
        return directory

    def _open_raw(self) -> bool:
        """Whether there are sockets for ESP without UDP, where it may go so. Raises HostError."""
        wish = self.encapsulation()
        if wish is Encapsulation.ALWAYS:
            return False
        try:
            raw = open_raw(self._host_options.bind, mark=self.mark)
        except HostError as error:
            if wish is Encapsulation.NEVER:
                raise
            self.tell(f"ESP always goes in UDP. {error}", remedy=error.remedy)
            return False
        self.sockets.add(raw)
        return True

    def _surroundings(self, stack: ExitStack) -> Surroundings | None:
        """None where the sockets are bound to one address, and where nobody could be told of another."""
        ports: dict[int, int] = {s.version: s.port for s in self.esp_sockets()}
        if not ports or self._host_options.bind is not None:
            return None
        device = socket.if_nametoindex(self.tun.name)
        found = Surroundings(
            self._addresses_changed, self.remotes, ports=ports, device=device, mark=self.mark
        )
        stack.callback(found.close)
        return found

    def _share(self, count: int, stack: ExitStack) -> None:
        """Spread the work over so many processes, or say why not."""
        dscp = self._host_options.dscp
        try:
            raw = [s for s in self.sockets.sockets if isinstance(s, RawEspSocket)]
            sockets: list[EspSocket] = [*self.esp_sockets(), *raw]
            workers = Workers(count, sockets, self.tun, mark=self.mark, dscp=dscp)
        except (OSError, HostError) as error:
            self.limit(f"The work stays with one process: {error}")
            return
        stack.callback(workers.close)
        self.workers = workers
        self._front = Front(os.urandom, count, tell=workers.tell, hand_over=workers.hand_over, dscp=dscp)

    async def _live(self) -> int:
        ticker = self._loop.create_task(self._watch_paths())
        try:
            if self.surroundings is not None:
                self.surroundings.start()
            self.begin()
            code = await self._end
            await self._say_goodbye()
            return code
        finally:
            ticker.cancel()

    def _on_signal(self) -> None:
        if self._end.done():  # for the second time: do not wait for the peers
            self._all_down.set()
        self.end(EXIT_OK)

    async def _say_goodbye(self) -> None:
        """DELETE to every peer, and a moment for their answers."""
        self._closing = True
        self.driver.command(lambda tunnel, now: tunnel.close_all(now))
        if self.connections:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_down.wait(), FAREWELL_SECONDS)

    def _undo(self) -> None:
        try:
            self.netconf.close()
        except HostError as error:
            self.tell(str(error), Severity.WARNING, error.remedy)

    async def _watch_paths(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            self.paths.ask_next()

    # For subclasses

    @property
    def closing(self) -> bool:
        """The end has begun."""
        return self._closing or self._end.done()

    def end(self, code: int) -> None:
        """Stop, unless that has begun already."""
        if not self._end.done():
            self._end.set_result(code)

    def fail(self, error: EspudpError) -> None:
        """Something that makes it useless to go on."""
        self.tell(str(error), Severity.ERROR, error.remedy)
        self.end(EXIT_FAILURE)

    def tell(
        self, text: str, severity: Severity = Severity.INFO, remedy: str = "", event: Event | None = None
    ) -> None:
        """One line for the user, and one of what to do."""
        self._report(Report(text, severity, remedy, event))

    def limit(self, text: str) -> None:
        """What this kernel cannot do, and so goes another way: told once."""
        if text not in self.limits:
            self.limits.append(text)
            self.tell(text)

    def mistake(self, what: str) -> None:
        """One of ours, met in an event loop: what was at hand is lost, everything else goes on."""
        self.tell(f"Internal error: {what}.", Severity.ERROR, "Please report it.")

    def new_tunnel(self, *, ike_ports: frozenset[int], listener: ListenerConfig | None = None) -> Tunnel:
        """For `make_tunnel`. Raises ConfigError for a pool without room."""
        self.ike_ports = ike_ports
        return Tunnel(
            os.urandom,
            listener=listener,
            ike_ports=ike_ports,
            plain_esp=self.plain_esp,
            workers=1 if self.workers is None else self.workers.count,
            dscp=self._host_options.dscp,
            esp=self._front,
            wall_clock=lambda: datetime.now(UTC),
            stand_ins=apart_from(own_networks()),
        )

    async def usages(self) -> dict[int, Usage]:
        """What each of our processes costs, by worker; the snapshots of theirs are new after this."""
        others = {} if self.workers is None else await self.workers.usages()
        return {FRONT: usage(self.driver, self.sockets, self.tun), **others}

    def handed_over(self, worker: int) -> int:
        """Packets and datagrams that it had to give to another worker."""
        return 0 if self._front is None else self._front.handed_over(worker)

    def carriage(self, path: UdpPath) -> str:
        """How ESP travels by a path, where it is not as usual."""
        if not path.local.port:
            return "ESP without UDP"
        return f"non-IKE marker on port {path.local.port}" if path.local.port in self.ike_ports else ""

    def inner_mtu(self, connection: int) -> int | None:
        """In octets, once it is known."""
        return self._mtus.get(connection)

    # Events that mean the same to every session

    def _on_event(self, event: Event) -> None:
        try:
            self._take_note(event)
            if not self.closing:
                self.handle(event)
        except (HostError, ConfigError) as error:
            self.fail(error)

    def _take_note(self, event: Event) -> None:
        match event:
            case ConnectionUp():
                self._warn_of(event.suite_name)
                self.connections.add(event.connection)
                self.paths.add(event.connection, event.path.remote.ip)
            case ManualUp():
                self.connections.add(event.connection)
                self._route(event.connection, event.child)
            case ChildInstalled():
                self.children[event.connection] += 1
                self._route(event.connection, event)
                if event.replaces is not None:
                    self.tell(f"New ESP keys, {event.suite.name}.", Severity.DETAIL, event=event)
                elif self.children[event.connection] > 1:
                    where = "" if event.resource is None else f", for worker {event.resource}"
                    self.tell(f"One more child SA, {event.suite.name}{where}.", Severity.DETAIL, event=event)
            case IkeRekeyed():
                self._warn_of(event.suite_name)
                self.tell(f"New IKE keys, {event.suite_name}.", Severity.DETAIL, event=event)
            case ChildRemoved():
                self.children -= Counter([event.connection])
                self.routing.remove((event.connection, event.spi_in))
            case ConnectionDown():
                self._forget(event.connection)
            case PathChanged():
                nat = "" if event.nat is None else f"; NAT: {event.nat}"
                self.tell(f"The path is {event.path} now{nat}.", Severity.DETAIL, event=event)
                self.paths.add(event.connection, event.path.remote.ip)
                self.routing.peer_at(event.path.remote.ip)
            case MtuChanged():
                self._mtus[event.connection] = event.mtu
                self._set_mtu()
            case Diagnostic():
                self.tell(event.text, Severity.DETAIL, event=event)

    def _route(self, connection: int, child: ChildInstalled | ChildKeys) -> None:
        add = self.routing.add if child.transport is None else self.routing.add_flows
        add((connection, child.spi_in), child.local, child.remote)
        self.routing.peer_at(child.path.remote.ip)
        self._warn_of(child.suite.name)
        self._suites.add(child.suite)
        self._rehearse(child.suite)
        self._size_super_packets()

    def _warn_of(self, suite_name: str) -> None:
        """What is weak about a suite: told once."""
        for line in warnings_about(suite_name):
            if line not in self._warned:
                self._warned.add(line)
                remedy = "Take it out of the proposals as soon as the peer can do without."
                self.tell(f"This is weak: {line}.", Severity.WARNING, remedy)

    def _rehearse(self, suite: EspSuite) -> None:
        if self._host_options.rehearsal and self._rehearsal is None:
            with suppress(OSError):  # no loopback: it is as it is without
                self._rehearsal = Rehearsal(suite, self.driver)

    def _forget(self, connection: int) -> None:
        self.connections.discard(connection)
        self.children.pop(connection, None)
        self.paths.remove(connection)
        self._mtus.pop(connection, None)
        if not self._closing:
            self.routing.remove_connection(connection)
        if not self.connections:
            self._all_down.set()

    def _addresses_changed(self, ours: list[UdpAddress]) -> None:
        self.driver.command(lambda tunnel, now: tunnel.local_addresses_changed(ours, now))

    def _path_mtu_changed(self, remote_ip: str, mtu: int) -> None:
        self.driver.command(lambda tunnel, _: tunnel.set_path_mtu(remote_ip, mtu))

    def _set_mtu(self) -> None:
        """The device takes what the best connection carries; the tunnel fragments or answers for others."""
        if self._host_options.mtu is not None or not self._mtus:
            return
        mtu = max(self._mtus.values())
        if self.routing.has_ipv6:
            mtu = max(mtu, MIN_IPV6_MTU)
        if mtu != self.tun.mtu:
            self.tun.mtu = mtu
            self._size_super_packets()

    def _size_super_packets(self) -> None:
        """One of full segments becomes one send: two would make twice the work here, and at the peer."""
        octets = max((suite.packet_octets(self.tun.mtu) for suite in self._suites), default=0)
        if octets:
            self.tun.limit_segments(min(GSO_SEGMENTS, GSO_OCTETS // octets))

    def _unguarded(self, error: HostError) -> None:
        self.tell(str(error), Severity.WARNING, error.remedy)

    def _tun_limited(self, text: str) -> None:
        self.limit(text)
        self.tunnel.set_offloads(self.tun.offloads)

    def _unexpected(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        # The type alone: the text of an error that nobody foresaw may contain anything, a key as well.
        self.mistake(type(error).__name__ if error else str(context.get("message", "")))


def run_session(session: Session) -> int:
    """On an event loop of its own, in the main thread; the exit code. Raises ConfigError and HostError."""
    gc.freeze()  # what is there stays: to look through it for garbage would stop the traffic for 30 ms
    return uvloop.run(session.run())
