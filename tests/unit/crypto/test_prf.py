import hmac

import pytest
from cryptography.exceptions import UnsupportedAlgorithm

from espudp.crypto.auth import equal, psk_auth
from espudp.crypto.digest import cookie_mac, sha1
from espudp.crypto.prf import prf, prf_plus
from espudp.crypto.random import draw
from espudp.crypto.suites import INTEG, PRF, Integ, Prf, prf_by_keyword
from espudp.errors import CryptoError
from tests.unit.crypto.vectors import own, shared, unhex, wycheproof

HMACS = [p for p in PRF if not p.mac.startswith("aes")]
BY_HASH = {p.mac: p for p in HMACS}


@pytest.mark.parametrize("vector", own("hmac.json"), ids=lambda vector: vector["id"])
def test_hmac_rfc2202_and_rfc4231(vector: dict[str, str]) -> None:
    answers = {name: unhex(vector[name]) for name in BY_HASH if name in vector}
    assert answers
    for name, mac in answers.items():
        computed = prf(BY_HASH[name], unhex(vector["key"]), unhex(vector["data"]))
        # RFC 4231's fifth case prints only the first 128 bits
        assert computed[: len(mac)] == mac
        assert len(computed) == BY_HASH[name].output_octets


@pytest.mark.parametrize("integ", [row for row in INTEG if row.mac in BY_HASH], ids=lambda row: row.keyword)
def test_hmac_wycheproof(integ: Integ) -> None:
    p, seen = BY_HASH[integ.mac], {"valid": 0, "invalid": 0}
    for group, test in wycheproof(f"hmac_{integ.mac}"):
        octets = group["tagSize"] // 8
        computed = prf(p, unhex(test["key"]), unhex(test["msg"]))[:octets]
        assert equal(computed, unhex(test["tag"])) == (test["result"] == "valid"), test["tcId"]
        # Cut to the ICV that goes on the wire, where the vector's own tag is at least as long
        if octets >= integ.icv_octets and test["result"] == "valid":
            assert computed[: integ.icv_octets] == unhex(test["tag"])[: integ.icv_octets]
        seen[test["result"]] += 1
    assert min(seen.values()) > 50


@pytest.mark.parametrize("p", HMACS, ids=lambda p: p.keyword)
def test_prf_plus_is_the_chain_of_the_rfc(p: Prf) -> None:
    """RFC 7296 section 2.13, written out with the standard library's HMAC."""
    t1 = hmac.digest(b"key", b"seed\x01", p.mac)
    t2 = hmac.digest(b"key", t1 + b"seed\x02", p.mac)
    t3 = hmac.digest(b"key", t2 + b"seed\x03", p.mac)
    whole = t1 + t2 + t3
    for octets in (0, 1, len(t1) - 1, len(t1), len(t1) + 1, len(whole)):
        assert prf_plus(p, b"key", b"seed", octets) == whole[:octets]


def test_prf_plus_ends_where_its_counter_ends() -> None:
    p = BY_HASH["sha256"]
    assert len(prf_plus(p, b"key", b"seed", 255 * 32)) == 255 * 32
    with pytest.raises(CryptoError):
        prf_plus(p, b"key", b"seed", 255 * 32 + 1)


def test_nist_vectors() -> None:
    counts = {"kdf_prf": 0, "kdf_prf_plus": 0}
    p = BY_HASH["sha256"]
    for vector in shared("kdf", "nist_cavp_ikev2_via_strongswan.json"):
        assert vector["prf"] == "SHA2_256"
        key, salt, out = unhex(vector["key"]), unhex(vector["salt"]), unhex(vector["out"])
        if vector["kind"] == "kdf_prf":
            assert prf(p, salt, key) == out, vector["id"]
        else:
            assert prf_plus(p, key, salt, len(out)) == out, vector["id"]
        counts[vector["kind"]] += 1
    assert min(counts.values()) >= 2


def test_psk_auth_is_the_formula_of_the_rfc() -> None:
    """RFC 7296 section 2.15."""
    p = prf_by_keyword("prfsha384")
    assert p is not None
    padded = hmac.digest(b"secret", b"Key Pad for IKEv2", "sha384")
    assert psk_auth(p, b"secret", b"octets") == hmac.digest(padded, b"octets", "sha384")
    assert psk_auth(p, b"secret", b"octets") != psk_auth(p, b"Secret", b"octets")


def test_digests() -> None:
    """FIPS 180 "abc"; RFC 4231 case 2."""
    assert sha1(b"abc").hex() == "a9993e364706816aba3e25717850c26c9cd0d89d"
    expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    assert cookie_mac(b"Jefe", b"what do ya want for nothing?").hex() == expected


def test_equal() -> None:
    assert equal(b"abc", b"abc")
    assert not equal(b"abc", b"abd")
    assert not equal(b"abc", b"ab")
    assert equal(b"", b"")


def test_a_generator_that_gives_too_little_is_noticed() -> None:
    assert draw(lambda n: b"x" * n, 5) == b"xxxxx"
    with pytest.raises(CryptoError):
        draw(lambda n: b"x" * (n - 1), 5)


def test_a_failing_library_is_a_crypto_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """CVE-2018-10811: nothing that a failed call left behind becomes a key."""

    def fail(*_: object) -> None:
        raise UnsupportedAlgorithm("not in this build")

    p = BY_HASH["sha1"]
    for module in ("prf", "digest"):
        monkeypatch.setattr(f"espudp.crypto.{module}.keyed", fail)
    monkeypatch.setattr("espudp.crypto.digest.Hash", fail)
    with pytest.raises(CryptoError, match="prfsha1"):
        prf(p, b"key", b"data")
    with pytest.raises(CryptoError, match="prfsha1"):
        prf_plus(p, b"key", b"data", 1)
    with pytest.raises(CryptoError, match="prfsha1"):
        psk_auth(p, b"psk", b"data")
    with pytest.raises(CryptoError, match="SHA-1"):
        sha1(b"data")
    with pytest.raises(CryptoError, match="HMAC"):
        cookie_mac(b"key", b"data")
