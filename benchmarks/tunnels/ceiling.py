"""The I/O ceiling: `forwarder` at both ends."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.lab import ROOT, Lab, Program
from benchmarks.tunnels.base import Tunnel
from espudp.host.demo import SERVER_IP
from espudp.host.netns import Namespace

PORT = "4501"


class Ceiling(Tunnel):
    """Super-packets forwarded with no crypto and no segmentation."""

    name = "ceiling"
    title = "I/O ceiling"
    inner_ip = "10.96.0.1"
    no_handshakes = "it has none"

    @contextmanager
    def server(self, lab: Lab) -> Iterator[list[Program]]:
        with self._run(lab, lab.server, f"{self.inner_ip}/24", PORT) as program:
            program.wait_until(lambda: "ready" in program.output, "its device")
            yield [program]

    @contextmanager
    def client(self, lab: Lab) -> Iterator[list[Program]]:
        with self._run(lab, lab.client, "10.96.0.2/24", PORT, SERVER_IP) as program:
            yield [program]

    @staticmethod
    def _run(lab: Lab, namespace: Namespace, *arguments: str) -> Program:
        argv = [sys.executable, "-m", "benchmarks.tunnels.forwarder", "ceiling0", *arguments]
        return Program(namespace, argv, lab.folder("ceiling") / "log", env={"PYTHONPATH": str(ROOT)})
