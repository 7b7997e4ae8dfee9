"""What the measurements need to know of a tunnel."""

import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Collection
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.figures import GROUPS
from benchmarks.lab import Lab, Program


class Tunnel(ABC):
    """A way to carry packets from the client to the server's inner address and back.

    The server's side is up before the client's begins, as with any gateway.
    """

    name: str
    """On the command line and in JSON."""
    title: str
    """In tables."""
    inner_ip: str
    """The server's."""
    groups: Collection[str] = GROUPS
    """Which figures it is there for."""
    ike_suite: str = ""
    esp_suite: str = ""
    psk: str = ""
    """Of the handshakes of many clients, as espudp writes them; or else `no_handshakes` says why not."""
    no_handshakes: str = ""

    def missing(self) -> str:
        """What must be installed first, as a Debian package; empty if it is there."""
        return ""

    def version(self) -> str:
        """Of the program."""
        return ""

    @abstractmethod
    def server(self, lab: Lab) -> AbstractContextManager[list[Program]]:
        """The server's side: ready, until the end of the block. Raises TunnelError."""

    @abstractmethod
    def client(self, lab: Lab) -> AbstractContextManager[list[Program]]:
        """The client's side: started, and not necessarily up yet. Raises TunnelError."""


def absent(package: str, *programs: str) -> str:
    """The package, if one of its programs is not here."""
    return "" if all(shutil.which(program) or Path(program).exists() for program in programs) else package


def first_line(*command: str) -> str:
    """Of what a command says."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    return next(iter((done.stdout or done.stderr).splitlines()), "").strip()
