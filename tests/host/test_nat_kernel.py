"""The kernel's NAT (nftables, conntrack) between real processes: crowds behind it, two in a row, and amnesia.

client 0  wan 192.168.80.2 --- home0 home (NAT) up --- 192.168.90.0/24 --- r2 router (NAT) r1 --- server
client 1  wan 192.168.81.2 --- home1                                                             203.0.113.7

With one NAT the clients are at the router itself.
"""

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from espudp.host.netns import Namespace, Port, connect
from tests.host.download import SERVER_INSIDE, Download
from tests.host.support import Network, Peer, ping

pytestmark = [pytest.mark.namespaces, pytest.mark.conntrack, pytest.mark.tun]

ROUTER_IP = "203.0.113.1"


@dataclass
class Crowd:
    """Clients behind the same address, and what they do."""

    network: Network
    clients: list[Namespace]
    nats: list[Namespace]
    server: Peer | None = None
    peers: list[Peer] = field(default_factory=list)

    @classmethod
    @contextmanager
    def make(cls, runtime: Path, clients: int, *, nats: int = 1, ports: str = "") -> "Iterator[Crowd]":
        """`ports`: how the NATs choose them, as nft has it; "": the client's own where it is free."""
        with ExitStack() as stack:
            network = stack.enter_context(Network.make(runtime))
            made = [stack.enter_context(Namespace()) for _ in range(clients)]
            home, outside = network.router, "r1"
            if nats == 2:
                home, outside = stack.enter_context(Namespace()), "up"
                connect(Port(home, "up", "192.168.90.2/24"), Port(network.router, "r2", "192.168.90.1/24"))
                home.add_default_route("192.168.90.1")
                home.set_sysctl("net/ipv4/ip_forward", "1")
                _nat(home, outside, ports)
            if ports:
                _nat(network.router, "r1", ports)
            for number, client in enumerate(made):
                at = f"192.168.{80 + number}"
                connect(Port(client, "wan", f"{at}.2/24"), Port(home, f"home{number}", f"{at}.1/24"))
                client.add_default_route(f"{at}.1")
            yield cls(network, made, [network.router] if nats == 1 else [home, network.router])

    def connect(self, *versions: dict[str, str], **options: Any) -> None:
        """All at once; returns when the last of them is up. `versions` of IKE are taken in turn."""
        self.server = self.network.listen(serve_ikev1=True, **options)
        for number, client in enumerate(self.clients):
            name, version = f"client{number}", versions[number % len(versions)] if versions else {}
            said = {"mode": "connect", "host": "203.0.113.7", "identity": f"@{name}", **version, **options}
            self.peers.append(Peer.start(self.network, client, name, said))
        for peer in self.peers:
            peer.wait_for("Connected to")

    def address(self, number: int) -> str:
        """A client's, in the tunnel."""
        found: str = self.peers[number].ask("status")["addresses"][0]
        return found.partition("/")[0]

    @contextmanager
    def transfers(self, *, down: bool = True) -> Iterator[list[Download]]:
        """Everybody's, at the same time. At the end all of it has arrived as it was sent."""
        server = self.network.server
        running = [
            Download(server, client) if down else Download(client, server, self.address(number))
            for number, client in enumerate(self.clients)
        ]
        try:
            for download in running:
                download.goes_on()
            yield running
            for download in running:
                download.goes_on()
        finally:
            for download in running:
                download.end()

    def rekey(self, what: str) -> None:
        """Everybody's SAs of one kind at the same moment; returns when all have new ones."""
        before = [self._spis(peer, what) for peer in self.peers]
        for peer in self.peers:
            peer.ask("rekey", what=what)
        deadline = time.monotonic() + 10
        for peer, old in zip(self.peers, before, strict=True):
            while not self._spis(peer, what) - old:
                assert time.monotonic() < deadline, f"no new {what} SAs"
                time.sleep(0.05)

    def _spis(self, peer: Peer, what: str) -> set[str]:
        (connection,) = peer.ask("status")["tunnel"]["connections"]
        if what == "ike":
            return {connection["spi_i"]}
        return {child["spi_in"] for child in connection["children"]}

    def mappings(self) -> list[str]:
        """Where the server sees its clients."""
        assert self.server is not None
        connections = self.server.ask("status")["tunnel"]["connections"]
        return [connection["path"].rpartition(" -> ")[2] for connection in connections]

    def undisturbed(self) -> None:
        """Everybody has the connection that it began with, has got nothing but its own, and ends in order."""
        assert self.server is not None
        assert len(self.mappings()) == len(self.clients)
        for peer in (*self.peers, self.server):
            shown = peer.ask("status")["tunnel"]
            assert "unknown SPI" not in shown["drops"]
            assert not any(sa["drops"] for sa in shown["sas"])
        for peer in self.peers:
            (connection,) = peer.ask("status")["tunnel"]["connections"]
            assert connection["connection"] == 1
            assert "lost" not in peer.output
        for peer in (*self.peers, self.server):
            assert peer.stop() == 0


