"""The ESP trailer (RFC 4303 sections 2.4 to 2.6)."""

import pytest

from espudp.esp.padding import PADDING, payload_octets, trailers


@pytest.mark.parametrize("block", [4, 16])
@pytest.mark.parametrize(("version", "next_header"), [(4, 4), (6, 41)])
def test_trailers_fill_the_block(block: int, version: int, next_header: int) -> None:
    for octets in range(20, 20 + 2 * block):
        trailer = trailers(block)[version][octets % block]
        assert (octets + len(trailer)) % block == 0
        assert len(trailer) < 2 + block
        assert trailer[-1] == next_header
        assert trailer[:-2] == bytes(range(1, trailer[-2] + 1))
        assert payload_octets(bytes(octets) + trailer) == octets


@pytest.mark.parametrize("padding", [0, 1, 2, 15, 254, 255])
def test_any_length_of_padding_is_taken_off(padding: int) -> None:
    assert payload_octets(b"packet" + PADDING[padding] + bytes([padding, 4])) == 6
    assert payload_octets(PADDING[padding] + bytes([padding, 4])) == 0


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        b"\x00",
        b"\x01\x04",
        b"\x01\x02\x03\x04\x04",
        b"packet\x00\x01\x04",
        b"packet\x01\x03\x02\x04",
        b"packet\x02\x01\x02\x04",
        b"packet\x01\x02\x02\x03\x04",
        b"\xff\x04",
        bytes(100) + b"\xff\x04",
        PADDING[255][1:] + b"\xff\x04",
    ],
)
def test_wrong_padding(plaintext: bytes) -> None:
    assert payload_octets(plaintext) == -1
