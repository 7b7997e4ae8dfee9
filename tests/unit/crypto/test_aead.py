import itertools

import pytest
from cryptography.exceptions import InternalError, UnsupportedAlgorithm

from espudp.crypto.aead import CipherKeys, make_opener, make_sealer
from espudp.crypto.random import Rng
from espudp.crypto.suites import ESP_SUITES, Encr, EspSuite, Integ, encr_by_keyword, integ_by_keyword
from espudp.errors import CryptoError
from tests.unit.crypto.reference import cbc_decrypt
from tests.unit.crypto.seeded import keys_for, seeded_rng
from tests.unit.crypto.vectors import SOME_SUITES, own, shared, unhex, wycheproof

AAD = b"spi!seq!"

suites = pytest.mark.parametrize("suite", SOME_SUITES, ids=lambda suite: suite.name)
aead_suites = pytest.mark.parametrize(
    "suite", [suite for suite in SOME_SUITES if suite.integ is None], ids=lambda suite: suite.name
)


def encr_row(keyword: str) -> Encr:
    row = encr_by_keyword(keyword)
    assert row is not None
    return row


def integ_row(keyword: str) -> Integ:
    row = integ_by_keyword(keyword)
    assert row is not None
    return row


def aead_by_key(key: bytes) -> Encr:
    """AES-GCM of the size that a key with its salt has."""
    return next(row for row in ESP_SUITES if row.encr.is_aead and row.encr.keymat_octets == len(key)).encr


def check_aead(
    encr: Encr, key: bytes, aad: bytes, plaintext: bytes, body: bytes, note: object = None
) -> None:
    """Sealed it is `body`, and `body` opens to the plaintext."""
    keys = CipherKeys(key)
    counter = int.from_bytes(body[:8], "big")
    sealer = make_sealer(encr, None, keys, seeded_rng())
    assert sealer.seal(counter, aad, plaintext) == body, note
    out = bytearray(len(body))
    sealer.seal_into(counter, aad, plaintext, b"", memoryview(out))
    assert out == body, note
    assert make_opener(encr, None, keys).open(aad, body) == plaintext, note


# --- known answers ---


@pytest.mark.parametrize("vector", own("gcm.json"), ids=lambda vector: vector["id"])
def test_aes_gcm(vector: dict[str, str]) -> None:
    key = unhex(vector["key"])
    check_aead(aead_by_key(key), key, unhex(vector["aad"]), unhex(vector["plaintext"]), unhex(vector["body"]))


@pytest.mark.parametrize("vector", own("rfc7634.json"), ids=lambda vector: vector["id"])
def test_chacha20_poly1305_in_esp_and_in_ike(vector: dict[str, str]) -> None:
    fields = (unhex(vector[name]) for name in ("key", "aad", "plaintext", "body"))
    check_aead(encr_row("chacha20poly1305"), *fields)


def cbc_keys(vector: dict[str, str], key: str = "key") -> tuple[EspSuite, CipherKeys]:
    suite = EspSuite(encr_row("aes128"), integ_row("sha256"))
    return suite, CipherKeys(unhex(vector[key]), b"\7" * 32)


