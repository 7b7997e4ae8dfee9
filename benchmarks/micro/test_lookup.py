"""Finding the SA of a packet, with 1, 100 and 10,000 SAs: a gateway with many peers is to be no slower."""

import itertools
import os
from collections.abc import Sequence
from functools import cache
from ipaddress import ip_address

import pytest

from benchmarks.micro.conftest import Measure
from benchmarks.micro.packets import HERE, single_packet
from benchmarks.micro.peers import BACK, THERE, child, new_keys, pair, peer_address
from espudp import DataPath, TrafficSelector, parse_esp_suite
from espudp.esp.children import Children
from espudp.esp.events import EventQueue

_MANY = 10_000
SIZES = pytest.mark.parametrize("sas", [1, 100, _MANY], ids=lambda n: f"{n:,} SAs")

_SUITE = parse_esp_suite("aes128gcm16")
_SMALL = 64
_ROUNDS = 2000


@cache
def _children(sas: int) -> Children:
    children, keys = Children(os.urandom, EventQueue()), new_keys(_SUITE)
    for number in range(sas):
        remote = (TrafficSelector.from_network(f"{peer_address(number)}/32"),)
        children.install(child(_SUITE, keys, THERE, number, remote=remote), 0.0, standby=False)
    return children


@cache
def _pair(sas: int) -> tuple[DataPath, DataPath]:
    return pair(_SUITE, sas)


def _addresses(source: int, number: int) -> bytes:
    return source.to_bytes(4) + ip_address(peer_address(number)).packed


def _for_each_peer(sas: int) -> "itertools.cycle[list[bytes]]":
    return itertools.cycle([[single_packet(_SMALL, peer_address(number))] for number in range(sas)])


@SIZES
def test_outbound_again(measure: Measure, sas: int) -> None:
    """A flow that was seen before."""
    spd, packet = _children(sas).spd, single_packet(_SMALL)
    addresses = _addresses(int(ip_address(HERE)), sas - 1)
    if measure.of("outbound SA of a known flow", packets=1)(spd.lookup, addresses, packet) is None:
        raise RuntimeError("no SA was found")


@SIZES
def test_outbound_anew(measure: Measure, sas: int) -> None:
    """Every packet from another address, to another peer."""
    spd, packet = _children(sas).spd, single_packet(_SMALL)
    flows = itertools.cycle([_addresses(source, source % sas) for source in range(1 << 16)])

    def lookup() -> None:
        if spd.lookup(next(flows), packet) is None:
            raise RuntimeError("no SA was found")

    measure.of("outbound SA of a new flow", packets=1)(lookup)


@SIZES
def test_inbound(measure: Measure, sas: int) -> None:
    sad = _children(sas).sad
    spis = itertools.cycle([sa.spi.to_bytes(4) for sa in sad])

    def lookup() -> None:
        if sad.get(next(spis)) is None:
            raise RuntimeError("no SA was found")

    measure.of("inbound SA", packets=1)(lookup)


@SIZES
def test_seal_for_each_peer_in_turn(measure: Measure, sas: int) -> None:
    (sender, _), packets = _pair(sas), _for_each_peer(sas)

    def seal() -> None:
        if not sender.seal(next(packets), 0.0):
            raise RuntimeError(f"a packet was dropped: {sender.drops}")

    measure.of("seal 64 octets for each peer in turn", packets=1).rounds(_ROUNDS, seal, each=10)


@SIZES
def test_open_from_each_peer_in_turn(measure: Measure, sas: int) -> None:
    (sender, receiver), packets = _pair(sas), _for_each_peer(sas)

    def sealed() -> Sequence[bytes]:
        ((_, datagrams, _),) = sender.seal(next(packets), 0.0)
        return list(datagrams)

    def opened(datagrams: Sequence[bytes]) -> None:
        if not receiver.open(datagrams, BACK, 0.0):
            raise RuntimeError(f"a packet was dropped: {receiver.drops}")

    measure.of("open 64 octets from each peer in turn", packets=1).fresh(_ROUNDS, sealed, opened)
