"""The three ways of ESP through a tunnel's datagrams: in UDP, without, and behind the non-IKE marker."""

from dataclasses import replace
from ipaddress import ip_network

import pytest

from espudp.crypto.suites import parse_esp_suite
from espudp.esp.drops import Drop as EspDrop
from espudp.manual import ManualPair, emit_manual, generate_pair, parse_manual
from espudp.tunnel import KEEPALIVE_SECONDS, Drop, Tunnel
from espudp.wire import ip, natt
from espudp.wire.address import Path, UdpAddress
from espudp.wire.train import Burst
from tests.unit.crypto.seeded import seeded_rng
from tests.unit.esp.peers import plain

SERVER_IP, CLIENT_IP = "198.51.100.1", "203.0.113.9"
HERE, THERE = bytes([10, 98, 0, 2]), bytes([10, 98, 0, 1])
IN_UDP, PLAIN, OLD = 4500, 0, 500
_ANY = UdpAddress(SERVER_IP, 4500)  # the path says where the peer is


def paths(port: int, mapped: int | None = None) -> tuple[Path, Path]:
    """To the server and to the client. `mapped`: the client's port, seen from the server."""
    server, client = UdpAddress(SERVER_IP, port), UdpAddress(CLIENT_IP, port)
    return Path(client, server), Path(server, client if mapped is None else client._replace(port=mapped))


def pair(port: int, *, keepalive: bool = False, follow: bool = False) -> tuple[Tunnel, Tunnel]:
    """Server and client, which have been told that ESP goes this way."""
    keys = ManualPair(
        suite=parse_esp_suite("aes128-sha256"),
        server=UdpAddress(SERVER_IP, 4500),
        network=ip_network("10.98.0.0/30"),
    )
    files = (parse_manual(emit_manual(end)) for end in generate_pair(keys, seeded_rng(3)))
    server, client = Tunnel(seeded_rng(1)), Tunnel(seeded_rng(2))
    for_server, for_client = (
        replace(file, keepalive=keepalive, peer=None if follow else _ANY) for file in files
    )
    to_server, to_client = paths(port)
    server.install_manual(for_server, to_client, 0.0)
    client.install_manual(for_client, to_server, 0.0)
    return server, client


def packets(count: int) -> list[bytes]:
    return [ip.build_udp(HERE, THERE, 1000, 2000, bytes([n]) * 80) for n in range(count)]


def sent(client: Tunnel, count: int) -> list[tuple[Path, bytes]]:
    client.receive_packets(packets(count), 0.0)
    return [(path, bytes(d)) for path, train, _ in client.datagrams_to_send(0.0) for d in train]


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("port", [IN_UDP, PLAIN, OLD])
def test_there(port: int, count: int) -> None:
    server, client = pair(port)
    seen = sent(client, count)
    assert {path for path, _ in seen} == {paths(port)[0]}
    assert {octets[:8] == natt.NON_IKE_MARKER for _, octets in seen} == {port == OLD}
    for _, octets in seen:
        server.receive_datagrams([octets], paths(port)[1], 1.0)
    assert plain(server.packets_to_deliver()) == packets(count)
    assert not sum(server.snapshot(1.0).drops.values())


@pytest.mark.parametrize("came_by", [IN_UDP, PLAIN, OLD])
@pytest.mark.parametrize("known", [IN_UDP, PLAIN, OLD])
def test_all_ways_are_received_and_the_answer_goes_the_way_that_was_agreed(known: int, came_by: int) -> None:
    """RFC 7296 section 2.23."""
    server, _ = pair(known, follow=True)
    _, client = pair(came_by)
    ((_, octets),) = sent(client, 1)
    server.receive_datagrams([octets], paths(came_by)[1], 1.0)
    assert plain(server.packets_to_deliver()) == packets(1)
    server.receive_packets([ip.build_udp(THERE, HERE, 2000, 1000, b"back")], 1.0)
    (train,) = server.datagrams_to_send(1.0)
    assert train.path == paths(known)[1]


def test_a_burst_without_udp_is_opened_like_any() -> None:
    server, client = pair(PLAIN)
    octets = [octets for _, octets in sent(client, 40)]
    server.receive_datagrams(Burst(b"".join(octets), len(octets[0])), paths(PLAIN)[1], 1.0)
    assert plain(server.packets_to_deliver()) == packets(40)


def test_the_peer_is_followed_on_ikes_own_port() -> None:
    server, client = pair(OLD, follow=True)
    ((_, octets),) = sent(client, 1)
    elsewhere = paths(OLD, mapped=31_000)[1]
    server.receive_datagrams([octets], elsewhere, 1.0)
    server.receive_packets([ip.build_udp(THERE, HERE, 2000, 1000, b"back")], 1.0)
    ((path, datagrams, _),) = server.datagrams_to_send(1.0)
    assert path == elsewhere
    assert datagrams[0][:8] == natt.NON_IKE_MARKER


@pytest.mark.parametrize("port", [IN_UDP, PLAIN, OLD])
def test_keepalives_are_for_udp(port: int) -> None:
    server, client = pair(port, keepalive=True)
    client.handle_timer(KEEPALIVE_SECONDS)
    trains = client.datagrams_to_send(KEEPALIVE_SECONDS)
    assert [list(train.datagrams) for train in trains] == ([] if port == PLAIN else [[natt.KEEPALIVE]])
    server.receive_datagrams([natt.KEEPALIVE], paths(port)[1], 1.0)
    dropped = {EspDrop.RUNT.value: 1} if port == PLAIN else {Drop.KEEPALIVE.value: 1}
    assert {reason: n for reason, n in server.snapshot(1.0).drops.items() if n} == dropped


def test_each_way_leaves_its_own_room() -> None:
    mtus = {port: pair(port)[1].snapshot(0.0).mtus[-1] for port in (PLAIN, IN_UDP, OLD)}
    suite = parse_esp_suite("aes128-sha256")
    assert mtus == {port: suite.max_inner(1480 - less) for port, less in ((PLAIN, 0), (IN_UDP, 8), (OLD, 16))}


@pytest.mark.parametrize("octets", [b"", bytes(8), bytes(12), bytes(8) + b"\0\0\0\1" * 9, b"\1", bytes(7)])
@pytest.mark.parametrize("port", [PLAIN, OLD, IN_UDP])
def test_what_is_nothing_is_counted(port: int, octets: bytes) -> None:
    server, _ = pair(port)
    server.receive_datagrams([octets], paths(port)[1], 1.0)
    assert not server.packets_to_deliver()
    assert sum(server.snapshot(1.0).drops.values()) == 1
    assert not server.datagrams_to_send(1.0)


def test_an_unknown_spi_without_udp_is_not_answered() -> None:
    server, _ = pair(PLAIN)
    for port in (PLAIN, IN_UDP):
        server.receive_datagrams([b"\1\2\3\4" + bytes(60)], paths(port)[1], 1.0)
    assert [train.path.remote.port for train in server.datagrams_to_send(1.0)] == [IN_UDP]
