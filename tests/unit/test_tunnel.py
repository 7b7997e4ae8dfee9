"""Batches in the tunnel: bursts stay whole, what else is among them is found, nothing is overwritten."""

from ipaddress import ip_network

from espudp.crypto.suites import parse_esp_suite
from espudp.manual import ManualPair, emit_manual, generate_pair, parse_manual
from espudp.tunnel import Drop, Tunnel
from espudp.wire import ip, natt
from espudp.wire.address import Path, UdpAddress
from espudp.wire.train import Burst
from espudp.wire.vnet import Frame, Offload
from tests.unit.crypto.seeded import seeded_rng
from tests.unit.esp.peers import plain
from tests.unit.esp.test_rows import bursts, flattened

SERVER, CLIENT = UdpAddress("198.51.100.1", 4500), UdpAddress("203.0.113.9", 4500)
TO_SERVER, TO_CLIENT = Path(CLIENT, SERVER), Path(SERVER, CLIENT)
HERE, THERE = bytes([10, 98, 0, 2]), bytes([10, 98, 0, 1])


def pair(dscp: int | None = None) -> tuple[Tunnel, Tunnel]:
    keys = ManualPair(
        suite=parse_esp_suite("aes128-sha256"), server=SERVER, network=ip_network("10.98.0.0/30")
    )
    server_file, client_file = (emit_manual(end) for end in generate_pair(keys, seeded_rng(3)))
    server, client = Tunnel(seeded_rng(1)), Tunnel(seeded_rng(2), dscp=dscp)
    server.install_manual(parse_manual(server_file), TO_CLIENT, 0.0)
    client.install_manual(parse_manual(client_file), TO_SERVER, 0.0)
    return server, client


def packets(count: int, first: int = 0) -> list[bytes]:
    return [ip.build_udp(HERE, THERE, 1000, 2000, bytes([first + n]) * 80, df=False) for n in range(count)]


def sent(client: Tunnel, count: int, first: int = 0) -> Burst:
    client.receive_packets(packets(count, first), 0.0)
    (burst,) = bursts(client.datagrams_to_send(0.0))
    return burst


def test_a_burst_stays_one() -> None:
    server, client = pair()
    server.receive_datagrams(sent(client, 20), TO_CLIENT, 0.0)
    assert plain(server.packets_to_deliver()) == packets(20)


def test_what_was_not_drained_is_kept() -> None:
    server, client = pair()
    server.set_offloads(Offload.CHECKSUM | Offload.USO4)
    for first in (0, 20):
        client.receive_packets(packets(20, first), 0.0)
    trains = client.datagrams_to_send(0.0)
    for train in trains:
        server.receive_datagrams(train.datagrams, TO_CLIENT, 0.0)
    assert flattened(list(server.packets_to_deliver())) == packets(20) + packets(20, 20)


def test_ike_and_keepalives_in_a_burst_are_found() -> None:
    server, client = pair()
    burst = sent(client, 20)
    ike = (natt.NON_ESP_MARKER + bytes(burst.size))[: burst.size]
    server.receive_datagrams(Burst(ike + bytes(burst.data) + natt.KEEPALIVE, burst.size), TO_CLIENT, 0.0)
    assert plain(server.packets_to_deliver()) == packets(20)
    assert server.drops == {Drop.KEEPALIVE: 1}
    assert sum(server.snapshot(0.0).drops.values()) == 2, "the keepalive, and IKE that is none"


def test_ike_in_one_piece_of_a_burst_is_found() -> None:
    server, client = pair()
    server.set_offloads(Offload.CHECKSUM | Offload.USO4)
    pieces = [bytes(sent(client, 10, first).data) for first in (0, 10, 20)]
    size = len(pieces[0]) // 10
    ike = (natt.NON_ESP_MARKER + bytes(size))[:size]
    pieces[1] = ike + pieces[1][size:]
    server.receive_datagrams(Burst(pieces[0], size, *pieces[1:]), TO_CLIENT, 0.0)
    assert flattened(list(server.packets_to_deliver())) == packets(10) + packets(19, 11)
    assert sum(server.snapshot(0.0).drops.values()) == 1, "IKE that is none"


def test_a_burst_on_the_port_of_ike_is_no_esp() -> None:
    server, client = pair()
    burst = sent(client, 20)
    server.receive_datagrams(burst, Path(UdpAddress(SERVER.ip, 500), CLIENT), 0.0)
    assert server.packets_to_deliver() == []
    assert sum(server.snapshot(0.0).drops.values()) == 20


def test_frames_come_out_once_they_are_asked_for() -> None:
    server, client = pair()
    burst = sent(client, 20).copy()
    server.set_offloads(Offload.CHECKSUM | Offload.USO4)
    server.receive_datagrams(burst, TO_CLIENT, 0.0)
    # All have the same identification, so they are no super-packet's segments.
    delivered = server.packets_to_deliver()
    assert not any(isinstance(packet, Frame) for packet in delivered)
    assert flattened(list(delivered)) == packets(20)


def test_the_dscp_is_the_data_path_s() -> None:
    _, client = pair(dscp=46)
    client.receive_packets(packets(20), 0.0)
    (train,) = client.datagrams_to_send(0.0)
    assert train.tos == 46 << 2
