"""Datagrams that this host has fragmented, in transport mode."""

from ipaddress import ip_address
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers import inet, inet6
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.packet import Raw

from espudp.esp.drops import Drop
from espudp.esp.reassembly import MAX_OCTETS, MAX_PIECES, MAX_WAITING, PATIENCE_SECONDS, is_fragment
from espudp.wire import ip
from tests.unit.esp.peers import TO_LEFT, datagrams, plain
from tests.unit.esp.test_transport import (
    CLIENT6,
    IP1,
    IPN1,
    IPN2,
    SERVER6,
    V6_1,
    V6_N1,
    V6_N2,
    as_scapy_sums,
    ends,
)

fragment: Any = inet.fragment  # which have no type hints
fragment6: Any = inet6.fragment6

PAYLOAD = bytes(range(256)) * 12


def pieces4(number: int = 7, *, payload: bytes = PAYLOAD, dport: int = 1701, size: int = 1000) -> list[bytes]:
    packet = IP(src=IP1, dst=IPN2, id=number, tos=0xB8) / UDP(sport=5, dport=dport) / payload
    return [bytes(piece) for piece in fragment(packet, size)]


def pieces6(number: int = 7) -> list[bytes]:
    head = IPv6(src=V6_1, dst=V6_N2) / IPv6ExtHdrFragment(id=number)
    return [bytes(piece) for piece in fragment6(head / UDP(sport=5, dport=1701) / PAYLOAD, 1280)]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("port", [None, 1701])
def test_a_datagram_goes_whole_through_esp(version: int, port: int | None) -> None:
    hosts: Any = () if version == 4 else (CLIENT6, SERVER6)
    left, right = ends(*hosts, protocol=ip.UDP if port else 0, port=port)
    pieces = pieces4() if version == 4 else pieces6()
    assert len(pieces) > 2
    trains = left.seal(pieces, 1.0)
    (there,) = plain(right.open(datagrams(trains), TO_LEFT, 1.0, trains[0].tos))
    assert there == as_scapy_sums(there)
    assert there.endswith(PAYLOAD)
    src = ip_address(IPN1 if version == 4 else V6_N1).packed
    assert (there[12:16] if version == 4 else there[8:24]) == src
    assert trains[0].tos == (0xB8 if version == 4 else 0)
    assert not left.drops


def test_between_other_packets_and_in_several_calls() -> None:
    left, right = ends()
    single = bytes(IP(src=IP1, dst=IPN2) / UDP(sport=5, dport=6) / b"single")
    first, second, third, last = pieces4()
    other = pieces4(8, payload=b"x" * 1500)
    sealed = datagrams(left.seal([first, single, other[0], second], 1.0))
    sealed += datagrams(left.seal([third, other[1], single, last], 1.1))
    opened = plain(right.open(sealed, TO_LEFT, 1.0))
    assert sorted(packet[28:] for packet in opened) == sorted([b"single", b"single", b"x" * 1500, PAYLOAD])


@pytest.mark.parametrize("port", [None, 1701])
def test_a_datagram_goes_behind_what_came_before_its_last_piece(port: int | None) -> None:
    left, right = ends(protocol=ip.UDP if port else 0, port=port)
    single = bytes(IP(src=IP1, dst=IPN2) / UDP(sport=5, dport=1701) / b"single")
    *first, last = pieces4()
    sealed = datagrams(left.seal([*first, single, last, single], 1.0))
    opened = plain(right.open(sealed, TO_LEFT, 1.0))
    assert [packet[28:] for packet in opened] == [b"single", PAYLOAD, b"single"]


def test_any_order() -> None:
    for order in permutations(pieces4()):
        left, right = ends(protocol=ip.UDP, port=1701)
        (there,) = plain(right.open(datagrams(left.seal(list(order), 1.0)), TO_LEFT, 1.0))
        assert there[28:] == PAYLOAD


def test_selectors_are_those_of_the_whole() -> None:
    left, _ = ends(protocol=ip.UDP, port=1701)
    assert not left.seal(pieces4(dport=1702), 1.0)
    assert left.drops[Drop.NO_POLICY] >= 1


def test_fragments_of_others_stay_without_policy() -> None:
    left, _ = ends(protocol=ip.UDP, port=1701)
    strange = [bytes(piece) for piece in fragment(IP(src=IP1, dst="192.0.2.5") / UDP() / PAYLOAD, 1000)]
    assert not left.seal(strange, 1.0)
    assert left.drops == {Drop.NO_POLICY: len(strange)}


def test_what_is_never_completed_is_given_up_and_counted() -> None:
    left, _ = ends()
    first, second, *_ = pieces4()
    assert not left.seal([first, second], 1.0)
    assert not left.drops
    left.seal([pieces4(8)[0]], 1.0 + PATIENCE_SECONDS)
    assert left.drops == {Drop.FRAGMENT: 2}


def test_no_more_than_some_are_waited_for() -> None:
    left, _ = ends()
    for number in range(MAX_WAITING + 5):
        left.seal([pieces4(number)[0]], 1.0)
    assert left.drops == {Drop.FRAGMENT: 5}


def test_too_many_pieces_and_too_many_octets() -> None:
    left, _ = ends()
    tiny = pieces4(payload=bytes(8 * MAX_PIECES + 64), size=8)
    assert not left.seal(tiny, 1.0)
    assert left.drops[Drop.FRAGMENT] >= MAX_PIECES
    left, _ = ends()
    assert not left.seal(pieces4(payload=bytes(MAX_OCTETS), size=1480), 1.0)
    assert left.drops[Drop.FRAGMENT] >= 1


@pytest.mark.parametrize(
    ("start", "octets", "more"),
    [(0, 16, 1), (1, 8, 1), (2, 9, 1), (1, 200, 0), (3, 16, 0)],
)
def test_overlaps_and_nonsense_give_up_the_datagram(start: int, octets: int, more: int) -> None:
    left, _ = ends()
    good = [IP(src=IP1, dst=IPN2, id=1, flags="MF") / UDP(sport=5, dport=6) / bytes(8)]
    good += [IP(src=IP1, dst=IPN2, id=1, frag=5, proto=17) / Raw(bytes(8))]
    bad = IP(src=IP1, dst=IPN2, id=1, flags=more, frag=start, proto=17) / Raw(bytes(octets))
    assert not left.seal([bytes(piece) for piece in [*good, bad]], 1.0)
    assert left.drops == {Drop.FRAGMENT: 3}


@given(st.lists(st.tuples(st.binary(max_size=60), st.integers(0, 3), st.integers(0, 8), st.booleans())))
def test_garbage(pieces: list[tuple[bytes, int, int, bool]]) -> None:
    """Nothing raises, and what comes out is a whole packet."""
    left, right = ends()
    packets = [
        bytes(IP(src=IP1, dst=IPN2, id=number, flags=int(more), frag=start, proto=17) / Raw(octets))
        for octets, number, start, more in pieces
    ]
    packets = [packet for packet in packets if is_fragment(packet)]
    for packet in plain(right.open(datagrams(left.seal(packets, 1.0)), TO_LEFT, 1.0)):
        flow = ip.parse_flow(packet)
        assert flow is not None
        assert flow.length == len(packet)
