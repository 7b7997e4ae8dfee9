"""Signatures: keys as files hold them, and the schemes that RFC 7427 names by an AlgorithmIdentifier.

Hashes weaker than SHA-256 and RSA keys under 2,048 bits are refused on both sides (RFC 8247 section 4.2).
SHA-1 with RSA is there for peers that know nothing else, and used only by who asks for it.
"""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import (
    NoDigestInfo,
    decode_dss_signature,
    encode_dss_signature,
)

from espudp.crypto.auth import equal
from espudp.crypto.failures import FAILURES, failing_as
from espudp.crypto.random import Rng, draw
from espudp.errors import ConfigError, CryptoError

# RFC 8247 section 4.2, and a bound of ours: the work that a peer's key makes grows with its size.
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192


class SignatureHash(IntEnum):
    """The registry "IKEv2 Hash Algorithms": RFC 7427 section 7, RFC 8420 section 4."""

    SHA1 = 1
    SHA2_256 = 2
    SHA2_384 = 3
    SHA2_512 = 4
    IDENTITY = 5


SUPPORTED_HASHES = (
    SignatureHash.SHA2_256,
    SignatureHash.SHA2_384,
    SignatureHash.SHA2_512,
    SignatureHash.IDENTITY,
)

RSA, ECDSA, ED25519, ED448 = "RSA", "ECDSA", "Ed25519", "Ed448"

_HASHES: dict[SignatureHash, hashes.HashAlgorithm] = {
    SignatureHash.SHA1: hashes.SHA1(),
    SignatureHash.SHA2_256: hashes.SHA256(),
    SignatureHash.SHA2_384: hashes.SHA384(),
    SignatureHash.SHA2_512: hashes.SHA512(),
}

# RFC 5480 section 2.1.1.1: the curves of RFC 4754, with the hash of their size.
_CURVES = {
    "secp256r1": ("P-256", SignatureHash.SHA2_256),
    "secp384r1": ("P-384", SignatureHash.SHA2_384),
    "secp521r1": ("P-521", SignatureHash.SHA2_512),
}


@dataclass(frozen=True, slots=True)
class Scheme:
    """One way to sign: the kind of key, the hash, and what RFC 7427 section 3 calls it on the wire."""

    name: str
    kind: str
    hash: SignatureHash
    identifier: bytes = b""
    """AlgorithmIdentifier in DER."""
    pss: bool = False
    raw: bool = False
    """ECDSA as r and s of the curve's size (RFC 4754 section 7), not as a DER sequence."""


# RFC 7427 appendix A.4.3, and RFC 4055 section 3.1: OIDs, then the parameters.
_PSS_OID = bytes.fromhex("06092a864886f70d01010a")
_MGF1_OID = bytes.fromhex("06092a864886f70d010108")
_SHA2_OID = {
    SignatureHash.SHA2_256: bytes.fromhex("0609608648016503040201"),
    SignatureHash.SHA2_384: bytes.fromhex("0609608648016503040202"),
    SignatureHash.SHA2_512: bytes.fromhex("0609608648016503040203"),
}
_NULL = bytes.fromhex("0500")
_SEQUENCE, _CONTEXT = 0x30, 0xA0


def _der(tag: int, *parts: bytes) -> bytes:
    """One element of less than 128 octets."""
    body = b"".join(parts)
    return bytes([tag, len(body)]) + body


def _pss_identifier(hash_: SignatureHash, null: bytes = _NULL, *, trailer: bool = True) -> bytes:
    """With a salt as long as the hash, which is what everybody sends (RFC 4055 section 3.1)."""
    digest = _der(_SEQUENCE, _SHA2_OID[hash_], null)
    return _der(
        _SEQUENCE,
        _PSS_OID,
        _der(
            _SEQUENCE,
            _der(_CONTEXT, digest),
            _der(_CONTEXT + 1, _der(_SEQUENCE, _MGF1_OID, digest)),
            _der(_CONTEXT + 2, _der(0x02, bytes([_HASHES[hash_].digest_size]))),
            _der(_CONTEXT + 3, _der(0x02, b"\x01")) if trailer else b"",
        ),
    )


_BITS = {SignatureHash.SHA2_256: 256, SignatureHash.SHA2_384: 384, SignatureHash.SHA2_512: 512}

# RFC 7427 appendix A.1, A.3 and A.4, RFC 8420 appendix A
_PKCS1 = [
    Scheme(f"RSA with SHA-{bits}", RSA, h, bytes.fromhex(f"300d06092a864886f70d0101{10 + h - 1:02x}0500"))
    for h, bits in _BITS.items()
]
_PSS = [Scheme(f"RSA-PSS with SHA-{bits}", RSA, h, _pss_identifier(h), pss=True) for h, bits in _BITS.items()]
_ECDSA = [
    Scheme(f"ECDSA with SHA-{bits}", ECDSA, h, bytes.fromhex(f"300a06082a8648ce3d0403{h:02x}"))
    for h, bits in _BITS.items()
]
_EDDSA = [
    Scheme(ED25519, ED25519, SignatureHash.IDENTITY, bytes.fromhex("300506032b6570")),
    Scheme(ED448, ED448, SignatureHash.IDENTITY, bytes.fromhex("300506032b6571")),
]

