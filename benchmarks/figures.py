"""What is measured, and the arithmetic on it."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One quantity, of which every tunnel has a value."""

    key: str
    """In JSON."""
    title: str
    unit: str
    digits: int
    """Behind the decimal point, in tables."""
    group: str
    """What `--only` calls it, with others."""


TCP_UP = Figure("tcp_up", "TCP up", "Gbit/s", 2, "tcp")
TCP_DOWN = Figure("tcp_down", "TCP down", "Gbit/s", 2, "tcp")
TCP_FOUR = Figure("tcp_four", "TCP up, 4 flows", "Gbit/s", 2, "four")
UDP_SMALL = Figure("udp_64", "UDP, 64 octets", "kpps", 1, "udp")
UDP_LARGE = Figure("udp_1300", "UDP, 1,300 octets", "kpps", 1, "udp")
RTT_IDLE = Figure("rtt_idle", "round trip, idle", "ms", 2, "rtt")
RTT_LOADED = Figure("rtt_loaded", "round trip, loaded", "ms", 2, "rtt")
CPU_CLIENT = Figure("cpu_client", "CPU, sender", "s/GB", 2, "tcp")
CPU_SERVER = Figure("cpu_server", "CPU, receiver", "s/GB", 2, "tcp")
MEMORY_CLIENT = Figure("memory_client", "memory, client", "MB", 0, "memory")
MEMORY_SERVER = Figure("memory_server", "memory, server", "MB", 0, "memory")
START = Figure("start", "start", "s", 2, "start")
HANDSHAKES = Figure("handshakes", "handshakes", "1/s", 0, "handshakes")
HANDSHAKE_CPU = Figure("handshake_cpu", "CPU, handshake", "ms", 2, "handshakes")

LEGEND = """\
Up is from the client, which is behind the NAT, to the server. UDP is by payload, and the highest rate of
which less than 0.1 % is lost. Loaded is beside one TCP flow up. CPU is that of the tunnel's processes: for
each gigabyte of one TCP flow up, and of the responder for each IKE handshake. Memory is resident, after all
this. Start is from the client's to the answer to the first packet. Variants are measured for what they are to
show."""

FIGURES = (
    *(TCP_UP, TCP_DOWN, TCP_FOUR, UDP_SMALL, UDP_LARGE, RTT_IDLE, RTT_LOADED),
    *(CPU_CLIENT, CPU_SERVER, MEMORY_CLIENT, MEMORY_SERVER, START, HANDSHAKES, HANDSHAKE_CPU),
)
GROUPS = tuple(dict.fromkeys(figure.group for figure in FIGURES))


@dataclass
class Results:
    """The trials of one tunnel."""

    name: str
    title: str
    version: str = ""
    trials: dict[str, list[float]] = field(default_factory=dict)
    """By a figure's key."""
    notes: dict[str, str] = field(default_factory=dict)
    """Why a figure has no value, by its key."""
    problems: list[str] = field(default_factory=list)

    def add(self, figure: Figure, value: float) -> None:
        """One more trial."""
        self.trials.setdefault(figure.key, []).append(value)

    def median(self, figure: Figure) -> float | None:
        """None if there was no trial."""
        trials = self.trials.get(figure.key)
        return statistics.median(trials) if trials else None

    def to_json(self) -> dict[str, Any]:
        """Every trial, and the medians."""
        measured = [figure for figure in FIGURES if figure.key in self.trials]
        return {
            "name": self.name,
            "title": self.title,
            "version": self.version,
            "figures": {
                figure.key: {
                    "unit": figure.unit,
                    "median": self.median(figure),
                    "trials": self.trials[figure.key],
                }
                for figure in measured
            },
            "notes": self.notes,
            "problems": self.problems,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Results":
        """What `to_json` made."""
        trials = {key: [float(trial) for trial in found["trials"]] for key, found in data["figures"].items()}
        return cls(
            data["name"], data["title"], data["version"], trials, dict(data["notes"]), list(data["problems"])
        )


def ratio(one: float | None, other: float | None) -> float | None:
    """None unless both were measured."""
    return one / other if one is not None and other else None


def slope(one: float | None, other: float | None, steps: int) -> float | None:
    """By how much `one` exceeds `other`, for each of so many steps; None unless both were measured."""
    return (one - other) / steps if one is not None and other is not None else None


def by_name(results: Sequence[Results]) -> dict[str, Results]:
    """To look one up."""
    return {found.name: found for found in results}
