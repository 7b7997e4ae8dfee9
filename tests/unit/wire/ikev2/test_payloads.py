"""The body of every other payload: octets written out by hand from the figures of RFC 7296 section 3."""

import pytest

from espudp.errors import WireError
from espudp.wire.buffer import Reader, Writer
from espudp.wire.ikev2 import payloads as p
from espudp.wire.ikev2.payloads import BY_TYPE, KnownPayload, type_of
from espudp.wire.ikev2.proposal import Proposal, Transform

SPI, OTHER_SPI = bytes.fromhex("c0ffee01"), bytes.fromhex("c0ffee02")
RANGE = "070000100000ffff0a0000000a0000ff"

KNOWN: list[tuple[KnownPayload, str]] = [
    (
        p.SecurityAssociation((Proposal(1, 3, SPI, (Transform(1, 20, 256),)),)),
        "00000018 01030401 c0ffee01 0000000c01000014800e0100",
    ),
    (p.KeyExchange(31, b"\x09" * 32), "001f0000" + "09" * 32),
    (p.KeyExchange(14, b""), "000e0000"),
    (p.IdInitiator(1, bytes([192, 0, 2, 1])), "01000000 c0000201"),
    (p.IdInitiator(2, b"a.example"), "02000000 612e6578616d706c65"),
    (p.IdResponder(5, bytes(15) + b"\x01"), "05000000" + "00" * 15 + "01"),
    (p.IdResponder(11, b""), "0b000000"),
    (p.IdResponder(201, b"\x00\xff"), "c9000000 00ff"),
    (p.Certificate(4, b"\x30\x00"), "04 3000"),
    (p.CertificateRequest(4, b"\x11" * 20), "04" + "11" * 20),
    (p.CertificateRequest(4, b""), "04"),
    (p.Authentication(2, b"\xaa" * 20), "02000000" + "aa" * 20),
    (p.Nonce(b"\x07" * 16), "07" * 16),
    (p.Nonce(b"\x07" * 256), "07" * 256),
    (p.Notify.of(16384), "00004000"),
    (p.Notify.of(17, b"\x00\x1f"), "00000011 001f"),
    (p.Notify.of(16393, protocol=3, spi=SPI), "03044009 c0ffee01"),
    (p.Notify.of(11, b"more", protocol=1, spi=bytes(range(8))), "0108000b 0001020304050607 6d6f7265"),
    (p.Notify.of(65535, b"\x00"), "0000ffff 00"),
    (p.Delete(1), "01000000"),
    (p.Delete(3, (SPI, OTHER_SPI)), "03040002 c0ffee01 c0ffee02"),
    (p.Delete(1, (bytes(range(8)),)), "01080001 0001020304050607"),
    (p.VendorId(b"\x01\x02"), "0102"),
    (p.VendorId(b""), ""),
    (p.Configuration(1, ((1, b""), (3, b""), (8, b""))), "01000000 00010000 00030000 00080000"),
    (
        p.Configuration(2, ((1, b"\x09" * 4), (3, b"\x01" * 4), (3, b"\x02" * 4), (13, b"\x0a" * 8))),
        "02000000 00010004 09090909 00030004 01010101 00030004 02020202 000d0008 0a0a0a0a0a0a0a0a",
    ),
    (p.Configuration(4), "04000000"),
    (p.Configuration(9, ((0x7FFF, b"?"),)), "09000000 7fff0001 3f"),
    (p.Eap(bytes.fromhex("03070004")), "03070004"),
    (p.Eap(bytes.fromhex("0107000501")), "0107000501"),
]


def emitted(payload: p.Payload) -> bytes:
    writer = Writer()
    payload.emit(writer)
    return writer.getvalue()


@pytest.mark.parametrize(("payload", "text"), KNOWN)
def test_payload_and_octets(payload: KnownPayload, text: str) -> None:
    data = bytes.fromhex(text)
    assert emitted(payload) == data
    reader = Reader(data)
    assert type(payload).parse(reader) == payload
    reader.expect_end()


def test_every_kind_of_payload_is_in_the_table_and_was_shown_above() -> None:
    shown: set[type[KnownPayload]] = {p.TsInitiator, p.TsResponder}
    shown.update(type(payload) for payload, _ in KNOWN)
    assert set(BY_TYPE.values()) == shown
    assert sorted(BY_TYPE) == [33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 47, 48]
    assert all(BY_TYPE[kind.TYPE] is kind for kind in shown)


def test_the_type_of_an_unknown_payload_is_its_own() -> None:
    assert type_of(p.Unknown(200, True, b"")) == 200
    assert type_of(p.Nonce(bytes(16))) == 40
    assert type_of(p.EncryptedFragment(0, 2, 2, b"")) == 53


