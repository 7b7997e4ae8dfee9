"""Transport mode: two hosts speak with each other by the addresses that they have, inside ESP."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from espudp.host.netns import Namespace, Port, connect
from espudp.host.session import DEFAULT_MARK
from tests.host.support import Network, Peer, ping, state, transfer
from tests.host.wiretap import Wiretap

pytestmark = [pytest.mark.root, pytest.mark.tun]

CLIENT = {4: "192.168.77.2", 6: "2001:db8:77::2"}
SERVER = {4: "203.0.113.7", 6: "2001:db8:113::7"}
NAT = "203.0.113.1"
MARKER = b"plaintext that must not be seen outside"
UDP, TCP, ICMP, ESP = socket.IPPROTO_UDP, socket.IPPROTO_TCP, socket.IPPROTO_ICMP, socket.IPPROTO_ESP
ICMPV6 = socket.IPPROTO_ICMPV6
PORTS = [port.to_bytes(2, "big") for port in (500, 4500)]
EVERYTHING = [["0"], ["0"]]


@pytest.fixture(params=["in UDP", "plain"])
def encap(request: pytest.FixtureRequest) -> str:
    return "always" if request.param == "in UDP" else "auto"


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network.make(tmp_path, nat=False) as made:
        yield made


@pytest.fixture
def with_nat(tmp_path: Path) -> Iterator[Network]:
    with Network.make(tmp_path) as made:
        yield made


def both(network: Network, outside: int = 4, transport: list[list[str]] = EVERYTHING, **more: Any) -> Peer:
    """The client, connected. `transport`: [at the client, at the server]."""
    network.listen(transport=transport[::-1], **more)
    client = network.connect(SERVER[outside], transport=transport, **more)
    assert "transport mode, " in client.output
    network.peers[-2].wait_for("is connected")
    return client


def protocol_of(packet: bytes) -> tuple[int, bool]:
    """And whether it is a fragment, but the first, of which no port tells what it is."""
    if packet[0] >> 4 == 4:
        return packet[9], bool((packet[6] << 8 | packet[7]) & 0x1FFF)
    if packet[6] == socket.IPPROTO_FRAGMENT:
        return packet[40], bool((packet[42] << 8 | packet[43]) & 0xFFF8)
    return packet[6], False


def is_in_udp(packet: bytes) -> bool:
    """Whether it is ESP in UDP, or IKE."""
    version6 = packet[0] >> 4 == 6
    at = 48 if version6 and packet[6] == socket.IPPROTO_FRAGMENT else 40 if version6 else 20
    return packet[at : at + 2] in PORTS and packet[at + 2 : at + 4] in PORTS


def outside(tap: Wiretap) -> tuple[int, set[int]]:
    """How many packets of ESP have crossed, and the protocols of all else but IKE and neighbour discovery."""
    count, others = 0, set()
    for packet in tap.packets():
        protocol, is_later = protocol_of(packet)
        if protocol == ESP or (protocol == UDP and (is_later or is_in_udp(packet))):
            assert MARKER not in packet
            count += protocol == ESP or len(packet) > 100
        elif not (protocol == ICMPV6 and packet[40] in range(133, 138)):
            others.add(protocol)
    return count, others


@contextmanager
def echo(namespace: Namespace, address: str, port: int = 0) -> Iterator[tuple[int, list[Any]]]:
    """A UDP service: its port, and who has asked."""
    with namespace.inside():
        service = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    service.bind((address, port))
    service.settimeout(10)
    callers: list[Any] = []

    def serve() -> None:
        while True:
            data, caller = service.recvfrom(65535)
            if not data:
                return
            callers.append(caller)
            service.sendto(data[::-1], caller)

    thread = threading.Thread(target=serve)
    thread.start()
    bound = service.getsockname()[1]
    try:
        yield bound, callers
    finally:
        with namespace.inside(), socket.socket(service.family, socket.SOCK_DGRAM) as last:
            last.sendto(b"", (address, bound))
        thread.join()
        service.close()


def ask(namespace: Namespace, address: str, port: int, octets: int = 100, source_port: int = 0) -> bool:
    """Whether a service answers."""
    with namespace.inside():
        caller = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    with caller:
        caller.settimeout(2)
        caller.bind(("", source_port))
        caller.connect((address, port))
        data = (MARKER * (octets // len(MARKER) + 1))[:octets]
        caller.send(data)
        try:
            return caller.recv(65535) == data[::-1]
        except OSError:
            return False


def is_refused(namespace: Namespace, address: str) -> bool:
    """Whether a program hears that nobody is there: by an ICMP error that quotes what it has sent."""
    with namespace.inside():
        caller = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with caller:
        caller.settimeout(5)
        caller.connect((address, 9))
        caller.send(MARKER)
        try:
            return not caller.recv(100)
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            return False


def test_tcp_udp_and_ping_between_the_two_outer_addresses(network: Network, encap: str) -> None:
    before = state(network.client), state(network.server)
    client = both(network, encap=encap)
    (server, _) = network.peers
    assert ("ESP without UDP" in client.output) == (encap == "auto")
    tap = Wiretap(network.router, "r1")
    data = MARKER * 30_000
    assert transfer(network.client, network.server, SERVER[4], data) == data
    assert transfer(network.server, network.client, CLIENT[4], data) == data
    assert ping(network.client, SERVER[4], tries=3) == 3
    assert ping(network.server, CLIENT[4], octets=3000) == 1
    with echo(network.server, SERVER[4]) as (port, callers):
        assert ask(network.client, SERVER[4], port)
        assert ask(network.client, SERVER[4], port, 5000)
        assert {caller[0] for caller in callers} == {CLIENT[4]}
    count, others = outside(tap)
    assert count > 20
    assert others == set()
    tap = Wiretap(network.router, "r1")
    assert ping(network.client, "203.0.113.1") == 1, "the router is none of the two"
    assert ping(network.server, "192.168.77.1") == 1
    assert outside(tap) == (0, {ICMP})
    for what in ("child", "ike"):
        client.ask("rekey", what=what)
        assert ping(network.client, SERVER[4], tries=5) == 5
    assert (client.stop(), server.stop()) == (0, 0)
    assert (state(network.client), state(network.server)) == before


def test_ipv6(network: Network, encap: str) -> None:
    before = state(network.client), state(network.server)
    client = both(network, 6, encap=encap)
    (server, _) = network.peers
    tap = Wiretap(network.router, "r1")
    data = MARKER * 30_000
    assert transfer(network.client, network.server, SERVER[6], data) == data
    assert transfer(network.server, network.client, CLIENT[6], data) == data
    assert ping(network.client, SERVER[6], tries=3) == 3
    assert ping(network.server, CLIENT[6], octets=3000) == 1
    with echo(network.server, SERVER[6]) as (port, _):
        assert ask(network.client, SERVER[6], port)
    count, others = outside(tap)
    assert count > 20
    assert others == set()
    assert (client.stop(), server.stop()) == (0, 0)
    assert (state(network.client), state(network.server)) == before


def test_what_the_selectors_do_not_name_goes_as_before(network: Network, encap: str) -> None:
    client = both(network, transport=[["17"], ["17/1701"]], encap=encap)
    (server, _) = network.peers
    assert "transport mode, 203.0.113.7/32[udp/1701]" in client.output
    assert client.ask("status")["routes"] == ["203.0.113.7/32[udp/1701]"]
    assert server.ask("status")["routes"] == ["192.168.77.2/32[udp/any]"]
    with echo(network.server, SERVER[4], 1701) as (port, _), echo(network.server, SERVER[4]) as (other, _):
        tap = Wiretap(network.router, "r1")
        assert ask(network.client, SERVER[4], port)
        assert outside(tap) == (2, set())
        tap = Wiretap(network.router, "r1")
        assert ask(network.client, SERVER[4], other)
        assert ask(network.client, SERVER[4], other, source_port=1701)
        assert outside(tap) == (0, {UDP})
    tap = Wiretap(network.router, "r1")
    assert ping(network.client, SERVER[4]) == 1
    assert transfer(network.client, network.server, SERVER[4], b"x") == b"x"
    assert outside(tap) == (0, {ICMP, TCP})


def test_behind_a_nat_checksums_are_right_at_both_ends(with_nat: Network) -> None:
    before = state(with_nat.client), state(with_nat.server)
    client = both(with_nat)
    (server, _) = with_nat.peers
    assert "NAT: this side" in client.output
    tap = Wiretap(with_nat.router, "r1")
    data = MARKER * 30_000
    assert transfer(with_nat.client, with_nat.server, SERVER[4], data) == data
    assert transfer(with_nat.server, with_nat.client, NAT, data, known_there_as=CLIENT[4]) == data
    assert ping(with_nat.client, SERVER[4], tries=3) == 3
    assert ping(with_nat.server, NAT, tries=3) == 3
    with echo(with_nat.server, SERVER[4]) as (port, callers):
        assert ask(with_nat.client, SERVER[4], port)
        assert {caller[0] for caller in callers} == {NAT}
    assert is_refused(with_nat.client, SERVER[4])
    assert is_refused(with_nat.server, NAT)
    count, others = outside(tap)
    assert count > 20
    assert others == set()
    assert (client.stop(), server.stop()) == (0, 0)
    assert (state(with_nat.client), state(with_nat.server)) == before


def test_two_clients_behind_one_nat_have_the_same_service(with_nat: Network) -> None:
    """Both from port 1701: the one that came later is shown by an address that stands in for the NAT's."""
    network = with_nat
    with Namespace() as neighbour:
        connect(Port(neighbour, "wan", "192.168.78.2/24"), Port(network.router, "r2", "192.168.78.1/24"))
        neighbour.add_default_route("192.168.78.1")
        transport = [["17/1701"], ["17/1701"]]
        both(network, transport=transport)
        options = {"mode": "connect", "host": SERVER[4], "identity": "@neighbour", "transport": transport}
        other = Peer.start(network, neighbour, "neighbour", options)
        other.wait_for("Connected to")
        with echo(network.server, "0.0.0.0", 1701) as (port, callers):
            for _ in range(3):
                for client in (network.client, neighbour):
                    assert ask(client, SERVER[4], port, source_port=1701)
            addresses = [caller[0] for caller in callers]
            assert addresses == [NAT, addresses[1]] * 3
            assert addresses[1] != NAT
        assert other.stop() == 0


