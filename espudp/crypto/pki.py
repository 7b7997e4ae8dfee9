"""What a small CA makes: its own certificate, certificates for IKE after RFC 4945, and its CRL."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from espudp.crypto import dn
from espudp.crypto.bundles import NativeKey, native_key
from espudp.crypto.certificate import Certificate
from espudp.crypto.failures import FAILURES, failing_as
from espudp.crypto.random import Rng, draw
from espudp.crypto.revocation import Crl
from espudp.crypto.signatures import PrivateKey, PublicKey, generate_key
from espudp.crypto.x509 import (
    ID_DER_ASN1_DN,
    ID_FQDN,
    ID_IPV4_ADDR,
    ID_IPV6_ADDR,
    ID_RFC822_ADDR,
    Name,
    names_of,
    show_name,
)
from espudp.errors import ConfigError

DEFAULT_KEY = "p256"
KEY_TYPES = ("p256", "p384", "p521", "ed25519", "rsa2048", "rsa3072", "rsa4096")

_CURVES: dict[str, ec.EllipticCurve] = {
    "p256": ec.SECP256R1(),
    "p384": ec.SECP384R1(),
    "p521": ec.SECP521R1(),
}

# RFC 5280 section 4.1.2.2: positive, at most 20 octets; nobody foresees it, somebody may have to type it.
_SERIAL_OCTETS = 8

# A common name has 64 characters at most (RFC 5280 appendix A.1, ub-common-name).
_MAX_COMMON_NAME = 64


@dataclass(frozen=True, slots=True)
class Period:
    """From when until when something is valid, with time zones."""

    begin: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Facts:
    """What a certificate says, for people."""

    subject: str
    issuer: str
    names: tuple[str, ...]
    """The identities that it proves, without the subject."""

    serial: int
    period: Period
    key: str
    """`ECDSA P-256`, or why it is not taken."""

    fingerprint: bytes
    """SHA-256 of the certificate."""

    is_ca: bool


@dataclass(frozen=True, slots=True)
class CrlFacts:
    """What a CRL says."""

    revoked: dict[int, datetime]
    """Serial numbers, and when each was revoked."""

    number: int
    """They count upwards (RFC 5280 section 5.2.3)."""

    period: Period


@dataclass(frozen=True, slots=True)
class Ca:
    """The certificate of a CA, in DER, and its key."""

    certificate: bytes
    private_key: PrivateKey


def facts_of(der: bytes) -> Facts:
    """Raises CertificateError if it is no certificate."""
    certificate = Certificate.parse(der)
    parsed = certificate.parsed
    constraints = certificate.extension(x509.BasicConstraints)
    try:
        key = PublicKey(parsed.public_key()).name
    except ConfigError as error:
        key = str(error)
    names = [name for name in names_of(der) if name[1] != certificate.subject]
    return Facts(
        subject=dn.show(certificate.subject),
        issuer=dn.show(certificate.issuer),
        names=tuple(show_name(name) for name in names),
        serial=parsed.serial_number,
        period=Period(parsed.not_valid_before_utc, parsed.not_valid_after_utc),
        key=key,
        fingerprint=parsed.fingerprint(hashes.SHA256()),
        is_ca=constraints is not None and constraints.ca,
    )


def read_crl(der: bytes) -> CrlFacts:
    """Raises ConfigError."""
    crl = Crl.parse(der).parsed
    begin = crl.last_update_utc
    try:
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        number = 0
    return CrlFacts(
        revoked={one.serial_number: one.revocation_date_utc for one in crl},
        number=number,
        period=Period(begin, crl.next_update_utc or begin),
    )


def new_key(kind: str, rng: Rng) -> PrivateKey:
    """A key of one of `KEY_TYPES`; RSA is made with OpenSSL's own randomness. Raises ConfigError."""
    if kind == "ed25519":
        return generate_key(rng)
    with failing_as("no key could be made"):
        if kind in _CURVES:
            curve = _CURVES[kind]
            # FIPS 186-5 appendix A.2.1: 64 bits more than the order has, so that the remainder has no bias.
            octets = draw(rng, curve.key_size // 8 + 9)
            secret = int.from_bytes(octets) % (curve.group_order - 1) + 1
            return PrivateKey(ec.derive_private_key(secret, curve))
        if kind in KEY_TYPES:
            return PrivateKey(rsa.generate_private_key(65537, int(kind.removeprefix("rsa"))))
    raise ConfigError(
        f"'{kind}' is no type of key", field="key-type", remedy=f"Use one of {', '.join(KEY_TYPES)}."
    )


def make_ca(subject: bytes, private_key: PrivateKey, period: Period, rng: Rng) -> bytes:
    """The self-signed certificate of a CA without CAs below it; `subject` is in DER. Raises CryptoError."""
    name = x509.Name.from_bytes(subject)
    builder = _builder(name, name, private_key, period, rng)
    builder = builder.add_extension(x509.BasicConstraints(True, 0), critical=True)
    builder = builder.add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
    return _signed(builder, private_key)


def issue(ca: Ca, subject: bytes, names: Sequence[Name], key: PrivateKey, period: Period, rng: Rng) -> bytes:
    """A certificate for a peer, with `names` as its subjectAltName, in DER. Raises CryptoError."""
    issuer = Certificate.parse(ca.certificate)
    builder = _builder(x509.Name.from_bytes(subject), issuer.parsed.subject, key, period, rng)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(native_key(ca.private_key).public_key()),
        critical=False,
    )
    builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
    builder = builder.add_extension(_usage(digital_signature=True), critical=True)
    # Windows and Apple want serverAuth of a gateway; peers of ours may be either.
    uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.IPSEC_IKE]
    builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    if names:
        builder = builder.add_extension(
            # RFC 5280 section 4.2.1.6: critical where the subject is empty
            x509.SubjectAlternativeName([_general_name(name) for name in names]),
            critical=not list(x509.Name.from_bytes(subject)),
        )
    return _signed(builder, ca.private_key)


