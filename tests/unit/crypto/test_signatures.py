"""Signatures: every kind of key with every scheme, the octets of the RFCs, and what is refused."""

from functools import cache
from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from espudp.crypto import signatures
from espudp.crypto.signatures import (
    ECDSA_RAW,
    RSA_SHA1,
    SCHEMES,
    SUPPORTED_HASHES,
    PrivateKey,
    SignatureHash,
    generate_key,
    load_private_key,
    load_public_key,
    scheme_of,
)
from espudp.errors import ConfigError, CryptoError

DATA = b"what is signed"


@cache
def key(name: str) -> PrivateKey:
    """One of each kind; RSA takes long to make."""
    match name:
        case "RSA":
            return PrivateKey(rsa.generate_private_key(65537, 2048))
        case "P-256" | "P-384" | "P-521":
            curves = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1()}
            return PrivateKey(ec.generate_private_key(curves[name]))
        case "Ed448":
            return PrivateKey(ed448.Ed448PrivateKey.generate())
    return generate_key(Random(name).randbytes)


KEYS = ["RSA", "P-256", "P-384", "P-521", "Ed25519", "Ed448"]


@pytest.mark.parametrize("name", KEYS)
def test_every_scheme_of_a_key(name: str) -> None:
    ours = key(name)
    schemes = [s for s in (*SCHEMES, RSA_SHA1, *ECDSA_RAW.values()) if s.kind == ours.public.kind]
    verified = 0
    for scheme in schemes:
        signature = ours.sign(scheme, DATA)
        fits = not scheme.raw or scheme is ECDSA_RAW.get(ours.public.curve)
        assert ours.public.verify(scheme, signature, DATA) == fits
        assert not ours.public.verify(scheme, signature, DATA + b"x")
        assert not ours.public.verify(scheme, signature[:-1], DATA)
        assert not ours.public.verify(scheme, signature + b"\x00", DATA)
        assert not ours.public.verify(scheme, b"", DATA)
        verified += fits
        for other in SCHEMES:
            if other is not scheme:
                assert not ours.public.verify(other, signature, DATA)
    assert verified >= 1


def test_a_bare_hash_is_all_that_ikev1_signs() -> None:
    """CVE-2018-16151: whatever else may be read out of an encoding is no signature of it."""
    ours = key("RSA")
    private = ours._key
    assert isinstance(private, rsa.RSAPrivateKey)
    numbers = private.private_numbers()
    octets, hash_ = 256, bytes(range(32))
    sha256 = bytes.fromhex("3031300d060960864801650304020105000420")

    def signed(block: bytes) -> bytes:
        """What comes out as `block`, which only who has the key could make."""
        return pow(int.from_bytes(block), numbers.d, numbers.public_numbers.n).to_bytes(octets)

    def padded(content: bytes, *, front: bytes = b"\0\1", filler: int = 0xFF) -> bytes:
        return front + bytes([filler]) * (octets - len(front) - 1 - len(content)) + b"\0" + content

    good = signed(padded(hash_))
    assert good == ours.sign_hash(hash_)
    assert ours.public.verifies_hash(good, hash_)
    short = b"\0\1" + b"\xff" * 8 + b"\0" + hash_
    refused = [
        signed(padded(sha256 + hash_)),
        signed(padded(hash_[:20])),
        signed(padded(hash_ + b"\0")),
        signed(padded(b"\0" + hash_)),
        signed(padded(b"")),
        signed(short + bytes(octets - len(short))),
        signed(padded(hash_, front=b"\0\2")),
        signed(padded(hash_, front=b"\0\0")),
        signed(padded(hash_, filler=0xFE)),
        b"",
        good[:-1],
        good + b"\0",
        b"\0" + good,
        bytes(octets),
        b"\xff" * octets,
    ]
    assert not any(ours.public.verifies_hash(signature, hash_) for signature in refused)
    assert not any(key(name).public.verifies_hash(good, hash_) for name in KEYS if name != "RSA")


@pytest.mark.parametrize("name", KEYS)
def test_a_key_of_another_kind_does_not_sign(name: str) -> None:
    foreign = next(s for s in SCHEMES if s.kind != key(name).public.kind)
    with pytest.raises(CryptoError):
        key(name).sign(foreign, DATA)


