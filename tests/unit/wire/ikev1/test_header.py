"""The ISAKMP header (RFC 2408 section 3.1)."""

from dataclasses import replace

import pytest

from espudp.errors import WireError
from espudp.wire.ikev1.header import HEADER_OCTETS, Header

# A quick mode message, written out by hand
QUICK = bytes.fromhex("c0c1c2c3c4c5c6c7 d0d1d2d3d4d5d6d7 08 10 20 01 8b7d0e07 0000005c")


def test_header_and_octets() -> None:
    parsed = Header.parse(QUICK)
    assert parsed == Header(
        cookie_i=bytes.fromhex("c0c1c2c3c4c5c6c7"),
        cookie_r=bytes.fromhex("d0d1d2d3d4d5d6d7"),
        next_payload=8,
        exchange=32,
        message_id=0x8B7D0E07,
        encrypted=True,
        length=0x5C,
    )
    assert parsed.emit() == QUICK


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        (0x00, (False, False, False)),
        (0x01, (True, False, False)),
        (0x02, (False, True, False)),
        (0x04, (False, False, True)),
        (0x07, (True, True, True)),
    ],
)
def test_flags(flags: int, fields: tuple[bool, bool, bool]) -> None:
    data = QUICK[:19] + bytes([flags]) + QUICK[20:]
    parsed = Header.parse(data)
    assert (parsed.encrypted, parsed.commit, parsed.authentication_only) == fields
    assert parsed.emit() == data


def test_reserved_flags_are_ignored_and_not_sent() -> None:
    assert Header.parse(QUICK[:19] + b"\xf9" + QUICK[20:]) == Header.parse(QUICK)


def test_a_message_shorter_than_its_header_is_refused() -> None:
    # CVE-2013-4564
    for octets in range(HEADER_OCTETS):
        with pytest.raises(WireError, match=f"of {octets} octets is shorter"):
            Header.parse(QUICK[:octets])


@pytest.mark.parametrize(
    "wrong",
    [
        {"cookie_i": b"short"},
        {"cookie_r": bytes(9)},
        {"major": 16},
        {"minor": -1},
        {"message_id": 1 << 32},
        {"length": -1},
        {"next_payload": 256},
        {"exchange": 256},
    ],
)
def test_a_field_out_of_range_is_not_sent(wrong: dict[str, object]) -> None:
    with pytest.raises(WireError):
        replace(Header.parse(QUICK), **wrong).emit()  # type: ignore[arg-type]
