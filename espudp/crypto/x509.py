"""Whom to believe by certificate: trusted CAs, and what a certificate must be to prove a peer's identity.

After RFC 4945 (the profile for IKE) and RFC 5280. The time is an argument, nothing is fetched from anywhere.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from espudp.crypto import dn
from espudp.crypto.certificate import Certificate, CertificateError, Refusal, check_key, check_validity
from espudp.crypto.chain import check_extensions, find_path
from espudp.crypto.revocation import Crl, Revocation, check_revocation
from espudp.crypto.signatures import PublicKey
from espudp.errors import ConfigError

# All CERT payloads of a message together: more than ten times what is met.
MAX_CERTIFICATES = 20

# RFC 7296 section 3.5
ID_IPV4_ADDR, ID_FQDN, ID_RFC822_ADDR, ID_IPV6_ADDR, ID_DER_ASN1_DN = 1, 2, 3, 5, 9

# RFC 4945 section 5.1.3.12 takes the first two. All others are what gateways and clients really have: Windows
# asks for serverAuth, macOS for ikeIntermediate; the last three are those that RFC 4945 retired.
_ACCEPTED_USAGES = frozenset(
    {
        ExtendedKeyUsageOID.IPSEC_IKE,
        ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
        ObjectIdentifier("1.3.6.1.5.5.8.2.2"),
        ObjectIdentifier("1.3.6.1.5.5.7.3.5"),
        ObjectIdentifier("1.3.6.1.5.5.7.3.6"),
        ObjectIdentifier("1.3.6.1.5.5.7.3.7"),
    }
)

Name = tuple[int, bytes]
"""An ID type of RFC 7296 section 3.5, and its octets."""


class Trust:
    """The CAs (and single certificates) that are believed, and what they are believed about.

    An anchor is believed as it is, within its time; it issues certificates if it is a CA's, and is else the
    peer's own. `intermediates` are CAs that peers may forget to send, and are not believed by themselves.
    """

    def __init__(
        self,
        anchors: Sequence[bytes],
        intermediates: Sequence[bytes] = (),
        crls: Sequence[bytes] = (),
        *,
        revocation: Revocation = Revocation.IF_GIVEN,
    ) -> None:
        """All in DER. Raises ConfigError."""
        if not anchors:
            raise ConfigError("there is no CA to trust", field="ca", remedy="Name one or more: --ca FILE")
        self._anchors = tuple(_own(der, "ca") for der in anchors)
        self._intermediates = tuple(_own(der, "ca") for der in intermediates)
        self._crls = tuple(map(Crl.parse, crls))
        self._revocation = revocation

    def renew_crls(self, crls: Sequence[bytes]) -> None:
        """The CRLs that hold from now on, in DER. Raises ConfigError, and keeps the old ones then."""
        self._crls = tuple(map(Crl.parse, crls))

    def overdue_crls(self, at: datetime) -> tuple[str, ...]:
        """What to warn of: each CRL that says nothing of now."""
        return tuple(filter(None, (crl.trouble_with_time(at) for crl in self._crls)))

    @property
    def wants_ocsp(self) -> bool:
        """Whether to ask the peer for OCSP responses (RFC 4806 section 3.1)."""
        return self._revocation is not Revocation.OFF

    def authorities(self) -> tuple[bytes, ...]:
        """What a CERTREQ names the CAs by: SHA-1 of each one's key (RFC 7296 section 3.7), 20 octets."""
        return tuple(hashlib.sha1(anchor.spki, usedforsecurity=False).digest() for anchor in self._anchors)

    def subjects(self) -> tuple[bytes, ...]:
        """What a CERTREQ of IKEv1 names the CAs by: the DN of each in DER (RFC 2408 section 3.10)."""
        return tuple(anchor.subject for anchor in self._anchors)

    def verify(
        self,
        chain: Sequence[bytes],
        identity_type: int,
        identity: bytes,
        at: datetime,
        ocsp: Sequence[bytes] = (),
    ) -> PublicKey:
        """The key of a peer that sent `chain` and calls itself `identity` (an ID type and its octets).

        A chain is in DER, the peer's own certificate first, the others in any order. `at` is the time,
        with its zone. `ocsp` are the OCSP responses that came along. The peer is believed when it has signed
        with that key. Raises CertificateError.
        """
        if not chain:
            raise CertificateError(
                Refusal.MISSING,
                "the peer sent no certificate",
                remedy="It has to be told to send one; strongSwan: send_cert = always",
            )
        if len(chain) > MAX_CERTIFICATES:
            raise CertificateError(
                Refusal.TOO_MANY,
                f"the peer sent {len(chain)} certificates, and at most {MAX_CERTIFICATES} are looked at",
                remedy="It should send its own chain only.",
            )
        leaf, *others = (Certificate.parse(der) for der in chain)
        check_validity(leaf, at)
        check_key(leaf)
        check_extensions(leaf)
        _check_usage(leaf)
        _check_name(leaf, (identity_type, identity))
        path = find_path(leaf, (*others, *self._intermediates), self._anchors, at)
        check_revocation(path, self._crls, ocsp, self._revocation, at)
        return _public_key(leaf)

    def __repr__(self) -> str:
        return f"Trust({', '.join(map(str, self._anchors))})"


