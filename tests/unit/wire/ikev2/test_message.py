"""Chains of payloads and whole messages (RFC 7296 sections 3.1, 3.2 and 3.14)."""

import pytest

from espudp.errors import WireError
from espudp.wire.ikev2.header import HEADER_OCTETS, Header
from espudp.wire.ikev2.message import (
    MAX_PAYLOADS,
    SK_HEADER_OCTETS,
    Message,
    emit_message,
    emit_payloads,
    parse_message,
    parse_payloads,
    protected_aad,
)
from espudp.wire.ikev2.payloads import (
    BY_TYPE,
    Delete,
    Encrypted,
    EncryptedFragment,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    Unknown,
    VendorId,
)

SPI_I, SPI_R = bytes(range(1, 9)), bytes(range(11, 19))
HEADER = Header(SPI_I, SPI_R, 0, 34, is_initiator=True, is_response=False, message_id=3)
NONCE = Nonce(b"\x07" * 16)

# RFC 7634 appendix B: an INFORMATIONAL message, and what is inside
RFC7634 = bytes.fromhex(
    "c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000004529000029"
    "1011121314151617610394701f8d017f7c129248896b71bfe25236efd7cdc67066906315b2"
)
RFC7634_INSIDE = bytes.fromhex("0000000c000040010000000a")


def message(first: int, chain: str, *, length: int | None = None, version: int = 0x20) -> bytes:
    """A message of raw octets behind a header whose length is right unless given."""
    data = bytes.fromhex(chain)
    octets = HEADER_OCTETS + len(data) if length is None else length
    header = SPI_I + SPI_R + bytes([first, version, 34, 8]) + bytes(4) + octets.to_bytes(4, "big")
    return header + data


def test_rfc7634_message() -> None:
    parsed = parse_message(RFC7634)
    (sk,) = parsed.payloads
    assert isinstance(sk, Encrypted)
    assert (sk.first_payload, sk.body) == (41, RFC7634[32:])
    assert parse_payloads(sk.first_payload, RFC7634_INSIDE) == (Notify.of(16385, b"\x00\x00\x00\x0a"),)
    assert emit_message(parsed.header, parsed.payloads) == RFC7634


def test_rfc7634_associated_data() -> None:
    aad = protected_aad(Header.parse(RFC7634), 41, len(RFC7634) - 32)
    assert aad == RFC7634[: HEADER_OCTETS + SK_HEADER_OCTETS]


def test_associated_data_fills_in_what_the_header_lacks() -> None:
    aad = protected_aad(HEADER, 35, 100)
    assert Header.parse(aad).next_payload == 46
    assert parse_message(aad + bytes(100)).payloads == (Encrypted(35, bytes(100)),)
    with pytest.raises(WireError):
        protected_aad(HEADER, 35, 65532)


def test_a_chain_names_each_payload_in_front_of_the_one_before() -> None:
    payloads = (NONCE, KeyExchange(31, b"\x09"), Unknown(200, True, b"x"), Unknown(1, False, b""))
    first, chain = emit_payloads(payloads)
    assert first == 40
    assert chain.hex() == (
        "22000014" + "07" * 16 +
        "c8000009" "001f0000" "09"
        "01800005" "78"
        "00000004"
    )  # fmt: skip
    assert parse_payloads(first, chain) == payloads


def test_an_empty_chain() -> None:
    assert emit_payloads(()) == (0, b"")
    assert parse_payloads(0, b"") == ()
    assert parse_message(message(0, "")).payloads == ()
    with pytest.raises(WireError, match="1 octets too many"):
        parse_payloads(0, b"\x00")


def test_emit_message_fills_in_type_and_length() -> None:
    data = emit_message(HEADER, [NONCE])
    parsed = parse_message(memoryview(data))
    assert (parsed.header.next_payload, parsed.header.length) == (40, len(data))
    assert parsed.payloads == (NONCE,)


def test_finding_payloads() -> None:
    cookie, ticket = Notify.of(16390, b"cookie"), Notify.of(16410)
    found = Message(HEADER, (cookie, NONCE, ticket, Nonce(bytes(16))))
    assert found.get(Nonce) is NONCE
    assert found.all(Nonce) == [NONCE, Nonce(bytes(16))]
    assert found.get(KeyExchange) is None
    assert found.notifies() == [cookie, ticket]
    assert found.notify(16410) is ticket
    assert found.notify(14) is None


@pytest.mark.parametrize("length", [0, 27, 28, 47, 49, 0xFFFFFFFF])
def test_the_length_field_equals_the_datagram(length: int) -> None:
    # CVE-2013-4564
    chain = "00000014" + "07" * 16
    assert parse_message(message(40, chain, length=48)).payloads == (NONCE,)
    with pytest.raises(WireError, match="length field"):
        parse_message(message(40, chain, length=length))


@pytest.mark.parametrize("version", [0x00, 0x10, 0x1F, 0x30, 0xF0])
def test_a_message_of_another_major_version_is_not_parsed(version: int) -> None:
    with pytest.raises(WireError, match="IKE version"):
        parse_message(message(40, "00000014" + "07" * 16, version=version))


