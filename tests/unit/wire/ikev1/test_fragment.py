"""Fragments: cut up, in any order, with parts missing, repeated, contradicting each other."""

from itertools import permutations

import pytest

from espudp.errors import WireError
from espudp.wire.ikev1.fragment import (
    FRAGMENT_OCTETS,
    LIFETIME,
    MAX_FRAGMENTS,
    MAX_MESSAGE_OCTETS,
    Reassembly,
    split,
)
from espudp.wire.ikev1.header import Header
from espudp.wire.ikev1.message import emit_encrypted, parse_message
from espudp.wire.ikev1.payloads import Fragment

WHOLE = emit_encrypted(Header(b"initiatr", b"respondr", 0, 32, 7, commit=True), 8, bytes(range(256)) * 4)


def parts(fragment_id: int = 1, whole: bytes = WHOLE, most: int = 400) -> list[Fragment]:
    fragments = [parse_message(data).get(Fragment) for data in split(whole, 2, fragment_id, most)]
    assert None not in fragments
    return [fragment for fragment in fragments if fragment is not None]


def test_what_is_small_enough_goes_as_it_is() -> None:
    assert split(WHOLE, 2, 1, len(WHOLE)) == [WHOLE]


def test_fragments_fill_what_they_may_and_say_phase_1() -> None:
    datagrams = split(WHOLE, 4, 9, 400)
    assert [len(data) for data in datagrams] == [400, 400, 28 + 1024 - 2 * 364 + 36]
    for number, data in enumerate(datagrams, 1):
        message = parse_message(data)
        header = message.header
        assert (header.cookie_i, header.cookie_r) == (b"initiatr", b"respondr")
        assert (header.next_payload, header.exchange, header.message_id) == (132, 4, 0)
        assert not header.encrypted
        assert not header.commit
        (fragment,) = message.payloads
        assert isinstance(fragment, Fragment)
        assert (fragment.fragment_id, fragment.number, fragment.is_last) == (9, number, number == 3)


def test_octets_of_a_fragment() -> None:
    data = split(WHOLE, 2, 0x1234, len(WHOLE) - 1)[0]
    assert data[16:28] == bytes.fromhex("84 10 02 00 00000000") + len(data).to_bytes(4)
    assert data[28:36] == b"\0\0" + (len(data) - 28).to_bytes(2) + bytes.fromhex("1234 01 00")
    assert data[36:] == WHOLE[: len(data) - 36]


def test_more_parts_than_can_be_counted() -> None:
    assert len(split(WHOLE, 2, 1, FRAGMENT_OCTETS + 5)) == 211 <= MAX_FRAGMENTS
    for most in (FRAGMENT_OCTETS + 4, FRAGMENT_OCTETS, 0):
        with pytest.raises(WireError, match="in fragments of"):
            split(WHOLE, 2, 1, most)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_any_order(order: tuple[int, ...]) -> None:
    fragments, reassembly = parts(), Reassembly()
    *before, last = order
    assert [reassembly.add(fragments[index], 0.0) for index in before] == [None, None]
    assert reassembly.octets > 0
    assert reassembly.add(fragments[last], 0.0) == WHOLE
    assert reassembly.octets == 0


def test_a_message_in_one_fragment() -> None:
    assert Reassembly().add(Fragment(1, 1, True, b"all"), 0.0) == b"all"


def test_repeated_parts_change_nothing() -> None:
    fragments, reassembly = parts(), Reassembly()
    for fragment in [fragments[0]] * 3 + [fragments[2]] * 3:
        assert reassembly.add(fragment, 0.0) is None
    assert reassembly.add(fragments[1], 0.0) == WHOLE


def test_a_message_that_is_sent_again_is_put_together_again() -> None:
    reassembly = Reassembly()
    for _ in range(2):
        assert [reassembly.add(fragment, 0.0) for fragment in parts()] == [None, None, WHOLE]


@pytest.mark.parametrize("fragment_id", [1, 2])
def test_another_message_replaces_one_whose_parts_are_missing(fragment_id: int) -> None:
    """Whether or not its sender gives it an id of its own."""
    other = WHOLE[:28] + WHOLE[:27:-1]
    reassembly = Reassembly()
    for fragment in parts()[:2]:
        reassembly.add(fragment, 0.0)
    assert [reassembly.add(f, 1.0) for f in parts(fragment_id, other)] == [None, None, other]


def test_a_missing_part_is_waited_for_only_so_long() -> None:
    fragments, reassembly = parts(), Reassembly()
    reassembly.add(fragments[0], 100.0)
    reassembly.add(fragments[1], 99.9 + LIFETIME)
    assert reassembly.add(fragments[2], 100.0 + LIFETIME) is None
    assert reassembly.octets == len(fragments[2].data)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Fragment(1, 2, False, b"a"), Fragment(1, 2, False, b"b")),
        (Fragment(1, 2, True, b"a"), Fragment(1, 2, False, b"a")),
        (Fragment(1, 2, True, b"a"), Fragment(1, 3, False, b"a")),
        (Fragment(1, 2, True, b"a"), Fragment(1, 3, True, b"a")),
        (Fragment(1, 4, False, b"a"), Fragment(1, 3, True, b"a")),
        (Fragment(1, 2, False, b"a"), Fragment(9, 3, False, b"a")),
    ],
)
def test_a_part_that_contradicts_the_others_begins_anew(first: Fragment, second: Fragment) -> None:
    reassembly = Reassembly()
    assert reassembly.add(first, 0.0) is None
    assert reassembly.add(second, 0.0) is None
    assert reassembly.octets == 1  # the second alone


def test_a_peer_that_never_ends_is_stopped() -> None:
    reassembly = Reassembly()
    part = bytes(MAX_MESSAGE_OCTETS // 4)
    for number in range(1, 5):
        reassembly.add(Fragment(1, number, False, part), 0.0)
    assert reassembly.octets == MAX_MESSAGE_OCTETS
    with pytest.raises(WireError, match="more than 32768 octets"):
        reassembly.add(Fragment(1, 5, False, b"!"), 0.0)
    assert reassembly.octets == 0


def test_what_is_forgotten_is_gone() -> None:
    fragments, reassembly = parts(), Reassembly()
    reassembly.add(fragments[0], 0.0)
    reassembly.clear()
    assert [reassembly.add(fragment, 0.0) for fragment in fragments[1:]] == [None, None]
