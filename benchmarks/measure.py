"""One trial of each figure, through a tunnel that is up."""

import socket
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from benchmarks import procfs
from benchmarks.agent import Agent, json_object
from benchmarks.figures import (
    CPU_CLIENT,
    CPU_SERVER,
    MEMORY_CLIENT,
    MEMORY_SERVER,
    RTT_IDLE,
    RTT_LOADED,
    TCP_DOWN,
    TCP_FOUR,
    TCP_UP,
    UDP_LARGE,
    UDP_SMALL,
    Figure,
)
from benchmarks.lab import Lab, Program, TunnelError, until
from benchmarks.udp import Flood
from espudp.host.demo import ping

FLOWS = 4
FLOOD_PORT = "5301"
IPERF_TRIES = 5
IPERF_PAUSE_SECONDS = 0.3
# Of the flow beside which pings are sent: longer than they take; and until it is at its pace.
LOAD_SECONDS = "60"
LOAD_RAMP_SECONDS = 0.5

# Between pings: idle enough for other programs to have the caches meanwhile; and beside a flow.
IDLE_PAUSE_SECONDS = 0.1
LOADED_PAUSE_SECONDS = 0.01
LOADED_PINGS = 100
FIRST_PING_SECONDS = 0.02
START_SECONDS_MAX = 30.0

Note = Callable[[Figure, float], None]


@dataclass(frozen=True)
class Effort:
    """How much is spent on each figure."""

    rounds: int
    slow_rounds: int
    """In so many of the rounds, the figures that take longest are measured as well."""
    tcp_seconds: int
    udp_seconds: float
    udp_steps: int
    pings: int
    handshake_seconds: float


FULL = Effort(3, 3, tcp_seconds=4, udp_seconds=1.0, udp_steps=7, pings=40, handshake_seconds=5.0)
QUICK = Effort(3, 1, tcp_seconds=1, udp_seconds=0.3, udp_steps=6, pings=12, handshake_seconds=2.0)


@dataclass(frozen=True)
class Ends:
    """The processes of a tunnel that is up."""

    client: Sequence[int]
    server: Sequence[int]

    @classmethod
    def of(cls, client: Sequence[Program], server: Sequence[Program]) -> "Ends":
        """Programs, and what descends from them."""
        return cls(procfs.family(p.pid for p in client), procfs.family(p.pid for p in server))


