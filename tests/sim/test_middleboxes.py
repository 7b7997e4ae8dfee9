"""Each middlebox does what is told of it."""

from collections.abc import Callable

import pytest

from espudp.wire.address import UdpAddress
from tests.sim.boxes import OTHER, PUBLIC, SERVER, Box, Pair
from tests.sim.firewall import NoFragments, NoUdp
from tests.sim.ipsec_nat import Helper, Natd, PassThrough, SpiNat
from tests.sim.link import AH, ESP, UDP, Segment
from tests.sim.middlebox import Middlebox
from tests.sim.nat import Nat, StaticNat
from tests.sim.world import World

PUBLIC_ESP = UdpAddress(PUBLIC, 0)
PUBLIC_IKE = UdpAddress(PUBLIC, 500)
PUBLIC_OF = {"10.0.0.1": "198.51.100.11", "10.0.0.2": "198.51.100.12"}

MAIN_MODE, INFORMATIONAL, QUICK_MODE = 2, 5, 32


def pair(make: Callable[[World, Segment], Middlebox], network: str = "10.0.0") -> Pair:
    world = World()
    net = Segment(world, "internet")
    return Pair(world, net, make(world, net), network)


def nat(kind: Callable[[World, Segment, str], Middlebox]) -> Pair:
    return pair(lambda world, net: kind(world, net, PUBLIC))


def esp(spi: int) -> bytes:
    return spi.to_bytes(4) + bytes(16)


def ike(cookie: int, exchange: int, answered: int = 0) -> bytes:
    front = cookie.to_bytes(8) + answered.to_bytes(8) + bytes([0, 0x10, exchange, 0])
    return front + bytes(4) + (28).to_bytes(4)


def spis(box: Box) -> list[int]:
    return [int.from_bytes(payload[:4]) for payload in box.payloads(ESP)]


@pytest.mark.parametrize("kind", [Nat, Natd, SpiNat, PassThrough, Helper])
def test_all_nats_translate_the_ports_of_udp(kind: Callable[[World, Segment, str], Middlebox]) -> None:
    lab = nat(kind)
    for client in (lab.one, lab.two):
        client.send(SERVER)
        lab.server.send(lab.server.got[-1].source, client.address.ip.encode())
    assert {datagram.source.ip for datagram in lab.server.got} == {PUBLIC}
    assert [client.payloads() for client in (lab.one, lab.two)] == [[b"10.0.0.1"], [b"10.0.0.2"]]


def test_a_nat_of_ports_has_no_use_for_what_has_none() -> None:
    lab = nat(Nat)
    lab.one.send_ip(SERVER, esp(1))
    lab.server.send_ip(PUBLIC_ESP, esp(2))
    assert lab.server.got + lab.one.got == []
    assert lab.box.refused == 2


@pytest.mark.parametrize("protocol", [UDP, ESP, AH])
def test_one_to_one_only_the_address_changes(protocol: int) -> None:
    lab = pair(lambda world, net: StaticNat(world, net, PUBLIC_OF))
    for client in (lab.one, lab.two):
        client.send_ip(SERVER, b"x", protocol)
        lab.server.send_ip(lab.server.got[-1].source, b"back", protocol)
        assert lab.server.got[-1].source == UdpAddress(PUBLIC_OF[client.address.ip], 0)
        assert client.got[-1].payload == b"back"
    lab.other.send(UdpAddress("198.51.100.11", 4500), b"unasked")
    assert lab.one.got[-1].payload == b"unasked"


def test_one_to_one_whoever_has_no_address_stays_inside() -> None:
    lab = pair(lambda world, net: StaticNat(world, net, {"10.0.0.1": "198.51.100.11"}))
    lab.two.send(SERVER)
    assert lab.server.got == []
    assert lab.box.refused == 1


