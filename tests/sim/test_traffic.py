"""The packet counter counts right: a scenario rests on it."""

from collections.abc import Callable

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from tests.sim.traffic import Flow, udp_packet
from tests.sim.world import World


class _Pipe:
    """Both ends of a tunnel, and what goes wrong in between."""

    def __init__(self, spoil: Callable[[list[bytes]], list[bytes]] = list) -> None:
        self.on_packet: list[Callable[[bytes], None]] = []
        self._spoil = spoil

    def send_packets(self, packets: list[bytes]) -> None:
        for packet in self._spoil(packets):
            for take in self.on_packet:
                take(packet)


def _run(pipe: _Pipe) -> Flow:
    world = World()
    flow = Flow(world, pipe, pipe, "10.0.0.1", "10.0.0.2", interval=0.1, burst=4)
    flow.start()
    world.run(0.95)
    flow.stop()
    world.run(10.0)
    return flow


def test_a_perfect_tunnel() -> None:
    tally = _run(_Pipe()).tally
    assert tally.perfect
    assert (tally.sent, tally.received) == (40, 40)


def test_losses() -> None:
    tally = _run(_Pipe(lambda packets: packets[1:])).tally
    assert (tally.lost, tally.received) == (10, 30)
    assert tally.missing == set(range(0, 40, 4))
    assert not tally.perfect


def test_duplicates() -> None:
    tally = _run(_Pipe(lambda packets: [*packets, packets[0]])).tally
    assert (tally.duplicated, tally.lost, tally.received) == (10, 0, 40)
    assert not tally.perfect


def test_reordering() -> None:
    tally = _run(_Pipe(lambda packets: [packets[3], *packets[:3]])).tally
    assert (tally.reordered, tally.lost) == (30, 0)
    assert not tally.perfect


def test_damage() -> None:
    tally = _run(_Pipe(lambda packets: [packets[0][:-1] + b"!", *packets[1:]])).tally
    assert (tally.damaged, tally.lost) == (10, 10)


def test_flows_do_not_mix() -> None:
    pipe, world = _Pipe(), World()
    one, two = (Flow(world, pipe, pipe, "10.0.0.1", "10.0.0.2") for _ in range(2))
    one.start()
    world.run(1.0)
    assert one.tally.received
    assert two.tally == type(two.tally)()


@pytest.mark.parametrize(
    ("source", "destination", "layer"), [("10.0.0.1", "10.0.0.2", IP), ("2001:db8::1", "2001:db8::2", IPv6)]
)
def test_the_packets_are_good_ones(source: str, destination: str, layer: type) -> None:
    """scapy, computing lengths and checksums anew, comes to the same octets."""
    packet = udp_packet(source, destination, b"some payload")
    parsed = layer(packet)
    for field in ("chksum", "len", "plen"):
        for part in (parsed, parsed["UDP"]):
            if field in part.fields:
                del part.fields[field]
    assert bytes(parsed) == packet
