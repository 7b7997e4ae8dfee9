"""The demo: a whole VPN on one machine, and measurements which show that it works.

      client                         router                          server
    192.168.77.2 ---- 192.168.77.1  (masquerades)  203.0.113.1 ---- 203.0.113.2
    espudp connect                                   ^               espudp listen
                                                     the tap watches this link

Three network namespaces, two real espudp processes, a ping and a TCP stream through the tunnel. Nothing of it
is visible outside, and all of it ends with the process that runs it.
"""

import json
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espudp.errors import HostError
from espudp.host import control, keyfiles
from espudp.host.journal import RUNTIME_VARIABLE
from espudp.host.netns import Namespace, Port, connect
from espudp.host.tap import Count, Tap
from espudp.host.traffic import CONNECT_SECONDS, MARKER
from espudp.wire.ip import checksum

CLIENT_IP, LAN_IP, OUTSIDE_IP, SERVER_IP = "192.168.77.2", "192.168.77.1", "203.0.113.1", "203.0.113.2"
POOL = "10.99.0.0/24"
CLIENT_NAME, SERVER_NAME = "client", "server"
OUTSIDE_LINK = "outside0"
RUNTIME = "run"  # in the demo's directory: control sockets and journals

# Bounds on how long each step may take, in seconds.
START_SECONDS = 20.0
STOP_SECONDS = 5.0
PING_SECONDS = 2.0
STREAM_SECONDS = 20.0
TICK_SECONDS = 0.05

PINGS = 20
STREAM_OCTETS = 300_000_000
STREAM_PORT = 5201

# RFC 792
ICMP_ECHO_REQUEST, ICMP_ECHO_REPLY = 8, 0
_ECHO = struct.Struct("!BBHHH")

# Where this very espudp is, installed or not.
_PACKAGES = Path(__file__).resolve().parents[2]

