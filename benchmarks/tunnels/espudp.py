"""espudp as users run it: `listen` and `connect`."""

import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.clients import clients
from benchmarks.figures import GROUPS
from benchmarks.lab import INNER_MTU, ROOT, Lab, Program, TunnelError
from benchmarks.tunnels.base import Tunnel
from espudp import __version__
from espudp.host.demo import SERVER_IP
from espudp.host.netns import Namespace

PSK = "benchmark: any will do, nobody attacks it"
# Room for a thousand clients.
POOL = "10.99.0.0/16"
# For so many clients to come.
CROWD_SECONDS = 60.0
IKE_SUITE = "aes128gcm16-prfsha256-curve25519"


class Espudp(Tunnel):
    """One ESP suite, and options that both ends get."""

    inner_ip = "10.99.0.1"
    ike_suite = IKE_SUITE
    psk = PSK

    def __init__(
        self,
        name: str,
        title: str,
        suite: str,
        *,
        options: Sequence[str] = (),
        groups: Collection[str] = GROUPS,
    ) -> None:
        self.name = name
        self.title = title
        self.esp_suite = suite
        self.groups = groups
        self._options = tuple(options)

    def version(self) -> str:
        return f"espudp {__version__}, Python {sys.version.split()[0]}"

    @contextmanager
    def server(self, lab: Lab) -> Iterator[list[Program]]:
        folder = lab.folder(self.name)
        # Clients of `benchmarks.initiators` do not answer any more when they have shaken hands: --dpd 0.
        with self._run(lab.server, folder, "listen", "--pool", POOL, "--dpd", "0") as program:
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
        argv = [sys.executable, "-m", "espudp", *arguments, *shared, "--esp-proposal", self.esp_suite]
        env = {"ESPUDP_RUNTIME_DIR": str(folder), "ESPUDP_CONFIG_DIR": str(folder), "PYTHONPATH": str(ROOT)}
        return Program(namespace, [*argv, *self._options], folder / "espudp.log", env=env)


class CrowdedEspudp(Espudp):
    """A gateway that serves others already when the client comes."""

    def __init__(self, name: str, title: str, suite: str, *, others: int, groups: Collection[str]) -> None:
        super().__init__(name, title, suite, groups=groups)
        self._others = others

    @contextmanager
    def server(self, lab: Lab) -> Iterator[list[Program]]:
        with (
            super().server(lab) as programs,
            clients(lab, self, self._others, CROWD_SECONDS) as (served, _),
        ):
            if served < self._others:
                raise TunnelError(f"only {served} of {self._others} clients came in {CROWD_SECONDS:g} s")
            yield programs
