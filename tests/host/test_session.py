"""Two peers as processes, a NAT between them: what a user gets, and that nothing of it stays behind."""

import signal
import socket
import struct
import time

import pytest
from pyroute2 import IPRoute

from espudp.host import pathmtu
from espudp.host.netns import Namespace, Port, connect
from tests.host.support import Network, Peer, ping, state, transfer
from tests.host.wiretap import Wiretap

pytestmark = [pytest.mark.root, pytest.mark.tun]

MARKER = b"plaintext that must not be seen outside"


def _ipv4(frames: list[bytes]) -> list[bytes]:
    return [frame[14:] for frame in frames if frame[12:14] == b"\x08\x00"]


def _udp_ports(packet: bytes) -> tuple[int, int]:
    start = (packet[0] & 15) * 4
    source, destination = struct.unpack_from("!HH", packet, start)
    return source, destination


def test_traffic_flows_through_the_nat_and_nothing_stays_behind(network: Network) -> None:
    before = state(network.client), state(network.server)
    server, client = network.listen(), network.connect()
    assert "address 10.99.0.2; subnets 10.99.0.0/24" in client.output
    assert "NAT: this side" in client.output
    assert "client (203.0.113.1:" in server.wait_for("is connected")

    tap = Wiretap(network.router, "r1")
    assert ping(network.client, "10.99.0.1", tries=3) == 3
    assert ping(network.server, "10.99.0.2", octets=3000) == 1
    data = MARKER * 30_000
    assert transfer(network.client, network.server, "10.99.0.1", data) == data
    assert transfer(network.server, network.client, "10.99.0.2", data) == data
    packets = _ipv4(tap.frames())
    assert sum(map(len, packets)) > 2 * len(data)
    assert max(map(len, packets)) > 20_000, "super-packets all the way, and trains outside"
    assert all(packet[9] == socket.IPPROTO_UDP and 4500 in _udp_ports(packet) for packet in packets)
    assert not any(MARKER in packet for packet in packets)

    assert (client.stop(), server.stop()) == (0, 0)
    assert "the peer closed the connection" in server.output
    assert (state(network.client), state(network.server)) == before
    assert [*client.runtime.iterdir(), *server.runtime.iterdir()] == []


def test_rekeys_of_both_kinds_lose_no_packet(network: Network) -> None:
    server, client = network.listen(), network.connect()
    for peer in (client, server):
        for what in ("child", "ike"):
            before = {sa["spi"] for sa in client.ask("status")["tunnel"]["sas"]}
            ike_before = client.ask("status")["tunnel"]["connections"][0]["spi_i"]
            assert peer.ask("rekey", what=what) == {"connections": [1]}
            assert ping(network.client, "10.99.0.1", tries=20) == 20
            status = client.ask("status")["tunnel"]
            if what == "child":
                assert not before & {sa["spi"] for sa in status["sas"] if sa["state"] == "active"}
            else:
                assert status["connections"][0]["spi_i"] != ike_before
        peer.wait_for("detail: New ESP keys, aes256gcm16-esn")
        peer.wait_for("detail: New IKE keys, aes256gcm16-prfsha384-curve25519")
    assert client.ask("check-alive") == {"connections": [1]}


@pytest.mark.parametrize("victim", ["client", "server"])
def test_the_next_start_undoes_what_sigkill_left(network: Network, victim: str) -> None:
    before = state(network.client), state(network.server)
    server, client = network.listen(), network.connect()
    client.kill()
    server.kill()
    assert (state(network.client), state(network.server)) != before
    if victim == "client":
        again = network.connect(up=False)
        again.wait_for("Undone what a killed espudp had left: ")
        assert again.stop() == 0
        assert state(network.client) == before[0]
    else:
        again = network.listen()
        assert "Undone what a killed espudp had left: kernel setting net.ipv4.ip_forward = 1" in again.output
        assert again.stop() == 0
        assert state(network.server) == before[1]
    assert list(again.runtime.iterdir()) == []


def test_all_traffic_goes_into_the_tunnel_but_the_outer_path_and_the_lan(network: Network) -> None:
    for name in ("all", "wan"):
        network.client.set_sysctl(f"net/ipv4/conf/{name}/rp_filter", "1")  # strict
    network.server.add_address("lo", "198.51.100.9/32")
    before = state(network.client)
    network.listen(subnets=["0.0.0.0/0"])
    client = network.connect(subnets=["0.0.0.0/0"])
    tap = Wiretap(network.router, "r0")
    assert ping(network.client, "198.51.100.9", tries=3) == 3
    assert ping(network.client, "10.99.0.1") == 1
    outside = {packet[9] for packet in _ipv4(tap.frames())}
    assert outside == {socket.IPPROTO_UDP}
    tap = Wiretap(network.router, "r0")
    assert ping(network.client, "192.168.77.1") == 1
    assert socket.IPPROTO_ICMP in {packet[9] for packet in _ipv4(tap.frames())}
    assert client.stop() == 0
    assert state(network.client) == before