@pytest.mark.parametrize(
    ("kind", "text", "why"),
    [
        (p.SecurityAssociation, "", "needs 1 octets"),
        (p.KeyExchange, "001f00", "needs 2 octets"),
        (p.IdInitiator, "010000", "needs 3 octets"),
        (p.IdInitiator, "01000000 c00002", "IPV4_ADDR of 3 octets"),
        (p.IdInitiator, "01000000", "IPV4_ADDR of 0 octets"),
        (p.IdResponder, "05000000 c0000201", "IPV6_ADDR of 4 octets"),
        (p.IdInitiator, "02000000" + "61" * 1025, "FQDN of 1025 octets"),
        (p.IdInitiator, "0b000000" + "1b" * 60_000, "KEY_ID of 60000 octets"),
        (p.Certificate, "", "needs 1 octets"),
        (p.CertificateRequest, "", "needs 1 octets"),
        (p.Authentication, "0200", "needs 3 octets"),
        (p.Nonce, "", "nonce of 0 octets"),
        (p.Nonce, "07" * 15, "nonce of 15 octets"),
        (p.Nonce, "07" * 257, "nonce of 257 octets"),
        (p.Notify, "000040", "needs 2 octets"),
        (p.Notify, "03044009 c0ffee", "needs 4 octets"),
        (p.Notify, "03ff4009 c0ffee01", "REKEY_SA with an SPI of 255 octets"),
        (p.Notify, "03014009 c0ffee01", "REKEY_SA with an SPI of 1 octets"),
        (p.Delete, "0304", "needs 2 octets"),
        (p.Delete, "03040002 c0ffee01", "2 SPIs of 4 octets in 4"),
        (p.Delete, "03040001 c0ffee01 c0ffee02", "1 SPIs of 4 octets in 8"),
        (p.Delete, "0304ffff c0ffee01", "65535 SPIs"),
        (p.Delete, "0304ffff", "65535 SPIs"),
        (p.Delete, "0300ffff", "SPI of 0 octets for ESP"),
        (p.Delete, "0100ffff", "65535 SPIs of 0 octets"),
        (p.Delete, "0000ffff", "65535 SPIs of 0 octets"),
        (p.Delete, "03080001 0001020304050607", "SPI of 8 octets for ESP"),
        (p.Delete, "01040001 c0ffee01", "SPI of 4 octets for IKE"),
        (p.Delete, "03000000 c0ffee01", "0 SPIs of 0 octets in 4"),
        (p.Configuration, "0100", "needs 3 octets"),
        (p.Configuration, "01000000 0001", "needs 2 octets"),
        (p.Configuration, "01000000 00010004 0a0908", "needs 4 octets"),
        (p.Configuration, "01000000 0001ffff 0a0908", "needs 65535 octets"),
        (p.Configuration, "01000000 00010003 0a0908", "INTERNAL_IP4_ADDRESS of 3 octets"),
        (p.Configuration, "01000000 00080010" + "00" * 16, "INTERNAL_IP6_ADDRESS of 16 octets"),
        (p.Configuration, "01000000 000d0004 0a000000", "INTERNAL_IP4_SUBNET of 4 octets"),
        (p.Configuration, "01000000" + "00010000" * 257, "more than 256"),
        (p.Configuration, "02000000 00190100" + "61" * 256, "INTERNAL_DNS_DOMAIN of 256 octets"),
        (p.Configuration, "02000000 001a0004 00010802", "INTERNAL_DNSSEC_TA of 4 octets"),
        (p.Eap, "", "0 octets"),
        (p.Eap, "030700", "3 octets"),
        # RFC 7296 section 3.16: exactly four less than the payload's length
        (p.Eap, "03070005", "4 octets"),
        (p.Eap, "03070000", "4 octets"),
        (p.Eap, "0307000400", "5 octets"),
    ],
)
def test_a_body_that_lies_is_refused(kind: type[KnownPayload], text: str, why: str) -> None:
    with pytest.raises(WireError, match=why):
        kind.parse(Reader(bytes.fromhex(text)))


@pytest.mark.parametrize(
    ("kind", "text", "clean"),
    [
        (p.KeyExchange, "001fffff 09", "001f0000 09"),
        (p.IdInitiator, "02ffffff 61", "02000000 61"),
        (p.Authentication, "02ffffff aa", "02000000 aa"),
        (p.Configuration, "01ffffff 80010000", "01000000 00010000"),
        (p.TsResponder, "01ffffff" + RANGE, "01000000" + RANGE),
    ],
)
def test_reserved_bits_are_ignored_and_not_sent(kind: type[KnownPayload], text: str, clean: str) -> None:
    assert emitted(kind.parse(Reader(bytes.fromhex(text)))) == bytes.fromhex(clean)


def test_configuration_values_by_attribute() -> None:
    reply = p.Configuration(2, ((3, b"\x01" * 4), (1, b"\x09" * 4), (3, b"\x02" * 4), (8, b"")))
    assert reply.values(3) == (b"\x01" * 4, b"\x02" * 4)
    assert reply.values(8) == (b"",)
    assert reply.values(10) == ()


def test_notifies_know_errors_from_status() -> None:
    assert p.Notify.of(14).is_error
    assert not p.Notify.of(16390).is_error


def test_identities_are_equal_octet_by_octet_and_in_their_role() -> None:
    # CVE-2013-6075
    assert p.IdInitiator(2, b"a") != p.IdInitiator(3, b"a")
    assert p.IdInitiator(2, b"a") != p.IdInitiator(2, b"a\x00")
    roles: list[p.Identification] = [p.IdInitiator(2, b"a"), p.IdResponder(2, b"a")]
    assert roles[0] != roles[1]


def test_a_delete_of_mixed_spis_is_not_sent() -> None:
    with pytest.raises(WireError, match="different sizes"):
        emitted(p.Delete(3, (SPI, bytes(8))))


@pytest.mark.parametrize(
    ("first", "text", "why"),
    [
        (33, "0000 0001", "fragment 0 of 1"),
        (33, "0002 0001", "fragment 2 of 1"),
        (0, "0000 0000", "fragment 0 of 0"),
        (33, "0002 0003", "fragment 2 names a first payload"),
        (33, "0001 00", "needs 2 octets"),
    ],
)
def test_fragment_numbers_make_sense(first: int, text: str, why: str) -> None:
    with pytest.raises(WireError, match=why):
        p.EncryptedFragment.parse(first, Reader(bytes.fromhex(text)))
    good = p.EncryptedFragment.parse(35, Reader(bytes.fromhex("0001 0002 abcd")))
    assert good == p.EncryptedFragment(35, 1, 2, b"\xab\xcd")
    assert emitted(good) == bytes.fromhex("0001 0002 abcd")
