"""The Encrypted payload (RFC 7296 section 3.14, RFC 5282), against messages that others made."""

import json
from random import Random

import pytest

from espudp.crypto.ikekeys import IkeKeys, IkeSuite
from espudp.crypto.suites import DH, PRF, Encr, Integ, encr_by_keyword, integ_by_keyword
from espudp.errors import WireError
from espudp.ike.protect import Opened, Protection
from espudp.wire.ikev2.constants import ExchangeType, IdType, NotifyType
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import parse_message
from espudp.wire.ikev2.payloads import Encrypted, EncryptedFragment, IdInitiator, Notify, Payload
from tests.shared_vectors import shared_vectors

_SUITES = ["aes128gcm16", "aes256gcm16", "chacha20poly1305", "aes128-sha256", "aes256-sha512", "aes192-sha1"]


def _suite(name: str) -> IkeSuite:
    head, *rest = name.split("-")
    encr, integ = encr_by_keyword(head), integ_by_keyword(rest[0]) if rest else None
    assert encr is not None
    return IkeSuite(encr, integ, PRF[0], DH[0])


def _keys(encr: Encr, integ: Integ | None) -> IkeKeys:
    chance = Random(1)
    mac = 0 if integ is None else integ.key_octets
    sizes = (32, mac, mac, encr.keymat_octets, encr.keymat_octets, 32, 32)
    return IkeKeys(*(chance.randbytes(size) for size in sizes))


def _both(name: str) -> tuple[Protection, Protection]:
    suite = _suite(name)
    keys = _keys(suite.encr, suite.integ)
    rng = Random(2).randbytes
    return (
        Protection(suite, keys, rng, is_initiator=True),
        Protection(suite, keys, rng, is_initiator=False),
    )


_HEADER = Header(b"A" * 8, b"B" * 8, 0, ExchangeType.INFORMATIONAL, True, False, 7)


def _open(protection: Protection, datagram: bytes) -> tuple[Payload, ...] | None:
    (encrypted,) = parse_message(datagram).payloads
    assert isinstance(encrypted, Encrypted)
    opened = protection.open(datagram, encrypted)
    return None if opened is None else opened.payloads()


@pytest.mark.parametrize("name", _SUITES)
@pytest.mark.parametrize("octets", [0, 1, 15, 16, 17, 300])
def test_both_ways(name: str, octets: int) -> None:
    initiator, responder = _both(name)
    payloads = (IdInitiator(2, bytes(octets)), Notify.of(NotifyType.INITIAL_CONTACT))
    assert _open(responder, initiator.seal(_HEADER, payloads)) == payloads
    assert _open(initiator, responder.seal(_HEADER, payloads)) == payloads
    assert _open(responder, initiator.seal(_HEADER, ())) == ()


@pytest.mark.parametrize("name", _SUITES)
def test_a_message_cannot_be_turned_back(name: str) -> None:
    """The two directions have different keys."""
    initiator, _ = _both(name)
    assert _open(initiator, initiator.seal(_HEADER, ())) is None


@pytest.mark.parametrize("name", _SUITES)
def test_every_octet_counts(name: str) -> None:
    initiator, responder = _both(name)
    sealed = initiator.seal(_HEADER, (Notify.of(NotifyType.INITIAL_CONTACT),))
    for at in range(len(sealed)):
        damaged = sealed[:at] + bytes([sealed[at] ^ 0x01]) + sealed[at + 1 :]
        try:
            message = parse_message(damaged)
        except WireError:
            continue
        if message.payloads and isinstance(message.payloads[-1], Encrypted):
            assert responder.open(damaged, message.payloads[-1]) is None
    assert _open(responder, sealed) is not None


@pytest.mark.parametrize("name", _SUITES)
def test_no_iv_comes_twice(name: str) -> None:
    initiator, _ = _both(name)
    octets = _suite(name).encr.iv_octets
    ivs = {initiator.seal(_HEADER, ())[32 : 32 + octets] for _ in range(200)}
    assert len(ivs) == 200


