"""The body of every other payload: octets written out by hand from the figures of RFC 2408 section 3."""

import pytest

from espudp.errors import WireError
from espudp.wire.buffer import Reader
from espudp.wire.ikev1 import payloads as p
from espudp.wire.ikev1.attributes import Attribute
from espudp.wire.ikev1.payloads import BY_TYPE, Payload, body_of, parse_body, type_of
from espudp.wire.ikev1.proposal import Proposal, Transform

SPI, OTHER_SPI = bytes.fromhex("c0ffee01"), bytes.fromhex("c0ffee02")
COOKIES = bytes(range(16))

KNOWN: list[tuple[Payload, int, str]] = [
    (
        p.SecurityAssociation.of((Proposal(1, 1, b"", (Transform(1, 1),)),)),
        1,
        "00000001 00000001 00000010 01010001 00000008 01010000",
    ),
    (p.KeyExchange(b"\x09" * 128), 4, "09" * 128),
    (p.KeyExchange(b""), 4, ""),
    (p.Identification(1, bytes([192, 0, 2, 1])), 5, "01000000 c0000201"),
    (p.Identification(1, bytes([10, 0, 0, 1]), 17, 500), 5, "011101f4 0a000001"),
    (p.Identification(2, b"a.example"), 5, "02000000 612e6578616d706c65"),
    (p.Identification(4, bytes([10, 0, 0, 0, 255, 0, 0, 0])), 5, "04000000 0a000000 ff000000"),
    (p.Identification(7, bytes([10, 0, 0, 0, 10, 0, 0, 9]), 6, 80), 5, "07060050 0a000000 0a000009"),
    (p.Identification(5, bytes(15) + b"\x01"), 5, "05000000" + "00" * 15 + "01"),
    (p.Identification(6, bytes(32)), 5, "06000000" + "00" * 32),
    (p.Identification(8, bytes(32)), 5, "08000000" + "00" * 32),
    (p.Identification(11, b""), 5, "0b000000"),
    (p.Identification(201, b"\x00\xff"), 5, "c9000000 00ff"),
    (p.Certificate(4, b"\x30\x00"), 6, "04 3000"),
    (p.CertificateRequest(4), 7, "04"),
    (p.CertificateRequest(4, b"\x30\x00"), 7, "04 3000"),
    (p.Hash(b"\xaa" * 20), 8, "aa" * 20),
    (p.Signature(b"\xbb" * 128), 9, "bb" * 128),
    (p.Nonce(b"\x07" * 8), 10, "07" * 8),
    (p.Nonce(b"\x07" * 256), 10, "07" * 256),
    (p.Notification(1, COOKIES, 24578), 11, "00000001 01106002" + COOKIES.hex()),
    (p.Notification(1, COOKIES, 36136, b"\0\0\0\x2a"), 11, f"00000001 01108d28 {COOKIES.hex()} 0000002a"),
    (p.Notification(3, SPI, 24576, b"\x80\x0b\0\x01"), 11, "00000001 03046000 c0ffee01 800b0001"),
    (p.Notification(0, b"", 14), 11, "00000001 0000000e"),
    (p.Notification(1, b"", 65535, b"?", doi=0), 11, "00000000 0100ffff 3f"),
    (p.Delete(3, (SPI, OTHER_SPI)), 12, "00000001 03040002 c0ffee01 c0ffee02"),
    (p.Delete(1, (COOKIES,)), 12, "00000001 01100001" + COOKIES.hex()),
    (p.VendorId(b"\x01\x02"), 13, "0102"),
    (p.VendorId(b""), 13, ""),
    (
        p.Attributes(1, 0x1234, (Attribute.of(16520, 0), Attribute(16521, b""), Attribute(16522, b""))),
        14,
        "01001234 c0880000 40890000 408a0000",
    ),
    (
        p.Attributes(3, 7, (Attribute.of(16527, 1),)),
        14,
        "03000007 c08f0001",
    ),
    (p.Attributes(2, 0, (Attribute(1, b"\x0a\0\0\x01"),)), 14, "02000000 00010004 0a000001"),
    (p.Attributes(4, 65535), 14, "0400ffff"),
    (p.NatDiscovery(b"\x55" * 16), 20, "55" * 16),
    (p.NatDiscovery(b"\x55" * 20, 130), 130, "55" * 20),
    (p.NatDiscovery(b"\x55" * 20, 15), 15, "55" * 20),
    (p.NatOriginalAddress(1, bytes([10, 0, 0, 1])), 21, "01000000 0a000001"),
    (p.NatOriginalAddress(5, bytes(16), 131), 131, "05000000" + "00" * 16),
    (p.NatOriginalAddress(1, bytes([10, 0, 0, 1]), 16), 16, "01000000 0a000001"),
    (p.Fragment(1, 1, False, b"\x01"), 132, "0001 01 00 01"),
    (p.Fragment(0xFFFF, 255, True, b"end"), 132, "ffff ff 01 656e64"),
    (p.Unknown(33, b"of IKEv2"), 33, b"of IKEv2".hex()),
    (p.Unknown(255, b""), 255, ""),
]


@pytest.mark.parametrize(("payload", "number", "text"), KNOWN)
def test_payload_and_octets(payload: Payload, number: int, text: str) -> None:
    data = bytes.fromhex(text)
    assert body_of(payload) == data
    assert type_of(payload) == number
    assert parse_body(number, Reader(data)) == payload


