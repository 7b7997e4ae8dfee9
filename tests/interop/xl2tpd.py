"""xl2tpd with its pppds in a namespace; the PPP of this kernel is no_ppp.c's."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from espudp.host.l2tp import daemon
from tests.interop.lab import Namespace, Process, run, wait_until
from tests.interop.no_ppp import shim
from tests.interop.peer import ROOT, secret_file

# What pppd keeps in /run is there once for the whole machine.
START = 'mount -t tmpfs none /run && exec "$@"'

USER, PASSWORD = "alice", "a password for PPP"

# Read by every pppd before its own options. Its peer's pppd starts a moment later, and what is lost by then
# would be sent again after three seconds.
OPTIONS = "lcp-restart 1\nlogfd 2\ndebug\n"

TRANSFER_OCTETS, TRANSFER_PORT = 1_000_000, 5001


@dataclass(frozen=True)
class Xl2tpd:
    """A running xl2tpd."""

    space: Namespace
    process: Process

    def links(self) -> dict[str, str]:
        """The PPP interfaces that are up, and the address at the other end of each."""
        shown = json.loads(self.space.run("ip", "-json", "-4", "address", "show", "up"))
        return {
            link["ifname"]: link["addr_info"][0]["address"]
            for link in shown
            if link["ifname"].startswith("ppp") and link["addr_info"]
        }

    def wait_for_links(self, number: int = 1, *, seconds: float = 20.0) -> dict[str, str]:
        try:
            wait_until(lambda: len(self.links()) == number, f"{number} PPP links", seconds=seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.process.output}") from None
        return self.links()


@contextmanager
def xl2tpd(space: Namespace, folder: Path) -> Iterator[Xl2tpd]:
    """Run xl2tpd with the configuration in a folder until the end of the block."""
    ppp = space.resolv_conf.parent / "ppp"  # mounted over /etc/ppp
    ppp.mkdir()
    (ppp / "options").write_text(OPTIONS)
    secret_file(ppp / "chap-secrets", f'{USER} * "{PASSWORD}" *\n')
    argv = space.command("sh", "-c", START, "sh", *daemon(folder, folder))
    with Process(argv, folder / "xl2tpd.log", {"LD_PRELOAD": str(shim(folder))}) as process:
        yield Xl2tpd(space, process)


def transfer(sender: Namespace, receiver: Namespace, address: str) -> None:
    """So many octets come through a TCP connection to an address as they were sent."""
    program = [sys.executable, "-m", "espudp.host.traffic"]
    arguments = [address, str(TRANSFER_PORT), str(TRANSFER_OCTETS), "20"]
    command = receiver.command(*program, "receive", *arguments)
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True) as process:
        wait_until(lambda: f":{TRANSFER_PORT}" in receiver.run("ss", "-Hltn"), "the receiver to listen")
        run(sender.command(*program, "send", *arguments))
        said, _ = process.communicate(timeout=30)
    measured = json.loads(said)
    assert (measured["octets"], measured["intact"]) == (TRANSFER_OCTETS, True)
