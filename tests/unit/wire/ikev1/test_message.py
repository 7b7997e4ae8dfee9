"""Messages: chains of payloads, what a hash covers, padding, and chains that do not add up."""

import pytest

from espudp.errors import WireError
from espudp.wire.ikev1.header import HEADER_OCTETS, Header
from espudp.wire.ikev1.message import (
    MAX_PAYLOADS,
    emit_encrypted,
    emit_message,
    emit_payloads,
    open_message,
    parse_message,
    parse_payloads,
)
from espudp.wire.ikev1.payloads import (
    Fragment,
    Hash,
    KeyExchange,
    Nonce,
    Notification,
    Payload,
    Unknown,
    VendorId,
)

HEADER = Header(b"initiatr", b"respondr", 0, 2, 0)
NONCE, VENDOR = Nonce(b"\x07" * 16), VendorId(b"espudp")


def test_a_message_and_its_octets() -> None:
    data = emit_message(HEADER, [KeyExchange(b"\x09\x08"), NONCE])
    assert data == bytes.fromhex(
        "696e697469617472 726573706f6e6472 04 10 02 00 00000000 000000360a000006 090800000014" + "07" * 16
    )
    message = parse_message(data)
    assert message.payloads == (KeyExchange(b"\x09\x08"), NONCE)
    assert message.body == data[HEADER_OCTETS:]
    assert message.get(Nonce) == NONCE
    assert message.get(Hash) is None
    assert message.all(KeyExchange) == [KeyExchange(b"\x09\x08")]


def test_an_encrypted_message_stays_closed_until_its_plaintext_is_here() -> None:
    first, chain = emit_payloads([Hash(b"\xaa" * 20), NONCE])
    data = emit_encrypted(HEADER, first, b"\x5a" * 48)
    closed = parse_message(data)
    assert closed.header.encrypted
    assert (closed.payloads, closed.body) == ((), b"\x5a" * 48)
    opened = open_message(closed.header, chain)
    assert opened.payloads == (Hash(b"\xaa" * 20), NONCE)


@pytest.mark.parametrize("padding", [b"", b"\0" * 7, b"\x01\x02\x03\x04", bytes(range(255, 0, -1))])
def test_a_hash_covers_what_is_behind_it_and_no_padding(padding: bytes) -> None:
    _, covered = emit_payloads([NONCE, VENDOR])
    first, chain = emit_payloads([Hash(b"\xaa" * 20), NONCE, VENDOR])
    message = open_message(Header(bytes(8), bytes(8), first, 32, 1, encrypted=True), chain + padding)
    assert message.after_hash == covered
    assert message.payloads == (Hash(b"\xaa" * 20), NONCE, VENDOR)


@pytest.mark.parametrize("payloads", [[NONCE, Hash(b"\xaa" * 20)], [NONCE], [Hash(b"\xaa" * 20)]])
def test_a_hash_that_does_not_lead_or_is_alone_covers_nothing(payloads: list[Payload]) -> None:
    first, chain = emit_payloads(payloads)
    assert open_message(Header(bytes(8), bytes(8), first, 32, 1), chain).after_hash == b""


def test_what_a_hash_covers_is_kept_as_it_came() -> None:
    # Reserved octets that are not zero count for the sender of the hash
    chain = bytes.fromhex("0affff18" + "aa" * 20 + "00ff0014" + "07" * 16)
    chain = chain[:2] + b"\0\x18" + chain[4:]
    message = open_message(Header(bytes(8), bytes(8), 8, 5, 1), chain)
    assert message.after_hash == bytes.fromhex("00ff0014" + "07" * 16)


def test_clear_messages_may_be_aligned_to_four_octets() -> None:
    body = emit_payloads([VendorId(b"abcde")])[1]
    for padding in range(4):
        data = Header(bytes(8), bytes(8), 13, 2, 0, length=37 + padding).emit() + body + bytes(padding)
        assert parse_message(data).payloads == (VendorId(b"abcde"),)
    with pytest.raises(WireError, match="4 octets too many"):
        parse_message(Header(bytes(8), bytes(8), 13, 2, 0, length=41).emit() + body + bytes(4))


def test_unknown_payloads_are_kept() -> None:
    chain: list[Payload] = [Unknown(17, b"?"), NONCE, Unknown(254, b"")]
    assert parse_message(emit_message(HEADER, chain)).payloads == tuple(chain)


def test_a_message_without_payloads() -> None:
    assert parse_message(emit_message(HEADER, [])).payloads == ()


def test_notifications_are_found_by_their_type() -> None:
    notify = Notification(1, b"", 24578)
    message = parse_message(emit_message(HEADER, [Notification(1, b"", 14), notify]))
    assert message.notify(24578) == notify
    assert message.notify(36136) is None


def test_a_fragment_is_read_whatever_the_flag_of_encryption_says() -> None:
    fragment = Fragment(1, 1, False, b"part")
    data = emit_message(HEADER, [fragment])
    flagged = data[:19] + b"\x01" + data[20:]
    assert parse_message(flagged).payloads == (fragment,)


@pytest.mark.parametrize("version", [0x00, 0x20, 0x30, 0xF0])
def test_another_major_version_is_refused(version: int) -> None:
    data = emit_message(HEADER, [NONCE])
    with pytest.raises(WireError, match="IKE version"):
        parse_message(data[:17] + bytes([version]) + data[18:])


def test_a_minor_version_is_ignored() -> None:
    data = emit_message(HEADER, [NONCE])
    assert parse_message(data[:17] + b"\x1f" + data[18:]).payloads == (NONCE,)


@pytest.mark.parametrize("length", [0, 27, 28, 47, 49, 0xFFFFFFFF])
def test_the_length_is_that_of_the_datagram(length: int) -> None:
    data = emit_message(HEADER, [NONCE])
    assert len(data) == 48
    with pytest.raises(WireError, match="length field"):
        parse_message(data[:24] + length.to_bytes(4) + data[28:])


@pytest.mark.parametrize(
    ("first", "chain", "why"),
    [
        (10, "", "NONCE: needs 1 octets"),
        (10, "00000003", "NONCE: a length that is 1 octets too small"),
        (10, "00000000", "NONCE: a length that is 4 octets too small"),
        (10, "00000015" + "07" * 16, "NONCE: needs 17 octets where 16 are left"),
        (13, "0d000004", "VENDOR_ID: needs 1 octets"),
        (99, "00000005", "payload 99: needs 1 octets"),
        (0, "00000004", "4 octets too many"),
        (13, "00000004 00000004", "4 octets too many"),
    ],
)
def test_chains_that_do_not_add_up(first: int, chain: str, why: str) -> None:
    data = bytes.fromhex(chain)
    with pytest.raises(WireError, match=why):
        parse_payloads(first, data)
    with pytest.raises(WireError, match=why):
        parse_message(Header(bytes(8), bytes(8), first, 2, 0, length=28 + len(data)).emit() + data)


def test_the_most_payloads() -> None:
    assert len(parse_payloads(13, emit_payloads([VENDOR] * MAX_PAYLOADS)[1])) == MAX_PAYLOADS
    with pytest.raises(WireError, match=f"more than {MAX_PAYLOADS} payloads"):
        parse_payloads(13, b"\x0d\0\0\x04" * 16000)
