"""NATs, by the words of RFC 4787."""

import pytest

from espudp.wire.address import UdpAddress
from tests.sim.boxes import PUBLIC, SERVER, Box, Pair
from tests.sim.link import Datagram, Segment
from tests.sim.nat import CarrierNat, Nat, NatKind
from tests.sim.world import World


class _Lab(Pair):
    """Two hosts behind a NAT, two outside."""

    def __init__(self, kind: NatKind, **options: object) -> None:
        world = World()
        net = Segment(world, "internet")
        self.nat = Nat(world, net, PUBLIC, kind=kind, **options)  # type: ignore[arg-type]
        super().__init__(world, net, self.nat)

    def mapping(self, inside: Box, outside: Box) -> UdpAddress:
        inside.send(outside.address)
        return outside.got[-1].source


@pytest.mark.parametrize("kind", NatKind)
def test_it_translates_there_and_back(kind: NatKind) -> None:
    lab = _Lab(kind)
    source = lab.mapping(lab.one, lab.server)
    assert source.ip == PUBLIC
    assert source.port != 4500
    lab.server.send(source, b"back")
    assert lab.one.got == [Datagram(SERVER, lab.one.address, b"back")]


@pytest.mark.parametrize("kind", NatKind)
def test_hosts_behind_one_address_are_told_apart(kind: NatKind) -> None:
    lab = _Lab(kind)
    one, two = lab.mapping(lab.one, lab.server), lab.mapping(lab.two, lab.server)
    assert one != two
    lab.server.send(two)
    assert (len(lab.one.got), len(lab.two.got)) == (0, 1)


@pytest.mark.parametrize(
    ("kind", "same", "open_"),
    [
        (NatKind.FULL_CONE, True, True),
        (NatKind.PORT_RESTRICTED, True, False),
        (NatKind.SYMMETRIC, False, False),
    ],
)
def test_mapping_and_filtering(kind: NatKind, same: bool, open_: bool) -> None:
    lab = _Lab(kind)
    mapped = lab.mapping(lab.one, lab.server)
    lab.other.send(mapped)
    assert bool(lab.one.got) == open_
    assert (lab.mapping(lab.one, lab.other) == mapped) == same


def test_port_restricted_means_the_port_too() -> None:
    lab = _Lab(NatKind.PORT_RESTRICTED)
    mapped = lab.mapping(lab.one, lab.server)
    lab.server.address = UdpAddress(SERVER.ip, 500)
    lab.server.send(mapped)
    assert lab.one.got == []
    assert lab.nat.refused == 1


def test_a_port_is_kept_for_the_first_who_has_it() -> None:
    lab = _Lab(NatKind.PORT_RESTRICTED, preserve_ports=True)
    assert lab.mapping(lab.one, lab.server).port == 4500
    assert lab.mapping(lab.two, lab.server).port != 4500


def test_mappings_time_out_when_nothing_goes_out() -> None:
    lab = _Lab(NatKind.PORT_RESTRICTED, timeout=30.0)
    before = lab.mapping(lab.one, lab.server)
    lab.world.run(20.0)
    assert lab.mapping(lab.one, lab.server) == before
    lab.world.run(31.0)
    lab.server.send(before)
    assert lab.one.got == []
    assert lab.mapping(lab.one, lab.server) != before


def test_rebinding_changes_the_mapping() -> None:
    lab = _Lab(NatKind.FULL_CONE, preserve_ports=True)
    before = lab.mapping(lab.one, lab.server)
    lab.nat.rebind()
    after = lab.mapping(lab.one, lab.server)
    assert (before.ip, after.ip) == (PUBLIC, PUBLIC)
    assert before.port != after.port
    lab.server.send(before)
    assert lab.one.got == []
    lab.server.send(after)
    assert len(lab.one.got) == 1


def test_rebinding_to_another_address() -> None:
    lab = _Lab(NatKind.SYMMETRIC)
    lab.mapping(lab.one, lab.server)
    lab.nat.rebind("198.51.100.2")
    assert lab.mapping(lab.one, lab.server).ip == "198.51.100.2"


def test_a_nat_behind_a_nat() -> None:
    world = World()
    net = Segment(world, "internet")
    carrier = Nat(world, net, PUBLIC)
    home = Nat(world, carrier.inside, "100.64.0.1")
    server = Box(world, net, SERVER)
    client = Box(world, home.inside, UdpAddress("10.0.0.1", 4500))
    client.send(SERVER)
    assert server.got[0].source.ip == PUBLIC
    server.send(server.got[0].source, b"back")
    assert client.got[0].payload == b"back"


def test_a_carrier_forgets_after_half_a_minute_and_has_other_addresses() -> None:
    world = World()
    net = Segment(world, "internet")
    pair = Pair(world, net, CarrierNat(world, net, [PUBLIC, "198.51.100.2"]))
    for pause in (0.0, 20.0, 31.0):
        world.run(pause)
        pair.one.send(SERVER)
        pair.server.send(pair.server.got[-1].source, b"back")
    sources = [datagram.source for datagram in pair.server.got]
    assert sources[0] == sources[1] != sources[2]
    assert [source.ip for source in sources[1:]] == [PUBLIC, "198.51.100.2"]
    pair.server.send(sources[0], b"too late")
    assert pair.one.payloads() == [b"back"] * 3