def test_natd_the_second_client_steals_the_mapping() -> None:
    lab = nat(Natd)
    lab.one.send_ip(SERVER, esp(1))
    lab.server.send_ip(PUBLIC_ESP, esp(11))
    assert spis(lab.one) == [11]
    lab.two.send_ip(SERVER, esp(2))
    lab.server.send_ip(PUBLIC_ESP, esp(11))
    lab.one.send_ip(SERVER, esp(1))  # which does not get it back
    lab.server.send_ip(PUBLIC_ESP, esp(11))
    assert (spis(lab.one), spis(lab.two)) == ([11], [11, 11])


def test_natd_other_peers_and_protocols_have_mappings_of_their_own() -> None:
    lab = nat(Natd)
    lab.one.send_ip(SERVER, esp(1))
    lab.two.send_ip(OTHER, esp(2))
    lab.two.send_ip(SERVER, b"ah", AH)
    lab.server.send_ip(PUBLIC_ESP, esp(11))
    lab.other.send_ip(PUBLIC_ESP, esp(12))
    lab.server.send_ip(PUBLIC_ESP, b"ah", AH)
    assert (spis(lab.one), spis(lab.two), lab.two.payloads(AH)) == ([11], [12], [b"ah"])


def test_natd_silence_gives_the_mapping_back() -> None:
    lab = nat(Natd)
    lab.one.send_ip(SERVER, esp(1))
    lab.two.send_ip(SERVER, esp(2))
    for _ in range(3):
        lab.world.run(25.0)
        lab.one.send_ip(SERVER, esp(1))
    lab.server.send_ip(PUBLIC_ESP, esp(11))
    assert (spis(lab.one), spis(lab.two)) == ([11], [])
    lab.world.run(61.0)
    lab.server.send_ip(PUBLIC_ESP, esp(11))
    assert lab.box.refused == 1


def test_spi_matching_one_after_the_other_is_right() -> None:
    lab = nat(SpiNat)
    for client, spi in ((lab.one, 1), (lab.two, 2)):
        client.send_ip(SERVER, esp(spi))
        lab.server.send_ip(PUBLIC_ESP, esp(10 + spi))
    for spi in (12, 11):
        lab.server.send_ip(PUBLIC_ESP, esp(spi))
    assert (spis(lab.one), spis(lab.two)) == ([11, 11], [12, 12])


def test_spi_matching_is_wrong_when_answers_come_in_another_order() -> None:
    lab = nat(SpiNat)
    lab.one.send_ip(SERVER, esp(1))
    lab.two.send_ip(SERVER, esp(2))
    lab.server.send_ip(PUBLIC_ESP, esp(12))  # for the second
    lab.server.send_ip(PUBLIC_ESP, esp(11))
    assert (spis(lab.one), spis(lab.two)) == ([12], [11])


def test_spi_matching_knows_nobody_who_has_not_asked() -> None:
    lab = nat(SpiNat)
    lab.one.send_ip(SERVER, esp(1))
    lab.other.send_ip(PUBLIC_ESP, esp(11))
    lab.one.send_ip(SERVER, b"ah", AH)
    lab.server.send_ip(PUBLIC_ESP, b"ah", AH)
    assert lab.one.got == []
    assert lab.box.refused == 3


def test_spi_matching_where_nobody_waits_whoever_spoke_last_gets_it() -> None:
    lab = nat(SpiNat)
    for client, spi in ((lab.one, 1), (lab.two, 2)):
        client.send_ip(SERVER, esp(spi))
        lab.server.send_ip(PUBLIC_ESP, esp(10 + spi))
    lab.server.send_ip(PUBLIC_ESP, esp(21))  # a rekey with the first, whose new SA has not been used yet
    assert (spis(lab.one), spis(lab.two)) == ([11], [12, 21])


def test_pass_through_keeps_port_500_and_knows_cookies() -> None:
    lab = nat(PassThrough)
    for client, cookie in ((lab.one, 1), (lab.two, 2)):
        client.send_ike(SERVER, ike(cookie, INFORMATIONAL))
        assert lab.server.got[-1].source == PUBLIC_IKE
    for cookie in (2, 1, 3):
        lab.server.send_ike(PUBLIC_IKE, ike(cookie, INFORMATIONAL, 9))
    assert [[p[7] for p in client.payloads()] for client in (lab.one, lab.two)] == [[1], [2]]
    assert lab.box.refused == 1


