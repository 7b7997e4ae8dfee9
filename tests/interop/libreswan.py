"""libreswan's pluto: its IKE, since the ESP of this kernel is only pretended (no_esp.c).

Its package refuses to be installed beside strongSwan's, so it lies unpacked in a folder of its own, which is
mounted over /usr/libexec for pluto alone.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from tests.interop.authority import Authority, pem
from tests.interop.lab import Namespace, Process, run, wait_until
from tests.interop.no_esp import shim
from tests.interop.peer import secret_file

LIBEXEC = Path(os.environ.get("ESPUDP_LIBRESWAN", "/opt/libreswan")) / "usr" / "libexec"

START = f'mount --bind {LIBEXEC} /usr/libexec && exec /usr/libexec/ipsec/pluto "$@"'

PASSWORD = "of the bundle"

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


def certify(folder: Path, name: str, ours: Authority) -> None:
    """A certificate with its key under a name, and the CA's, in the NSS database of a folder."""
    database = f"sql:{folder / 'nss'}"
    bundle, authority = folder / f"{name}.p12", folder / f"{name}.pem"
    sealed = pkcs12.serialize_key_and_certificates(
        name.encode(), ours.swan.key, ours.swan.certificate, None, BestAvailableEncryption(PASSWORD.encode())
    )
    bundle.write_bytes(sealed)
    run(["pk12util", "-i", str(bundle), "-d", database, "-W", PASSWORD])
    authority.write_text(pem(ours.root))
    run(["certutil", "-A", "-n", f"{name}-ca", "-t", "CT,,", "-d", database, "-i", str(authority)])


@contextmanager
def pluto(space: Namespace, folder: Path, certificates: Mapping[str, Authority]) -> Iterator[Pluto]:
    """Run pluto in a namespace, with certificates under these names, until the end of the block."""
    folder.mkdir(parents=True)
    nss = folder / "nss"
    nss.mkdir()
    run(["certutil", "-N", "-d", f"sql:{nss}", "--empty-password"])
    for name, ours in certificates.items():
        certify(folder, name, ours)
    (folder / "ipsec.conf").write_text("config setup\n    ikev1-policy=accept\n")
    secret_file(folder / "ipsec.secrets", "")
    # What the file says, or leaves to defaults, is overruled by what comes behind it.
    options = ["--config", str(folder / "ipsec.conf"), "--secretsfile", str(folder / "ipsec.secrets")]
    options += ["--rundir", str(folder), "--nssdir", str(nss), "--ipsecdir", str(folder)]
    argv = space.command("sh", "-c", START, "sh", "--nofork", "--stderrlog", "--no-dnssec", *options)
    with Process(argv, folder / "pluto.log", {"LD_PRELOAD": str(shim(folder))}) as process:
        wait_until((folder / "pluto.ctl").exists, "pluto's control socket")
        yield Pluto(process, space, folder)
