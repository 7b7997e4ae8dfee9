"""One X.509 certificate: read once and whole, so that what is wrong with it is known before it is used."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Self, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ObjectIdentifier, SignatureAlgorithmOID

from espudp.crypto import dn
from espudp.crypto.failures import FAILURES
from espudp.crypto.signatures import MAX_RSA_BITS, MIN_RSA_BITS
from espudp.errors import AuthenticationFailed

# Some ten times what is met: a certificate with hundreds of names.
MAX_CERTIFICATE_OCTETS = 32768

MIN_EC_BITS = 256

WEAK_HASHES = (hashes.SHA1, hashes.MD5, hashes.SHA224)
_HASHLESS = (SignatureAlgorithmOID.ED25519, SignatureAlgorithmOID.ED448)

# What `cryptography` raises for octets that are no certificate, or one that it cannot read.
UNREADABLE = (
    *FAILURES,
    TypeError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)

_SHOWN = 80


class Refusal(Enum):
    """Why a certificate, or a chain of them, proves nothing."""

    MISSING = "no certificate"
    TOO_MANY = "more certificates than are looked at"
    MALFORMED = "not a certificate"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    WEAK_KEY = "weak key"
    WEAK_SIGNATURE = "weak signature"
    BAD_SIGNATURE = "signature does not verify"
    UNKNOWN_ISSUER = "issuer not trusted"
    LOOP = "chain without an end"
    TOO_LONG = "chain too long"
    NOT_A_CA = "issuer is not a CA"
    KEY_USAGE = "not for this use"
    CRITICAL = "unknown critical extension"
    NAME = "other name"
    CONSTRAINED = "name not allowed by a CA"
    REVOKED = "revoked"
    UNCHECKED = "revocation could not be checked"


class CertificateError(AuthenticationFailed):
    """A certificate that is refused: which one and why, and what its owner or the user can do."""

    reason: Refusal

    def __init__(self, reason: Refusal, message: str, *, remedy: str) -> None:
        super().__init__(message, remedy=remedy, reason=reason)


Extension = TypeVar("Extension", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True, eq=False)
class Certificate:
    """A certificate that could be read to its end. Two are the same when their DER is."""

    der: bytes
    parsed: x509.Certificate
    extensions: x509.Extensions
    subject: bytes
    """The subject's name in DER; an empty sequence if there is none."""
    issuer: bytes
    spki: bytes
    """SubjectPublicKeyInfo in DER."""

    @classmethod
    def parse(cls, der: bytes) -> Self:
        """Read DER of up to 32,768 octets. Raises CertificateError."""
        if len(der) > MAX_CERTIFICATE_OCTETS:
            raise CertificateError(
                Refusal.MALFORMED,
                f"a certificate has {len(der)} octets, and more than {MAX_CERTIFICATE_OCTETS} are not read",
                remedy="Use one with fewer names in it.",
            )
        try:
            with quietly():
                return cls._read(der)
        except UNREADABLE:
            raise CertificateError(
                Refusal.MALFORMED,
                f"{len(der)} octets that should be an X.509 certificate are not one, or are not DER",
                remedy="Have the certificate made anew, with a common tool.",
            ) from None

    @classmethod
    def _read(cls, der: bytes) -> Self:
        certificate = x509.load_der_x509_certificate(der)
        # Those that are read lazily are read here, since they may raise.
        return cls(
            der=der,
            parsed=certificate,
            extensions=certificate.extensions,
            subject=certificate.subject.public_bytes(),
            issuer=certificate.issuer.public_bytes(),
            spki=certificate.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
        )

    def extension(self, kind: type[Extension]) -> Extension | None:
        """The extension of a type, if there is one."""
        try:
            return self.extensions.get_extension_for_class(kind).value
        except x509.ExtensionNotFound:
            return None

    @property
    def critical(self) -> Iterator[ObjectIdentifier]:
        """The types of the extensions that must be understood."""
        return (extension.oid for extension in self.extensions if extension.critical)

    @property
    def self_issued(self) -> bool:
        return self.subject == self.issuer

    @property
    def key_id(self) -> bytes | None:
        """The subject key identifier."""
        extension = self.extension(x509.SubjectKeyIdentifier)
        return extension.digest if extension else None

    @property
    def issuer_key_id(self) -> bytes | None:
        """The authority key identifier."""
        extension = self.extension(x509.AuthorityKeyIdentifier)
        return extension.key_identifier if extension else None

    def __str__(self) -> str:
        """The subject, or the serial number where it has none. Printable, and of bounded length."""
        shown = dn.show(self.subject) or f"serial number {self.parsed.serial_number:x}"
        return shown if len(shown) <= _SHOWN else f"{shown[: _SHOWN - 3]}..."


@contextmanager
def quietly() -> Iterator[None]:
    """The library's warnings of odd certificates are for their maker, and not for who is sent them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def check_validity(certificate: Certificate, at: datetime) -> None:
    """Raises CertificateError before and after the certificate's time."""
    begin, end = certificate.parsed.not_valid_before_utc, certificate.parsed.not_valid_after_utc
    if at < begin:
        raise CertificateError(
            Refusal.NOT_YET_VALID,
            f"the certificate '{certificate}' is not valid before {begin:%Y-%m-%d %H:%M} UTC",
            remedy=f"Is the clock right? It says {at:%Y-%m-%d %H:%M} UTC here.",
        )
    if at > end:
        raise CertificateError(
            Refusal.EXPIRED,
            f"the certificate '{certificate}' expired at {end:%Y-%m-%d %H:%M} UTC",
            remedy="It has to be renewed by the CA that issued it; or the clock here is wrong: "
            f"it says {at:%Y-%m-%d %H:%M} UTC.",
        )


def check_key(certificate: Certificate) -> None:
    """Raises CertificateError for keys that are weak, or are of no kind that signs."""
    key = certificate.parsed.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        if MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
            return
        found = f"RSA of {key.key_size} bits, and {MIN_RSA_BITS} to {MAX_RSA_BITS} are taken"
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.key_size >= MIN_EC_BITS:
            return
        found = f"{key.curve.name}, of less than {MIN_EC_BITS} bits"
    elif isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
        return
    else:
        found = "neither RSA, ECDSA nor EdDSA"
    raise CertificateError(
        Refusal.WEAK_KEY,
        f"the key in the certificate '{certificate}' is {found}",
        remedy="It needs a new key: ECDSA P-256, Ed25519, or RSA of 3072 bits.",
    )


def check_signature(certificate: Certificate, issuer: Certificate) -> None:
    """Raises CertificateError unless the issuer's key signed this, with a hash that still holds."""
    try:
        hash_ = certificate.parsed.signature_hash_algorithm
        known = hash_ is not None or certificate.parsed.signature_algorithm_oid in _HASHLESS
        name = hash_.name if hash_ else "an algorithm that is not known here"
    except UNREADABLE:
        hash_, known, name = None, False, "an algorithm that is not known here"
    if not known or isinstance(hash_, WEAK_HASHES):
        raise CertificateError(
            Refusal.WEAK_SIGNATURE,
            f"the certificate '{certificate}' is signed with {name}, which is not accepted",
            remedy="The CA has to issue it anew, signed with SHA-256 or better.",
        )
    try:
        certificate.parsed.verify_directly_issued_by(issuer.parsed)
    except (InvalidSignature, *UNREADABLE):
        raise CertificateError(
            Refusal.BAD_SIGNATURE,
            f"the signature of the certificate '{certificate}' is not by the key of '{issuer}'",
            remedy="It was altered, or is of another CA with the same name: compare the two CA certificates.",
        ) from None
