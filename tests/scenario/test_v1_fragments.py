"""Fragments of IKEv1 messages (Cisco's and Microsoft's) from whoever can write to our ports: nothing
authenticates them.
"""

from random import Random

import pytest

from espudp.ike.drop import Drop
from espudp.ike.events import ConnectionUp
from espudp.ike.ikev1_config import Mode
from espudp.ike.v1.hub import MAX_INCOMPLETE
from espudp.wire.address import Path
from espudp.wire.ikev1.fragment import LIFETIME, MAX_MESSAGE_OCTETS, split
from espudp.wire.ikev1.header import Header
from espudp.wire.ikev1.message import emit_message
from espudp.wire.ikev1.payloads import Fragment, Notification, Payload
from tests.scenario.strangers_v1 import (
    Stranger,
    answers,
    client_v1,
    heard_from,
    pair_v1,
    sa_of,
    said,
    states_of,
)
from tests.unit.ike.pair import Datagram, Pair, Side, mirrored

MODES = pytest.mark.parametrize("mode", [pytest.param(mode, id=mode.value) for mode in Mode])


def _kept(side: Side) -> int:
    """Octets of fragments that wait for others."""
    v1 = side.endpoint._v1
    assert v1 is not None
    return sum(reassembly.octets for reassembly in v1._hub._reassemblies.values())


def _fragment(seen: Header, *payloads: Payload) -> bytes:
    header = Header(seen.cookie_i, seen.cookie_r, 0, seen.exchange, 0)
    return emit_message(header, payloads)


def _pieces(message: bytes, room: int = 60) -> list[bytes]:
    return split(message, 2, 7, room)


@MODES
def test_a_first_message_in_fragments_is_nobodys(mode: Mode) -> None:
    """CVE-2013-6076: there is no state that they could belong to, and none is made."""
    server, stranger = pair_v1().server, Stranger()
    message = stranger.main() if mode is Mode.MAIN else stranger.aggressive()
    for number in range(200):
        for piece in _pieces(message):
            assert answers(server, piece, heard_from(f"10.0.0.{number}"), 1000.0) == []
    assert (states_of(server), _kept(server)) == (0, 0)
    assert server.endpoint.drops[Drop.UNKNOWN_SPI] >= 400


def _between(pair: Pair, side: Side, datagram: Datagram, chance: Random) -> None:
    """What somebody who reads along sends before a message arrives."""
    data, path = datagram
    seen = Header.parse(data)
    junk = [
        _fragment(seen, Fragment(1, 1, is_last=True, data=data)),  # the message itself
        _fragment(
            seen, Fragment(2, 1, is_last=True, data=_fragment(seen, Fragment(1, 1, is_last=True, data=data)))
        ),
        _fragment(seen, Fragment(3, 1, is_last=True, data=chance.randbytes(40))),
        _fragment(seen, Fragment(4, 255, is_last=True, data=b"x"), Fragment(4, 1, is_last=True, data=b"y")),
        _fragment(seen, Fragment(5, 1, is_last=False, data=data[:28]), Notification(1, b"", 1)),
        _fragment(seen, Fragment(6, 1, True, data[:28]), Fragment(6, 2, False, data[28:])),
        *[_fragment(seen, Fragment(8, number, False, bytes([number]))) for number in range(1, 256, 7)],
        *_pieces(bytes(8) + data[8:]),  # of another ISAKMP SA
        *_pieces(data[:8] + chance.randbytes(8) + data[16:]),
        *_pieces(data[:17] + b"\x20" + data[18:]),  # of another version
        *_pieces(data[:24] + (1 << 20).to_bytes(4) + data[28:]),
    ]
    for octets in chance.sample(junk, len(junk)):
        side.endpoint.receive_datagram(octets, mirrored(path), pair.now)


@MODES
@pytest.mark.parametrize("seed", range(3))
def test_fragments_of_somebody_who_reads_along_end_nothing(mode: Mode, seed: int) -> None:
    """Between all messages: fragments in fragments, empty ones, overlapping ones, of other ISAKMP SAs."""
    pair, chance = pair_v1(client_v1(mode), seed=seed), Random(seed)
    pair.dial()
    sides = [pair.client, pair.server]
    for number in range(14):
        receiver = sides[1 - number % 2]
        for datagram in pair.take(sides[number % 2]):
            _between(pair, receiver, datagram, chance)
            pair.give(receiver, datagram)
    assert pair.client.told(ConnectionUp)
    assert len(pair.client.children) == len(pair.server.children) == 1
    for side in sides:
        assert _kept(side) <= 2 * MAX_MESSAGE_OCTETS


def test_what_stays_incomplete_is_forgotten() -> None:
    """Also of ISAKMP SAs of which no fragment ever comes again."""
    server, stranger = pair_v1().server, Stranger()
    cookies: list[tuple[Header, Path]] = []
    for number in range(40):
        path = heard_from(f"10.0.0.{number}")
        (answer,) = answers(server, stranger.main(), path, 1000.0)
        cookies.append((Header.parse(answer), path))
    for now in (1000.0, 1001.0):
        for seen, path in cookies:
            for part in range(1, 40):
                answers(server, _fragment(seen, Fragment(1, part, False, bytes(1000))), path, now)
    assert 0 < _kept(server) <= 40 * MAX_MESSAGE_OCTETS
    seen, path = cookies[0]
    answers(server, _fragment(seen, Fragment(2, 1, False, b"x")), path, 1002.0 + LIFETIME)
    assert _kept(server) == 1
    server.endpoint.handle_timer(1100.0)
    assert (states_of(server), _kept(server)) == (0, 0)


def test_a_message_whose_parts_come_in_any_order_and_twice() -> None:
    """What is authentic counts once, however it was cut up."""
    pair = pair_v1().connect()
    chance = Random(6)
    message, path = said(pair.client, 5, Notification(1, b"", 24576, bytes(400)))
    pieces = _pieces(message) * 3
    before = len(sa_of(pair.server).sa._used)
    for piece in chance.sample(pieces, len(pieces)):
        pair.give(pair.server, (piece, path))
    assert len(sa_of(pair.server).sa._used) == before + 1
    assert pair.take(pair.server) == []


def test_fragments_of_many_half_open_calls_are_bounded_together() -> None:
    """Who owns one address can begin as many as it likes."""
    server, stranger, now = pair_v1().server, Stranger(), 1000.0
    part = Fragment(1, 1, is_last=False, data=bytes(MAX_MESSAGE_OCTETS // 8))
    for number in range(2 * MAX_INCOMPLETE):
        path = heard_from("10.0.0.1", 1024 + number)
        (answer,) = answers(server, stranger.main(), path, now)
        assert answers(server, _fragment(Header.parse(answer), part), path, now) == []
    assert states_of(server) == 2 * MAX_INCOMPLETE
    assert _kept(server) == MAX_INCOMPLETE * len(part.data)