def test_the_peers_address_may_lie_in_a_tunnelled_subnet(network: Network) -> None:
    before = state(network.client)
    network.listen(subnets=["203.0.113.0/24"])
    client = network.connect(subnets=["10.99.0.0/24", "203.0.113.0/24"])
    tap = Wiretap(network.router, "r0")
    assert ping(network.client, "203.0.113.7", tries=3) == 3
    assert {packet[9] for packet in _ipv4(tap.frames())} == {socket.IPPROTO_UDP}
    assert client.ask("rekey", what="ike")
    assert ping(network.client, "203.0.113.7", tries=3) == 3
    assert client.stop() == 0
    assert state(network.client) == before


def test_ipv6_outside_and_inside(network: Network) -> None:
    before = state(network.client), state(network.server)
    pool = ["10.99.0.0/24", "2001:db8:99::/64"]
    server = network.listen(pool=pool)
    client = network.connect("2001:db8:113::7", subnets=["10.99.0.0/24", "::/0"], request=["any4", "any6"])
    assert "NAT: none" in client.output
    assert ping(network.client, "10.99.0.1", tries=2) == 2
    assert ping(network.client, "2001:db8:99::1", tries=2, octets=1200) == 2
    assert ping(network.server, "2001:db8:99::2", octets=3000) == 1
    assert (client.stop(), server.stop()) == (0, 0)
    assert (state(network.client), state(network.server)) == before


QUICK = {"dpd_interval": 0.5, "retransmit_initial": 0.1, "retransmit_tries": 3}


def test_a_client_connects_again_when_the_server_comes_back(network: Network) -> None:
    before = state(network.client)
    server, client = network.listen(), network.connect(timers=QUICK)
    server.kill()
    client.wait_for("The connection is lost")
    routed = [route for route in state(network.client)["routes"] if "10.99.0.0" in route]
    assert routed, "while the server is away nothing may go around the tunnel"
    client.forget()
    network.listen()
    client.wait_for("Connected to")
    assert ping(network.client, "10.99.0.1") == 1
    assert client.stop() == 0
    assert state(network.client) == before


def test_different_psks_end_the_client_with_two_sentences(network: Network) -> None:
    before = state(network.client)
    server = network.listen(psk="one")
    client = network.connect(psk="another", up=False)
    assert client.end() == 1
    error = next(line for line in client.output.splitlines() if line.startswith("error: "))
    said, _, remedy = error.partition(" | ")
    assert "does not accept us as client" in said
    assert "PSK" in remedy
    server.wait_for("Refused")
    assert state(network.client) == before


def test_two_clients_behind_one_nat_reach_each_other_and_what_is_behind_the_server(network: Network) -> None:
    network.server.add_address("lo", "198.51.100.9/32")
    with Namespace() as neighbour:
        connect(Port(neighbour, "wan", "192.168.78.2/24"), Port(network.router, "r2", "192.168.78.1/24"))
        neighbour.add_default_route("192.168.78.1")
        network.listen(subnets=["198.51.100.0/24"])
        everything = ["0.0.0.0/0"]
        client = network.connect(subnets=everything)
        other = Peer.start(
            network,
            neighbour,
            "neighbour",
            {"mode": "connect", "host": "203.0.113.7", "identity": "@neighbour", "subnets": everything},
        )
        assert "address 10.99.0.3; subnets 10.99.0.0/24, 198.51.100.0/24" in other.wait_for("Connected to")
        for one, far in ((network.client, "10.99.0.3"), (neighbour, "10.99.0.2")):
            assert ping(one, far, tries=2) == 2
            assert ping(one, "198.51.100.9", tries=2) == 2
        assert (other.stop(), client.stop()) == (0, 0)


def test_two_networks_joined_without_virtual_addresses(network: Network) -> None:
    """The client's own address inside is one that the server accepts, chosen for local programs."""
    network.client.add_address("lo", "10.20.0.1/32")
    network.server.add_address("lo", "10.30.0.1/32")
    before = state(network.client), state(network.server)
    server = network.listen(pool=[], subnets=["10.30.0.0/16"], behind_peers=["10.20.0.0/16"])
    client = network.connect(subnets=["10.30.0.0/16"], local=["10.20.0.0/16"], request=[])
    assert "no virtual address; subnets 10.30.0.0/16" in client.output
    server.wait_for("is connected")
    assert ping(network.client, "10.30.0.1", tries=2) == 2
    assert ping(network.server, "10.20.0.1", tries=2) == 2
    assert (client.stop(), server.stop()) == (0, 0)
    assert (state(network.client), state(network.server)) == before


