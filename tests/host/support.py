"""What the tests of the host share: small networks, their state before and after, and processes in them."""

import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pyroute2 import IPRoute

from espudp.host.changes import PROC_SYS
from espudp.host.netns import Namespace, Port, connect
from espudp.host.udp import UDP_NO_CHECK6_RX

PROJECT = Path(__file__).parents[2]
START_SECONDS = 30.0
PING_SECONDS = 2.0

__all__ = ["UDP_NO_CHECK6_RX", "Network", "Peer", "descendants", "ping", "state"]

_SYSCTLS = (
    "net/ipv4/ip_forward",
    "net/ipv4/conf/*/rp_filter",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/*/accept_ra",
)


def state(namespace: Namespace) -> dict[str, Any]:
    """Everything of a namespace that espudp could have changed."""
    with namespace.inside(), IPRoute() as ip:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in ip.get_links()}
        sysctls = {
            str(path): path.read_text().strip() for pattern in _SYSCTLS for path in PROC_SYS.glob(pattern)
        }
        return {
            "links": sorted(names.values()),
            "addresses": sorted(
                f"{a.get_attr('IFA_ADDRESS')}/{a['prefixlen']} {names[a['index']]}" for a in ip.get_addr()
            ),
            "rules": sorted(_attributes(rule) for f in (2, 10) for rule in ip.get_rules(family=f)),
            "routes": sorted(_attributes(route) for f in (2, 10) for route in ip.get_routes(family=f)),
            "sysctls": sysctls,
        }


def _attributes(message: Any) -> str:
    """A rule or route as text, without counters and clocks."""
    values = {name: str(value) for name, value in message["attrs"] if not name.endswith("CACHEINFO")}
    return json.dumps({**values, "length": message["dst_len"], "flags": message["flags"]}, sort_keys=True)


@dataclass
class Network:
    """client -- router (NAT) -- server, each a namespace.

    client wan 192.168.77.2/24 --- r0 .1 router r1 203.0.113.1 --- 203.0.113.7/24 wan server
    2001:db8:77::2/64                  2001:db8:77::1, 2001:db8:113::1       2001:db8:113::7/64
    """

    client: Namespace
    router: Namespace
    server: Namespace
    runtime: Path
    peers: list["Peer"] = field(default_factory=list)

    @classmethod
    @contextmanager
    def make(cls, runtime: Path, *, nat: bool = True) -> Iterator[Self]:
        """With forwarding and, for IPv4, NAT; ended with everything in it."""
        with Namespace() as client, Namespace() as router, Namespace() as server:
            for namespace in (client, router, server):  # no state that changes by itself
                namespace.set_sysctl("net/ipv6/conf/default/accept_dad", "0")
                namespace.set_sysctl("net/ipv6/conf/default/accept_ra", "0")
            connect(Port(client, "wan", "192.168.77.2/24"), Port(router, "r0", "192.168.77.1/24"))
            connect(Port(server, "wan", "203.0.113.7/24"), Port(router, "r1", "203.0.113.1/24"))
            for namespace, name, address in (
                (client, "wan", "2001:db8:77::2/64"),
                (router, "r0", "2001:db8:77::1/64"),
                (router, "r1", "2001:db8:113::1/64"),
                (server, "wan", "2001:db8:113::7/64"),
            ):
                namespace.add_address(name, address)
            for namespace, gateways in (
                (client, ("192.168.77.1", "2001:db8:77::1")),
                (server, ("203.0.113.1", "2001:db8:113::1")),
            ):
                for gateway in gateways:
                    namespace.add_default_route(gateway)
            router.set_sysctl("net/ipv4/ip_forward", "1")
            router.set_sysctl("net/ipv6/conf/all/forwarding", "1")
            if nat:
                router.masquerade("r1")
            network = cls(client, router, server, runtime)
            try:
                yield network
            finally:
                for peer in network.peers:
                    peer.kill()

    def listen(self, **options: Any) -> "Peer":
        """`listen` on the server, ready."""
        peer = Peer.start(self, self.server, "server", {"mode": "listen", **options})
        peer.wait_for("Listening on")
        return peer

    def connect(self, host: str = "203.0.113.7", *, up: bool = True, **options: Any) -> "Peer":
        """`connect` on the client; `up`: wait until it is."""
        peer = Peer.start(self, self.client, "client", {"mode": "connect", "host": host, **options})
        if up:
            peer.wait_for("Connected to")
        return peer


class Peer:
    """A process of ours in a namespace, and what it reports."""

    def __init__(self, process: "subprocess.Popen[bytes]", runtime: Path) -> None:
        self.process = process
        self.runtime = runtime
        self.output = ""

    @classmethod
    def start(cls, network: Network, namespace: Namespace, name: str, options: dict[str, Any]) -> Self:
        """As the tests want it: options that the command line does not have."""
        return cls.run(network, namespace, name, "tests.host.peer_process", json.dumps(options))

    @classmethod
    def run(
        cls,
        network: Network,
        namespace: Namespace,
        name: str,
        module: str,
        *arguments: str,
        before: Sequence[str] = (),
    ) -> Self:
        """A Python module as a program; its control socket and journal are in a folder called `name`.

        `before`: the words of a command that runs it.
        """
        runtime = network.runtime / name
        folders = {"ESPUDP_RUNTIME_DIR": str(runtime), "ESPUDP_CONFIG_DIR": f"{runtime}-etc"}
        command = [*before, sys.executable, "-m", module, *arguments]
        peer = cls(
            namespace.start(
                command,
                cwd=PROJECT,
                env={**os.environ, **folders, "PYTHONPATH": str(PROJECT)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            ),
            runtime,
        )
        network.peers.append(peer)
        return peer

    def wait_for(self, text: str, seconds: float = START_SECONDS) -> str:
        """The report that has `text` in it; fails with the whole output if none comes in time."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + seconds
        while text not in self.output:
            left = deadline - time.monotonic()
            readable = left > 0 and select.select([self.process.stdout], [], [], left)[0]
            chunk = os.read(self.process.stdout.fileno(), 65536) if readable else b""
            assert chunk, f"no {text!r} from the peer, but:\n{self.output}"
            self.output += chunk.decode()
        return next(line for line in self.output.splitlines() if text in line)

    def forget(self) -> None:
        """Let `wait_for` see only what comes from now on."""
        self.output = ""

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.end()

    def end(self, seconds: float = START_SECONDS) -> int:
        """Wait until it ends; the exit code."""
        output, _ = self.process.communicate(timeout=seconds)
        self.output += output.decode()
        assert "Traceback" not in self.output, self.output
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def ask(self, command: str, **arguments: object) -> dict[str, Any]:
        """A request over its control socket."""
        (path,) = self.runtime.glob("*.sock")
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            client.connect(str(path))
            client.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
            answer = json.loads(client.makefile("rb").readline())
        assert answer["ok"], answer
        result: dict[str, Any] = answer["result"]
        return result


def descendants(folder: Path) -> list[str]:
    """Processes that have a folder of the test's in their environment."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and process.name != str(os.getpid()):
            try:
                if str(folder).encode() in (process / "environ").read_bytes():
                    found.append((process / "cmdline").read_text())
            except OSError:
                continue
    return found


def ping(namespace: Namespace, address: str, *, octets: int = 56, tries: int = 1) -> int:
    """Send echo requests one after another; how many were answered in time."""
    version6 = ":" in address
    with namespace.inside():
        family, protocol = (
            (socket.AF_INET6, socket.getprotobyname("ipv6-icmp"))
            if version6
            else (socket.AF_INET, socket.getprotobyname("icmp"))
        )
        probe = socket.socket(family, socket.SOCK_RAW, protocol)
    with probe:
        probe.connect((address, 0))
        return sum(_echo(probe, number, octets, version6) for number in range(1, tries + 1))


def _echo(probe: socket.socket, number: int, octets: int, version6: bool) -> bool:
    request, answer = (128, 129) if version6 else (8, 0)
    identity = os.getpid() & 0xFFFF
    body = bytes(octets)
    header = struct.pack("!BBHHH", request, 0, 0, identity, number)
    if not version6:  # the kernel does it for ICMPv6
        header = struct.pack("!BBHHH", request, 0, _checksum(header + body), identity, number)
    probe.send(header + body)
    deadline = time.monotonic() + PING_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([probe], [], [], left)[0]:
            return False
        data = probe.recv(65535)
        icmp = data if version6 else data[(data[0] & 15) * 4 :]
        kind, _, _, who, which = struct.unpack_from("!BBHHH", icmp)
        if (kind, who, which) == (answer, identity, number):
            return len(icmp) == len(header) + octets
    return False


def _checksum(data: bytes) -> int:
    data += bytes(len(data) & 1)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def transfer(
    sender: Namespace, receiver: Namespace, address: str, data: bytes, *, known_there_as: str = ""
) -> bytes:
    """Send data over TCP from one namespace to an address of the other; what arrives."""
    received = bytearray()
    with receiver.inside():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        listening = socket.create_server((known_there_as or address, 0), family=family)
    with listening:
        listening.settimeout(10)

        def receive() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.settimeout(10)
                while chunk := connection.recv(65536):
                    received.extend(chunk)

        thread = threading.Thread(target=receive)
        thread.start()
        with sender.inside():
            source = socket.create_connection((address, listening.getsockname()[1]), timeout=10)
        with source:
            source.sendall(data)
        thread.join()
    return bytes(received)