@pytest.mark.parametrize(("encap", "strictness"), [("always", "1"), ("auto", "2")])
def test_reverse_path_filtering_does_not_disturb(network: Network, encap: str, strictness: str) -> None:
    for namespace in (network.client, network.server):
        for name in ("all", "default", "wan"):
            namespace.set_sysctl(f"net/ipv4/conf/{name}/rp_filter", strictness)
    before = state(network.client), state(network.server)
    for transport in (EVERYTHING, [["0"], ["6"]], [["17"], ["17"]]):
        client = both(network, transport=transport, encap=encap)
        data = MARKER * 3000
        assert transfer(network.client, network.server, SERVER[4], data) == data
        with echo(network.server, SERVER[4]) as (port, _):
            assert ask(network.client, SERVER[4], port)
        assert [peer.stop() for peer in network.peers[:-3:-1]] == [0, 0]
        assert client.process.returncode == 0
        assert (state(network.client), state(network.server)) == before


def test_several_workers(network: Network) -> None:
    client = both(network, encap="auto", host_options={"workers": 2})
    data = MARKER * 3000
    for _ in range(5):
        assert transfer(network.client, network.server, SERVER[4], data) == data
        assert transfer(network.server, network.client, CLIENT[4], data) == data
    assert not any(sa["drops"] for sa in client.ask("status")["tunnel"]["sas"])


