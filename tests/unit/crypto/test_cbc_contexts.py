"""One CBC context for the life of an SA gives what a new one per message gives, and its IVs are good."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espudp.crypto.aead import Sealer, make_opener, make_sealer
from espudp.crypto.random import Rng
from espudp.crypto.suites import ESP_SUITES, EspSuite, Integ, Mode
from espudp.errors import CryptoError
from tests.unit.crypto import reference
from tests.unit.crypto.seeded import keys_for, seeded_rng

CBC_SUITES = [suite for suite in ESP_SUITES if suite.encr.mode is Mode.CBC and not suite.esn]
AAD = b"spi!seq!"

suites = pytest.mark.parametrize("suite", CBC_SUITES, ids=lambda suite: suite.name)


def integ_of(suite: EspSuite) -> Integ:
    assert suite.integ is not None
    return suite.integ


def sealer_of(suite: EspSuite, rng: Rng) -> Sealer:
    return make_sealer(suite.encr, suite.integ, keys_for(suite), rng)


@suites
def test_sealed_is_what_a_new_context_gives(suite: EspSuite) -> None:
    keys = keys_for(suite)
    sealer = sealer_of(suite, seeded_rng())
    for number in range(100):
        plaintext = seeded_rng(number)(16 * (number % 7))
        body = sealer.seal(number, AAD, plaintext, b"tail")
        both = (keys.encr, keys.integ)
        assert body == reference.body(suite.encr, integ_of(suite), both, body[:16], AAD, plaintext, b"tail")


@settings(max_examples=50, deadline=None)
@given(suite=st.sampled_from(CBC_SUITES), messages=st.data())
def test_opened_is_what_a_new_context_gives(suite: EspSuite, messages: st.DataObject) -> None:
    """Messages made elsewhere, in any order, with forged and broken ones in between."""
    keys = keys_for(suite)
    opener = make_opener(suite.encr, suite.integ, keys)
    message = st.tuples(
        st.binary(min_size=16, max_size=16), st.integers(0, 8), st.sampled_from(["good", "forged", "cut"])
    )
    for iv, blocks, kind in messages.draw(st.lists(message, max_size=8)):
        plaintext = seeded_rng(blocks)(16 * blocks)
        body = reference.body(suite.encr, integ_of(suite), (keys.encr, keys.integ), iv, AAD, plaintext, b"")
        if kind == "good":
            assert opener.open(AAD, body) == plaintext
        elif kind == "forged":
            assert opener.open(AAD, bytes([body[0] ^ 1]) + body[1:]) is None
        else:
            assert opener.open(AAD, body[:-1]) is None


@suites
def test_opening_does_not_depend_on_the_order(suite: EspSuite) -> None:
    sealer = sealer_of(suite, seeded_rng())
    opener = make_opener(suite.encr, suite.integ, keys_for(suite))
    sealed = [(bytes([n]) * 32, sealer.seal(n, AAD, bytes([n]) * 32)) for n in range(20)]
    for plaintext, body in [*reversed(sealed), *sealed]:
        assert opener.open(AAD, body) == plaintext


def test_a_message_of_part_blocks_is_refused_and_harms_no_other() -> None:
    suite = CBC_SUITES[0]
    keys = keys_for(suite)
    sealer = sealer_of(suite, seeded_rng())
    for wrong in (1, 15, 17, 1401):
        with pytest.raises(CryptoError, match="whole blocks"):
            sealer.seal(1, AAD, bytes(wrong))
        with pytest.raises(CryptoError, match="whole blocks"):
            sealer.seal_into(1, AAD, bytes(wrong), b"", memoryview(bytearray(16 + wrong + 16)))
        body = sealer.seal(1, AAD, bytes(48))
        both = (keys.encr, keys.integ)
        assert body == reference.body(suite.encr, integ_of(suite), both, body[:16], AAD, bytes(48), b"")


# --- IVs (RFC 3602 section 3: unpredictable) ---


def test_ivs_do_not_repeat_and_are_not_the_random_octets() -> None:
    suite = CBC_SUITES[0]
    drawn = bytearray()

    def rng(octets: int) -> bytes:
        drawn.extend(seeded_rng(len(drawn))(octets))
        return bytes(drawn[-octets:])

    sealer = sealer_of(suite, rng)
    ivs = [sealer.seal(0, AAD, bytes(16))[:16] for _ in range(1000)]
    assert len(set(ivs)) == 1000
    blocks = {bytes(drawn[at : at + 16]) for at in range(0, len(drawn), 16)}
    assert len(blocks) >= 1000
    assert not blocks & set(ivs)


def test_an_iv_is_the_encryption_of_a_random_block() -> None:
    """So who does not hold the key cannot foresee it, and who holds key and seed can replay it."""
    suite = CBC_SUITES[0]
    key = keys_for(suite).encr
    batch = seeded_rng(5)(32 * 16)
    blocks = {batch[at : at + 16] for at in range(0, len(batch), 16)}
    sealer = sealer_of(suite, seeded_rng(5))
    previous = bytes(16)
    for _ in range(32):
        body = sealer.seal(0, AAD, bytes(32))
        block = reference.cbc_decrypt(key, previous, body[:16])
        assert block in blocks
        blocks.remove(block)
        previous = body[32:48]


def test_even_a_generator_that_is_stuck_does_not_repeat_an_iv() -> None:
    sealer = sealer_of(CBC_SUITES[0], bytes)
    assert len({sealer.seal(0, AAD, bytes(16))[:16] for _ in range(1000)}) == 1000


def test_the_same_seed_gives_the_same_packets() -> None:
    one, two, other = (sealer_of(CBC_SUITES[0], seeded_rng(seed)) for seed in (1, 1, 2))
    for _ in range(40):
        body = one.seal(0, AAD, bytes(16))
        assert body == two.seal(0, AAD, bytes(16))
        assert body != other.seal(0, AAD, bytes(16))


def test_a_generator_that_gives_too_little_is_noticed() -> None:
    sealer = sealer_of(CBC_SUITES[0], lambda octets: bytes(octets - 1))
    with pytest.raises(CryptoError):
        sealer.seal(0, AAD, bytes(16))
