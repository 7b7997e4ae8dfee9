"""What a gateway does again and again, with one connection and with 1,000: it is to be no slower."""

from functools import cache

import pytest

from benchmarks.micro.conftest import Measure
from benchmarks.micro.packets import single_packet
from benchmarks.micro.test_handshake import PROPOSALS, Peers

CONNECTIONS = pytest.mark.parametrize("count", [1, 1000], ids=lambda n: f"{n:,} connections")

_NOW = 1.0
_OCTETS = 1000


@cache
def _gateway(count: int) -> Peers:
    peers = Peers(PROPOSALS[0])
    for _ in range(count):
        peers.connect()
    return peers


@CONNECTIONS
def test_poll_timer(measure: Measure, count: int) -> None:
    measure.of("ask for the next timer")(_gateway(count).server.poll_timer)


@CONNECTIONS
def test_handle_timer(measure: Measure, count: int) -> None:
    measure.of("a timer with nothing due")(_gateway(count).server.handle_timer, _NOW)


@CONNECTIONS
def test_packet_out(measure: Measure, count: int) -> None:
    gateway = _gateway(count).server
    last = gateway.snapshot(_NOW).connections[-1]
    packets = [single_packet(_OCTETS, last.peer_addresses[0])]

    def send() -> None:
        gateway.receive_packets(packets, _NOW)
        if not gateway.datagrams_to_send(_NOW):
            raise RuntimeError("a packet was dropped")

    measure.of("a packet out of the gateway", packets=1)(send)


@CONNECTIONS
def test_one_more_peer(measure: Measure, count: int) -> None:
    measure.of("one more peer").rounds(50, _gateway(count).connect)


@CONNECTIONS
def test_path_mtu(measure: Measure, count: int) -> None:
    gateway = _gateway(count).server
    path = gateway.snapshot(_NOW).connections[-1].path
    if path is None:
        raise RuntimeError("not connected")
    measure.of("a path MTU that is as it was")(gateway.set_path_mtu, path.remote.ip, 1500)


@CONNECTIONS
def test_snapshot(measure: Measure, count: int) -> None:
    """This does grow, with what there is to be shown."""
    measure.of("snapshot for status")(_gateway(count).server.snapshot, _NOW)