def test_large_datagrams_with_several_workers(network: Network) -> None:
    """Of their fragments the kernel knows no ports: they come to any worker."""
    both(network, transport=[["17"], ["17/1701"]], host_options={"workers": 2})
    with echo(network.server, SERVER[4], 1701) as (port, _):
        assert all(ask(network.client, SERVER[4], port, 5000) for _ in range(6))


def test_while_the_server_is_away_nothing_goes_around_the_tunnel(network: Network) -> None:
    timers = {"dpd_interval": 0.5, "retransmit_initial": 0.1, "retransmit_tries": 3}
    client = both(network, timers=timers)
    network.peers[0].kill()
    client.wait_for("The connection is lost")
    tap = Wiretap(network.router, "r0")
    with network.client.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as program:
        program.sendto(MARKER, (SERVER[4], 9))
    assert not any(MARKER in packet for packet in tap.packets())
    client.forget()
    network.listen(transport=EVERYTHING)
    client.wait_for("Connected to")
    assert ping(network.client, SERVER[4]) == 1


def clear(namespace: Namespace, address: str, port: int, kind: socket.SocketKind) -> bool:
    """Whether a service answers who speaks to it around the tunnel, with the mark of outer packets."""
    with namespace.inside():
        caller = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    with caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, DEFAULT_MARK)
        caller.settimeout(0.5)
        try:
            caller.connect((address, port))
            caller.send(MARKER)
            return bool(caller.recv(65535))
        except OSError:
            return False