def test_every_kind_of_payload_is_in_the_table_and_was_shown_above() -> None:
    shown = {type(payload) for payload, _, _ in KNOWN}
    assert set(BY_TYPE.values()) | {p.NatDiscovery, p.NatOriginalAddress, p.Unknown} == shown
    assert sorted(BY_TYPE) == [1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 132]
    assert all(number == kind.TYPE for number, kind in BY_TYPE.items())


def test_types_of_ikev2_mean_nothing() -> None:
    """CVE-2015-3991"""
    for number in range(33, 55):
        assert parse_body(number, Reader(b"x")) == p.Unknown(number, b"x")


@pytest.mark.parametrize(
    ("number", "text", "why"),
    [
        (1, "000000", "needs 4 octets"),
        (1, "00000001 000000", "needs 4 octets"),
        (5, "010000", "needs 2 octets"),
        (5, "01000000 c00002", "IPV4_ADDR of 3 octets"),
        (5, "01000000 c000020100", "IPV4_ADDR of 5 octets"),
        (5, "04000000 c0000201", "IPV4_ADDR_SUBNET of 4 octets"),
        (5, "05000000 c0000201", "IPV6_ADDR of 4 octets"),
        (5, "06000000" + "00" * 17, "IPV6_ADDR_SUBNET of 17 octets"),
        (5, "07000000 c0000201", "IPV4_ADDR_RANGE of 4 octets"),
        (5, "08000000" + "00" * 16, "IPV6_ADDR_RANGE of 16 octets"),
        (5, "02000000" + "61" * 1025, "FQDN of 1025 octets"),
        (5, "c9000000" + "61" * 1025, "identity type 201 of 1025 octets"),
        (6, "", "needs 1 octets"),
        (7, "", "needs 1 octets"),
        (10, "00" * 7, "a nonce of 7 octets"),
        (10, "00" * 257, "a nonce of 257 octets"),
        (11, "00000001 0110600200", "needs 16 octets"),
        (11, "00000001 01116002" + "00" * 17, "INITIAL_CONTACT with an SPI of 17 octets"),
        (11, "00000001 01ffffff" + "00" * 255, "status 65535 with an SPI of 255 octets"),
        (12, "00000001 03040002 c0ffee01", "2 SPIs of 4 octets in 4"),
        (12, "00000001 03040000 c0ffee01", "0 SPIs of 4 octets in 4"),
        (12, "00000001 0100ffff", "65535 SPIs of 0 octets in 0"),
        (12, "00000001 03100001" + "00" * 16, "an SPI of 16 octets for ESP"),
        (12, "00000001 09ff0001" + "00" * 255, "an SPI of 255 octets for protocol 9"),
        (14, "010000", "needs 2 octets"),
        (14, "01000000 40890004 6162", "needs 4 octets"),
        (21, "01000000 0a0000", "IPV4_ADDR of 3 octets"),
        (131, "05000000 0a000001", "IPV6_ADDR of 4 octets"),
        (21, "02000000 0a000001", "an original address that is FQDN"),
        (21, "ff000000", "an original address that is identity type 255"),
        (132, "000101", "needs 1 octets"),
        (132, "00010000ff", "fragment 0 of 1 octets"),
        (132, "00010100", "fragment 1 of 0 octets"),
    ],
)
def test_what_does_not_add_up_is_refused(number: int, text: str, why: str) -> None:
    with pytest.raises(WireError, match=why):
        parse_body(number, Reader(bytes.fromhex(text)))


def test_reserved_octets_are_ignored_and_not_sent() -> None:
    for number, text, ours in (
        (14, "01ff1234", "01001234"),
        (21, "01ffffff 0a000001", "01000000 0a000001"),
        (132, "000101fe 3f", "00010100 3f"),
    ):
        assert body_of(parse_body(number, Reader(bytes.fromhex(text)))) == bytes.fromhex(ours)


def test_spis_of_one_delete_have_one_size() -> None:
    with pytest.raises(WireError, match="different sizes"):
        body_of(p.Delete(3, (SPI, COOKIES)))


@pytest.mark.parametrize("padding", ["00", "0000", "000000"])
def test_attributes_of_mode_config_may_be_aligned(padding: str) -> None:
    aligned = parse_body(14, Reader(bytes.fromhex("02000001 00010004 0a000001" + padding)))
    assert aligned == p.Attributes(2, 1, (Attribute(1, b"\x0a\0\0\x01"),))
    with pytest.raises(WireError):
        parse_body(14, Reader(bytes.fromhex("02000001 00010004 0a000001" + "00" * 3 + "01")))
    with pytest.raises(WireError):
        parse_body(14, Reader(bytes.fromhex("02000001 00010004 0a000001" + "01" + padding)[:-1]))


def test_attributes_are_found_by_their_type() -> None:
    dns = (Attribute(3, b"\x01" * 4), Attribute(3, b"\x02" * 4), Attribute.of(16527, 1))
    reply = p.Attributes(2, 1, dns)
    assert reply.values(3) == (b"\x01" * 4, b"\x02" * 4)
    assert reply.values(1) == ()
    assert reply.number(16527) == 1
    assert reply.number(16520) is None