def test_a_minor_version_makes_no_difference() -> None:
    assert parse_message(message(40, "00000014" + "07" * 16, version=0x2F)).payloads == (NONCE,)


@pytest.mark.parametrize(
    ("first", "chain", "why"),
    [
        (40, "", "NONCE: needs 1 octets"),
        (40, "0000", "NONCE: needs 2 octets"),
        # a length of zero neither loops nor swallows the rest
        (43, "2b000000 00000004", "VENDOR_ID: a length that is 4 octets too small"),
        (200, "c8000000" * 3, "payload 200: a length that is 4 octets too small"),
        (200, "c8000003" * 3, "payload 200: a length that is 1 octets too small"),
        (43, "0000ffff", "VENDOR_ID: needs 65531 octets"),
        (43, "00000005", "VENDOR_ID: needs 1 octets"),
        (43, "2b000004", "VENDOR_ID: needs 1 octets"),
        (43, "00000004 00", "1 octets too many"),
        (42, "00000009 0100000000", "DELETE: 0 SPIs of 0 octets in 1"),
        (44, "00000014 01000000 0700000400000000ffffffff", "TSI: needs 2 octets"),
        # what ends a chain ends it
        (46, "00000008 00000000 00000004", "4 octets too many"),
        (53, "00000008 00010001 00000004", "4 octets too many"),
    ],
)
def test_a_chain_that_lies_is_refused(first: int, chain: str, why: str) -> None:
    with pytest.raises(WireError, match=why):
        parse_message(message(first, chain))
    with pytest.raises(WireError, match=why):
        parse_payloads(first, bytes.fromhex(chain))


def test_no_length_but_the_right_one_will_do() -> None:
    """Every value of the length field of a payload in the middle."""
    good = (VendorId(b"\x00" * 8), VendorId(b"\x00" * 8), NONCE)
    first, chain = emit_payloads(good)
    accepted = []
    for length in range(65536):
        try:
            parse_payloads(first, chain[:14] + length.to_bytes(2, "big") + chain[16:])
        except WireError:
            continue
        accepted.append(length)
    assert accepted == [12]


def test_types_of_the_other_version_are_unknown() -> None:
    # CVE-2015-3991, CVE-2015-3204: 15 is a draft's NAT-D, 13 IKEv1's vendor id
    for type_ in set(range(1, 256)) - set(BY_TYPE) - {46, 53}:
        for bit, critical in (("00", False), ("7f", False), ("80", True), ("ff", True)):
            parsed = parse_payloads(type_, bytes.fromhex(f"00{bit}0006 abcd"))
            assert parsed == (Unknown(type_, critical, b"\xab\xcd"),)


def test_the_critical_bit_means_nothing_for_a_known_type() -> None:
    assert parse_payloads(40, bytes.fromhex("00ff0014" + "07" * 16)) == (NONCE,)


def test_the_number_of_payloads_is_bounded() -> None:
    first, chain = emit_payloads([Unknown(200, False, b"")] * MAX_PAYLOADS)
    assert len(parse_payloads(first, chain)) == MAX_PAYLOADS
    first, chain = emit_payloads([Unknown(200, False, b"")] * (MAX_PAYLOADS + 1))
    with pytest.raises(WireError, match="more than 64 payloads"):
        parse_payloads(first, chain)
    with pytest.raises(WireError, match="more than 64 payloads"):
        parse_message(message(first, chain.hex()))


def test_outer_and_inner_payloads_are_counted_together() -> None:
    # CVE-2026-12413
    first, chain = emit_payloads([Unknown(200, False, b"")] * 60)
    assert len(parse_payloads(first, chain, outer=4)) == 60
    with pytest.raises(WireError, match="more than 64 payloads"):
        parse_payloads(first, chain, outer=5)


@pytest.mark.parametrize("protected", [Encrypted(41, b"secret"), EncryptedFragment(41, 1, 2, b"secret")])
def test_an_encrypted_payload_comes_last_and_never_inside_another(protected: Payload) -> None:
    data = emit_message(HEADER, [Notify.of(16430), protected])
    assert parse_message(data).payloads == (Notify.of(16430), protected)
    with pytest.raises(WireError, match="must be the last"):
        emit_payloads([protected, NONCE])
    first, chain = emit_payloads([NONCE, protected])
    with pytest.raises(WireError, match="inside another"):
        parse_payloads(first, chain)


def test_a_payload_too_long_for_its_length_field_is_not_sent() -> None:
    with pytest.raises(WireError, match="does not fit"):
        emit_payloads([Unknown(200, False, bytes(65532))])
    first, chain = emit_payloads([Unknown(200, False, bytes(65531))])
    assert parse_payloads(first, chain) == (Unknown(200, False, bytes(65531)),)


def test_deletes_repeat_as_they_please() -> None:
    # CVE-2023-38712: it parses; that the SA is gone after the first is for its owner to see
    first, chain = emit_payloads([Delete(1), Delete(1), Notify.of(16384)])
    assert [type(p) for p in parse_payloads(first, chain)] == [Delete, Delete, Notify]
