"""ESP as an IP protocol of its own, where no NAT is between, and what decides about it."""

import os
import socket
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from espudp.crypto.suites import parse_esp_suite
from espudp.manual import ManualPair, emit_manual, generate_pair
from espudp.wire.address import UdpAddress
from tests.host.support import Network, Peer, ping, state, transfer
from tests.host.wiretap import Wiretap, udp_payload

pytestmark = [pytest.mark.root, pytest.mark.tun]

SERVER = {4: "203.0.113.7", 6: "2001:db8:113::7"}
MARKER = b"plaintext that must not be seen outside"
UDP, ESP = socket.IPPROTO_UDP, socket.IPPROTO_ESP


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network.make(tmp_path, nat=False) as made:
        yield made


@pytest.fixture
def with_nat(tmp_path: Path) -> Iterator[Network]:
    with Network.make(tmp_path) as made:
        yield made


def both(network: Network, outside: int = 4, *, here: str = "auto", there: str = "auto", **more: Any) -> Peer:
    """The client, connected; `more` is for both."""
    network.listen(encap=there, **more)
    return network.connect(SERVER[outside], encap=here, **more)


def carried(tap: Wiretap) -> set[int]:
    """The IP protocols that carried more than IKE does; none of them may show what is inside."""
    found = set()
    for packet in tap.packets():
        assert MARKER not in packet
        protocol = packet[9] if packet[0] >> 4 == 4 else packet[6]
        said = udp_payload(packet, 4500) if protocol == UDP else None
        if protocol == ESP or (said is not None and said[:4] != bytes(4) and len(said) > 1):
            found.add(protocol)
        else:
            assert protocol == UDP or protocol == socket.IPPROTO_ICMPV6, packet.hex()
    return found


def ways(peer: Peer) -> set[str]:
    """The paths of its SAs."""
    return {sa["path"] for sa in peer.ask("status")["tunnel"]["sas"]}


@pytest.mark.parametrize("outside", [4, 6])
def test_without_a_nat_esp_goes_without_udp(network: Network, outside: int) -> None:
    before = state(network.client), state(network.server)
    client = both(network, outside)
    (server, _) = network.peers
    assert "; ESP without UDP; NAT: none; " in client.output
    assert "; ESP without UDP; NAT: none; " in server.wait_for("is connected")
    tap = Wiretap(network.router, "r1")
    assert ping(network.client, "10.99.0.1", tries=3) == 3
    assert ping(network.server, "10.99.0.2", octets=3000) == 1
    data = MARKER * 20_000
    assert transfer(network.client, network.server, "10.99.0.1", data) == data
    assert transfer(network.server, network.client, "10.99.0.2", data) == data
    assert carried(tap) == {ESP}
    for peer in (client, server):
        status = peer.ask("status")
        assert status["plain_esp"]
        assert not any(":4500" in way for way in ways(peer))
        assert not status["send_errors"]
    for what in ("child", "ike"):
        client.ask("rekey", what=what)
        assert ping(network.client, "10.99.0.1", tries=5) == 5
    assert (client.stop(), server.stop()) == (0, 0)
    assert (state(network.client), state(network.server)) == before


def test_the_inner_mtu_has_no_udp_header_less(network: Network) -> None:
    udp, plain = both(network, here="always").output, both_again(network).output
    assert mtu_of(plain) >= mtu_of(udp) + 8 - 3  # padded to four octets


def both_again(network: Network) -> Peer:
    for peer in reversed(network.peers):
        assert peer.stop() == 0
    return both(network)


def mtu_of(output: str) -> int:
    return int(output.partition("; MTU ")[2].partition(";")[0])


def test_behind_a_nat_it_goes_in_udp(with_nat: Network) -> None:
    client = both(with_nat)
    tap = Wiretap(with_nat.router, "r1")
    assert ping(with_nat.client, "10.99.0.1", tries=3) == 3
    assert carried(tap) == {UDP}
    assert "ESP without UDP" not in client.output


@pytest.mark.parametrize(("here", "there"), [("always", "auto"), ("auto", "always")])
def test_one_side_that_always_wants_udp_gets_it(network: Network, here: str, there: str) -> None:
    client = both(network, here=here, there=there)
    tap = Wiretap(network.router, "r1")
    assert ping(network.client, "10.99.0.1", tries=3) == 3
    assert carried(tap) == {UDP}
    assert "ESP without UDP" not in client.output


@pytest.mark.parametrize(("here", "there"), [("never", "auto"), ("auto", "never")])
def test_one_side_that_never_wants_udp(network: Network, here: str, there: str) -> None:
    client = both(network, here=here, there=there)
    tap = Wiretap(network.router, "r1")
    assert ping(network.client, "10.99.0.1", tries=3) == 3
    assert carried(tap) == {ESP}
    assert "ESP without UDP" in client.output