SCHEMES = (*_PKCS1, *_PSS, *_ECDSA, *_EDDSA)

# RFC 4754 section 7: for each of the methods the hash is that of the curve.
ECDSA_RAW = {name: Scheme(f"ECDSA {name}", ECDSA, hash_, raw=True) for name, hash_ in _CURVES.values()}

RSA_SHA1 = Scheme("RSA with SHA-1", RSA, SignatureHash.SHA1)
RSA_PKCS1 = tuple(_PKCS1)

_BY_IDENTIFIER = {
    **{scheme.identifier: scheme for scheme in SCHEMES},
    # As some write them: PSS without the NULLs or the trailer that are the default.
    **{
        _pss_identifier(scheme.hash, null, trailer=trailer): scheme
        for scheme in _PSS
        for null in (_NULL, b"")
        for trailer in (True, False)
    },
}


def scheme_of(identifier: bytes) -> Scheme | None:
    """The scheme that an AlgorithmIdentifier names; None: unknown, or too weak."""
    return _BY_IDENTIFIER.get(identifier)


_Public = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
_Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
_KINDS: dict[type, str] = {
    rsa.RSAPublicKey: RSA,
    ec.EllipticCurvePublicKey: ECDSA,
    ed25519.Ed25519PublicKey: ED25519,
    ed448.Ed448PublicKey: ED448,
}


class PublicKey:
    """A key to verify with: RSA of 2,048 to 8,192 bits, ECDSA P-256, P-384, P-521, Ed25519, Ed448.

    Two are equal when their SubjectPublicKeyInfo is.
    """

    __slots__ = ("_key", "curve", "kind", "spki")

    def __init__(self, key: object) -> None:
        """`key` is one of the `cryptography` package. Raises ConfigError for one that is not taken."""
        from cryptography.hazmat.primitives import serialization  # 2 MB, which a PSK has no use for

        self._key: _Public = _checked(key)
        self.kind = next(kind for type_, kind in _KINDS.items() if isinstance(key, type_))
        self.curve = (
            _CURVES[self._key.curve.name][0] if isinstance(self._key, ec.EllipticCurvePublicKey) else ""
        )
        """`P-256`, `P-384`, `P-521`; empty for what has no choice of curves."""
        self.spki = self._key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        """SubjectPublicKeyInfo in DER (RFC 5280 section 4.1.2.7)."""

    @property
    def name(self) -> str:
        """`RSA 3072`, `ECDSA P-256`, `Ed25519`."""
        size = str(self._key.key_size) if isinstance(self._key, rsa.RSAPublicKey) else self.curve
        return f"{self.kind} {size}".strip()

    @property
    def fingerprint(self) -> bytes:
        """SHA-256 of the SubjectPublicKeyInfo."""
        return hashlib.sha256(self.spki).digest()

    def verify(self, scheme: Scheme, signature: bytes, data: bytes) -> bool:
        """Whether `signature` is of `data`. Never raises, whatever the octets are."""
        if scheme.kind != self.kind:
            return False
        try:
            self._verify(scheme, signature, data)
        except (InvalidSignature, *FAILURES):
            return False
        return True

    def verifies_hash(self, signature: bytes, hash_: bytes) -> bool:
        """Whether IKEv1's RSA signature is of this hash, which says nothing of how it was made (RFC 2409
        section 5.1). Never raises, whatever the octets are.
        """
        if not isinstance(self._key, rsa.RSAPublicKey):
            return False
        try:
            signed = self._key.recover_data_from_signature(signature, padding.PKCS1v15(), None)
        except (InvalidSignature, *FAILURES):
            return False
        return equal(signed, hash_)

    def _verify(self, scheme: Scheme, signature: bytes, data: bytes) -> None:
        key = self._key
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, _padding(scheme), _HASHES[scheme.hash])
        elif isinstance(key, ec.EllipticCurvePublicKey):
            octets = (key.key_size + 7) // 8
            if scheme.raw:
                if len(signature) != 2 * octets or ECDSA_RAW[self.curve] is not scheme:
                    raise InvalidSignature
                r, s = int.from_bytes(signature[:octets]), int.from_bytes(signature[octets:])
                signature = encode_dss_signature(r, s)
            key.verify(signature, data, ec.ECDSA(_HASHES[scheme.hash]))
        else:
            key.verify(signature, data)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and other.spki == self.spki

    def __hash__(self) -> int:
        return hash(self.spki)

    def __repr__(self) -> str:
        return f"PublicKey({self.name}, {self.fingerprint.hex()[:16]})"


