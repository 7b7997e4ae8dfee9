import hmac

import pytest

from espudp.crypto.aead import CipherKeys
from espudp.crypto.ikekeys import (
    IkeKeys,
    IkeSuite,
    derive_child_keys,
    derive_ike_keys,
    derive_rekeyed_ike_keys,
)
from espudp.crypto.prf import prf, prf_plus
from espudp.crypto.suites import (
    Dh,
    Prf,
    dh_by_keyword,
    encr_by_keyword,
    integ_by_keyword,
    parse_esp_suite,
    prf_by_keyword,
)
from espudp.errors import CryptoError
from tests.unit.crypto.vectors import by_id, shared, unhex

NI, NR, SPI_I, SPI_R = b"i" * 32, b"r" * 24, b"\1" * 8, b"\2" * 8


def prf_row(keyword: str) -> Prf:
    row = prf_by_keyword(keyword)
    assert row is not None
    return row


def ike_suite(encr: str, integ: str | None, prf_keyword: str) -> IkeSuite:
    encr_row = encr_by_keyword(encr)
    integ_row = None if integ is None else integ_by_keyword(integ)
    dh: Dh | None = dh_by_keyword("modp2048")
    assert encr_row is not None
    assert dh is not None
    return IkeSuite(encr_row, integ_row, prf_row(prf_keyword), dh)


def joined(keys: IkeKeys) -> bytes:
    """In the order of RFC 7296 section 2.14."""
    return keys.d + keys.ai + keys.ar + keys.ei + keys.er + keys.pi + keys.pr


def joined_child(keys: tuple[CipherKeys, CipherKeys]) -> bytes:
    return b"".join(half.encr + half.integ for half in keys)


def test_aosp_ike_sa_and_child_sa() -> None:
    vector = by_id(shared("kdf", "aosp_prf_keymat.json"))["aosp-sha1-full"]
    ni, nr, spii, spir = (unhex(vector[name]) for name in ("ni", "nr", "spii", "spir"))
    suite = ike_suite("aes128", "sha1", "prfsha1")
    assert prf(suite.prf, ni + nr, unhex(vector["gir"])) == unhex(vector["skeyseed"])
    keys = derive_ike_keys(suite, unhex(vector["gir"]), ni, nr, spii, spir)
    assert joined(keys) == unhex(vector["keymat"])
    child = derive_child_keys(suite.prf, keys.d, parse_esp_suite("aes128-sha1"), ni, nr)
    assert joined_child(child) == unhex(vector["child_keymat"])


def test_aosp_skeyseed_sha256() -> None:
    vector = by_id(shared("kdf", "aosp_prf_keymat.json"))["aosp-sha256-skeyseed"]
    ni, nr, gir = (unhex(vector[name]) for name in ("ni", "nr", "gir"))
    assert prf(prf_row("prfsha256"), ni + nr, gir) == unhex(vector["skeyseed"])


def test_cavp_ike_child_pfs_and_rekey() -> None:
    vector = by_id(shared("kdf", "libreswan_cavp.json"))["ikev2-sha1"]
    ni, nr, spii, spir = (unhex(vector[name]) for name in ("Ni", "Nr", "SPIi", "SPIr"))
    gir, new_gir, dkm = unhex(vector["g^ir"]), unhex(vector["g^ir (new)"]), unhex(vector["DKM"])
    p = prf_row("prfsha1")
    assert prf(p, ni + nr, gir) == unhex(vector["SKEYSEED"])
    assert prf_plus(p, unhex(vector["SKEYSEED"]), ni + nr + spii + spir, len(dkm)) == dkm

    keys = derive_ike_keys(ike_suite("aes128", "sha1", "prfsha1"), gir, ni, nr, spii, spir)
    assert joined(keys) == dkm[: len(joined(keys))]
    esp = parse_esp_suite("aes128-sha256")
    without, with_dh = unhex(vector["DKM(Child SA)"]), unhex(vector["DKM(Child SA D-H)"])
    child = joined_child(derive_child_keys(p, keys.d, esp, ni, nr))
    assert child == without[: len(child)]
    pfs = joined_child(derive_child_keys(p, keys.d, esp, ni, nr, new_gir))
    assert pfs == with_dh[: len(pfs)]

    suite = ike_suite("aes128", "sha1", "prfsha1")
    rekeyed = derive_rekeyed_ike_keys(p, keys.d, suite, new_gir, ni, nr, spii, spir)
    seed = unhex(vector["SKEYSEED(Rekey)"])
    assert joined(rekeyed) == prf_plus(p, seed, ni + nr + spii + spir, len(joined(rekeyed)))