def test_what_the_rfcs_call_them() -> None:
    """RFC 7427 appendix A.1.2, A.3.3, A.4.3 and RFC 8420 appendix A, octet for octet."""
    known = {
        "RSA with SHA-256": "300d06092a864886f70d01010b0500",
        "RSA with SHA-384": "300d06092a864886f70d01010c0500",
        "RSA with SHA-512": "300d06092a864886f70d01010d0500",
        "ECDSA with SHA-256": "300a06082a8648ce3d040302",
        "ECDSA with SHA-384": "300a06082a8648ce3d040303",
        "ECDSA with SHA-512": "300a06082a8648ce3d040304",
        "Ed25519": "300506032b6570",
        "Ed448": "300506032b6571",
        "RSA-PSS with SHA-256": "304606092a864886f70d01010a3039a00f300d06096086480165030402010500"
        "a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120a303020101",
    }
    named = {scheme.name: scheme.identifier.hex() for scheme in SCHEMES}
    assert named.items() >= known.items()
    for scheme in SCHEMES:
        assert scheme_of(scheme.identifier) is scheme


def test_pss_as_others_write_it() -> None:
    """Without the trailer field, which is the default, and without the NULLs."""
    short = bytes.fromhex(
        "304106092a864886f70d01010a3034a00f300d06096086480165030402010500"
        "a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120"
    )
    scheme = scheme_of(short)
    assert scheme is not None
    assert scheme.name == "RSA-PSS with SHA-256"


@pytest.mark.parametrize(
    "identifier",
    [
        "300d06092a864886f70d0101050500",  # sha1WithRSAEncryption, RFC 7427 appendix A.1.1
        "300906072a8648ce3d0401",  # ecdsa-with-SHA1
        "300906072a8648ce380403",  # dsa-with-sha1
        "300b0609608648016503040302",  # dsa-with-sha256
        "300d06092a864886f70d01010a3000",  # RSASSA-PSS with its defaults, which are SHA-1
        "300d06092a864886f70d0101040500",  # md5WithRSAEncryption
        "",
        "30",
        "300d06092a864886f70d01010b050000",
    ],
)
def test_schemes_that_are_refused(identifier: str) -> None:
    assert scheme_of(bytes.fromhex(identifier)) is None


def test_the_best_scheme_comes_first() -> None:
    def names(name: str, *, pss: bool = False, only: tuple[int, ...] = SUPPORTED_HASHES) -> list[str]:
        return [scheme.name for scheme in key(name).schemes(only, pss=pss)]

    assert names("P-384")[0] == "ECDSA with SHA-384"
    assert names("P-384", only=(SignatureHash.SHA2_512,)) == ["ECDSA with SHA-512"]
    assert names("RSA")[0] == "RSA with SHA-256"
    assert names("RSA", pss=True)[0] == "RSA-PSS with SHA-256"
    assert names("Ed25519") == ["Ed25519"]
    assert names("Ed25519", only=(SignatureHash.SHA2_256,)) == []
    assert names("RSA", only=(SignatureHash.SHA1, 99)) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: rsa.generate_private_key(65537, 1024),
        lambda: ec.generate_private_key(ec.SECP256K1()),
        lambda: ec.generate_private_key(ec.SECP224R1()),
        lambda: dsa.generate_private_key(1024),
    ],
    ids=["RSA 1024", "secp256k1", "P-224", "DSA"],
)
def test_weak_and_strange_keys(make: object) -> None:
    weak = make()  # type: ignore[operator]
    pem = weak.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(ConfigError, match="does not serve"):
        load_private_key(pem)
    with pytest.raises(ConfigError, match="does not serve"):
        load_public_key(weak.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


@pytest.mark.parametrize("name", KEYS)
def test_keys_and_their_files(name: str) -> None:
    ours = key(name)
    again = load_private_key(ours.to_pem())
    assert again.public == ours.public
    assert load_public_key(ours.public.spki) == ours.public
    assert hash(again.public) == hash(ours.public)
    assert len(ours.public.fingerprint) == 32
    assert name.split("-")[0] in repr(ours)


def test_secrets_do_not_show() -> None:
    ours = key("Ed25519")
    secret = ours._key.private_bytes_raw()  # type: ignore[union-attr]
    assert secret.hex() not in repr(ours)
    assert repr(ours) == "PrivateKey(Ed25519)"


def test_files_that_are_no_keys() -> None:
    raw = ed25519.Ed25519PrivateKey.generate()
    locked = raw.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    with pytest.raises(ConfigError, match="password"):
        load_private_key(locked)
    assert load_private_key(locked, b"secret").public.kind == signatures.ED25519
    for octets in (b"", b"x", b"-----BEGIN PRIVATE KEY-----\n", bytes(64)):
        with pytest.raises(ConfigError, match="not a private key"):
            load_private_key(octets)
        with pytest.raises(ConfigError, match="not a public key"):
            load_public_key(octets)
    with pytest.raises(ConfigError):
        load_private_key(locked, b"wrong")