Progress = Callable[[str], None]
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What to show."""

    suite: str
    """An ESP suite, by name."""
    octets: int = STREAM_OCTETS
    """To send through the tunnel, if `STREAM_SECONDS` suffice."""


@dataclass(slots=True)
class DemoResult:
    """What was seen. `problems` is empty if everything held."""

    suite: str = ""
    ike_suite: str = ""
    nat: str = ""
    """Behind which the peers found a NAT: "initiator", "responder", "both", "none"; or "disputed"."""
    mapping: str = ""
    """The client's address and port as the server sees them."""
    server_address: str = ""
    client_address: str = ""
    mtu: int = 0
    pings: int = 0
    rtt_ms: float = 0.0
    """Median."""
    transferred: int = 0
    """Octets of TCP payload that arrived intact."""
    throughput_gbps: float = 0.0
    link: Count = field(default_factory=lambda: Count(0, 0, (), 0, 0, 0))
    problems: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """All of it held."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "ok": self.ok,
            "suite": self.suite,
            "ike_suite": self.ike_suite,
            "nat": self.nat,
            "mapping": self.mapping,
            "mtu": self.mtu,
            "pings": self.pings,
            "rtt_ms": round(self.rtt_ms, 3),
            "bytes": self.transferred,
            "throughput_gbps": round(self.throughput_gbps, 3),
            "plaintext_leaked": self.link.plaintext,
            "packets": {
                "udp_4500": self.link.natt,
                "udp_500": self.link.ike,
                "other": len(self.link.strays),
                "not_inspected": self.link.missed,
            },
            "problems": list(self.problems),
        }


def run_demo(options: DemoOptions, progress: Progress) -> DemoResult:
    """Show all of it; takes some seconds. `progress` gets a line for each step. Raises HostError.

    Whatever ends it, Ctrl-C included, ends the processes and the namespaces as well.
    """
    check_requirements()
    result = DemoResult()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="espudp-demo-")))
        progress("making three network namespaces: client, router with NAT, server")
        lab = stack.enter_context(laboratory())
        # What may never be seen outside: the stream, and the inner addresses one beside the other.
        inner = [socket.inet_aton(ip) for ip in ("10.99.0.1", "10.99.0.2")]
        tap = Tap(lab.router, OUTSIDE_LINK, (MARKER, inner[0] + inner[1], inner[1] + inner[0]))
        stack.callback(tap.close)
        _Run(options, progress, lab, tap, directory, result).everything()
    return result


def check_requirements() -> None:
    """Raises HostError, which says what is missing and how to get it."""
    if os.geteuid() != 0:
        raise HostError(
            "the demo needs root, to make network namespaces and TUN devices",
            remedy="run it as `sudo espudp demo`",
        )


@dataclass(frozen=True, slots=True)
class Laboratory:
    """The network that the drawing above shows, without any tunnel yet."""

    client: Namespace
    router: Namespace
    server: Namespace


@contextmanager
def laboratory() -> Iterator[Laboratory]:
    """Made, and gone at the end of the block. Raises HostError."""
    with Namespace() as client, Namespace() as router, Namespace() as server:
        for namespace in (router, server):  # no neighbour discovery on the link that is watched
            with suppress(OSError):
                namespace.set_sysctl("net/ipv6/conf/default/disable_ipv6", "1")
        connect(Port(client, "lan0", f"{CLIENT_IP}/24"), Port(router, "lan0", f"{LAN_IP}/24"))
        connect(Port(router, OUTSIDE_LINK, f"{OUTSIDE_IP}/24"), Port(server, OUTSIDE_LINK, f"{SERVER_IP}/24"))
        client.add_default_route(LAN_IP)
        router.set_sysctl("net/ipv4/ip_forward", "1")
        router.masquerade(OUTSIDE_LINK)
        yield Laboratory(client, router, server)


class _Process:
    """A process in a namespace, its output kept in case it is needed to explain a failure."""

    def __init__(self, namespace: Namespace, arguments: Sequence[str], directory: Path) -> None:
        self._log = directory / f"{arguments[0]}-{arguments[1]}.log"
        runtime = directory / RUNTIME
        environment = {
            **os.environ,
            RUNTIME_VARIABLE: str(runtime),
            keyfiles.CONFIG_VARIABLE: str(runtime),
            "PYTHONPATH": str(_PACKAGES),
        }
        with self._log.open("wb") as output:
            self._process = namespace.start(
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
            )

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    def output(self) -> str:
        return self._log.read_text(errors="replace").strip()

    def last_words(self) -> str:
        lines = self.output().splitlines()
        return " ".join(" ".join(lines[-2:]).split()) or "it said nothing"

    def end(self) -> None:
        """SIGTERM, and what follows if that does not help."""
        if self.running:
            self._process.send_signal(signal.SIGTERM)

    def close(self) -> None:
        self.end()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Run:
    """One run of the demo, step by step."""

    def __init__(
        self,
        options: DemoOptions,
        progress: Progress,
        lab: Laboratory,
        tap: Tap,
        directory: Path,
        result: DemoResult,
    ) -> None:
        self._options = options
        self._progress = progress
        self._lab = lab
        self._tap = tap
        self._directory = directory
        self._psk = directory / "psk"
        self._result = result
        self._stack = ExitStack()

    def everything(self) -> None:
        """Fills the result in."""
        keyfiles.obtain_psk(self._psk)
        with self._stack:
            server = self._start_server()
            client = self._start_client()
            if self._look_at_the_tunnel(client, server):
                self._pings()
                self._stream()
            self._stop(client, "connect")
            self._stop(server, "listen")
        self._look_at_the_link()

    def _problem(self, text: str) -> None:
        self._result.problems.append(text)

    def _start(self, namespace: Namespace, *arguments: str) -> _Process:
        process = _Process(namespace, arguments, self._directory)
        self._stack.callback(process.close)
        return process

    def _until(self, done: Callable[[], bool], seconds: float) -> bool:
        """Wait for something, with an eye on the link; False if it did not happen in time."""
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                return False
            self._tap.wait((), TICK_SECONDS)
        return True

    # The tunnel

    def _start_server(self) -> _Process:
        self._progress(f"server: espudp listen --pool {POOL} --esp-proposal {self._options.suite}")
        server = self._start_espudp(self._lab.server, SERVER_NAME, "listen", "--pool", POOL)
        ready = self._until(
            lambda: not server.running or self._status(SERVER_NAME) is not None, START_SECONDS
        )
        if not (ready and server.running):
            raise HostError(f"`espudp listen` did not start: {server.last_words()}")
        return server

    def _start_client(self) -> _Process:
        self._progress(f"client: espudp connect {SERVER_IP}")
        client = self._start_espudp(self._lab.client, CLIENT_NAME, "connect", SERVER_IP, "--vip", "any")
        up = self._until(lambda: not client.running or self._sas(CLIENT_NAME) != [], START_SECONDS)
        if not (up and client.running):
            raise HostError(f"`espudp connect` got no connection: {client.last_words()}")
        return client

    def _start_espudp(self, namespace: Namespace, name: str, command: str, *arguments: str) -> _Process:
        shared = ("--psk-file", str(self._psk), "--esp-proposal", self._options.suite, "--control-name", name)
        return self._start(namespace, "espudp", command, *arguments, *shared)

    def _status(self, name: str) -> Json | None:
        with suppress(HostError):
            found = control.request(None, "status", directory=self._directory / RUNTIME)
            return next((process for process in found if process["name"] == name), None)
        return None

    def _sas(self, name: str) -> list[Json]:
        status = self._status(name)
        return [] if status is None else list(status["tunnel"]["sas"])

    def _look_at_the_tunnel(self, client: _Process, server: _Process) -> bool:
        """What both peers say of it; whether it can be used."""
        found = self._status(CLIENT_NAME), self._status(SERVER_NAME)
        connections = [status["tunnel"]["connections"] if status else [] for status in found]
        if not (connections[0] and connections[1] and found[0] and found[1]):
            ended = client if not client.running else server
            self._problem(f"the tunnel is gone: {ended.last_words()}")
            return False
        ours, theirs = connections[0][0], connections[1][0]
        result = self._result
        result.suite = found[0]["tunnel"]["sas"][0]["suite"]
        result.ike_suite = ours["suite"]
        result.mtu = found[0]["mtu"]
        result.client_address = found[0]["addresses"][0].partition("/")[0]
        result.server_address = found[1]["addresses"][0].partition("/")[0]
        result.mapping = theirs["path"].rpartition(" -> ")[2]
        result.nat = nat_word(ours["nat"], theirs["nat"])
        if result.suite != self._options.suite:
            self._problem(f"the peers chose {result.suite} and not {self._options.suite}")
        if result.nat != "initiator":
            self._problem(f"there is a NAT before the initiator, and the peers found: {result.nat}")
        return True

    # What goes through it

    def _pings(self) -> None:
        result = self._result
        self._progress(f"client: {PINGS} pings to {result.server_address} through the tunnel")
        with self._lab.client.inside():
            pinger = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        times: list[float] = []
        with pinger:
            for number in range(PINGS):
                if (seconds := ping(pinger, result.server_address, number)) is not None:
                    times.append(seconds)
                self._tap.drain()
        result.pings = len(times)
        if len(times) < PINGS:
            self._problem(f"{PINGS - len(times)} of {PINGS} pings were not answered")
        if times:
            result.rtt_ms = statistics.median(times) * 1000

    def _stream(self) -> None:
        result, octets = self._result, self._options.octets
        self._progress(f"client: {octets / 1e6:.0f} MB of TCP to {result.server_address} through the tunnel")
        arguments = result.server_address, str(STREAM_PORT), str(octets), str(STREAM_SECONDS)
        receiver = self._start(self._lab.server, "espudp.host.traffic", "receive", *arguments)
        listening = self._until(self._receiver_listens, CONNECT_SECONDS)
        sender = self._start(self._lab.client, "espudp.host.traffic", "send", *arguments)
        ended = self._until(
            lambda: not (sender.running or receiver.running), CONNECT_SECONDS + 2 * STREAM_SECONDS
        )
        if not (listening and ended) or sender.exit_code or receiver.exit_code:
            broken = sender if sender.exit_code or sender.running else receiver
            self._problem(f"the TCP stream broke: {broken.last_words()}")
            return
        measured = json.loads(receiver.output())
        result.transferred = measured["octets"]
        if not (measured["octets"] and measured["intact"]):
            self._problem("the TCP stream did not arrive as it was sent")
            return
        result.throughput_gbps = measured["octets"] * 8 / measured["seconds"] / 1e9

    def _receiver_listens(self) -> bool:
        """Asked of the kernel, since to connect would use the one connection up."""
        with self._lab.server.inside():
            lines = Path("/proc/thread-self/net/tcp").read_text().splitlines()
        return any(line.split()[1].endswith(f":{STREAM_PORT:04X}") for line in lines[1:])

    # The end

    def _stop(self, process: _Process, command: str) -> None:
        self._progress(f"ending espudp {command}")
        process.end()
        if not self._until(lambda: not process.running, STOP_SECONDS):
            self._problem(f"`espudp {command}` does not end")
        elif process.exit_code != 0:
            self._problem(f"`espudp {command}` ended with code {process.exit_code}: {process.last_words()}")

    def _look_at_the_link(self) -> None:
        self._until(lambda: False, 2 * TICK_SECONDS)  # the last block of the tap
        link = self._result.link = self._tap.count()
        for stray in link.strays[:3]:
            self._problem(f"on the outside link, beside IKE and ESP in UDP: {stray}")
        if link.plaintext > len(link.strays):
            self._problem(f"plaintext on the outside link, {link.plaintext - len(link.strays)} times")
        if not link.natt:
            self._problem("nothing was seen on UDP port 4500")
        if link.missed:
            self._problem(f"{link.missed} packets came too fast to be inspected")


def nat_word(client: Json, server: Json) -> str:
    """Both peers' findings as one word; each says `local` of itself and `remote` of the other."""
    if (client["local"], client["remote"]) != (server["remote"], server["local"]):
        return "disputed"
    return {
        (True, False): "initiator",
        (False, True): "responder",
        (True, True): "both",
        (False, False): "none",
    }[client["local"], client["remote"]]


def ping(pinger: socket.socket, address: str, number: int, patience: float = PING_SECONDS) -> float | None:
    """The round trip of one ICMP echo in seconds; None if it does not come back while patience lasts."""
    identifier = os.getpid() & 0xFFFF
    payload = MARKER
    header = _ECHO.pack(ICMP_ECHO_REQUEST, 0, 0, identifier, number)
    header = _ECHO.pack(ICMP_ECHO_REQUEST, 0, checksum(header + payload), identifier, number)
    started = time.monotonic()
    pinger.sendto(header + payload, (address, 0))
    while (left := started + patience - time.monotonic()) > 0:
        pinger.settimeout(left)
        with suppress(TimeoutError):
            packet = pinger.recv(2048)
            icmp = packet[(packet[0] & 0xF) * 4 :]
            if len(icmp) < _ECHO.size:
                continue
            kind, _, _, answered, sequence = _ECHO.unpack_from(icmp)
            if (kind, answered, sequence) == (ICMP_ECHO_REPLY, identifier, number):
                return time.monotonic() - started
    return None