def names_of(der: bytes) -> tuple[Name, ...]:
    """The identities that a certificate proves: its subjectAltNames in their order, then its subject's DN.

    Raises CertificateError if it is not one.
    """
    return _names(Certificate.parse(der))


def authority_of(der: bytes) -> bytes:
    """What a CERTREQ would name this CA's certificate by: 20 octets. Raises CertificateError."""
    return hashlib.sha1(Certificate.parse(der).spki, usedforsecurity=False).digest()


def _names(certificate: Certificate) -> tuple[Name, ...]:
    alternative = certificate.extension(x509.SubjectAlternativeName)
    names: list[Name] = []
    for name in alternative or ():
        if isinstance(name, x509.DNSName):
            names.append((ID_FQDN, name.value.encode()))
        elif isinstance(name, x509.RFC822Name):
            names.append((ID_RFC822_ADDR, name.value.encode()))
        elif isinstance(name, x509.DirectoryName):
            names.append((ID_DER_ASN1_DN, name.value.public_bytes()))
        elif isinstance(name, x509.IPAddress) and hasattr(name.value, "packed"):
            names.append((ID_IPV4_ADDR if name.value.version == 4 else ID_IPV6_ADDR, name.value.packed))
    if list(certificate.parsed.subject):
        names.append((ID_DER_ASN1_DN, certificate.subject))
    return tuple(names)


def same_name(one: Name, other: Name) -> bool:
    """Whether two identities are the same to a certificate (RFC 5280 section 7, RFC 4945 section 3.1).

    Hosts are compared without case, e-mail addresses with case before the @, DNs by their canonical form.
    A `*` in a certificate is no wildcard, and the common name is no host name.
    """
    (kind, value), (other_kind, other_value) = one, other
    if kind != other_kind:
        return False
    if kind == ID_FQDN:
        return value.lower() == other_value.lower()
    if kind == ID_RFC822_ADDR:
        user, _, host = value.rpartition(b"@")
        other_user, _, other_host = other_value.rpartition(b"@")
        return user == other_user and host.lower() == other_host.lower()
    return value == other_value or (kind == ID_DER_ASN1_DN and dn.same(value, other_value))


def _check_name(leaf: Certificate, identity: Name) -> None:
    names = _names(leaf)
    if any(same_name(identity, name) for name in names):
        return
    shown = ", ".join(show_name(name) for name in names[:5]) or "nothing"
    raise CertificateError(
        Refusal.NAME,
        f"the peer calls itself {show_name(identity)}, and its certificate '{leaf}' is for {shown}",
        remedy="The peer's identity has to be one of those, or its certificate issued for it, as a "
        "subjectAltName; a common name alone does not count.",
    )


def show_name(name: Name) -> str:
    """An identity for a person: printable ASCII of bounded length, whatever a peer sends."""
    kind, value = name
    if kind == ID_DER_ASN1_DN:
        return f"'{dn.show(value)[:80]}'"
    if kind in (ID_FQDN, ID_RFC822_ADDR):
        text = value[:80].decode("ascii", "replace")
        return "".join(char if "!" <= char <= "~" else "?" for char in text)
    if kind == ID_IPV4_ADDR and len(value) == 4:
        return ".".join(map(str, value))
    if kind == ID_IPV6_ADDR and len(value) == 16:
        return ":".join(value[at : at + 2].hex() for at in range(0, 16, 2))
    return f"#{value[:40].hex()}"


def _check_usage(leaf: Certificate) -> None:
    """RFC 4945 sections 5.1.3.2 and 5.1.3.12."""
    usage = leaf.extension(x509.KeyUsage)
    if usage is not None and not (usage.digital_signature or usage.content_commitment):
        raise CertificateError(
            Refusal.KEY_USAGE,
            f"the key usage of the certificate '{leaf}' does not allow it to sign",
            remedy="It has to be issued with the key usage digitalSignature.",
        )
    extended = leaf.extension(x509.ExtendedKeyUsage)
    if extended is not None and _ACCEPTED_USAGES.isdisjoint(extended):
        raise CertificateError(
            Refusal.KEY_USAGE,
            f"the extended key usage of the certificate '{leaf}' is for something else",
            remedy="It has to be issued for serverAuth, clientAuth or ipsecIKE, or for no use in particular.",
        )


def _public_key(leaf: Certificate) -> PublicKey:
    try:
        return PublicKey(leaf.parsed.public_key())
    except ConfigError as error:
        raise CertificateError(
            Refusal.WEAK_KEY,
            f"the certificate '{leaf}' does not serve for IKE: {error}",
            remedy="It needs a new key: ECDSA P-256, Ed25519, or RSA of 3072 bits.",
        ) from None


def _own(der: bytes, field: str) -> Certificate:
    try:
        certificate = Certificate.parse(der)
        check_key(certificate)
    except CertificateError as error:
        raise ConfigError(str(error), field=field, remedy=error.remedy) from None
    return certificate
