"""NATs, by the words of RFC 4787."""

import pytest

from espudp.wire.address import UdpAddress
from tests.sim.link import Datagram, Link, Port, Segment
from tests.sim.nat import Nat, NatKind
from tests.sim.world import World

_SERVER, _OTHER = UdpAddress("203.0.113.1", 4500), UdpAddress("203.0.113.2", 4500)
_PUBLIC = "198.51.100.1"


class _Box:
    """A host that remembers what it got."""

    def __init__(self, world: World, segment: Segment, address: UdpAddress) -> None:
        self.address = address
        self.world = world
        self.got: list[Datagram] = []
        self._port: Port = segment.attach(address.ip, self, Link(world, address.ip))

    def receive(self, datagram: Datagram) -> None:
        self.got.append(datagram)

    def send(self, to: UdpAddress, payload: bytes = b"x") -> None:
        self._port.send(Datagram(self.address, to, payload))
        self.world.run(1.0)


class _Lab:
    """Two hosts behind a NAT, two outside."""

    def __init__(self, kind: NatKind, **options: object) -> None:
        self.world = World()
        self.net = Segment(self.world, "internet")
        self.nat = Nat(self.world, self.net, _PUBLIC, kind=kind, **options)  # type: ignore[arg-type]
        self.server, self.other = (_Box(self.world, self.net, a) for a in (_SERVER, _OTHER))
        self.one, self.two = (
            _Box(self.world, self.nat.inside, UdpAddress(f"10.0.0.{n}", 4500)) for n in (1, 2)
        )

    def mapping(self, inside: _Box, outside: _Box) -> UdpAddress:
        inside.send(outside.address)
        return outside.got[-1].source


@pytest.mark.parametrize("kind", NatKind)
def test_it_translates_there_and_back(kind: NatKind) -> None:
    lab = _Lab(kind)
    source = lab.mapping(lab.one, lab.server)
    assert source.ip == _PUBLIC
    assert source.port != 4500
    lab.server.send(source, b"back")
    assert lab.one.got == [Datagram(_SERVER, lab.one.address, b"back")]


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
    lab.server.address = UdpAddress(_SERVER.ip, 500)
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
    assert (before.ip, after.ip) == (_PUBLIC, _PUBLIC)
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
    carrier = Nat(world, net, _PUBLIC)
    home = Nat(world, carrier.inside, "100.64.0.1")
    server = _Box(world, net, _SERVER)
    client = _Box(world, home.inside, UdpAddress("10.0.0.1", 4500))
    client.send(_SERVER)
    assert server.got[0].source.ip == _PUBLIC
    server.send(server.got[0].source, b"back")
    assert client.got[0].payload == b"back"
