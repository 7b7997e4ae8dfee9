"""How many handshakes a responder does, with `benchmarks.initiators` as its clients."""

from dataclasses import dataclass

from benchmarks import procfs
from benchmarks.clients import clients
from benchmarks.lab import Lab
from benchmarks.tunnels.base import Tunnel

MANY = 1_000_000


@dataclass(frozen=True)
class Served:
    """What a responder did, and what it took."""

    handshakes: int
    rate: float
    """Handshakes per second."""
    cpu_seconds: float

    @property
    def cpu_milliseconds(self) -> float:
        """The responder's for each handshake."""
        return self.cpu_seconds / self.handshakes * 1000


def measure(tunnel: Tunnel, lab: Lab, seconds: float) -> Served:
    """For so long. Raises TunnelError if nobody is served."""
    with tunnel.server(lab) as programs:
        pids = procfs.family(program.pid for program in programs)
        before = procfs.cpu_seconds(pids)
        with clients(lab, tunnel, MANY, seconds) as (count, rate):
            return Served(count, rate, procfs.cpu_seconds(pids) - before)
