"""What certificates, CRLs and keys come in: PEM, DER, PKCS#7 and PKCS#12, told apart by their octets."""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs7, pkcs12

from espudp.crypto.certificate import (
    UNREADABLE,
    Certificate,
    CertificateError,
    Refusal,
    check_validity,
    quietly,
)
from espudp.crypto.revocation import MAX_RESPONSE_OCTETS, read_response
from espudp.crypto.signatures import PrivateKey
from espudp.crypto.x509 import names_of
from espudp.errors import ConfigError

_PEM = b"-----BEGIN"
# What a message has room for that is put together from fragments, here and elsewhere.
MAX_CHAIN_OCTETS = 30_000
_PKCS12_ROUNDS = 20_000


NativeKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey


@dataclass(frozen=True, slots=True)
class Bundle:
    """A private key and certificates in DER: its own first, then those towards a CA; maybe that as well."""

    private_key: PrivateKey
    certificates: tuple[bytes, ...]


def parse_certificates(octets: bytes) -> tuple[bytes, ...]:
    """The certificates in PEM, DER or PKCS#7, in DER and their order. Raises ConfigError."""
    try:
        with quietly():
            found = _load_certificates(octets)
    except UNREADABLE:
        found = []
    if not found:
        raise ConfigError(
            "there is no X.509 certificate in it",
            field="cert",
            remedy="It is to be PEM (-----BEGIN CERTIFICATE-----), DER or PKCS#7.",
        )
    return tuple(one.public_bytes(serialization.Encoding.DER) for one in found)


def _load_certificates(octets: bytes) -> list[x509.Certificate]:
    if b"-----BEGIN PKCS7-----" in octets:
        return pkcs7.load_pem_pkcs7_certificates(octets)
    if _PEM in octets:
        return x509.load_pem_x509_certificates(octets)
    try:
        return [x509.load_der_x509_certificate(octets)]
    except UNREADABLE:
        return pkcs7.load_der_pkcs7_certificates(octets)


def unwrapped(octets: bytes) -> tuple[bytes, ...]:
    """The certificates in a peer's PKCS#7, in DER; none, if it is nothing such. Nothing raised."""
    try:
        with quietly():
            found = pkcs7.load_der_pkcs7_certificates(octets)
            return tuple(one.public_bytes(serialization.Encoding.DER) for one in found)
    except UNREADABLE:
        return ()


def parse_crls(octets: bytes) -> tuple[bytes, ...]:
    """The CRLs in PEM or DER, in DER. Raises ConfigError."""
    try:
        with quietly():
            if _PEM not in octets:
                found = [x509.load_der_x509_crl(octets)]
            else:
                found = [x509.load_pem_x509_crl(block) for block in _pem_blocks(octets, b"X509 CRL")]
    except UNREADABLE:
        found = []
    if not found:
        raise ConfigError(
            "there is no CRL in it",
            field="crl",
            remedy="It is to be PEM (-----BEGIN X509 CRL-----) or DER, and whole.",
        )
    return tuple(one.public_bytes(serialization.Encoding.DER) for one in found)


def parse_ocsp_response(octets: bytes) -> bytes:
    """One OCSP response in DER, as `openssl ocsp -respout` writes it. Raises ConfigError."""
    if len(octets) <= MAX_RESPONSE_OCTETS and read_response(octets) is not None:
        return octets
    raise ConfigError(
        "this is not an OCSP response that says anything",
        field="ocsp",
        remedy="Make one: espudp pki ocsp NAME, or openssl ocsp ... -respout FILE",
    )


def _pem_blocks(octets: bytes, label: bytes) -> list[bytes]:
    begin, end = b"-----BEGIN " + label + b"-----", b"-----END " + label + b"-----"
    blocks = (part.partition(end) for part in octets.split(begin)[1:])
    return [begin + body + ending + b"\n" for body, ending, _ in blocks]


def is_pkcs12(octets: bytes) -> bool:
    """Whether octets are not PEM, and begin as PKCS#12 does: version 3 (RFC 7292 section 4)."""
    return octets[:1] == b"\x30" and b"\x02\x01\x03\x30" in octets[2:10]


def parse_pkcs12(octets: bytes, password: bytes | None) -> Bundle:
    """A key and its certificates from PKCS#12 (.p12, .pfx). Raises ConfigError, without the octets."""
    try:
        with quietly():
            content = pkcs12.load_pkcs12(octets, password)
    except UNREADABLE:
        raise ConfigError(
            "this PKCS#12 file cannot be opened" + (", without a password" if password is None else ""),
            field="cert",
            remedy="Give its password in a file: --key-password-file FILE",
        ) from None
    if content.key is None or content.cert is None:
        missing = "private key" if content.key is None else "certificate"
        raise ConfigError(
            f"this PKCS#12 file has no {missing}",
            field="cert",
            remedy="Export it again, with the private key and its certificate.",
        )
    certificates = [content.cert, *content.additional_certs]
    return Bundle(
        PrivateKey(content.key),
        tuple(one.certificate.public_bytes(serialization.Encoding.DER) for one in certificates),
    )


def emit_pkcs12(name: str, bundle: Bundle, password: bytes) -> bytes:
    """PKCS#12 as every phone, macOS and Windows reads it, with 3DES and SHA-1: take a strong password."""
    own, *others = (x509.load_der_x509_certificate(der) for der in bundle.certificates)
    encryption = (
        serialization.PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(_PKCS12_ROUNDS)
        .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())
        .build(password)
    )
    return pkcs12.serialize_key_and_certificates(
        name.encode(), native_key(bundle.private_key), own, others, encryption
    )


def native_key(key: PrivateKey) -> NativeKey:
    """A key as the library has it. Raises ConfigError."""
    native = serialization.load_pem_private_key(key.to_pem(), None)
    if not isinstance(native, NativeKey):
        raise ConfigError("this key does not sign", field="key", remedy="Use ECDSA, EdDSA or RSA.")
    return native


def own_chain(private_key: PrivateKey, certificates: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """What to send: the certificate of the key, then the CAs above it that are there, without the root.

    Raises ConfigError if none is of the key.
    """
    try:
        parsed = [Certificate.parse(der) for der in certificates]
    except CertificateError as error:
        raise ConfigError(str(error), field="cert", remedy=error.remedy) from None
    own = next((one for one in parsed if one.spki == private_key.public.spki), None)
    if own is None:
        raise ConfigError(
            f"the private key is not that of the certificate '{parsed[0]}'",
            field="key",
            remedy="Give the key that the certificate was made for.",
        )
    if not names_of(own.der):
        raise ConfigError(
            "the certificate has no name in it, so that it proves no identity",
            field="cert",
            remedy="Have it issued with a subject or a subjectAltName.",
        )
    chain = [own]
    while above := next((one for one in parsed if one.subject == chain[-1].issuer), None):
        if above in chain or above.self_issued:
            break
        chain.append(above)
    if (octets := sum(len(one.der) for one in chain)) > MAX_CHAIN_OCTETS:
        raise ConfigError(
            f"the certificates have {octets} octets together, and peers take {MAX_CHAIN_OCTETS} at most",
            field="cert",
            remedy="Use one with fewer names in it.",
        )
    return tuple(one.der for one in chain)


def trouble_with_time(der: bytes, at: datetime) -> str:
    """Why a certificate is not valid at a time; empty if it is. Raises CertificateError if it is not one."""
    try:
        check_validity(Certificate.parse(der), at)
    except CertificateError as error:
        if error.reason is Refusal.MALFORMED:
            raise
        return str(error)
    return ""