def common_name(text: str) -> bytes:
    """The name `CN=text` in DER, or an empty one for a text that is too long for that."""
    if len(text) > _MAX_COMMON_NAME:
        return x509.Name([]).public_bytes()
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)]).public_bytes()


def make_crl(ca: Ca, revoked: Mapping[int, datetime], number: int, period: Period) -> bytes:
    """The CRL of serial numbers and the times of their revocation, in DER. Raises CryptoError."""
    issuer = Certificate.parse(ca.certificate)
    key = native_key(ca.private_key)
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.parsed.subject)
    builder = builder.last_update(period.begin).next_update(period.end)
    builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False
    )
    for serial, when in sorted(revoked.items()):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when)
        builder = builder.add_revoked_certificate(entry.build())
    with failing_as("the CRL could not be signed"):
        return builder.sign(key, _hash_for(key)).public_bytes(serialization.Encoding.DER)


def make_ocsp_response(ca: Ca, certificate: bytes, revoked: datetime | None, period: Period) -> bytes:
    """What the CA itself says of one of its certificates, in DER; `revoked` is when. Raises CryptoError."""
    subject, issuer = (Certificate.parse(der).parsed for der in (certificate, ca.certificate))
    key = native_key(ca.private_key)
    good = revoked is None
    with failing_as("the OCSP response could not be signed"):
        builder = ocsp.OCSPResponseBuilder().add_response(
            cert=subject,
            issuer=issuer,
            # RFC 6960 section 4.3: what every client knows. It hides nothing and proves nothing.
            algorithm=hashes.SHA1(),
            cert_status=ocsp.OCSPCertStatus.GOOD if good else ocsp.OCSPCertStatus.REVOKED,
            this_update=period.begin,
            next_update=period.end,
            revocation_time=revoked,
            revocation_reason=None if good else x509.ReasonFlags.unspecified,
        )
        builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, issuer)
        return builder.sign(key, _hash_for(key)).public_bytes(serialization.Encoding.DER)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PrivateKey, period: Period, rng: Rng
) -> x509.CertificateBuilder:
    public = native_key(key).public_key()
    serial = int.from_bytes(draw(rng, _SERIAL_OCTETS)) >> 1 or 1
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(serial)
        .not_valid_before(period.begin)
        .not_valid_after(period.end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _signed(builder: x509.CertificateBuilder, private_key: PrivateKey) -> bytes:
    key = native_key(private_key)
    with failing_as("the certificate could not be signed"):
        return builder.sign(key, _hash_for(key)).public_bytes(serialization.Encoding.DER)


def _hash_for(key: NativeKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    """As strong as the key (RFC 5758 section 3.2); EdDSA has its own."""
    if isinstance(key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey):
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.key_size > 256:
        return hashes.SHA384() if key.curve.key_size == 384 else hashes.SHA512()
    return hashes.SHA256()


def _usage(
    *, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: Name) -> x509.GeneralName:
    kind, value = name
    try:
        if kind == ID_FQDN:
            return x509.DNSName(value.decode("ascii"))
        if kind == ID_RFC822_ADDR:
            return x509.RFC822Name(value.decode("ascii"))
        if kind in (ID_IPV4_ADDR, ID_IPV6_ADDR):
            return x509.IPAddress(ip_address(value))
        if kind == ID_DER_ASN1_DN:
            return x509.DirectoryName(x509.Name.from_bytes(value))
    except FAILURES:
        pass
    raise ConfigError(
        "there is no place in a certificate for this kind of name",
        field="san",
        remedy="Use a host name, an e-mail address, an IP address or a DN (CN=NAME).",
    )


def to_pem(der: bytes, label: str = "CERTIFICATE") -> bytes:
    """DER as files have it (RFC 7468): `CERTIFICATE`, `X509 CRL`."""
    text = b64encode(der).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()