class Probe:
    """Measures the tunnel whose server has an inner address."""

    def __init__(self, lab: Lab, inner_ip: str, ends: Ends, effort: Effort, note: Note) -> None:
        self._lab = lab
        self._inner_ip = inner_ip
        self._ends = ends
        self._effort = effort
        self._note = note

    def tcp(self) -> None:
        """A single flow, one way and the other, and what it costs both ends."""
        before = [procfs.cpu_seconds(pids) for pids in (self._ends.client, self._ends.server)]
        gigabits, octets = self._iperf()
        after = [procfs.cpu_seconds(pids) for pids in (self._ends.client, self._ends.server)]
        self._note(TCP_UP, gigabits)
        if self._ends.client:
            self._note(CPU_CLIENT, (after[0] - before[0]) / octets * 1e9)
            self._note(CPU_SERVER, (after[1] - before[1]) / octets * 1e9)
        self._note(TCP_DOWN, self._iperf("--reverse")[0])

    def four(self) -> None:
        """Four flows at once."""
        self._note(TCP_FOUR, self._iperf("--parallel", str(FLOWS))[0])

    def rtt(self) -> None:
        """With nothing else on the way."""
        self._note(RTT_IDLE, self._round_trip(self._effort.pings, IDLE_PAUSE_SECONDS))

    def rtt_loaded(self) -> None:
        """Beside a TCP flow in the direction of the requests."""
        for _ in range(IPERF_TRIES):
            with self._start_iperf("--time", LOAD_SECONDS) as client:
                time.sleep(LOAD_RAMP_SECONDS)
                running = client.running
                milliseconds = self._round_trip(LOADED_PINGS, LOADED_PAUSE_SECONDS)
                if running and client.running:
                    self._note(RTT_LOADED, milliseconds)
                    return
            time.sleep(IPERF_PAUSE_SECONDS)
        raise TunnelError(f"no TCP flow to ping beside; {client.last_words()}")

    def memory(self) -> None:
        """After whatever was done before."""
        if self._ends.client:
            self._note(MEMORY_CLIENT, procfs.resident_megabytes(self._ends.client))
            self._note(MEMORY_SERVER, procfs.resident_megabytes(self._ends.server))

    def udp(self) -> None:
        """The highest rate that loses next to nothing, with small datagrams and large ones."""
        with ExitStack() as stack:
            receiver, sender = (
                stack.enter_context(Agent(self._lab, namespace, "flood", role, self._inner_ip, FLOOD_PORT))
                for namespace, role in ((self._lab.server, "receive"), (self._lab.client, "send"))
            )
            receiver.answer()
            flood = Flood(sender, receiver, self._effort.udp_seconds)
            for octets, figure in ((64, UDP_SMALL), (1300, UDP_LARGE)):
                self._note(figure, flood.highest_rate(octets, self._effort.udp_steps) / 1000)

    def _start_iperf(self, *options: str) -> Program:
        argv = ["iperf3", "--client", self._inner_ip, "--json", *options]
        return Program(self._lab.client, argv, self._lab.folder("iperf3") / "log")

    def _iperf(self, *options: str) -> tuple[float, int]:
        """Gbit/s, and octets, as the receiver counts them."""
        for _ in range(IPERF_TRIES):
            said = self._iperf_once(*options)
            if "error" not in said:
                total = said["end"]["sum_received"]
                return total["bits_per_second"] / 1e9, total["bytes"]
            time.sleep(IPERF_PAUSE_SECONDS)
        raise TunnelError(f"iperf3: {said['error']}")

    def _iperf_once(self, *options: str) -> dict[str, Any]:
        """What it reports, or an "error": its server may still be busy with the end of another run."""
        seconds = self._effort.tcp_seconds
        with self._start_iperf("--time", str(seconds), *options) as client:
            if not until(lambda: not client.running, seconds + 15):
                raise TunnelError(f"TCP does not end: {client.last_words()}")
            said = json_object(client.output)
            return said if "sum_received" in said.get("end", {}) else {"error": client.last_words(), **said}

    def _round_trip(self, pings: int, pause: float) -> float:
        """Median, in milliseconds."""
        with self._lab.client.inside():
            pinger = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        times: list[float] = []
        with pinger:
            for number in range(pings):
                if (seconds := ping(pinger, self._inner_ip, number)) is not None:
                    times.append(seconds)
                time.sleep(pause)
        if not times:
            raise TunnelError("no ping is answered")
        return statistics.median(times) * 1000


def first_answer(lab: Lab, inner_ip: str, alive: Callable[[], None]) -> float:
    """Wait until the tunnel carries its first packet and the answer; when that was, by the monotonic clock.

    `alive` raises TunnelError when there is no sense in waiting on.
    """
    with lab.client.inside():
        pinger = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    deadline = time.monotonic() + START_SECONDS_MAX
    with pinger:
        for number in range(1 << 16):
            if _answered(pinger, inner_ip, number):
                return time.monotonic()
            alive()
            if time.monotonic() > deadline:
                break
    raise TunnelError(f"no packet came through in {START_SECONDS_MAX:g} s")


def _answered(pinger: socket.socket, address: str, number: int) -> bool:
    try:
        return ping(pinger, address, number, FIRST_PING_SECONDS) is not None
    except OSError:  # no route before the tunnel is up
        time.sleep(FIRST_PING_SECONDS)
        return False


def iperf_server(lab: Lab) -> Program:
    """The other end of TCP."""
    return Program(lab.server, ["iperf3", "--server"], lab.folder("iperf3") / "log")
