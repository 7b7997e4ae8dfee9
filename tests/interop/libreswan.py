"""libreswan's pluto: its IKE, since the ESP of this kernel is only pretended (no_esp.c).

Its package refuses to be installed beside strongSwan's, so it lies unpacked in a folder of its own, which is
mounted over /usr/libexec for pluto alone.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.interop.lab import Namespace, Process, run, wait_until
from tests.interop.no_esp import shim
from tests.interop.peer import secret_file

LIBEXEC = Path(os.environ.get("ESPUDP_LIBRESWAN", "/opt/libreswan")) / "usr" / "libexec"

START = f'mount --bind {LIBEXEC} /usr/libexec && exec /usr/libexec/ipsec/pluto "$@"'

# The updown script of this machine may be another program's.
COMMON = """
conn %default
    ikev2=insist
    encapsulation=yes
    leftupdown=%disabled
    rekey=no
"""


@dataclass(frozen=True)
class Pluto:
    """A running pluto."""

    process: Process
    space: Namespace
    folder: Path

    @property
    def log(self) -> str:
        return self.process.output

    def wait_for(self, text: str, *, times: int = 1) -> None:
        wait_until(lambda: self.log.count(text) >= times, f"pluto to log {text!r}:\n{self.log}")

    def command(self, program: str, *arguments: str) -> str:
        control = str(self.folder / "pluto.ctl")
        return self.space.run(str(LIBEXEC / "ipsec" / program), "--ctlsocket", control, *arguments)

    def load(self, conn: str, *secrets: str) -> None:
        """The text of a connection that is now known, and what lines of ipsec.secrets there are."""
        conf = self.folder / "ipsec.conf"
        conf.write_text(f"config setup\n{COMMON}\n{conn}")
        secret_file(self.folder / "ipsec.secrets", "\n".join(secrets) + "\n")
        self.command("whack", "--listen")
        self.command("addconn", "--config", str(conf), "--autoall")


@contextmanager
def pluto(space: Namespace, folder: Path) -> Iterator[Pluto]:
    """Run pluto in a namespace until the end of the block."""
    folder.mkdir(parents=True)
    nss = folder / "nss"
    nss.mkdir()
    run(["certutil", "-N", "-d", f"sql:{nss}", "--empty-password"])
    (folder / "ipsec.conf").write_text("config setup\n")
    secret_file(folder / "ipsec.secrets", "")
    # What the file says, or leaves to defaults, is overruled by what comes behind it.
    options = ["--config", str(folder / "ipsec.conf"), "--secretsfile", str(folder / "ipsec.secrets")]
    options += ["--rundir", str(folder), "--nssdir", str(nss), "--ipsecdir", str(folder)]
    argv = space.command("sh", "-c", START, "sh", "--nofork", "--stderrlog", "--no-dnssec", *options)
    with Process(argv, folder / "pluto.log", {"LD_PRELOAD": str(shim(folder))}) as process:
        wait_until((folder / "pluto.ctl").exists, "pluto's control socket")
        yield Pluto(process, space, folder)