class PrivateKey:
    """A key to sign with. Its `repr` says what it is, not what is in it."""

    __slots__ = ("_key", "public")

    def __init__(self, key: object) -> None:
        """`key` is one of the `cryptography` package. Raises ConfigError for one that is not taken."""
        if not isinstance(key, _Private):
            raise _unfit("it is neither RSA, ECDSA nor EdDSA")
        self._key: _Private = key
        self.public = PublicKey(key.public_key())

    def schemes(self, hashes_: Collection[int], *, pss: bool = False) -> tuple[Scheme, ...]:
        """The ways to sign for a verifier that has announced `hashes_` (RFC 7427 section 4), best first."""
        kind = self.public.kind
        fit = [s for s in SCHEMES if s.kind == kind and s.hash in hashes_ and (s.pss == pss or kind != RSA)]
        own = ECDSA_RAW[self.public.curve].hash if self.public.curve else None
        return tuple(sorted(fit, key=lambda scheme: scheme.hash != own))

    def sign(self, scheme: Scheme, data: bytes) -> bytes:
        """Raises CryptoError. ECDSA is randomised by OpenSSL, as PSS is; nothing else is."""
        key = self._key
        if scheme.kind != self.public.kind:
            raise CryptoError(f"a key of {self.public.name} does not sign with {scheme.name}")
        with failing_as("the signature could not be made"):
            if isinstance(key, rsa.RSAPrivateKey):
                return key.sign(data, _padding(scheme), _HASHES[scheme.hash])
            if isinstance(key, ec.EllipticCurvePrivateKey):
                signature = key.sign(data, ec.ECDSA(_HASHES[scheme.hash]))
                return _as_raw(signature, (key.key_size + 7) // 8) if scheme.raw else signature
            return key.sign(data)

    def sign_hash(self, hash_: bytes) -> bytes:
        """IKEv1's signature of a hash: PKCS#1 v1.5 without the name of the algorithm (RFC 2409 section 5.1).

        Raises CryptoError, also for a key that is none of RSA.
        """
        if not isinstance(self._key, rsa.RSAPrivateKey):
            raise CryptoError(f"IKEv1 signs with RSA, and not with {self.public.name}")
        with failing_as("the signature could not be made"):
            return self._key.sign(hash_, padding.PKCS1v15(), NoDigestInfo())

    def to_pem(self) -> bytes:
        """PKCS#8 without a password: for a file that only its owner can read."""
        from cryptography.hazmat.primitives import serialization

        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def __repr__(self) -> str:
        return f"PrivateKey({self.public.name})"


def _padding(scheme: Scheme) -> padding.AsymmetricPadding:
    if not scheme.pss:
        return padding.PKCS1v15()
    hash_ = _HASHES[scheme.hash]
    return padding.PSS(padding.MGF1(hash_), hash_.digest_size)


def _as_raw(signature: bytes, octets: int) -> bytes:
    r, s = decode_dss_signature(signature)
    return r.to_bytes(octets) + s.to_bytes(octets)


def _checked(key: object) -> _Public:
    if not isinstance(key, _Public):
        raise _unfit("it is neither RSA, ECDSA nor EdDSA")
    if isinstance(key, rsa.RSAPublicKey) and not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise _unfit(f"RSA of {key.key_size} bits is not taken, only {MIN_RSA_BITS} to {MAX_RSA_BITS}")
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name not in _CURVES:
        raise _unfit(f"the curve {key.curve.name} is none of P-256, P-384, P-521")
    return key


def _unfit(reason: str) -> ConfigError:
    return ConfigError(
        f"the key does not serve for IKE: {reason}",
        field="key",
        remedy="Make one that does: `espudp keygen --key FILE`.",
    )


# Files

_ED25519_OCTETS = 32


def generate_key(rng: Rng) -> PrivateKey:
    """A new Ed25519 key."""
    with failing_as("no key could be made"):
        return PrivateKey(ed25519.Ed25519PrivateKey.from_private_bytes(draw(rng, _ED25519_OCTETS)))


def load_private_key(octets: bytes, password: bytes | None = None) -> PrivateKey:
    """A key in PEM or DER: PKCS#8, or what OpenSSL writes. Raises ConfigError, without the octets."""
    from cryptography.hazmat.primitives import serialization

    load = (
        serialization.load_pem_private_key if b"-----BEGIN" in octets else serialization.load_der_private_key
    )
    try:
        key = load(octets, password)
    except TypeError:
        raise ConfigError(
            "the private key is protected by a password" if password is None else "the key has no password",
            field="key",
            remedy="Write it without one, readable by its owner alone: openssl pkey -in FILE -out NEW",
        ) from None
    except FAILURES:
        raise ConfigError(
            "this is not a private key",
            field="key",
            remedy="It is to be PEM or DER, as of `espudp keygen` or `openssl genpkey`.",
        ) from None
    return PrivateKey(key)


def load_public_key(octets: bytes) -> PublicKey:
    """A SubjectPublicKeyInfo in DER or PEM. Raises ConfigError."""
    from cryptography.hazmat.primitives import serialization

    load = serialization.load_pem_public_key if b"-----BEGIN" in octets else serialization.load_der_public_key
    try:
        key = load(octets)
    except FAILURES:
        raise ConfigError(
            "this is not a public key",
            field="peer-key",
            remedy="It is to be what `espudp keygen` prints, or a file in PEM or DER.",
        ) from None
    return PublicKey(key)
