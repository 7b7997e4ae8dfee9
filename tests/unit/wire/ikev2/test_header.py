"""The IKE header (RFC 7296 section 3.1)."""

from dataclasses import replace

import pytest

from espudp.errors import WireError
from espudp.wire.ikev2.header import HEADER_OCTETS, Header

# RFC 7634 appendix B: the header of its INFORMATIONAL message
RFC7634 = bytes.fromhex("c0c1c2c3c4c5c6c7 d0d1d2d3d4d5d6d7 2e 20 25 00 00000009 00000045")


def header(**fields: object) -> Header:
    base = Header(bytes(range(8)), bytes(range(8, 16)), 33, 34, True, False, 0, 28)
    return replace(base, **fields)  # type: ignore[arg-type]


def test_rfc7634_header() -> None:
    parsed = Header.parse(RFC7634)
    assert parsed == Header(
        spi_i=bytes.fromhex("c0c1c2c3c4c5c6c7"),
        spi_r=bytes.fromhex("d0d1d2d3d4d5d6d7"),
        next_payload=46,
        exchange=37,
        is_initiator=False,
        is_response=False,
        message_id=9,
        length=0x45,
    )
    assert parsed.emit() == RFC7634


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        (0x00, (False, False, False)),
        (0x08, (True, False, False)),
        (0x10, (False, True, False)),
        (0x20, (False, False, True)),
        (0x38, (True, True, True)),
    ],
)
def test_flags(flags: int, fields: tuple[bool, bool, bool]) -> None:
    data = RFC7634[:19] + bytes([flags]) + RFC7634[20:]
    parsed = Header.parse(data)
    assert (parsed.is_initiator, parsed.higher_version, parsed.is_response) == fields
    assert parsed.emit() == data


def test_reserved_flags_are_ignored_and_not_sent() -> None:
    parsed = Header.parse(RFC7634[:19] + b"\xc7" + RFC7634[20:])
    assert parsed == Header.parse(RFC7634)
    assert parsed.emit() == RFC7634


def test_every_version_parses_so_that_it_can_be_answered() -> None:
    for version in range(256):
        data = RFC7634[:17] + bytes([version]) + RFC7634[18:]
        parsed = Header.parse(data)
        assert (parsed.major, parsed.minor) == (version >> 4, version & 15)
        assert parsed.emit() == data


def test_a_message_shorter_than_its_header_is_refused() -> None:
    # CVE-2013-4564
    for octets in range(HEADER_OCTETS):
        with pytest.raises(WireError, match=f"of {octets} octets is shorter"):
            Header.parse(RFC7634[:octets])


def test_octets_behind_the_header_are_not_its_business() -> None:
    assert Header.parse(memoryview(RFC7634 + b"more")) == Header.parse(RFC7634)


@pytest.mark.parametrize(
    "wrong",
    [
        {"spi_i": b"short"},
        {"spi_r": bytes(9)},
        {"major": 16},
        {"minor": -1},
        {"message_id": 1 << 32},
        {"length": 1 << 32},
        {"next_payload": 256},
        {"exchange": -1},
    ],
)
def test_a_field_out_of_range_is_not_sent(wrong: dict[str, object]) -> None:
    with pytest.raises(WireError):
        header(**wrong).emit()