def rng_for_iv(key: bytes, iv: bytes) -> Rng:
    """Makes a new sealer's first IV `iv`. The chain begins at 0, so the block that it needs is D(iv)."""
    block = cbc_decrypt(key, bytes(16), iv)
    return lambda octets: block * (octets // 16)


@pytest.mark.parametrize("vector", own("rfc3602_cbc.json"), ids=lambda vector: vector["id"])
def test_aes_cbc_rfc3602(vector: dict[str, str]) -> None:
    suite, keys = cbc_keys(vector)
    iv, plaintext = unhex(vector["iv"]), unhex(vector["plaintext"])
    rng = rng_for_iv(keys.encr, iv)
    sealer = make_sealer(suite.encr, suite.integ, keys, rng)
    body = sealer.seal(1, AAD, plaintext)
    assert body[:-16] == iv + unhex(vector["ciphertext"])
    assert make_opener(suite.encr, suite.integ, keys).open(AAD, body) == plaintext


@pytest.mark.parametrize("vector", own("rfc3602_esp.json"), ids=lambda vector: vector["id"])
def test_esp_packets_of_rfc3602(vector: dict[str, str]) -> None:
    """The RFC's packets have no ICV, so that is the one part which is ours."""
    suite, keys = cbc_keys(vector, "encr_key")
    esp, plaintext = unhex(vector["esp"]), unhex(vector["padded_plaintext"])
    rng = rng_for_iv(keys.encr, unhex(vector["iv"]))
    sealer = make_sealer(suite.encr, suite.integ, keys, rng)
    body = sealer.seal(1, esp[:8], plaintext)
    assert esp[:8] + body[:-16] == esp
    assert make_opener(suite.encr, suite.integ, keys).open(esp[:8], body) == plaintext


def test_esp_packets_with_gcm_and_esn() -> None:
    with_esn = 0
    for vector in shared("esp", "mcgrew_gcm_esp.json"):
        key = unhex(vector["encr_key"] + vector["salt"])
        esp, aad = unhex(vector["esp"]), unhex(vector["aad"])
        check_aead(aead_by_key(key), key, aad, unhex(vector["padded_plaintext"]), esp[8:], vector["id"])
        if vector["esn"]:
            # The high half is authenticated, though it is not on the wire
            assert make_opener(aead_by_key(key), None, CipherKeys(key)).open(esp[:8], esp[8:]) is None
            with_esn += 1
    assert with_esn >= 3


def test_whole_packets_of_dpdk() -> None:
    opened = 0
    for vector in shared("esp", "dpdk_ipsec.json"):
        if vector["aead"] == "AES_GCM":
            keys = CipherKeys(unhex(vector["encr_key"] + vector["salt"]))
            opener = make_opener(aead_by_key(keys.encr), None, keys)
        elif vector["cipher"] == "AES_CBC":
            keys = CipherKeys(unhex(vector["encr_key"]), unhex(vector["integ_key"]))
            opener = make_opener(encr_row("aes128"), integ_row("sha256"), keys)
        else:
            continue
        esp, inner = unhex(vector["output_ip_packet"])[20:], unhex(vector["input_ip_packet"])
        plaintext = opener.open(esp[:8], esp[8:])
        assert plaintext is not None, vector["id"]
        assert plaintext.startswith(inner), vector["id"]
        assert plaintext[-1] == 4, vector["id"]
        opened += 1
    assert opened == 3


def test_ike_message_of_aosp() -> None:
    """RFC 7296 section 3.14: the IKE header and the SK payload's own are authenticated before the body."""
    vector = next(v for v in shared("ike", "aosp_sk_skf.json") if v["encr"] == "AES-CBC-128")
    message, padding = unhex(vector["message"]), unhex(vector["padding"])
    opener = make_opener(
        encr_row("aes128"), integ_row("sha1"), CipherKeys(unhex(vector["sk_e"]), unhex(vector["sk_a"]))
    )
    expected = unhex(vector["inner"]) + padding + bytes([len(padding)])
    assert opener.open(message[:32], message[32:]) == expected
    assert opener.open(message[:31] + b"\xff", message[32:]) is None


@pytest.mark.parametrize("name", ["aes_gcm", "chacha20_poly1305"])
def test_aead_wycheproof(name: str) -> None:
    seen = {"valid": 0, "invalid": 0}
    for group, test in wycheproof(name):
        if (group["ivSize"], group["tagSize"]) != (96, 128):
            continue
        iv, key = unhex(test["iv"]), unhex(test["key"])
        encr = encr_row("chacha20poly1305" if name != "aes_gcm" else f"aes{len(key) * 8}gcm16")
        # The nonce is the salt and the explicit IV
        material, aad, plaintext = key + iv[:4], unhex(test["aad"]), unhex(test["msg"])
        body = iv[4:] + unhex(test["ct"]) + unhex(test["tag"])
        if test["result"] == "valid":
            check_aead(encr, material, aad, plaintext, body, test["tcId"])
        else:
            assert make_opener(encr, None, CipherKeys(material)).open(aad, body) is None, test["tcId"]
        seen[test["result"]] += 1
    assert min(seen.values()) > 20


def test_aes_cbc_wycheproof() -> None:
    """These pad as PKCS #5 says. Padding is our caller's business, so the test does it."""
    seen = 0
    for _, test in wycheproof("aes_cbc_pkcs5"):
        if test["result"] != "valid":
            continue
        key, message = unhex(test["key"]), unhex(test["msg"])
        padding = 16 - len(message) % 16
        plaintext = message + bytes([padding]) * padding
        keys = CipherKeys(key, b"\7" * 20)
        encr, integ = encr_row(f"aes{len(key) * 8}"), integ_row("sha1")
        rng = rng_for_iv(key, unhex(test["iv"]))
        body = make_sealer(encr, integ, keys, rng).seal(1, b"", plaintext)
        assert body[16:-12] == unhex(test["ct"]), test["tcId"]
        assert make_opener(encr, integ, keys).open(b"", body) == plaintext
        seen += 1
    assert seen > 50


# --- both ways ---


@pytest.mark.parametrize("suite", ESP_SUITES, ids=lambda suite: suite.name)
def test_what_is_sealed_opens(suite: EspSuite) -> None:
    keys = keys_for(suite)
    sealer = make_sealer(suite.encr, suite.integ, keys, seeded_rng())
    opener = make_opener(suite.encr, suite.integ, keys)
    tail = b"high" if suite.esn and suite.integ else b""
    for counter, blocks in enumerate((1, 0, 2, 94, 1, 4000), start=1):
        plaintext = seeded_rng(counter)(16 * blocks)
        body = sealer.seal(counter, AAD, plaintext, tail)
        assert len(body) == sealer.iv_octets + len(plaintext) + sealer.icv_octets
        assert opener.open(AAD, body, tail) == plaintext
        assert plaintext == b"" or (plaintext not in body) == suite.encr.encrypts


@suites
def test_iv_and_icv_sizes_are_the_suites(suite: EspSuite) -> None:
    keys = keys_for(suite)
    for end in (
        make_sealer(suite.encr, suite.integ, keys, seeded_rng()),
        make_opener(suite.encr, suite.integ, keys),
    ):
        assert (end.iv_octets, end.icv_octets) == (suite.encr.iv_octets, suite.icv_octets)


@suites
def test_seal_into_a_slice_is_seal(suite: EspSuite) -> None:
    keys, plaintext = keys_for(suite), bytes(range(160))
    body = make_sealer(suite.encr, suite.integ, keys, seeded_rng()).seal(9, AAD, plaintext)
    wire = bytearray(b"\xee" * (len(body) + 20))
    sealer = make_sealer(suite.encr, suite.integ, keys, seeded_rng())
    sealer.seal_into(9, memoryview(AAD), memoryview(plaintext), b"", memoryview(wire)[8:-12])
    assert bytes(wire) == b"\xee" * 8 + body + b"\xee" * 12


@suites
def test_any_kind_of_buffer_will_do(suite: EspSuite) -> None:
    keys, plaintext = keys_for(suite), bytes(range(64))
    opener = make_opener(suite.encr, suite.integ, keys)
    kinds = (bytes, bytearray, memoryview)
    for counter, (aad_kind, data_kind) in enumerate(itertools.product(kinds, kinds)):
        sealer = make_sealer(suite.encr, suite.integ, keys, seeded_rng(counter))
        body = sealer.seal(counter, aad_kind(AAD), data_kind(plaintext))
        opened = opener.open(aad_kind(AAD), data_kind(body))
        assert type(opened) is bytes
        assert opened == plaintext


# --- what must not open ---


@suites
def test_every_way_of_being_cut_short(suite: EspSuite) -> None:
    keys = keys_for(suite)
    body = make_sealer(suite.encr, suite.integ, keys, seeded_rng()).seal(1, AAD, bytes(48))
    opener = make_opener(suite.encr, suite.integ, keys)
    for length in range(len(body)):
        assert opener.open(AAD, body[:length]) is None
        assert opener.open(AAD, body[len(body) - length :]) is None
    assert opener.open(AAD, body + b"\0") is None
    assert opener.open(AAD, body) == bytes(48)


@suites
def test_another_key_does_not_open(suite: EspSuite) -> None:
    keys, others = keys_for(suite, seed=2), keys_for(suite, seed=3)
    body = make_sealer(suite.encr, suite.integ, keys, seeded_rng()).seal(1, AAD, bytes(48))
    assert make_opener(suite.encr, suite.integ, others).open(AAD, body) is None


@suites
def test_what_is_authenticated_belongs_to_the_packet(suite: EspSuite) -> None:
    keys = keys_for(suite)
    body = make_sealer(suite.encr, suite.integ, keys, seeded_rng()).seal(1, AAD, bytes(48))
    opener = make_opener(suite.encr, suite.integ, keys)
    for aad in (b"", AAD[:-1], AAD + b"\0", AAD[::-1]):
        assert opener.open(aad, body) is None


@pytest.mark.parametrize(
    "suite", [suite for suite in ESP_SUITES if suite.esn and suite.integ], ids=lambda suite: suite.name
)
def test_the_high_half_of_the_sequence_number_counts(suite: EspSuite) -> None:
    """RFC 4303 section 2.2.1: behind the ciphertext, before the ICV is computed, and not on the wire."""
    keys = keys_for(suite)
    body = make_sealer(suite.encr, suite.integ, keys, seeded_rng()).seal(1, AAD, bytes(16), b"\0\0\0\1")
    opener = make_opener(suite.encr, suite.integ, keys)
    assert opener.open(AAD, body, b"\0\0\0\1") == bytes(16)
    for tail in (b"", bytes(4), b"\0\0\0\2"):
        assert opener.open(AAD, body, tail) is None


# --- what is refused ---


@aead_suites
def test_an_aead_takes_no_tail(suite: EspSuite) -> None:
    """It would not be authenticated, so it is not quietly ignored."""
    keys = keys_for(suite)
    sealer = make_sealer(suite.encr, None, keys, seeded_rng())
    with pytest.raises(CryptoError):
        sealer.seal(1, AAD, bytes(16), b"tail")
    with pytest.raises(CryptoError):
        sealer.seal_into(1, AAD, bytes(16), b"tail", memoryview(bytearray(40)))
    with pytest.raises(CryptoError):
        make_opener(suite.encr, None, keys).open(AAD, bytes(64), b"tail")


@aead_suites
@pytest.mark.parametrize("counter", [-1, 1 << 64])
def test_a_counter_beyond_64_bits(suite: EspSuite, counter: int) -> None:
    sealer = make_sealer(suite.encr, None, keys_for(suite), seeded_rng())
    with pytest.raises(CryptoError):
        sealer.seal(counter, AAD, bytes(16))
    with pytest.raises(CryptoError):
        sealer.seal_into(counter, AAD, bytes(16), b"", memoryview(bytearray(40)))


@suites
@pytest.mark.parametrize("wrong", [-40, -1, 1, 16])
def test_an_output_of_the_wrong_size(suite: EspSuite, wrong: int) -> None:
    sealer = make_sealer(suite.encr, suite.integ, keys_for(suite), seeded_rng())
    size = sealer.iv_octets + 48 + sealer.icv_octets
    with pytest.raises(CryptoError):
        sealer.seal_into(1, AAD, bytes(48), b"", memoryview(bytearray(size + wrong)))


@suites
def test_keys_of_the_wrong_size(suite: EspSuite) -> None:
    good = keys_for(suite)
    for keys in (
        CipherKeys(good.encr + good.encr + b"\0", good.integ),
        CipherKeys(good.encr[:-1], good.integ[: len(good.encr)]),
        CipherKeys(good.encr + b"\0", good.integ),
        CipherKeys(good.encr, good.integ + b"\0"),
        CipherKeys(good.encr, b"\0" * 7),
    ):
        with pytest.raises(CryptoError):
            make_sealer(suite.encr, suite.integ, keys, seeded_rng())
        with pytest.raises(CryptoError):
            make_opener(suite.encr, suite.integ, keys)


def test_encryption_is_never_without_integrity() -> None:
    """RFC 4303 section 3.3.2.1 allows it, RFC 8221 section 4 no longer does."""
    with pytest.raises(CryptoError):
        make_sealer(encr_row("aes128"), None, CipherKeys(bytes(16)), seeded_rng())
    with pytest.raises(CryptoError):
        make_opener(encr_row("aes128"), None, CipherKeys(bytes(16)))
    with pytest.raises(CryptoError):
        make_opener(encr_row("aes128gcm16"), integ_row("sha256"), CipherKeys(bytes(20), bytes(32)))


@suites
def test_keys_do_not_show(suite: EspSuite) -> None:
    keys = CipherKeys(b"K" * suite.encr.keymat_octets, b"K" * (suite.integ.key_octets if suite.integ else 0))
    assert repr(keys) == str(keys) == "CipherKeys()"
    for shown in (
        make_sealer(suite.encr, suite.integ, keys, seeded_rng()),
        make_opener(suite.encr, suite.integ, keys),
    ):
        assert "KKKK" not in repr(shown)
        assert "4b4b" not in repr(shown)
    with pytest.raises(CryptoError) as caught:
        make_opener(suite.encr, suite.integ, CipherKeys(keys.encr + b"K", keys.integ))
    assert "KKKK" not in repr(caught.value)


# --- a library that fails ---


class Failing:
    """Stands in for every object of `cryptography` that an SA holds."""

    def copy(self) -> "Failing":
        return self

    def fail(self, *_: object) -> bytes:
        raise InternalError("OpenSSL has had enough", [])

    encrypt = encrypt_into = decrypt = update = update_into = finalize = fail


@suites
def test_a_failing_library_is_a_crypto_error(suite: EspSuite) -> None:
    """CVE-2018-10811: nothing that a failed call left behind is used."""
    keys = keys_for(suite)
    sealer = make_sealer(suite.encr, suite.integ, keys, seeded_rng())
    opener = make_opener(suite.encr, suite.integ, keys)
    body = sealer.seal(1, AAD, bytes(48))
    cached = ("_cipher",) if suite.encr.is_aead else ("_mac", "_raw", "_encryptor", "_decryptor")
    for name in cached:
        for end in (sealer, opener):
            if hasattr(end, name):
                setattr(end, name, Failing())
        if hasattr(sealer, name):
            with pytest.raises(CryptoError):
                sealer.seal(2, AAD, bytes(48))
            with pytest.raises(CryptoError):
                sealer.seal_into(2, AAD, bytes(48), b"", memoryview(bytearray(len(body))))
        if hasattr(opener, name):
            with pytest.raises(CryptoError):
                opener.open(AAD, body)


@suites
def test_an_algorithm_that_this_build_lacks(suite: EspSuite, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacking(*_: object) -> None:
        raise UnsupportedAlgorithm("not in this build")

    aeads = ("AESCCM", "AESGCM", "ChaCha20Poly1305", "Gmac", "ShortGcm")
    for name in (*aeads, "Cipher", "SeparateOpener", "SeparateSealer"):
        monkeypatch.setattr(f"espudp.crypto.aead.{name}", lacking)
    with pytest.raises(CryptoError, match=suite.encr.keyword):
        make_sealer(suite.encr, suite.integ, keys_for(suite), seeded_rng())
    with pytest.raises(CryptoError, match=suite.encr.keyword):
        make_opener(suite.encr, suite.integ, keys_for(suite))
