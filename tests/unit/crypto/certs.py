"""Certificates for tests: a CA in one line, and whatever may be wrong with a certificate as an argument."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.x509 import ocsp

from espudp.crypto import dn

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
YEAR = timedelta(days=365)

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
Extensions = Sequence[tuple[x509.ExtensionType, bool]]

SIGNING = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
ENCIPHERING = x509.KeyUsage(False, False, True, False, False, False, False, False, False)
CERTIFYING = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
CRL_SIGNING = x509.KeyUsage(False, False, False, False, False, False, True, False, False)


def new_key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def general_name(text: str) -> x509.GeneralName:
    """`dns:`, `email:`, `ip:` or `dn:`, and the name."""
    kind, _, value = text.partition(":")
    if kind == "dns":
        return x509.DNSName(value)
    if kind == "email":
        return x509.RFC822Name(value)
    if kind == "ip":
        return x509.IPAddress(ipaddress.ip_address(value))
    return x509.DirectoryName(x509.Name.from_bytes(dn.parse(value)))


def san(*names: str) -> tuple[x509.ExtensionType, bool]:
    return x509.SubjectAlternativeName([general_name(name) for name in names]), False


@dataclass
class Issuer:
    """A name, a key and the certificate of both; issues others."""

    subject: str
    key: Key = field(default_factory=new_key)
    certificate: x509.Certificate = field(init=False)

    @property
    def der(self) -> bytes:
        return der(self.certificate)

    def issue(self, subject: str, *names: str, **how: Any) -> "Issuer":
        """An end entity with `names` as subjectAltName."""
        extensions = [*([san(*names)] if names else []), *how.pop("extensions", ())]
        return issue(self, subject, extensions=extensions, **how)

    def ca(self, subject: str, **how: Any) -> "Issuer":
        return issue(self, subject, ca=True, **how)


def root(subject: str = "CN=Root", key: Key | None = None, **how: Any) -> Issuer:
    own = Issuer(subject, key or new_key())
    return issue(own, subject, own.key, ca=how.pop("ca", True), **how)


def issue(
    issuer: Issuer,
    subject: str,
    key: Key | None = None,
    *,
    ca: bool = False,
    path_length: int | None = None,
    extensions: Extensions = (),
    begin: datetime = NOW - YEAR,
    end: datetime = NOW + YEAR,
    hash_: Any = None,
    signed_by: Key | None = None,
    key_ids: bool = True,
    serial: int | None = None,
    rsa_padding: padding.PSS | None = None,
) -> Issuer:
    made = Issuer(subject, key or new_key())
    signer = signed_by or issuer.key
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name.from_bytes(dn.parse(subject)) if subject else x509.Name([]))
        .issuer_name(x509.Name.from_bytes(dn.parse(issuer.subject)))
        .public_key(made.key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )
    if key_ids:
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(made.key.public_key()), False
        )
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), False
        )
    if ca:
        builder = builder.add_extension(x509.BasicConstraints(True, path_length), True)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    made.certificate = builder.sign(signer, hash_ or hash_for(signer), rsa_padding=rsa_padding)
    return made


def hash_for(key: Key) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey) else hashes.SHA256()


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def crl(
    issuer: Issuer,
    *revoked: Issuer,
    begin: datetime = NOW - timedelta(days=1),
    end: datetime = NOW + timedelta(days=30),
    extensions: Extensions = (),
    signed_by: Key | None = None,
    reason: x509.ReasonFlags | None = None,
) -> bytes:
    """The CRL of an issuer, in DER."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(begin)
        .next_update(end)
    )
    for one in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number)
        entry = entry.revocation_date(begin)
        if reason:
            entry = entry.add_extension(x509.CRLReason(reason), False)
        builder = builder.add_revoked_certificate(entry.build())
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    signer = signed_by or issuer.key
    return builder.sign(signer, hash_for(signer)).public_bytes(serialization.Encoding.DER)


def ocsp_response(
    certificate: Issuer,
    issuer: Issuer,
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    *,
    responder: Issuer | None = None,
    begin: datetime = NOW - timedelta(hours=1),
    end: datetime | None = NOW + timedelta(hours=12),
    by_name: bool = False,
    hash_: Any = None,
) -> bytes:
    """What `responder` (the issuer itself, unless told) says of a certificate, in DER."""
    who = responder or issuer
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    builder = ocsp.OCSPResponseBuilder().add_response(
        certificate.certificate,
        issuer.certificate,
        hash_ or hashes.SHA1(),
        status,
        begin,
        end,
        begin if revoked else None,
        x509.ReasonFlags.key_compromise if revoked else None,
    )
    encoding = ocsp.OCSPResponderEncoding.NAME if by_name else ocsp.OCSPResponderEncoding.HASH
    builder = builder.responder_id(encoding, who.certificate)
    if responder:
        builder = builder.certificates([responder.certificate])
    return builder.sign(who.key, hash_for(who.key)).public_bytes(serialization.Encoding.DER)
