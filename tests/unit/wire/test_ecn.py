"""DSCP and ECN across a tunnel, against scapy's headers and RFC 6040's own table."""

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from espudp.errors import ConfigError
from espudp.wire import ecn, ip

# RFC 6040 section 4.2, figure 4, row by row as printed: arriving outer Not-ECT, ECT(0), ECT(1), CE.
NOT, ZERO, ONE, CE = 0b00, 0b10, 0b01, 0b11
OUTER = (NOT, ZERO, ONE, CE)
FIGURE_4 = {
    NOT: (NOT, NOT, NOT, None),
    ZERO: (ZERO, ZERO, ONE, CE),
    ONE: (ONE, ONE, ONE, CE),
    CE: (CE, CE, CE, CE),
}
CASES = [
    (inner, outer, left) for inner, row in FIGURE_4.items() for outer, left in zip(OUTER, row, strict=True)
]
TOS = [dscp << 2 for dscp in (0, 1, 8, 46, 63)]


def packet(version: int, tos: int) -> bytes:
    if version == 4:
        return bytes(IP(src="10.1.0.1", dst="10.2.0.1", tos=tos, id=7) / UDP() / b"payload")
    return bytes(IPv6(src="fd00::1", dst="fd00::2", tc=tos, fl=0xABCDE) / UDP() / b"payload")


@pytest.mark.parametrize("version", [4, 6])
def test_where_the_octet_is(version: int) -> None:
    assert [ecn.tos_of(packet(version, tos)) for tos in range(256)] == list(range(256))


def test_outward_both_fields_are_copied() -> None:
    assert ecn.outer_octets() == bytes(range(256))


@pytest.mark.parametrize("dscp", [0, 1, 46, 63])
def test_outward_a_set_dscp_leaves_ecn_to_the_inner_packet(dscp: int) -> None:
    octets = ecn.outer_octets(dscp)
    assert {octet >> 2 for octet in octets} == {dscp}
    assert all(octet & 3 == inner & 3 for inner, octet in enumerate(octets))


@pytest.mark.parametrize("dscp", [-1, 64, 255])
def test_six_bits_hold_no_more(dscp: int) -> None:
    with pytest.raises(ConfigError) as caught:
        ecn.outer_octets(dscp)
    assert caught.value.field == "dscp"
    assert "0 to 63" in caught.value.remedy


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("dscp", TOS)
@pytest.mark.parametrize(("inner", "outer", "left"), CASES)
def test_inward(version: int, dscp: int, inner: int, outer: int, left: int | None) -> None:
    arriving = bytearray(packet(version, dscp | inner))
    before = bytes(arriving)
    # The outer DSCP does not matter, whatever routers made of it.
    taken = [ecn.merge(bytearray(before), other | outer) for other in TOS]
    assert taken == [left is not None] * len(TOS)
    assert ecn.merge(arriving, 0xB8 | outer) is (left is not None)
    # Whole, with its checksum, as scapy would have built it: and nothing else has changed.
    assert arriving == (before if left is None else packet(version, dscp | left))


@pytest.mark.parametrize(("inner", "outer", "left"), CASES)
def test_what_is_no_news_changes_nothing(inner: int, outer: int, left: int | None) -> None:
    if not ecn.is_news(0xB8 | outer):
        assert left == inner


@pytest.mark.parametrize("error", [1, 0x8000, 0xFFFE])
def test_a_broken_header_checksum_stays_as_broken_as_it_was(error: int) -> None:
    arriving = bytearray(packet(4, 2))
    right = arriving[10] << 8 | arriving[11]
    arriving[10:12] = (right ^ error).to_bytes(2, "big")
    off_by = ip.checksum(bytes(arriving[:20]))
    assert ecn.merge(arriving, 3)
    assert arriving[1] == 3
    assert ip.checksum(bytes(arriving[:20])) == off_by != 0


def test_a_view_is_written_to() -> None:
    memory = bytearray(b"____" + packet(6, 0xB9) + b"____")
    assert ecn.merge(memoryview(memory)[4:-4], 3)
    assert memory == b"____" + packet(6, 0xBB) + b"____"