@pytest.mark.parametrize("where", ["client", "server"])
def test_who_may_not_open_raw_sockets_stays_with_udp(network: Network, where: str) -> None:
    missing: dict[str, Any] = {"missing": "raw"}
    server = network.listen(encap="auto", **(missing if where == "server" else {}))
    client = network.connect(encap="auto", **(missing if where == "client" else {}))
    lacking = client if where == "client" else server
    told = [line for line in lacking.output.splitlines() if "No raw socket" in line]
    assert len(told) == 1
    assert told[0].startswith("info: ESP always goes in UDP. No raw socket for ESP without UDP: ")
    assert not lacking.ask("status")["plain_esp"]
    tap = Wiretap(network.router, "r1")
    assert ping(network.client, "10.99.0.1", tries=3) == 3
    assert carried(tap) == {UDP}


def test_never_needs_raw_sockets(network: Network) -> None:
    before = state(network.client)
    client = network.connect(encap="never", missing="raw", up=False)
    assert client.end() == 1
    (error,) = (line for line in client.output.splitlines() if line.startswith("error: "))
    assert "No raw socket for ESP without UDP: " in error
    assert error.endswith("--encap always.")
    assert state(network.client) == before


@pytest.mark.parametrize("outside", [4, 6])
def test_each_worker_takes_what_is_its_own(network: Network, outside: int) -> None:
    client = both(network, outside, host_options={"workers": 2})
    (server, _) = network.peers
    for number in range(40):
        data = MARKER * 100 * (1 + number)
        assert transfer(network.client, network.server, "10.99.0.1", data) == data
        statuses = [peer.ask("status") for peer in (client, server)]
        if all(worker["packets"]["in"] for status in statuses for worker in status["workers"]):
            break
    else:
        pytest.fail(f"some worker had nothing to do: {[status['workers'] for status in statuses]}")
    for status in statuses:
        assert not status["tunnel"]["drops"].get("unknown SPI")
        assert not any(sa["drops"] for sa in status["tunnel"]["sas"])
    assert (client.stop(), server.stop()) == (0, 0)


def test_the_sockets_may_be_bound_to_one_address(network: Network) -> None:
    network.server.add_address("wan", "203.0.113.8/24")
    network.listen(encap="auto", host_options={"bind": "203.0.113.8"})
    network.connect("203.0.113.8", encap="auto", host_options={"bind": "192.168.77.2"})
    tap = Wiretap(network.router, "r1")
    assert ping(network.client, "10.99.0.1", tries=3) == 3
    assert carried(tap) == {ESP}


def test_the_traffic_class_is_outside_as_well(network: Network) -> None:
    both(network, host_options={"dscp": 46})
    tap = Wiretap(network.router, "r1")
    assert ping(network.client, "10.99.0.1", tries=3) == 3
    assert {packet[1] >> 2 for packet in tap.packets() if packet[9] == ESP} == {46}


def test_esp_of_other_programs_is_dropped_and_not_answered(network: Network) -> None:
    client = both(network)
    with network.server.inside(), socket.socket(socket.AF_INET, socket.SOCK_RAW, ESP) as stranger:
        tap = Wiretap(network.router, "r1")
        for octets in (b"", b"\xff", bytes(4), bytes(8), b"\x12\x34\x56\x78" + bytes(60), bytes(300)):
            stranger.sendto(octets, ("192.168.77.2", 0))
        assert ping(network.client, "10.99.0.1", tries=3) == 3
    back = [packet for packet in tap.packets() if packet[12:16] == bytes([192, 168, 77, 2])]
    assert {packet[9] for packet in back} == {ESP}
    assert len({packet[20:24] for packet in back}) == 1, "nothing but its own ESP"
    assert client.stop() == 0
    told = [line for line in client.output.splitlines() if "unknown SPI" in line]
    assert all(line.startswith("detail: ") for line in told)


def test_the_next_start_undoes_what_sigkill_left(network: Network) -> None:
    before = state(network.client), state(network.server)
    client = both(network)
    (server, _) = network.peers
    for peer in (client, server):
        peer.kill()
    client = both(network)
    server = network.peers[-2]
    assert ping(network.client, "10.99.0.1", tries=3) == 3
    assert (client.stop(), server.stop()) == (0, 0)
    assert (state(network.client), state(network.server)) == before


def test_manual_keys_without_udp(network: Network) -> None:
    before = state(network.client), state(network.server)
    pair = ManualPair(
        suite=parse_esp_suite("aes128-sha256"),
        server=UdpAddress(SERVER[4], 4500),
        network=ip_network("10.98.0.0/30"),
    )
    server, client = generate_pair(pair, os.urandom)
    ends = (network.server, "server", server), (network.client, "client", client)
    peers = []
    for namespace, name, config in ends:
        options = {"mode": "manual", "text": emit_manual(config), "host_options": {"plain": True}}
        peers.append(Peer.start(network, namespace, name, options))
        peers[-1].wait_for("Manual keys with")
    tap = Wiretap(network.router, "r1")
    assert ping(network.client, server.addresses[0], tries=3) == 3
    assert ping(network.server, client.addresses[0], tries=3) == 3
    assert carried(tap) == {ESP}
    assert peers[0].ask("status")["ports"] == []
    assert [peer.stop() for peer in peers] == [0, 0]
    assert (state(network.client), state(network.server)) == before
