"""Every cipher with one bit flipped fails to open (RFC 4303 section 3.4.4.1)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espudp.crypto.aead import Opener, make_opener, make_sealer
from espudp.crypto.suites import ESP_SUITES, EspSuite
from tests.unit.crypto.seeded import keys_for, seeded_rng
from tests.unit.crypto.vectors import DISTINCT_SUITES

AAD_OCTETS = 8


def sealed(suite: EspSuite, plaintext: bytes) -> tuple[Opener, bytes, int]:
    """An opener, one packet as AAD || body || tail, and how long the tail is."""
    keys = keys_for(suite)
    aad, tail = b"spi!seq!", b"high" if suite.esn and suite.integ else b""
    body = make_sealer(suite.encr, suite.integ, keys, seeded_rng()).seal(77, aad, plaintext, tail)
    return make_opener(suite.encr, suite.integ, keys), aad + body + tail, len(tail)


def opened(opener: Opener, packet: bytes, tail: int) -> bytes | None:
    end = len(packet) - tail
    return opener.open(packet[:AAD_OCTETS], packet[AAD_OCTETS:end], packet[end:])


def flip(packet: bytes, bit: int) -> bytes:
    changed = bytearray(packet)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("suite", DISTINCT_SUITES, ids=lambda suite: suite.name)
def test_each_bit_of_a_short_packet(suite: EspSuite) -> None:
    opener, packet, tail = sealed(suite, bytes(range(32)))
    for bit in range(8 * len(packet)):
        assert opened(opener, flip(packet, bit), tail) is None
    assert opened(opener, packet, tail) == bytes(range(32))


@settings(max_examples=200, deadline=None)
@given(
    suite=st.sampled_from(ESP_SUITES),
    plaintext=st.integers(0, 90).flatmap(
        lambda blocks: st.binary(min_size=16 * blocks, max_size=16 * blocks)
    ),
    data=st.data(),
)
def test_any_bits_of_any_packet(suite: EspSuite, plaintext: bytes, data: st.DataObject) -> None:
    opener, packet, tail = sealed(suite, plaintext)
    bits = data.draw(st.sets(st.integers(0, 8 * len(packet) - 1), min_size=1, max_size=5))
    changed = packet
    for bit in bits:
        changed = flip(changed, bit)
    assert opened(opener, changed, tail) is None
    assert opened(opener, packet, tail) == plaintext
