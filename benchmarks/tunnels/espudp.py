"""espudp as users run it: `listen` and `connect`."""

import json
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.lab import INNER_MTU, ROOT, Lab, Program
from benchmarks.tunnels.base import Tunnel
from espudp import __version__
from espudp.host.demo import SERVER_IP
from espudp.host.netns import Namespace

PSK = "benchmark: any will do, nobody attacks it"
# Room for a thousand clients.
POOL = "10.99.0.0/16"
IKE_SUITE = "aes128gcm16-prfsha256-curve25519"


class Espudp(Tunnel):
    """One ESP suite; options that both ends get, and such as only the server gets."""

    inner_ip = "10.99.0.1"
    ike_suite = IKE_SUITE

    def __init__(
        self, name: str, title: str, suite: str, *, both: Sequence[str] = (), server: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.title = title
        self._suite = suite
        self._both = tuple(both)
        self._server = tuple(server)

    def version(self) -> str:
        return f"espudp {__version__}, Python {sys.version.split()[0]}"

    @contextmanager
    def server(self, lab: Lab) -> Iterator[list[Program]]:
        folder = lab.folder(self.name)
        with self._run(lab.server, folder, "listen", "--pool", POOL, *self._server) as program:
            program.wait_until(lambda: any(folder.glob("*.sock")), "the control socket")
            yield [program]

    @contextmanager
    def client(self, lab: Lab) -> Iterator[list[Program]]:
        folder = lab.folder(self.name)
        with self._run(lab.client, folder, "connect", SERVER_IP, "--vip", "any") as program:
            yield [program]

    def _run(self, namespace: Namespace, folder: Path, *arguments: str) -> Program:
        psk = folder / "psk"
        psk.touch(mode=0o600)
        psk.write_text(PSK)
        shared = ("--psk-file", str(psk), "--mtu", str(INNER_MTU), "--ike-proposal", IKE_SUITE)
        argv = [sys.executable, "-m", "espudp", *arguments, *shared, "--esp-proposal", self._suite]
        env = {"ESPUDP_RUNTIME_DIR": str(folder), "PYTHONPATH": str(ROOT)}
        return Program(namespace, [*argv, *self._both], folder / "espudp.log", env=env)


def ask(folder: Path, command: str) -> dict[str, Any]:
    """The answer of the espudp whose runtime directory this is."""
    (path,) = folder.glob("*.sock")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(path))
        client.sendall(json.dumps({"command": command}).encode() + b"\n")
        with client.makefile("rb") as lines:
            answer = json.loads(lines.readline())
    result: dict[str, Any] = answer["result"]
    return result
