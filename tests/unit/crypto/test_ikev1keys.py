"""Key material of IKEv1: other people's known answers, what RFC 2409 spells out, computed again."""

import hashlib
import hmac

import pytest

from espudp.crypto import ikev1keys as k
from espudp.crypto.suites import dh_by_keyword, encr_by_keyword, parse_esp_suite
from espudp.errors import CryptoError
from tests.unit.crypto.vectors import by_id, shared, unhex

NI, NR, CKY_I, CKY_R, SHARED = b"i" * 16, b"r" * 24, b"\1" * 8, b"\2" * 8, b"\3" * 256
TRANSCRIPT = k.Transcript(b"\x04" * 256, b"\x05" * 256, CKY_I, CKY_R, b"SAi_b")


def suite(encr: str = "aes256", hash_: str = "sha1") -> k.Ikev1Suite:
    encr_row, hash_row, dh = encr_by_keyword(encr), k.hash_by_keyword(hash_), dh_by_keyword("modp2048")
    assert encr_row is not None
    assert hash_row is not None
    assert dh is not None
    return k.Ikev1Suite(encr_row, hash_row, dh)


def theirs(name: str, key: bytes, data: bytes) -> bytes:
    return hmac.new(key, data, name).digest()


@pytest.mark.parametrize("name", ["ikev1-psk-sha1", "ikev1-sig-sha1"])
def test_cavp(name: str) -> None:
    vector = by_id(shared("kdf", "libreswan_cavp.json"))[name]
    ni, nr, gxy = (unhex(vector[field]) for field in ("Ni", "Nr", "g^xy"))
    sha1 = suite().hash
    if name == "ikev1-psk-sha1":
        skeyid = k.skeyid_psk(sha1, unhex(vector["pre-shared-key"]), ni, nr)
    else:
        skeyid = k.skeyid_signatures(sha1, ni, nr, gxy)
    keys = k.derive_keys(suite(), skeyid, gxy, unhex(vector["CKY_I"]), unhex(vector["CKY_R"]))
    assert keys.skeyid.hex() == vector["SKEYID"]
    assert [part.hex() for part in (keys.d, keys.a, keys.e)] == [
        vector[field] for field in ("SKEYID_d", "SKEYID_a", "SKEYID_e")
    ]


@pytest.mark.parametrize("row", k.HASHES, ids=lambda row: row.keyword)
def test_hashes_and_their_numbers(row: k.Hash) -> None:
    assert k.digest(row, b"abc") == hashlib.new(row.keyword, b"abc").digest()
    assert k.prf(row, b"key", b"abc") == theirs(row.keyword, b"key", b"abc")
    assert len(k.digest(row, b"")) == row.octets
    assert k.hash_by_number(row.number) is row is k.hash_by_keyword(row.keyword)


def test_hashes_that_are_none() -> None:
    assert [k.hash_by_number(number) for number in (0, 3, 7, -1)] == [None] * 4  # 3 is Tiger
    assert k.hash_by_keyword("sha224") is None


@pytest.mark.parametrize(
    ("encr", "hash_", "stretched"),
    [
        ("aes128", "sha1", False),
        ("aes192", "sha1", True),
        ("aes256", "sha1", True),
        ("3des", "sha1", True),
        ("3des", "md5", True),
        ("aes128", "md5", False),
        ("aes256", "md5", True),
        ("aes256", "sha256", False),
        ("aes256", "sha512", False),
    ],
)
def test_a_cipher_key_is_stretched_where_the_hash_is_too_short(
    encr: str, hash_: str, stretched: bool
) -> None:
    keys = k.derive_keys(suite(encr, hash_), b"SKEYID", SHARED, CKY_I, CKY_R)
    octets = suite(encr, hash_).encr.key_octets
    # RFC 2409 appendix B: Ka = K1 | K2 | K3, K1 = prf(SKEYID_e, 0), K2 = prf(SKEYID_e, K1), ...
    k1 = theirs(hash_, keys.e, b"\0")
    k2 = theirs(hash_, keys.e, k1)
    assert keys.cipher == ((k1 + k2) if stretched else keys.e)[:octets]
    assert len(keys.cipher) == octets


def test_proofs() -> None:
    sha1 = suite().hash
    i, r, t = b"\x04" * 256, b"\x05" * 256, TRANSCRIPT
    assert k.hash_i(sha1, b"s", t, b"IDii") == theirs("sha1", b"s", i + r + CKY_I + CKY_R + b"SAi_bIDii")
    assert k.hash_r(sha1, b"s", t, b"IDir") == theirs("sha1", b"s", r + i + CKY_R + CKY_I + b"SAi_bIDir")


