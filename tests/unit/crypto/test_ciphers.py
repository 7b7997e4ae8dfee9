"""Ciphers and MACs for old peers and for special ones: known answers first."""

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM
from hypothesis import given
from hypothesis import strategies as st

from espudp.crypto.aead import CipherKeys, make_opener, make_sealer
from espudp.crypto.ikekeys import IkeSuite, derive_child_keys, derive_ike_keys
from espudp.crypto.mac import keyed
from espudp.crypto.prf import prf, prf_plus
from espudp.crypto.suites import (
    Encr,
    Integ,
    Prf,
    dh_by_keyword,
    encr_by_keyword,
    integ_by_keyword,
    parse_esp_suite,
    prf_by_keyword,
)
from espudp.errors import CryptoError
from tests.unit.crypto import reference
from tests.unit.crypto.seeded import keys_for, seeded_rng
from tests.unit.crypto.vectors import own, shared, unhex, wycheproof

MACS = {"AES-XCBC-MAC": "aes-xcbc", "AES-XCBC-PRF-128": "aes-xcbc", "AES-CMAC-PRF-128": "aes-cmac"}


def encr_row(keyword: str) -> Encr:
    row = encr_by_keyword(keyword)
    assert row is not None
    return row


def integ_row(keyword: str) -> Integ:
    row = integ_by_keyword(keyword)
    assert row is not None
    return row


def prf_row(keyword: str) -> Prf:
    row = prf_by_keyword(keyword)
    assert row is not None
    return row


def mac_of(name: str, key: bytes, message: bytes) -> bytes:
    mac = keyed(name, key)
    mac.update(message)
    return mac.finalize()


# --- MACs and PRFs made of AES ---


@pytest.mark.parametrize("vector", own("aes_mac.json"), ids=lambda vector: vector["id"])
def test_macs_of_aes(vector: dict[str, str]) -> None:
    """RFC 3566 section 4; RFC 4434 and RFC 4615 with keys of 10, 16 and 18 octets."""
    name, key, message = MACS[vector["alg"]], unhex(vector["key"]), unhex(vector["message"])
    assert mac_of(name, key, message) == unhex(vector["mac"])
    assert prf(prf_row(f"prf{name.replace('-', '')}"), key, message) == unhex(vector["mac"])


def test_aes_cmac_wycheproof() -> None:
    seen = {"valid": 0, "invalid": 0}
    for group, test in wycheproof("aes_cmac"):
        if group["keySize"] == 128:
            mac = mac_of("aes-cmac", unhex(test["key"]), unhex(test["msg"]))
            assert (mac == unhex(test["tag"])) == (test["result"] == "valid"), test["tcId"]
            seen[test["result"]] += 1
    assert min(seen.values()) > 20


@given(st.binary(min_size=16, max_size=16), st.lists(st.binary(max_size=40), max_size=5))
def test_xcbc_in_pieces_and_copied(key: bytes, pieces: list[bytes]) -> None:
    blank = keyed("aes-xcbc", key)
    mac = blank.copy()
    for piece in pieces:
        mac = mac.copy()
        mac.update(memoryview(piece))
    assert mac.finalize() == reference.xcbc(key, b"".join(pieces))
    assert blank.finalize() == reference.xcbc(key, b"")


@pytest.mark.parametrize("name", ["prfaesxcbc", "prfaescmac"])
def test_prf_plus_with_aes(name: str) -> None:
    """RFC 7296 section 2.13."""
    p, key = prf_row(name), bytes(range(16))
    plain = reference.xcbc if name == "prfaesxcbc" else reference.cmac
    t1 = plain(key, b"seed\x01")
    t2 = plain(key, t1 + b"seed\x02")
    assert prf_plus(p, key, b"seed", 25) == (t1 + t2)[:25]


@pytest.mark.parametrize("name", ["prfaesxcbc", "prfaescmac"])
def test_skeyseed_takes_64_bits_of_each_nonce(name: str) -> None:
    """RFC 7296 section 2.14: but prf+ takes all of them."""
    group = dh_by_keyword("modp2048")
    assert group is not None
    suite = IkeSuite(encr_row("aes128"), integ_row("aesxcbc"), prf_row(name), group)
    ni, nr, spis = bytes(range(32)), bytes(range(100, 120)), b"initiatoresponder"[:16]
    keys = derive_ike_keys(suite, b"secret", ni, nr, spis[:8], spis[8:])
    seed = prf(suite.prf, ni[:8] + nr[:8], b"secret")
    stream = prf_plus(suite.prf, seed, ni + nr + spis, 7 * 16)
    assert (keys.d, keys.ai, keys.ar, keys.ei) == (stream[:16], stream[16:32], stream[32:48], stream[48:64])
    assert (keys.er, keys.pi, keys.pr) == (stream[64:80], stream[80:96], stream[96:])


# --- known answers of ciphers ---


