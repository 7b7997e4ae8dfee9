"""Many packets at once give what each gives by itself."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cryptography.exceptions import InternalError

from espudp.crypto.aead import CipherKeys, Opener, Sealer, make_opener, make_sealer
from espudp.crypto.mac import Buffer
from espudp.crypto.rows import (
    MAX_RECEIVED_OCTETS,
    MAX_ROWS,
    MAX_SENT_OCTETS,
    Grid,
    Layout,
    Plaintexts,
    layout_of,
    make_grid,
)
from espudp.crypto.suites import ESP_SUITES, EspSuite, parse_esp_suite
from espudp.errors import CryptoError
from tests.unit.crypto.seeded import keys_for, seeded_rng
from tests.unit.crypto.vectors import DISTINCT_SUITES

SPI, FIRST = 0x1234_5678, (7 << 32) - 3
GCM, CBC = parse_esp_suite("aes128gcm16"), parse_esp_suite("aes128-sha256")

every_suite = pytest.mark.parametrize("suite", DISTINCT_SUITES, ids=lambda suite: suite.name)
aead_and_cbc = pytest.mark.parametrize("suite", [GCM, CBC], ids=lambda suite: suite.name)


def sealer_of(suite: EspSuite, seed: int = 2) -> Sealer:
    return make_sealer(suite.encr, suite.integ, keys_for(suite, seed), seeded_rng(seed))


def opener_of(suite: EspSuite, seed: int = 2) -> Opener:
    return make_opener(suite.encr, suite.integ, keys_for(suite, seed))


def plaintexts(count: int, octets: int, tail: int = 0) -> Plaintexts:
    matrix = np.frombuffer(seeded_rng(octets)((octets + 8) * count), np.uint8).reshape(count, octets + 8)
    slices = [memoryview(bytes(row[:octets])) for row in matrix]
    return Plaintexts(matrix, slices, count, seeded_rng(tail)(tail))


def each(batch: Plaintexts) -> Iterator[bytes]:
    yield from map(bytes, batch.slices[: batch.whole])
    if batch.tail:
        yield batch.tail


def sealed_in_rows(
    suite: EspSuite, sealer: Sealer, counter: int, batch: Plaintexts, grid: Grid | None = None
) -> tuple[Grid, list[bytes]]:
    """The grid, and the packets in it."""
    grid = grid or make_grid(layout_of(suite), len(batch.slices[0]))
    count = batch.whole + bool(batch.tail)
    grid.number(SPI, FIRST, count)
    sealer.seal_rows(grid, counter, batch)
    overhead = layout_of(suite).overhead
    packets, at = [], 0
    for plaintext in each(batch):
        end = at + overhead + len(plaintext)
        packets.append(bytes(grid.wire[at:end]))
        at = end
    return grid, packets


def authenticated(suite: EspSuite, sequence: int) -> tuple[bytes, bytes, bytes]:
    """Header, and what is authenticated in front of the body and behind it (RFC 4303 section 2.2.1)."""
    spi, number = SPI.to_bytes(4, "big"), sequence.to_bytes(8, "big")
    header = spi + number[4:]
    if not suite.esn:
        return header, header, b""
    return (header, spi + number, b"") if suite.integ is None else (header, header, number[:4])


def sealed_one_by_one(suite: EspSuite, sealer: Sealer, counter: int, batch: Plaintexts) -> list[bytes]:
    packets = []
    for number, plaintext in enumerate(each(batch)):
        header, aad, tail = authenticated(suite, FIRST + number)
        packets.append(header + sealer.seal((counter + number) % 2**64, aad, plaintext, tail))
    return packets


@every_suite
@pytest.mark.parametrize(("count", "tail"), [(1, 0), (5, 0), (5, 16), (0, 32), (64, 0), (63, 48)])
def test_sealed_together_as_one_by_one(suite: EspSuite, count: int, tail: int) -> None:
    batch = plaintexts(max(count, 1), 64, tail)._replace(whole=count)
    _, packets = sealed_in_rows(suite, sealer_of(suite), 99, batch, make_grid(layout_of(suite), 64))
    assert packets == sealed_one_by_one(suite, sealer_of(suite), 99, batch)


@every_suite
@pytest.mark.parametrize("tail", [0, 32])
def test_opened_together(suite: EspSuite, tail: int) -> None:
    batch = plaintexts(9, 80, tail)
    packets = sealed_one_by_one(suite, sealer_of(suite), 5, batch)
    grid = loaded(suite, packets, 80)
    assert opener_of(suite).open_rows(grid, 9, tail)
    assert [bytes(row) for row in grid.plain[:9]] == [bytes(piece) for piece in batch.slices]
    if tail:
        assert bytes(grid.plain[9, :tail]) == batch.tail


def loaded(suite: EspSuite, packets: list[bytes], plain: int) -> Grid:
    grid = make_grid(layout_of(suite), plain)
    grid.load([memoryview(b"".join(packets))])
    assert grid.same_spi(SPI.to_bytes(4, "big"), len(packets))
    assert grid.lows(len(packets)) == [(FIRST + n) % 2**32 for n in range(len(packets))]
    # The low halves wrap within the run, which a receiver sees to before; here each is set.
    if suite.esn:
        numbers = np.array([FIRST + n for n in range(len(packets))], ">u8")
        grid.extended.reshape(-1, 12)[: len(packets), 4:] = numbers.view(np.uint8).reshape(-1, 8)
    return grid


@every_suite
def test_one_octet_altered_anywhere(suite: EspSuite) -> None:
    packets = sealed_one_by_one(suite, sealer_of(suite), 5, plaintexts(3, 32, 16))
    opener = opener_of(suite)
    for victim, packet in enumerate(packets):
        for place in range(8, len(packet)):
            altered = packet[:place] + bytes([packet[place] ^ 1]) + packet[place + 1 :]
            grid = loaded(suite, [*packets[:victim], altered, *packets[victim + 1 :]], 32)
            assert not opener.open_rows(grid, 3, 16), (victim, place)
    assert opener.open_rows(loaded(suite, packets, 32), 3, 16), "failures must not harm what comes later"


def test_cbc_wants_whole_blocks() -> None:
    sealer = sealer_of(CBC)
    for batch in (plaintexts(2, 40), plaintexts(2, 32, 8)):
        with pytest.raises(CryptoError, match="whole blocks"):
            sealed_in_rows(CBC, sealer, 0, batch)
    batch = plaintexts(2, 32, 16)
    _, packets = sealed_in_rows(CBC, sealer, 0, batch)
    assert packets == sealed_one_by_one(CBC, sealer_of(CBC), 0, batch)
    assert not opener_of(CBC).open_rows(make_grid(layout_of(CBC), 40), 2, 0)
    assert not opener_of(CBC).open_rows(make_grid(layout_of(CBC), 32), 2, 8)


@aead_and_cbc
def test_a_grid_for_other_suites_is_refused(suite: EspSuite) -> None:
    other = make_grid(layout_of(CBC if suite is GCM else GCM), 32)
    with pytest.raises(CryptoError):
        sealer_of(suite).seal_rows(other, 0, plaintexts(2, 32))
    with pytest.raises(CryptoError):
        opener_of(suite).open_rows(other, 2, 0)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("aes128ctr-sha256", "3des-sha256"),
        ("aes128ctr-sha256", "aes128gcm16"),
        ("3des-sha1", "aes128-sha1"),
        ("null-sha1", "aes128gmac"),
        ("aes128-sha256", "null-sha256"),
    ],
)
def test_a_grid_for_other_ciphers_is_refused(name: str, other: str) -> None:
    suite, grid = parse_esp_suite(name), make_grid(layout_of(parse_esp_suite(other)), 32)
    with pytest.raises(CryptoError):
        sealer_of(suite).seal_rows(grid, 0, plaintexts(2, 32))
    # What is in it is not authentic, which is found out first where the layouts are alike.
    with contextlib.suppress(CryptoError):
        assert not opener_of(suite).open_rows(grid, 2, 0)


def test_3des_wants_whole_blocks() -> None:
    suite = parse_esp_suite("3des-sha1")
    sealer = sealer_of(suite)
    for batch in (plaintexts(2, 36), plaintexts(2, 32, 12)):
        with pytest.raises(CryptoError, match="whole blocks"):
            sealed_in_rows(suite, sealer, 0, batch)
    batch = plaintexts(2, 40, 8)
    _, packets = sealed_in_rows(suite, sealer, 0, batch)
    opener = opener_of(suite)
    assert [opener.open(packet[:8], packet[8:]) for packet in packets] == [
        bytes(piece) for piece in each(batch)
    ]
    assert not opener.open_rows(make_grid(layout_of(suite), 36), 2, 0)
    assert not opener.open_rows(make_grid(layout_of(suite), 32), 2, 12)


@every_suite
def test_sas_take_turns_on_one_grid(suite: EspSuite) -> None:
    """Nothing of one SA is left for the next: neither salt nor SPI nor numbers."""
    grid, batch = make_grid(layout_of(suite), 32), plaintexts(4, 32)
    for seed in (3, 4, 3):
        _, packets = sealed_in_rows(suite, sealer_of(suite, seed), 10 * seed, batch, grid)
        assert packets == sealed_one_by_one(suite, sealer_of(suite, seed), 10 * seed, batch)
        receiving = loaded(suite, packets, 32)
        assert opener_of(suite, seed).open_rows(receiving, 4, 0)
        assert not opener_of(suite, seed + 10).open_rows(receiving, 4, 0)


@pytest.mark.parametrize("name", ["aes128gcm16", "aes128ccm8", "aes128gmac", "aes128ctr-sha256"])
def test_ivs_that_count_wrap(name: str) -> None:
    suite, batch = parse_esp_suite(name), plaintexts(4, 32)
    _, packets = sealed_in_rows(suite, sealer_of(suite), 2**64 - 2, batch)
    assert [packet[8:16] for packet in packets] == [
        number.to_bytes(8, "big") for number in (2**64 - 2, 2**64 - 1, 0, 1)
    ]
    assert packets == sealed_one_by_one(suite, sealer_of(suite), 2**64 - 2, batch)


def test_cbc_blocks_are_drawn_once_each() -> None:
    """Rows and single packets share one stock; what goes in is never the same block twice."""
    given: list[bytes] = []

    def rng(octets: int) -> bytes:
        given.append(seeded_rng(len(given))(octets))
        return given[-1]

    sealer = make_sealer(CBC.encr, CBC.integ, keys_for(CBC), rng)
    ivs = []
    for count in (3, 64, 1, 50, 64, 7):
        _, packets = sealed_in_rows(CBC, sealer, 0, plaintexts(count, 32))
        ivs += [packet[8:24] for packet in packets]
        ivs.append(sealer.seal(0, b"", bytes(32))[:16])
    assert len(set(ivs)) == len(ivs)
    drawn = b"".join(given)
    blocks = [drawn[at : at + 16] for at in range(0, len(drawn), 16)]
    assert len(ivs) <= len(blocks) == len(set(blocks)) <= len(ivs) + 64


class Failing:
    """A cipher that gives up at one of its calls."""

    def __init__(self, cipher: Any, at: int) -> None:
        self._cipher, self._left = cipher, at

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise InternalError("no", [])

    def encrypt_into(self, *arguments: Buffer) -> int:
        self._count()
        result: int = self._cipher.encrypt_into(*arguments)
        return result

    def decrypt_into(self, *arguments: Buffer) -> int:
        self._count()
        result: int = self._cipher.decrypt_into(*arguments)
        return result


@pytest.mark.parametrize("at", [0, 2, 4])
def test_a_failure_of_the_library_is_told(at: int) -> None:
    sealer: Any = sealer_of(GCM)
    _, packets = sealed_in_rows(GCM, sealer, 0, plaintexts(4, 32, 16))
    sealer._cipher = Failing(sealer._cipher, at)
    with pytest.raises(CryptoError, match="sealing failed"):
        sealed_in_rows(GCM, sealer, 0, plaintexts(4, 32, 16))
    opener: Any = opener_of(GCM)
    opener._cipher = Failing(opener._cipher, at)
    with pytest.raises(CryptoError, match="opening failed"):
        opener.open_rows(loaded(GCM, packets, 32), 4, 16)


@every_suite
@pytest.mark.parametrize("plain", [4, 96, 1408, 9000, 70000])
def test_a_grid_holds_one_send_and_one_receive(suite: EspSuite, plain: int) -> None:
    layout = layout_of(suite)
    width = plain + layout.overhead
    for rows, octets in (
        (layout.rows_to_send(plain), MAX_SENT_OCTETS),
        (layout.rows(plain), MAX_RECEIVED_OCTETS),
    ):
        assert 1 <= rows <= MAX_ROWS
        assert rows == 1 or rows * width <= octets
        assert rows == MAX_ROWS or (rows + 1) * width > octets
    assert make_grid(layout, plain).rows == layout.rows(plain)


def test_alike_layouts_are_one() -> None:
    layouts = {layout_of(suite) for suite in ESP_SUITES if suite.encr.is_aead}
    combined = {(16, 4), (12, 4), (8, 4), (16, 3), (12, 3), (8, 3)}
    assert layouts == {Layout(True, esn, 8, icv, salt) for esn in (False, True) for icv, salt in combined}


def test_no_secret_is_shown() -> None:
    keys = CipherKeys(bytes(20))
    sealer = make_sealer(GCM.encr, None, keys, seeded_rng())
    grid, _ = sealed_in_rows(GCM, sealer, 0, plaintexts(2, 32))
    assert "\\x" not in repr(grid)