def test_pass_through_has_one_negotiation_with_a_peer_at_a_time() -> None:
    world = World()
    net = Segment(world, "internet")
    box = PassThrough(world, net, PUBLIC)
    lab = Pair(world, net, box)
    lab.one.send_ike(SERVER, ike(1, MAIN_MODE))
    lab.two.send_ike(SERVER, ike(2, MAIN_MODE))
    lab.two.send_ike(OTHER, ike(3, MAIN_MODE))
    assert [payload[7] for payload in lab.server.payloads()] == [1]
    assert [payload[7] for payload in lab.other.payloads()] == [3]
    assert box.overlapping == 1
    world.run(PassThrough.GATE_SECONDS)
    lab.two.send_ike(SERVER, ike(2, MAIN_MODE))
    assert [payload[7] for payload in lab.server.payloads()] == [1, 2]


def test_pass_through_opens_a_gate_for_esp_to_who_has_negotiated() -> None:
    lab = nat(PassThrough)
    for client, cookie in ((lab.one, 1), (lab.two, 2)):
        client.send_ike(SERVER, ike(cookie, QUICK_MODE))
        client.send_ip(SERVER, esp(cookie))
        lab.server.send_ip(PUBLIC_ESP, esp(10 + cookie))
    for spi in (12, 11, 13):
        lab.server.send_ip(PUBLIC_ESP, esp(spi))
    assert (spis(lab.one), spis(lab.two)) == ([11, 11], [12, 12])
    assert lab.box.refused == 1


def test_the_helper_gives_port_500_to_who_spoke_last() -> None:
    lab = nat(Helper)
    lab.one.send_ike(SERVER, ike(1, MAIN_MODE))
    lab.two.send_ike(SERVER, ike(2, MAIN_MODE))
    lab.server.send_ike(PUBLIC_IKE, ike(1, MAIN_MODE, 9))
    assert (len(lab.one.got), len(lab.two.got)) == (0, 1)
    assert {datagram.source for datagram in lab.server.got} == {PUBLIC_IKE}


def test_the_helper_changes_addresses_on_port_500_alone() -> None:
    lab = nat(Helper)
    private, public = bytes([10, 0, 0, 1]), bytes([198, 51, 100, 1])
    lab.one.send_ike(SERVER, b"ID: " + private)
    lab.one.send(SERVER, b"ID: " + private)
    lab.server.send_ike(PUBLIC_IKE, b"ID: " + public)
    assert lab.server.payloads() == [b"ID: " + public, b"ID: " + private]
    assert lab.one.payloads() == [b"ID: " + private]


def test_a_firewall_without_fragments() -> None:
    lab = pair(NoFragments, "198.51.100")
    for octets in (1472, 1473):  # with headers 1500 and 1501
        lab.one.send(SERVER, bytes(octets))
        lab.server.send(lab.one.address, bytes(octets))
    lab.one.send_ip(SERVER, bytes(1480))
    lab.one.send_ip(SERVER, bytes(1481))
    assert [len(payload) for payload in lab.server.payloads() + lab.one.payloads()] == [1472, 1472]
    assert [len(payload) for payload in lab.server.payloads(ESP)] == [1480]
    assert lab.box.refused == 3


def test_a_firewall_without_udp() -> None:
    lab = pair(NoUdp, "198.51.100")
    lab.one.send(SERVER)
    lab.server.send(lab.one.address)
    lab.one.send_ip(SERVER, esp(1))
    lab.server.send_ip(lab.one.address, esp(2))
    assert (spis(lab.server), spis(lab.one)) == ([1], [2])
    assert lab.server.payloads() + lab.one.payloads() == []
    assert lab.box.refused == 2