def test_hashes_of_quick_mode() -> None:
    sha256 = suite("aes128", "sha256").hash
    m_id = bytes.fromhex("8b7d0e07")
    assert k.hash_1(sha256, b"a", 0x8B7D0E07, b"rest") == theirs("sha256", b"a", m_id + b"rest")
    assert k.hash_2(sha256, b"a", 0x8B7D0E07, NI, b"rest") == theirs("sha256", b"a", m_id + NI + b"rest")
    assert k.hash_3(sha256, b"a", 0x8B7D0E07, NI, NR) == theirs("sha256", b"a", b"\0" + m_id + NI + NR)


@pytest.mark.parametrize("shared_secret", [b"", b"\x09" * 128])
@pytest.mark.parametrize("name", ["aes128-sha1", "aes256-sha512", "3des-sha1", "aes256gcm16", "null-sha256"])
def test_keys_of_an_esp_sa(name: str, shared_secret: bytes) -> None:
    esp, spi = parse_esp_suite(name), b"\xc0\xff\xee\x01"
    seed = shared_secret + b"\x03" + spi + NI + NR
    k1 = theirs("sha1", b"SKEYID_d", seed)
    stream = block = k1
    while len(stream) < esp.keymat_octets:
        block = theirs("sha1", b"SKEYID_d", block + seed)
        stream += block
    keys = k.derive_child_keys(suite().hash, b"SKEYID_d", esp, 3, spi, NI, NR, shared_secret)
    assert keys.encr + keys.integ == stream[: esp.keymat_octets]
    assert len(keys.encr) == esp.encr.keymat_octets


def test_each_direction_has_keys_of_its_own() -> None:
    esp = parse_esp_suite("aes128-sha1")
    one, other = (k.derive_child_keys(suite().hash, b"d", esp, 3, spi, NI, NR) for spi in (b"spi1", b"spi2"))
    assert one.encr != other.encr
    assert one.integ != other.integ


def test_ivs() -> None:
    for encr, octets in (("aes256", 16), ("3des", 8)):
        s = suite(encr)
        assert k.phase_1_iv(s, b"KEi", b"KEr") == hashlib.sha1(b"KEiKEr").digest()[:octets]
        wanted = hashlib.sha1(b"last" + b"\0\0\0\x07").digest()[:octets]
        assert k.exchange_iv(s, b"last", 7) == wanted


@pytest.mark.parametrize("encr", ["aes128", "aes192", "aes256", "3des"])
def test_messages_are_chained(encr: str) -> None:
    row = suite(encr).encr
    key, iv = bytes(range(row.key_octets)), bytes(row.block_octets)
    first = k.encrypt(row, key, iv, b"first message")
    second = k.encrypt(row, key, k.last_block(row, first), b"second")
    # CBC: two messages in a row are one, padded in the middle
    padded = b"first message".ljust(16, b"\0")
    assert k.encrypt(row, key, iv, padded + b"second") == first + second
    assert k.decrypt(row, key, iv, first) == padded
    assert k.decrypt(row, key, k.last_block(row, first), second).rstrip(b"\0") == b"second"
    assert k.encrypt(row, key, iv, b"") == b""


@pytest.mark.parametrize("octets", [0, 1, 15, 17, 255])
def test_what_is_not_whole_blocks_is_not_decrypted(octets: int) -> None:
    row = suite("aes128").encr
    with pytest.raises(CryptoError, match="no whole blocks"):
        k.decrypt(row, bytes(16), bytes(16), bytes(octets))


@pytest.mark.parametrize("encr", ["aes128gcm16", "aes128ctr", "null", "chacha20poly1305"])
def test_no_other_ciphers(encr: str) -> None:
    row = encr_by_keyword(encr)
    assert row is not None
    assert not k.fits_phase_1(row)
    with pytest.raises(CryptoError):
        k.encrypt(row, bytes(32), bytes(16), b"")
    assert k.fits_phase_1(suite("3des").encr)


def test_keys_are_not_made_of_nothing() -> None:
    sha1 = suite().hash
    with pytest.raises(CryptoError, match="no pre-shared key"):
        k.skeyid_psk(sha1, b"", NI, NR)
    with pytest.raises(CryptoError, match="no Diffie-Hellman secret"):
        k.skeyid_signatures(sha1, NI, NR, b"")
    with pytest.raises(CryptoError, match="no SKEYID"):
        k.derive_keys(suite(), b"", SHARED, CKY_I, CKY_R)
    with pytest.raises(CryptoError, match="no Diffie-Hellman secret"):
        k.derive_keys(suite(), b"s", b"", CKY_I, CKY_R)
    with pytest.raises(CryptoError, match="no SKEYID_d"):
        k.derive_child_keys(sha1, b"", parse_esp_suite("aes128-sha1"), 3, b"spi1", NI, NR)


def test_names_and_secrets() -> None:
    assert suite("aes128", "sha256").name == "aes128-sha256-modp2048"
    keys = k.derive_keys(suite(), b"SKEYID", SHARED, CKY_I, CKY_R)
    assert repr(keys) == "Ikev1Keys()"