@pytest.mark.parametrize("version", [4, 6])
def test_what_comes_in_the_clear_is_dropped(network: Network, version: int) -> None:
    """Which is what anybody may send in the peer's name."""
    client = both(network, version, transport=[["17"], ["17/1701"]])
    (server, _) = network.peers
    address = SERVER[version]
    with echo(network.server, address, 1701) as (port, callers), echo(network.server, address) as (other, _):
        assert not clear(network.client, address, port, socket.SOCK_DGRAM)
        assert callers == []
        assert clear(network.client, address, other, socket.SOCK_DGRAM)
        assert ask(network.client, address, port)
        assert client.stop() == 0
        server.wait_for("is gone")
        assert clear(network.client, address, port, socket.SOCK_DGRAM), "as before"


def test_a_kernel_without_nftables_cannot_drop_what_comes_in_the_clear(network: Network) -> None:
    client = both(network, missing="nftables")
    for peer in (client, network.peers[-2]):
        (told,) = (line for line in peer.output.splitlines() if "in the clear" in line)
        assert told.startswith("warning: What peers send in the clear is not dropped: nftables: ")
    assert ping(network.client, SERVER[4]) == 1


def test_a_client_that_is_gone_is_spoken_to_as_before(network: Network) -> None:
    before = state(network.server)
    client = both(network)
    (server, _) = network.peers
    assert client.stop() == 0
    server.wait_for("is gone")
    tap = Wiretap(network.router, "r1")
    assert ping(network.server, CLIENT[4]) == 1
    assert outside(tap) == (0, {ICMP})
    rules = state(network.server)["rules"]
    assert rules == before["rules"]
    assert server.stop() == 0


def test_the_next_start_undoes_what_sigkill_left(network: Network) -> None:
    before = state(network.client), state(network.server)
    client = both(network, encap="auto")
    for peer in network.peers:
        peer.kill()
    assert (state(network.client), state(network.server)) != before
    client = both(network, encap="auto")
    server = network.peers[-2]
    assert "routing rule for 203.0.113.7/32" in client.output
    assert ping(network.client, SERVER[4], tries=3) == 3
    assert (client.stop(), server.stop()) == (0, 0)
    assert (state(network.client), state(network.server)) == before