def test_the_mtu_follows_the_path(network: Network) -> None:
    for namespace, name in ((network.router, "r1"), (network.server, "wan")):
        with namespace.inside(), IPRoute() as ip:
            ip.link("set", index=socket.if_nametoindex(name), mtu=1300)
    server, client = network.listen(), network.connect()
    small, large = server.ask("status")["mtu"], client.ask("status")["mtu"]
    # What one send takes, in datagrams of 1300 and 1500 octets less IP and UDP headers.
    assert segments(network.server) == 65_450 // 1272
    assert segments(network.client) == 65_450 // 1472
    assert large - small == 200
    assert ping(network.client, "10.99.0.1", octets=large - 28, tries=2) >= 1
    assert ping(network.server, "10.99.0.2", octets=2000, tries=2) == 2
    data = MARKER * 10_000
    assert transfer(network.client, network.server, "10.99.0.1", data) == data
    deadline = time.monotonic() + 2 * pathmtu.INTERVAL_SECONDS
    while client.ask("status")["mtu"] != small:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert segments(network.client) == 65_450 // 1272


def segments(namespace: Namespace) -> int:
    """How many a super-packet from the TUN device has at most."""
    with namespace.inside(), IPRoute() as ip:
        (link,) = ip.get_links(ifname="esp0")
    return int(link.get_attr("IFLA_GSO_MAX_SEGS"))


def test_a_server_that_says_goodbye_is_dialled_again(network: Network) -> None:
    server, client = network.listen(), network.connect(timers=QUICK)
    assert server.stop() == 0
    lost = client.wait_for("The connection is lost: the peer closed the connection; trying again in")
    assert lost.startswith("warning: ")
    client.forget()
    network.listen()
    client.wait_for("Connected to")


def test_the_device_may_be_removed_under_us(network: Network) -> None:
    before = state(network.client)
    network.listen()
    client = network.connect()
    with network.client.inside(), IPRoute() as ip:
        ip.link("del", index=socket.if_nametoindex("esp0"))
    assert client.end() == 1
    assert "error: The TUN device esp0 was removed. | " in client.output
    assert state(network.client) == before


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGHUP])
def test_other_signals_end_it_as_well(network: Network, end: signal.Signals) -> None:
    before = state(network.server)
    server = network.listen()
    server.process.send_signal(end)
    assert server.end() == 0
    assert state(network.server) == before


def test_a_client_that_cannot_reach_anybody_goes_on_trying_until_told_to_stop(network: Network) -> None:
    before = state(network.client)
    client = network.connect("203.0.113.99", up=False, timers=QUICK)
    client.wait_for("no answer from 203.0.113.99:500; trying again in")
    assert client.stop() == 0
    assert state(network.client) == before


@pytest.mark.parametrize("host", ["fe80::1", "224.0.0.1", "0.0.0.0"])
def test_an_address_that_cannot_be_right_ends_it(network: Network, host: str) -> None:
    client = network.connect(host, up=False)
    assert client.end() == 1
    assert f"{host} is not an address to connect to" in client.output


def test_without_root_it_says_how_to_get_there(network: Network) -> None:
    options = {"mode": "listen", "drop_root": True}
    server = Peer.start(network, network.server, "server", options)
    assert server.end() == 1
    assert "error: " in server.output
    assert "root" in server.output


def test_a_port_in_use_is_named(network: Network) -> None:
    with network.server.inside():
        holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with holder:
        holder.bind(("0.0.0.0", 4500))
        peer = Peer.start(network, network.server, "server", {"mode": "listen"})
        assert peer.end() == 1
    assert "error: UDP port 4500 is in use on 0.0.0.0. | See who has it" in peer.output


MANUAL = """
suite = "aes256-sha256"
peer = "{peer}"
addresses = ["{own}"]
local = ["{own}/32"]
remote = ["{other}/32"]
keepalive = {keepalive}

[inbound]
spi = {spi_in}
encryption_key = "{key_in}"
integrity_key = "{key_in}"

[outbound]
spi = {spi_out}
encryption_key = "{key_out}"
integrity_key = "{key_out}"
"""


def test_manual_keys_through_the_nat(network: Network) -> None:
    one, two = "11" * 32, "22" * 32
    texts = {
        "server": MANUAL.format(
            peer="learn", own="10.98.0.1", other="10.98.0.2", keepalive="false",
            spi_in=0x1001, key_in=one, spi_out=0x1002, key_out=two,
        ),
        "client": MANUAL.format(
            peer="203.0.113.7:4500", own="10.98.0.2", other="10.98.0.1", keepalive="true",
            spi_in=0x1002, key_in=two, spi_out=0x1001, key_out=one,
        ),
    }  # fmt: skip
    before = state(network.client), state(network.server)
    spaces = {"server": network.server, "client": network.client}
    peers = [
        Peer.start(network, spaces[name], name, {"mode": "manual", "text": text})
        for name, text in texts.items()
    ]
    for peer in peers:
        peer.wait_for("Manual keys with")
    assert ping(network.client, "10.98.0.1", tries=3) == 3
    assert ping(network.server, "10.98.0.2", tries=3) == 3
    assert [peer.stop() for peer in peers] == [0, 0]
    assert (state(network.client), state(network.server)) == before