def reference_prf_plus(hash_name: str, key: bytes, seed: bytes, octets: int) -> bytes:
    stream = block = b""
    for number in range(1, 20):
        block = hmac.digest(key, block + seed + bytes([number]), hash_name)
        stream += block
    return stream[:octets]


@pytest.mark.parametrize(
    ("encr", "integ", "sizes"),
    [
        ("aes256gcm16", None, (32, 0, 0, 36, 36, 32, 32)),
        ("chacha20poly1305", None, (32, 0, 0, 36, 36, 32, 32)),
        ("aes192", "sha512", (32, 64, 64, 24, 24, 32, 32)),
    ],
)
def test_ike_keys_are_cut_in_order(encr: str, integ: str | None, sizes: tuple[int, ...]) -> None:
    """RFC 7296 section 2.14; RFC 5282 section 7: an AEAD has no SK_a, and its salt follows the key."""
    keys = derive_ike_keys(ike_suite(encr, integ, "prfsha256"), b"secret", NI, NR, SPI_I, SPI_R)
    parts = (keys.d, keys.ai, keys.ar, keys.ei, keys.er, keys.pi, keys.pr)
    assert tuple(map(len, parts)) == sizes
    skeyseed = hmac.digest(NI + NR, b"secret", "sha256")
    assert joined(keys) == reference_prf_plus("sha256", skeyseed, NI + NR + SPI_I + SPI_R, sum(sizes))
    assert keys.initiator == CipherKeys(keys.ei, keys.ai)
    assert keys.responder == CipherKeys(keys.er, keys.ar)


def test_a_rekey_starts_with_the_old_prf_and_goes_on_with_the_new_one() -> None:
    """RFC 7296 section 2.18."""
    new = ike_suite("aes128gcm16", None, "prfsha512")
    keys = derive_rekeyed_ike_keys(prf_row("prfsha1"), b"d" * 20, new, b"secret", NI, NR, SPI_I, SPI_R)
    skeyseed = hmac.digest(b"d" * 20, b"secret" + NI + NR, "sha1")
    expected = reference_prf_plus("sha512", skeyseed, NI + NR + SPI_I + SPI_R, 3 * 64 + 2 * 20)
    assert joined(keys) == expected


@pytest.mark.parametrize("shared_secret", [b"", b"pfs"])
def test_child_keys_are_cut_in_order(shared_secret: bytes) -> None:
    """RFC 7296 section 2.17: from initiator to responder first; the cipher's key before the HMAC's."""
    p = prf_row("prfsha384")
    out, back = derive_child_keys(p, b"d" * 48, parse_esp_suite("aes256-sha384-esn"), NI, NR, shared_secret)
    stream = reference_prf_plus("sha384", b"d" * 48, shared_secret + NI + NR, 160)
    assert (out.encr, out.integ) == (stream[:32], stream[32:80])
    assert (back.encr, back.integ) == (stream[80:112], stream[112:160])


def test_aead_child_keys_have_their_salt_and_nothing_else() -> None:
    out, back = derive_child_keys(prf_row("prfsha256"), b"d" * 32, parse_esp_suite("aes128gcm16"), NI, NR)
    assert (len(out.encr), out.integ, len(back.encr), back.integ) == (20, b"", 20, b"")
    assert out.encr != back.encr


def test_no_keys_from_nothing() -> None:
    """CVE-2018-10811: key derivation went on after the PRF had failed to come into being."""
    suite = ike_suite("aes128gcm16", None, "prfsha256")
    with pytest.raises(CryptoError, match="Diffie-Hellman"):
        derive_ike_keys(suite, b"", NI, NR, SPI_I, SPI_R)
    with pytest.raises(CryptoError, match="Diffie-Hellman"):
        derive_rekeyed_ike_keys(suite.prf, b"d", suite, b"", NI, NR, SPI_I, SPI_R)
    with pytest.raises(CryptoError, match="SK_d"):
        derive_rekeyed_ike_keys(suite.prf, b"", suite, b"secret", NI, NR, SPI_I, SPI_R)
    with pytest.raises(CryptoError, match="SK_d"):
        derive_child_keys(suite.prf, b"", parse_esp_suite("aes128gcm16"), NI, NR)


def test_names() -> None:
    assert ike_suite("aes128gcm16", None, "prfsha256").name == "aes128gcm16-prfsha256-modp2048"
    assert ike_suite("aes256", "sha256", "prfsha256").name == "aes256-sha256-prfsha256-modp2048"


def test_keys_do_not_show() -> None:
    keys = derive_ike_keys(ike_suite("aes128", "sha1", "prfsha1"), b"secret", NI, NR, SPI_I, SPI_R)
    assert repr(keys) == str(keys) == "IkeKeys()"
    assert repr(keys.initiator) == "CipherKeys()"
