"""Wires do what they are told, and as often as they are told."""

import pytest

from espudp.wire.address import UdpAddress
from tests.sim.link import Datagram, Link, Quality, Segment
from tests.sim.world import START, World

_A, _B = UdpAddress("192.0.2.1", 1), UdpAddress("192.0.2.2", 2)
_MANY = 2000


def _sent(quality: Quality, count: int = _MANY, octets: int = 100, seed: int = 1) -> tuple[list[bytes], Link]:
    world = World(seed)
    link = Link(world, "test", quality)
    arrived: list[bytes] = []
    for number in range(count):
        payload = number.to_bytes(4) + bytes(octets - 4)
        link.carry(Datagram(_A, _B, payload), lambda datagram: arrived.append(datagram.payload))
        world.run(0.001)
    world.run(60.0)
    return arrived, link


def test_a_good_wire_changes_nothing() -> None:
    arrived, link = _sent(Quality())
    assert [int.from_bytes(payload[:4]) for payload in arrived] == list(range(_MANY))
    assert link.counts == {"sent": _MANY, "delivered": _MANY}


def test_latency() -> None:
    world = World()
    times: list[float] = []
    Link(world, "test", Quality(latency=0.25)).carry(
        Datagram(_A, _B, b"x"), lambda _: times.append(world.now)
    )
    world.run(1.0)
    assert times == [START + 0.25]


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_loss(share: float) -> None:
    arrived, _ = _sent(Quality(loss=share))
    assert len(arrived) / _MANY == pytest.approx(1 - share, abs=0.04)


def test_duplicates() -> None:
    arrived, _ = _sent(Quality(duplicate=0.2))
    assert len(arrived) / _MANY == pytest.approx(1.2, abs=0.04)
    assert len(set(arrived)) == _MANY


def test_reordering() -> None:
    arrived, _ = _sent(Quality(jitter=0.05))
    assert arrived != sorted(arrived)
    assert len(set(arrived)) == _MANY


def test_one_bit_flips() -> None:
    arrived, _ = _sent(Quality(corrupt=0.5))
    clean = {number.to_bytes(4) + bytes(96) for number in range(_MANY)}
    damaged = [payload for payload in arrived if payload not in clean or payload.count(0) != 100 - 4]
    distances = [sum(payload[4:][i].bit_count() for i in range(96)) for payload in arrived]
    assert len(arrived) == _MANY
    assert len(damaged) > 100
    assert max(distances) == 1


def test_the_mtu_of_wires_that_drop_fragments() -> None:
    narrow = Quality(mtu=1280, fragments=False)
    assert len(_sent(narrow, count=1, octets=1280 - 28)[0]) == 1
    arrived, link = _sent(narrow, count=1, octets=1280 - 27)
    assert arrived == []
    assert link.counts == {"too big": 1}


def test_more_fragments_are_lost_more_often() -> None:
    arrived, _ = _sent(Quality(loss=0.2, mtu=600), octets=1100)
    assert len(arrived) / _MANY == pytest.approx(0.8 * 0.8, abs=0.04)


def test_the_seed_decides() -> None:
    quality = Quality(loss=0.3, duplicate=0.1, jitter=0.02, corrupt=0.1)
    assert _sent(quality, 100, seed=3)[0] == _sent(quality, 100, seed=3)[0]
    assert _sent(quality, 100, seed=3)[0] != _sent(quality, 100, seed=4)[0]


class _Inbox:
    def __init__(self) -> None:
        self.arrived: list[Datagram] = []

    def receive(self, datagram: Datagram) -> None:
        self.arrived.append(datagram)


def test_a_segment_delivers_by_address() -> None:
    world = World()
    segment = Segment(world, "lan")
    one, two = _Inbox(), _Inbox()
    port = segment.attach(_A.ip, one, Link(world, "one"))
    segment.attach(_B.ip, two, Link(world, "two"))
    port.send(Datagram(_A, _B, b"hello"))
    port.send(Datagram(_A, UdpAddress("203.0.113.9", 1), b"nobody"))
    world.run(1.0)
    assert two.arrived == [Datagram(_A, _B, b"hello")]
    assert one.arrived == []
    assert segment.unroutable == 1


def test_an_address_is_taken_once() -> None:
    world = World()
    segment = Segment(world, "lan")
    segment.attach(_A.ip, _Inbox(), Link(world, "one"))
    with pytest.raises(ValueError, match=r"192\.0\.2\.1 is taken"):
        segment.attach(_A.ip, _Inbox(), Link(world, "two"))


def test_some_datagrams_can_be_spared() -> None:
    def even(datagram: Datagram) -> bool:
        return datagram.payload[3] % 2 == 0

    arrived, _ = _sent(Quality(loss=0.5, corrupt=0.5, spares=even), count=200)
    spared = [payload for payload in arrived if payload[:4] in {n.to_bytes(4) for n in range(0, 200, 2)}]
    assert len({payload for payload in spared if not any(payload[4:])}) >= 100
    assert len(arrived) < 180


def test_routers_may_change_the_traffic_class() -> None:
    world = World()
    classes: list[int] = []
    link = Link(world, "test", Quality(remark=lambda tos: tos | 3))
    link.carry(Datagram(_A, _B, b"x", tos=0xB8), lambda datagram: classes.append(datagram.tos))
    world.run(1.0)
    assert classes == [0xBB]
