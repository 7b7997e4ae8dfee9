"""OpenBSD's iked: its IKE, since the ESP of this kernel is only pretended (no_esp.c)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.interop.authority import Authority, key_pem, pem
from tests.interop.lab import Namespace, Process, run, wait_until
from tests.interop.no_esp import shim
from tests.interop.peer import secret_file

START = 'mount --bind {etc} /etc/iked && exec /usr/sbin/iked "$@"'
FOLDERS = ("ca", "certs", "crls", "private", "pubkeys/fqdn")


@dataclass(frozen=True)
class Iked:
    """A running iked."""

    process: Process
    control: Path

    def forget(self, identity: str) -> None:
        """Delete the IKE SAs with one that is called so."""
        run(["ikectl", "-s", str(self.control), "reset", "id", f"FQDN/{identity}"])

    @property
    def log(self) -> str:
        return self.process.output

    def wait_for(self, text: str, *, times: int = 1) -> None:
        wait_until(lambda: self.log.count(text) >= times, f"iked to log {text!r}:\n{self.log}")


def etc_iked(folder: Path) -> Path:
    """What is to be mounted over /etc/iked: folders for certificates and keys, and a key of its own."""
    etc = folder / "etc"
    for name in FOLDERS:
        (etc / name).mkdir(parents=True)
    key, curve = str(etc / "private" / "local.key"), "ec_paramgen_curve:P-256"
    run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", curve, "-out", key])
    run(["openssl", "pkey", "-in", key, "-pubout", "-out", str(etc / "local.pub")])
    return etc


def certified(folder: Path, ours: Authority) -> None:
    """iked will have a certificate, and demand one of the same authority."""
    etc = etc_iked(folder)
    (etc / "ca" / "ca.crt").write_text(pem(ours.root))
    (etc / "certs" / "local.crt").write_text(pem(ours.swan))
    (etc / "private" / "local.key").write_text(key_pem(ours.swan.key))


@contextmanager
def iked(space: Namespace, folder: Path, policy: str) -> Iterator[Iked]:
    """Run iked with one policy of iked.conf(5) in a namespace until the end of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    etc = folder / "etc"
    if not etc.exists():
        etc_iked(folder)
    conf = secret_file(folder / "iked.conf", f"{policy}\n")
    control = folder / "iked.sock"
    options = ["-dv", "-f", str(conf), "-s", str(control)]
    argv = space.command("sh", "-c", START.format(etc=etc), "sh", *options)
    with Process(argv, folder / "iked.log", {"LD_PRELOAD": str(shim(folder))}) as process:
        wait_until(control.exists, "iked's control socket")
        yield Iked(process, control)