@pytest.mark.parametrize("vector", own("rfc3686_ctr.json"), ids=lambda vector: vector["id"])
def test_aes_ctr(vector: dict[str, str]) -> None:
    key, iv = unhex(vector["key"]), unhex(vector["iv"])
    keys = CipherKeys(key + unhex(vector["nonce"]), bytes(32))
    encr, integ = encr_row(f"aes{8 * len(key)}ctr"), integ_row("sha256")
    sealer = make_sealer(encr, integ, keys, seeded_rng())
    body = sealer.seal(int.from_bytes(iv, "big"), b"aad", unhex(vector["plaintext"]))
    assert body[:8] == iv
    assert body[8:-16] == unhex(vector["ciphertext"])
    assert make_opener(encr, integ, keys).open(b"aad", body) == unhex(vector["plaintext"])


def test_gcm_with_short_icvs_wycheproof() -> None:
    """NIST SP 800-38D section 7.1: a shorter tag is the front of the longer one."""
    seen = {"valid": 0, "invalid": 0}
    for group, test in wycheproof("aes_gcm"):
        if group["ivSize"] != 96:
            continue
        iv, key, aad = unhex(test["iv"]), unhex(test["key"]), unhex(test["aad"])
        for octets in (8, 12):
            encr, keys = encr_row(f"aes{8 * len(key)}gcm{octets}"), CipherKeys(key + iv[:4])
            body = iv[4:] + unhex(test["ct"]) + unhex(test["tag"])[:octets]
            opened = make_opener(encr, None, keys).open(aad, body)
            if test["result"] == "valid":
                counter = int.from_bytes(iv[4:], "big")
                sealed = make_sealer(encr, None, keys, seeded_rng()).seal(counter, aad, unhex(test["msg"]))
                assert sealed == body, test["tcId"]
                assert opened == unhex(test["msg"]), test["tcId"]
            else:
                # Of a forgery that differs behind the front, nothing is seen.
                assert opened is None or unhex(test["tag"])[:octets] == body[-octets:], test["tcId"]
            seen[test["result"]] += 1
    assert min(seen.values()) > 20


@pytest.mark.parametrize("bits", [128, 192, 256])
def test_gmac_covers_the_iv(bits: int) -> None:
    """RFC 4543 section 3.3: SPI, sequence number, IV and payload, in this order."""
    encr = encr_row(f"aes{bits}gmac")
    material, aad, plaintext = seeded_rng(bits)(encr.keymat_octets), b"spi!seq!", bytes(range(52))
    body = make_sealer(encr, None, CipherKeys(material), seeded_rng()).seal(7, aad, plaintext)
    iv = (7).to_bytes(8, "big")
    encryptor = Cipher(AES(material[:-4]), GCM(material[-4:] + iv)).encryptor()
    for part in (aad, iv, plaintext):
        encryptor.authenticate_additional_data(part)
    encryptor.finalize()
    assert body == iv + plaintext + encryptor.tag


def test_ccm_wycheproof() -> None:
    """RFC 4309 section 4: nonces of 11 octets."""
    seen = {"valid": 0, "invalid": 0}
    for group, test in wycheproof("aes_ccm"):
        if (group["ivSize"], group["tagSize"]) != (88, 128):
            continue
        iv, key = unhex(test["iv"]), unhex(test["key"])
        encr, keys = encr_row(f"aes{8 * len(key)}ccm16"), CipherKeys(key + iv[:3])
        body = iv[3:] + unhex(test["ct"]) + unhex(test["tag"])
        opened = make_opener(encr, None, keys).open(unhex(test["aad"]), body)
        assert opened == (unhex(test["msg"]) if test["result"] == "valid" else None), test["tcId"]
        seen[test["result"]] += 1
    assert seen["valid"] > 10


# What Wycheproof has none of: RFC 3610 section 8 is about another nonce, so CCM is made of its parts here.


@pytest.mark.parametrize("octets", [8, 12, 16])
@pytest.mark.parametrize("bits", [128, 192, 256])
def test_ccm_by_its_parts(bits: int, octets: int) -> None:
    """RFC 3610 section 2, with L = 4."""
    encr = encr_row(f"aes{bits}ccm{octets}")
    material, aad, plaintext = seeded_rng(bits)(encr.keymat_octets), b"spi!seq!", bytes(range(52))
    key, salt = material[:-3], material[-3:]
    body = make_sealer(encr, None, CipherKeys(material), seeded_rng()).seal(7, aad, plaintext)
    nonce = salt + (7).to_bytes(8, "big")
    flags = 0x40 | (octets - 2) // 2 << 3 | 3
    covered = len(aad).to_bytes(2, "big") + aad
    blocks = [bytes([flags]) + nonce + len(plaintext).to_bytes(4, "big")]
    for part in (covered, plaintext):
        padded = part + bytes(-len(part) % 16)
        blocks += [padded[at : at + 16] for at in range(0, len(padded), 16)]
    chain = bytes(16)
    for block in blocks:
        chain = reference.aes_block(key, reference.xor(block, chain))
    stream = reference.ctr(key, b"\x03" + nonce, bytes(16) + plaintext, first=0)
    tag = reference.xor(chain, stream)[:octets]
    assert body == nonce[3:] + reference.ctr(key, b"\x03" + nonce, plaintext) + tag