def _nat(namespace: Namespace, outside: str, ports: str) -> None:
    """Masquerade; in place of what does so already, if anything."""
    rules = f"""
        flush ruleset
        table ip home {{
            chain hide {{
                type nat hook postrouting priority srcnat
                oifname {outside} masquerade {ports}
            }}
        }}
    """
    with namespace.inside():
        subprocess.run(["nft", "-f", "-"], input=rules.encode(), check=True)


def _conntrack(namespace: Namespace, *arguments: str) -> str:
    with namespace.inside():
        done = subprocess.run(
            ["conntrack", *arguments, "-p", "udp"], capture_output=True, text=True, check=True
        )
    return done.stdout


def _forgets_after(namespace: Namespace, seconds: int) -> None:
    """For mappings that are made from now on."""
    for name in ("nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"):
        namespace.set_sysctl(f"net/netfilter/{name}", str(seconds))


V2: dict[str, str] = {}
MAIN, AGGRESSIVE = {"ikev1": "main"}, {"ikev1": "aggressive"}


@pytest.mark.parametrize(
    ("clients", "nats", "versions"),
    [
        pytest.param(5, 1, [V2], id="five, IKEv2"),
        pytest.param(5, 1, [MAIN, AGGRESSIVE], id="five, IKEv1"),
        pytest.param(2, 2, [V2, AGGRESSIVE], id="two NATs, one client of each version"),
    ],
)
def test_a_crowd_behind_one_address(
    tmp_path: Path, clients: int, nats: int, versions: list[dict[str, str]]
) -> None:
    """They connect, transfer and rekey at the same moment, and not one is disturbed."""
    with Crowd.make(tmp_path, clients, nats=nats) as crowd:
        crowd.connect(*versions)
        mappings = crowd.mappings()
        assert len(set(mappings)) == clients
        assert {mapping.partition(":")[0] for mapping in mappings} == {ROUTER_IP}
        with crowd.transfers():
            crowd.rekey("child")
            crowd.rekey("ike")
        crowd.undisturbed()


@pytest.mark.parametrize(("ports", "down"), [("random", False), ("", True)], ids=["up", "down"])
def test_a_mapping_is_flushed_in_mid_transfer(tmp_path: Path, ports: str, down: bool) -> None:
    """What goes up is followed at once; what comes down, when the client asks why it is so silent."""
    with Crowd.make(tmp_path, 2, ports=ports) as crowd:
        crowd.connect(V2, MAIN, timers={"dpd_interval": 1.0})
        before = crowd.mappings()
        with crowd.transfers(down=down) as running:
            for _ in range(2):
                _conntrack(crowd.nats[0], "-D")
                for transfer in running:
                    transfer.goes_on()
        if ports:
            assert not set(crowd.mappings()) & set(before)
        crowd.undisturbed()


def test_keepalives_keep_the_shorter_of_two_mappings_open(tmp_path: Path) -> None:
    """The home's NAT remembers for half a minute, the carrier's for two seconds."""
    with Crowd.make(tmp_path, 1, nats=2, ports="random") as crowd:
        home, carrier = crowd.nats
        _forgets_after(home, 30)
        _forgets_after(carrier, 2)
        crowd.connect(keepalive=0.5)
        before = crowd.mappings()
        time.sleep(4.0)
        assert ping(crowd.network.server, crowd.address(0), tries=2) == 2
        assert crowd.mappings() == before
        crowd.undisturbed()


def test_without_keepalives_the_client_is_followed_to_its_next_mapping(tmp_path: Path) -> None:
    with Crowd.make(tmp_path, 1, nats=2, ports="random") as crowd:
        home, carrier = crowd.nats
        _forgets_after(home, 30)
        _forgets_after(carrier, 1)
        crowd.connect()
        assert crowd.server is not None
        (before,) = crowd.mappings()
        deadline = time.monotonic() + 10
        while "dport=4500" in _conntrack(carrier, "-L"):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        address = crowd.address(0)
        assert ping(crowd.network.server, address) == 0  # nobody knows where that goes
        assert ping(crowd.clients[0], SERVER_INSIDE, tries=2) == 2
        crowd.server.wait_for("The path is")
        assert crowd.mappings() != [before]
        assert ping(crowd.network.server, address, tries=2) == 2
        crowd.undisturbed()


def test_esp_without_udp_is_for_one_client_behind_an_address(tmp_path: Path) -> None:
    """IKEv1 as it was before NAT traversal: the kernel has one mapping for each peer and protocol."""
    with Crowd.make(tmp_path, 2) as crowd:
        crowd.connect(MAIN, nat_traversal=False, encap="auto")
        assert [ping(client, SERVER_INSIDE) for client in crowd.clients] == [1, 0]
        crowd.undisturbed()
