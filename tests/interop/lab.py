"""Three network namespaces: a client, a router that masquerades, and a server.

client 192.168.77.2 ---- 192.168.77.1 router 203.0.113.1 ---- 203.0.113.2 server
                                      (NAT: nft)

and perhaps a neighbour 192.168.78.2 ---- 192.168.78.1, another client behind the same NAT.
"""

import itertools
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

CLIENT_ADDRESS, NEIGHBOUR_ADDRESS = "192.168.77.2", "192.168.78.2"
ROUTER_OUTSIDE = "203.0.113.1"
SERVER_ADDRESS = "203.0.113.2"

RESOLV_CONF = "nameserver 192.0.2.53\n"

_numbers = itertools.count()

NAT = """
table ip nat {
  chain out { type nat hook postrouting priority 100; oifname "outside" masquerade; }
}
"""

# RFC 3948 section 2.2: IKE on port 4500 begins with four zero octets, behind the 64 bits of UDP's header.
NO_IKE = """
table ip no_ike {
  chain forward {
    type filter hook forward priority 0
    meta l4proto udp @th,64,32 0 drop
  }
}
"""


def run(command: Sequence[str], *, text: str | None = None, timeout: float = 30) -> str:
    """Run a command and return what it printed; a failure shows what it said."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s for {what}")
        time.sleep(0.05)


@dataclass(frozen=True)
class Namespace:
    name: str

    @property
    def resolv_conf(self) -> Path:
        """What processes in there have as /etc/resolv.conf."""
        return Path("/etc/netns", self.name, "resolv.conf")

    def command(self, *argv: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *argv]

    def run(self, *argv: str, text: str | None = None, timeout: float = 30) -> str:
        return run(self.command(*argv), text=text, timeout=timeout)

    def ping(self, address: str, *, count: int = 3, octets: int = 56) -> bool:
        """Whether every one of `count` echo requests of so much data got its reply.

        Each has a ping of its own, which waits for a late reply: one that has seen replies waits for the last
        as long as for twice the slowest. So no more than `count` go out.
        """
        for _ in range(count):
            with Ping(self, address, octets, "-c", "1") as ping:
                if not ping.answered():
                    return False
        return True

    def pinging(self, address: str, *, octets: int = 56) -> "Ping":
        """Ping in the background until told to end."""
        return Ping(self, address, octets)


class Ping:
    """A ping that runs in the background, 100 times a second."""

    def __init__(self, space: Namespace, address: str, octets: int, *options: str) -> None:
        argv = space.command("ping", "-n", "-i", "0.01", "-W", "2", "-s", str(octets), *options, address)
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def end(self) -> int:
        """End it now, and return how many requests were answered, if none in between was lost or doubled."""
        self._process.send_signal(signal.SIGINT)
        return self.answered()

    def answered(self) -> int:
        """Wait for its end, and return how many requests were answered; 0 if any before the last was not.

        In whatever order: strongSwan has a thread for each packet.
        """
        said, _ = self._process.communicate(timeout=60)
        numbers = sorted(int(number) for number in re.findall(r"icmp_seq=(\d+) ttl", said))
        if numbers == list(range(1, len(numbers) + 1)):
            return len(numbers)
        print(said)
        return 0


class Process:
    """A program in a namespace, its output in a file, ended by its own pid."""

    def __init__(self, argv: Sequence[str], log: Path, env: dict[str, str] | None = None) -> None:
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait(10)

    def wait(self, *, seconds: float = 10.0) -> int:
        """Until it ends by itself; its exit status."""
        return self._process.wait(seconds)

    def stop(self, *, seconds: float = 10.0) -> int:
        """SIGTERM, and its exit status."""
        if self.running:
            self._process.terminate()
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(seconds)
            raise AssertionError(f"did not end on SIGTERM:\n{self.output}") from None


@dataclass(frozen=True)
class Lab:
    client: Namespace
    router: Namespace
    server: Namespace

    @contextmanager
    def neighbour(self) -> Iterator[Namespace]:
        """Another client."""
        with _namespace(f"{self.client.name}2") as space:
            _link((space, "eth0", f"{NEIGHBOUR_ADDRESS}/24"), (self.router, "inside2", "192.168.78.1/24"))
            space.run("ip", "route", "add", "default", "via", "192.168.78.1")
            yield space

    @contextmanager
    def without_nat(self) -> Iterator[None]:
        """The router translates nothing, and forgets what it has translated."""
        back = [CLIENT_ADDRESS, "via", ROUTER_OUTSIDE]
        self.router.run("nft", "flush", "ruleset")
        self.router.run("conntrack", "-F")
        self.server.run("ip", "route", "add", *back)
        try:
            yield
        finally:
            self.server.run("ip", "route", "del", *back)
            self.router.run("nft", "-f", "-", text=NAT)

    @contextmanager
    def without_ike(self) -> Iterator[None]:
        """The router loses every IKE message, and carries ESP on."""
        self.router.run("nft", "-f", "-", text=NO_IKE)
        try:
            yield
        finally:
            self.router.run("nft", "delete", "table", "ip", "no_ike")


@contextmanager
def _namespace(name: str) -> Iterator[Namespace]:
    space = Namespace(name)
    run(["ip", "netns", "add", name])
    try:
        # ip netns exec mounts it over /etc/resolv.conf: a DNS server that is used is used there alone.
        space.resolv_conf.parent.mkdir(parents=True)
        space.resolv_conf.write_text(RESOLV_CONF)
        space.run("ip", "link", "set", "lo", "up")
        yield space
    finally:
        run(["ip", "netns", "del", name])
        shutil.rmtree(space.resolv_conf.parent)


@contextmanager
def lab() -> Iterator[Lab]:
    stem = f"esplab{os.getpid()}n{next(_numbers)}"
    with ExitStack() as stack:
        client, router, server = (stack.enter_context(_namespace(f"{stem}{end}")) for end in "crs")
        _link((client, "eth0", f"{CLIENT_ADDRESS}/24"), (router, "inside", "192.168.77.1/24"))
        _link((server, "eth0", f"{SERVER_ADDRESS}/24"), (router, "outside", f"{ROUTER_OUTSIDE}/24"))
        client.run("ip", "route", "add", "default", "via", "192.168.77.1")
        router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        router.run("nft", "-f", "-", text=NAT)
        yield Lab(client, router, server)


def _link(*ends: tuple[Namespace, str, str]) -> None:
    """A veth pair: namespace, interface and address of each end."""
    (left, left_name, _), (right, right_name, _) = ends
    peer = ["type", "veth", "peer", "name", right_name, "netns", right.name]
    run(["ip", "link", "add", left_name, "netns", left.name, *peer])
    for space, name, address in ends:
        space.run("ip", "address", "add", address, "dev", name)
        space.run("ip", "link", "set", name, "up")