DPDK = {
    "dpdk-pkt_3des_cbc_hmac_sha256": "3des-sha256",
    "dpdk-pkt_aes_128_ctr_hmac_sha256": "aes128ctr-sha256",
    "dpdk-pkt_null_aes_xcbc": "null-aesxcbc",
}


@pytest.mark.parametrize(("id", "name"), DPDK.items())
def test_whole_packets_of_dpdk(id: str, name: str) -> None:
    vector = next(v for v in shared("esp", "dpdk_ipsec.json") if v["id"] == id)
    suite = parse_esp_suite(name)
    keys = CipherKeys(
        unhex(vector["encr_key"] or "") + unhex(vector["salt"] or ""), unhex(vector["integ_key"])
    )
    esp, inner = unhex(vector["output_ip_packet"])[20:], unhex(vector["input_ip_packet"])
    iv = unhex(vector["iv"] or "")
    opener = make_opener(suite.encr, suite.integ, keys)
    plaintext = opener.open(esp[:8], esp[8:])
    assert plaintext is not None
    assert plaintext.startswith(inner)
    assert plaintext[-1] == 4
    assert opener.open(esp[:8], esp[8:-1] + bytes([esp[-1] ^ 1])) is None
    sealer = make_sealer(suite.encr, suite.integ, keys, lambda octets: iv)
    assert sealer.seal(int.from_bytes(iv, "big"), esp[:8], plaintext) == esp[8:]


# --- sizes, RFC by RFC ---


@pytest.mark.parametrize(
    ("name", "keymat", "salt"),
    [
        ("aes128gcm8", 20, 4),  # RFC 4106 section 8.1
        ("aes256gcm12", 36, 4),
        ("aes128ccm8", 19, 3),  # RFC 4309 section 7.1
        ("aes192ccm12", 27, 3),
        ("aes256ccm16", 35, 3),
        ("aes192gmac", 28, 4),  # RFC 4543 section 5.2
        ("aes256ctr-sha256", 36 + 32, 4),  # RFC 3686 section 5.1
        ("3des-sha1", 24 + 20, 0),
        ("null-sha512", 64, 0),
        ("aes128-aesxcbc", 32, 0),
        ("aes256-aescmac", 48, 0),
    ],
)
def test_key_material(name: str, keymat: int, salt: int) -> None:
    suite = parse_esp_suite(name)
    assert (suite.keymat_octets, suite.encr.salt_octets) == (keymat, salt)
    p = prf_row("prfsha256")
    out, back = derive_child_keys(p, b"d" * 32, suite, b"i" * 16, b"r" * 16)
    stream = prf_plus(p, b"d" * 32, b"i" * 16 + b"r" * 16, 2 * keymat)
    assert out.encr + out.integ + back.encr + back.integ == stream
    assert len(out.encr) == suite.encr.keymat_octets


def test_a_nonce_is_salt_and_iv() -> None:
    """The salt changes what is sealed, and is not sent."""
    for name in ("aes128gcm8", "aes128ccm16", "aes128gmac", "aes128ctr-sha1"):
        suite = parse_esp_suite(name)
        keys = keys_for(suite)
        other = CipherKeys(keys.encr[:-1] + bytes([keys.encr[-1] ^ 1]), keys.integ)
        bodies = [
            make_sealer(suite.encr, suite.integ, k, seeded_rng()).seal(5, b"spi!seq!", bytes(32))
            for k in (keys, other)
        ]
        assert bodies[0][:8] == bodies[1][:8] == (5).to_bytes(8, "big")
        assert bodies[0][8:] != bodies[1][8:]


def test_3des_wants_whole_blocks() -> None:
    suite = parse_esp_suite("3des-sha1")
    keys = keys_for(suite)
    sealer = make_sealer(suite.encr, suite.integ, keys, seeded_rng())
    for octets in (1, 7, 9):
        with pytest.raises(CryptoError, match="whole blocks"):
            sealer.seal(1, b"", bytes(octets))
    opener = make_opener(suite.encr, suite.integ, keys)
    assert opener.open(b"", sealer.seal(1, b"", bytes(16))) == bytes(16)
    covered = bytes(8) + bytes(9)
    forged = covered + reference.icv(integ_row("sha1"), keys.integ, covered)
    assert opener.open(b"", forged) is None


def test_ivs_of_3des_are_drawn() -> None:
    suite = parse_esp_suite("3des-sha1")
    sealer = make_sealer(suite.encr, suite.integ, keys_for(suite), seeded_rng())
    ivs = {sealer.seal(1, b"", bytes(8))[:8] for _ in range(50)}
    assert len(ivs) == 50


def test_room_that_does_not_fit_is_an_error() -> None:
    for name in ("aes128ctr-sha1", "null-sha1", "3des-sha1", "aes128gcm8", "aes128gmac", "aes128ccm8"):
        suite = parse_esp_suite(name)
        sealer = make_sealer(suite.encr, suite.integ, keys_for(suite), seeded_rng())
        size = sealer.iv_octets + 48 + sealer.icv_octets
        for wrong in (size - 1, size + 1):
            with pytest.raises(CryptoError):
                sealer.seal_into(1, b"spi!seq!", bytes(48), b"", memoryview(bytearray(wrong)))