def test_an_aead_gets_no_padding() -> None:
    """RFC 5282 section 3, and what RFC 7634's example does."""
    initiator, _ = _both("aes128gcm16")
    assert len(initiator.seal(_HEADER, ())) == 32 + 8 + 1 + 16


@pytest.mark.parametrize("plaintext", [b"", b"\x01", b"\x00" * 4 + b"\xff"])
def test_padding_that_cannot_be(plaintext: bytes) -> None:
    """Authentic all the same: the peer that holds the keys sent it."""
    with pytest.raises(WireError, match="padding"):
        Opened(0, plaintext).payloads()


def test_rfc_7634_appendix_b() -> None:
    """An IKE message with ChaCha20-Poly1305, octet for octet: opened, and sealed again."""
    key = bytes.fromhex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3")
    message = bytes.fromhex(
        "c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000004529000029"
        "1011121314151617610394701f8d017f7c129248896b71bfe25236efd7cdc67066906315b2"
    )
    keys = IkeKeys(b"", b"", b"", key, key, b"", b"")
    protection = Protection(_suite("chacha20poly1305"), keys, bytes, is_initiator=True)
    payloads = _open(protection, message)
    assert payloads == (Notify.of(NotifyType.SET_WINDOW_SIZE, (10).to_bytes(4)),)
    protection._counter = 0x1011121314151617 - 1
    assert protection.seal(Header.parse(message), payloads) == message


def test_a_message_of_android() -> None:
    vectors = json.loads(shared_vectors("ike", "aosp_sk_skf.json").read_text())["vectors"]
    vector = next(v for v in vectors if v["id"] == "aosp-sk-aescbc128-sha1")
    encr, mac = bytes.fromhex(vector["sk_e"]), bytes.fromhex(vector["sk_a"])
    keys = IkeKeys(b"", mac, mac, encr, encr, b"", b"")
    protection = Protection(_suite("aes128-sha1"), keys, bytes, is_initiator=False)
    message = bytes.fromhex(vector["message"])
    (encrypted,) = parse_message(message).payloads
    assert isinstance(encrypted, Encrypted)
    opened = protection.open(message, encrypted)
    assert opened is not None
    assert opened.data.startswith(bytes.fromhex(vector["inner"]))
    payloads = opened.payloads()
    assert payloads[0] == IdInitiator(IdType.IPV4_ADDR, bytes([10, 80, 80, 13]))
    assert payloads[-1] == Notify.of(NotifyType.SET_WINDOW_SIZE, (1).to_bytes(4))
    assert len(payloads) == 8


def test_a_fragment_of_android() -> None:
    """RFC 7383 section 2.5: the last of five."""
    vectors = json.loads(shared_vectors("ike", "aosp_sk_skf.json").read_text())["vectors"]
    vector = next(v for v in vectors if v["id"] == "aosp-skf-3des-sha1-5of5")
    encr, mac = bytes.fromhex(vector["sk_e"]), bytes.fromhex(vector["sk_a"])
    keys = IkeKeys(b"", mac, mac, encr, encr, b"", b"")
    protection = Protection(_suite("3des-sha1"), keys, bytes, is_initiator=False)
    message = bytes.fromhex(vector["message"])
    (fragment,) = parse_message(message).payloads
    assert isinstance(fragment, EncryptedFragment)
    assert [fragment.number, fragment.total] == vector["fragment"]
    opened = protection.open(message, fragment)
    assert opened is not None
    assert opened.content().data == bytes.fromhex(vector["inner"])


def test_secrets_do_not_show() -> None:
    initiator, _ = _both("aes128-sha256")
    keys = _keys(*(_suite("aes128-sha256").encr, _suite("aes128-sha256").integ))
    inside = {name: getattr(initiator, name) for name in Protection.__slots__}
    assert keys.ei.hex() not in repr(keys) + repr(initiator) + repr(inside)
