"""The body of TSi and TSr (RFC 7296 section 3.13)."""

import pytest

from espudp.errors import WireError
from espudp.wire.buffer import Reader, Writer
from espudp.wire.ikev2.payloads import TsInitiator, TsResponder
from espudp.wire.ikev2.selectors import emit_selectors, parse_selectors
from espudp.wire.selectors import OPAQUE, TrafficSelector

V4 = "0711 0010 0035 0036 0a000000 0a0000ff"
V6 = "0806 0028 0000 ffff 20010db8000000000000000000000000 20010db80000000000000000000000ff"
SECLABEL = "0a00 0008 6c61 626c"

V4_SELECTOR = TrafficSelector.from_octets(bytes([10, 0, 0, 0]), bytes([10, 0, 0, 255]), 17, 53, 54)


def parse(text: str) -> tuple[tuple[TrafficSelector, ...], int]:
    return parse_selectors(Reader(bytes.fromhex(text)))


def test_both_families() -> None:
    selectors, unknown = parse("02000000" + V4 + V6)
    assert [str(s) for s in selectors] == ["10.0.0.0/24[udp/53-54]", "2001:db8::/120[tcp/any]"]
    assert selectors[0] == V4_SELECTOR
    assert unknown == 0
    writer = Writer()
    emit_selectors(writer, selectors)
    assert writer.getvalue() == bytes.fromhex("02000000" + V4 + V6)


def test_reserved_octets_are_ignored() -> None:
    assert parse("01ffffff" + V4) == ((V4_SELECTOR,), 0)


def test_selectors_of_other_types_are_counted_and_left_out() -> None:
    for payload in (TsInitiator, TsResponder):
        parsed = payload.parse(Reader(bytes.fromhex("03000000" + SECLABEL + V4 + "ff000004")))
        assert parsed == payload((V4_SELECTOR,), unknown=2)
    assert parse("01000000" + SECLABEL) == ((), 1)


def test_opaque_ports() -> None:
    ((selector,), _) = parse("01000000 0706 0010 ffff 0000 0a000000 0a0000ff")
    assert selector.ports == OPAQUE
    assert selector.is_opaque


@pytest.mark.parametrize(
    ("text", "why"),
    [
        # CVE-2023-23009: count, length, type and family that do not agree
        ("00000000", "no traffic selectors"),
        ("00000000" + V4, "no traffic selectors"),
        ("02000000" + V4, "needs 1 octets"),
        ("ff000000" + V4, "needs 1 octets"),
        ("01000000" + V4 + V4, "16 octets too many"),
        ("01000000" + V4 + "00", "1 octets too many"),
        ("01000000" + V4.replace("0711", "0811", 1), "needs 16 octets"),
        ("01000000" + V6.replace("0806", "0706", 1), "24 octets too many"),
        ("01000000" + V4.replace("0010", "0000", 1), "4 octets too small"),
        ("01000000" + V4.replace("0010", "0004", 1), "needs 2 octets"),
        ("01000000" + V4.replace("0010", "000f", 1), "needs 4 octets"),
        ("01000000" + V4.replace("0010", "0011", 1), "needs 13 octets"),
        ("01000000 0a000003", "1 octets too small"),
        ("01000000 0a000005", "needs 1 octets"),
        ("010000", "needs 3 octets"),
        ("01000000 0700 0010 0000 ffff 0a000001 0a000000", "range runs backwards"),
        ("01000000 0700 0010 0051 0050 0a000000 0a000000", "ports run backwards"),
    ],
)
def test_a_body_that_lies_is_refused(text: str, why: str) -> None:
    with pytest.raises(WireError, match=why):
        parse(text)


@pytest.mark.parametrize("count", [0, 256])
def test_none_or_too_many_are_not_sent(count: int) -> None:
    with pytest.raises(WireError):
        emit_selectors(Writer(), (V4_SELECTOR,) * count)


def test_the_most_selectors_of_one_payload() -> None:
    writer = Writer()
    emit_selectors(writer, (V4_SELECTOR,) * 255)
    assert parse_selectors(Reader(writer.getvalue())) == ((V4_SELECTOR,) * 255, 0)
