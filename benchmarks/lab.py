"""Where tunnels are measured: the demo's client, router with NAT and server; and programs that run there."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Self

from espudp.host.demo import Laboratory, laboratory
from espudp.host.netns import Namespace

ROOT = Path(__file__).resolve().parents[1]

# Of every tunnel's device; what is around it fits into the links' 1500 with every suite.
INNER_MTU = 1400

# An address of the server's that only a tunnel leads to, for tunnels whose device has none.
SERVER_INSIDE = "10.98.0.1"

START_SECONDS = 20.0
STOP_SECONDS = 5.0
POLL_SECONDS = 0.01


class TunnelError(RuntimeError):
    """A tunnel or its load does not do what it should; the text says what was seen."""


class Program:
    """A program in a namespace, its output kept in case it is needed to explain a failure."""

    def __init__(
        self,
        namespace: Namespace,
        argv: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        piped: bool = False,
    ) -> None:
        """`piped`: its standard input and output are pipes of ours, and only what it complains of is kept."""
        self.name = Path(argv[0]).name
        self._log = log
        with log.open("wb") as output:
            self.process = namespace.start(
                argv,
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else output,
                stderr=output,
                env={**os.environ, **(env or {})},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace").strip()

    def last_words(self) -> str:
        """For an error message: one line."""
        return " ".join(" ".join(self.output.splitlines()[-3:]).split()) or "it said nothing"

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
        """Raises TunnelError if the program ends before, or the time is up."""
        happened = until(lambda: condition() or not self.running, seconds)
        if not (happened and self.running):
            raise TunnelError(f"{self.name}: waited for {what}; {self.last_words()}")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that does not help."""
        if self.running:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


@dataclass(frozen=True)
class Lab:
    """The namespaces, and a directory for files."""

    net: Laboratory
    directory: Path
    _numbers: "count[int]"

    @property
    def client(self) -> Namespace:
        return self.net.client

    @property
    def server(self) -> Namespace:
        return self.net.server

    def folder(self, stem: str) -> Path:
        """A new one."""
        made = self.directory / f"{stem}-{next(self._numbers)}"
        made.mkdir(mode=0o700)
        return made


@contextmanager
def lab() -> Iterator[Lab]:
    """The namespaces until the end of the block. Raises HostError."""
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="espudp-"))
        net = stack.enter_context(laboratory())
        net.server.add_address("lo", f"{SERVER_INSIDE}/32")
        for namespace in (net.client, net.server):
            # A tunnel must not profit from what TCP learnt through the one before.
            namespace.set_sysctl("net/ipv4/tcp_no_metrics_save", "1")
        yield Lab(net, Path(directory), count(1))


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait for something; False if it did not happen in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True
