"""Whether a certificate was revoked.

CRLs come from files (RFC 5280 section 6.3), OCSP responses from the peer (RFC 4806, RFC 6960).
Nothing is fetched.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from itertools import pairwise
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from espudp.crypto import dn
from espudp.crypto.certificate import (
    UNREADABLE,
    WEAK_HASHES,
    Certificate,
    CertificateError,
    Refusal,
    check_key,
    check_signature,
    check_validity,
    quietly,
)
from espudp.errors import ConfigError

# One response for each certificate of a chain; each has a certificate or two of its own.
MAX_RESPONSES = 10
MAX_RESPONSE_OCTETS = 32768

# Clocks differ. And a response without an end (RFC 6960 section 2.4) is good for a day.
_SKEW = timedelta(minutes=5)
_MAX_AGE = timedelta(days=1)


class Revocation(Enum):
    """How much has to be known."""

    OFF = "off"
    """Nothing is looked at."""

    IF_GIVEN = "if-given"
    """A CA's CRL counts if there is one, and must be up to date then; so does a valid OCSP response."""

    REQUIRED = "required"
    """Every certificate below the anchor needs a CRL that is up to date, or a valid OCSP response."""


class State(Enum):
    """What a CRL or a response says of a certificate."""

    GOOD = "good"
    REVOKED = "revoked"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """The state of a certificate, and in words why that is so."""

    state: State
    why: str


_SIGNERS = (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey, ed448.Ed448PublicKey)
_UNDERSTOOD = frozenset({ExtensionOID.ISSUING_DISTRIBUTION_POINT, ExtensionOID.AUTHORITY_KEY_IDENTIFIER})


@dataclass(slots=True, eq=False)
class Crl:
    """A complete list of what a CA has revoked, within its scope."""

    parsed: x509.CertificateRevocationList
    issuer: bytes
    serials: frozenset[int]
    scope: x509.IssuingDistributionPoint | None
    _signed_by: bytes = field(default=b"", init=False)

    @classmethod
    def parse(cls, der: bytes) -> Self:
        """Read DER. Raises ConfigError, for delta and indirect CRLs too."""
        try:
            with quietly():
                crl = x509.load_der_x509_crl(der)
                extensions = {extension.oid: extension for extension in crl.extensions}
                made = cls(crl, crl.issuer.public_bytes(), frozenset(one.serial_number for one in crl), None)
        except UNREADABLE:
            raise ConfigError(
                "this is not a CRL", field="crl", remedy="It is to be an X.509 CRL, in PEM or DER."
            ) from None
        if ExtensionOID.DELTA_CRL_INDICATOR in extensions:
            raise _unfit(made, "a delta CRL, which says what changed since another one")
        scope = extensions.get(ExtensionOID.ISSUING_DISTRIBUTION_POINT)
        if scope is not None and isinstance(scope.value, x509.IssuingDistributionPoint):
            made.scope = scope.value
            if made.scope.indirect_crl:
                raise _unfit(made, "an indirect CRL, of more than one CA")
        unknown = [oid for oid, one in extensions.items() if one.critical and oid not in _UNDERSTOOD]
        if unknown:
            raise _unfit(made, f"a CRL with a critical extension, {unknown[0].dotted_string}, unknown here")
        return made

    def covers(self, certificate: Certificate) -> bool:
        """RFC 5280 section 6.3.3 (b): whether this CA's certificate is good if it is not on the list."""
        scope = self.scope
        if scope is None:
            return True
        constraints = certificate.extension(x509.BasicConstraints)
        is_ca = constraints is not None and constraints.ca
        if scope.only_contains_attribute_certs or scope.only_some_reasons:
            return False
        if scope.only_contains_user_certs if is_ca else scope.only_contains_ca_certs:
            return False
        if scope.full_name is None and scope.relative_name is None:
            return True
        points = certificate.extension(x509.CRLDistributionPoints) or ()
        here = set(scope.full_name or ())
        return any(not here.isdisjoint(point.full_name or ()) for point in points)

    def find(self, certificate: Certificate, issuer: Certificate, at: datetime) -> Finding:
        """What this list says of a certificate, which was issued by `issuer`."""
        if trouble := self._trouble(issuer):
            return Finding(State.UNKNOWN, trouble)
        serial = certificate.parsed.serial_number
        if serial in self.serials:
            return Finding(State.REVOKED, _why_revoked(self.parsed, serial))
        if trouble := self.trouble_with_time(at):
            return Finding(State.UNKNOWN, trouble)
        if not self.covers(certificate):
            return Finding(State.UNKNOWN, "it is outside the scope of the CRL")
        return Finding(State.GOOD, "it is not on the CRL")

    def trouble_with_time(self, at: datetime) -> str:
        """Why the list says nothing of now; empty if it does."""
        begin, until = self.parsed.last_update_utc, self.parsed.next_update_utc
        if begin > at + _SKEW:
            return f"the CRL of '{dn.show(self.issuer)[:80]}' is of {_date(begin)}, to come"
        if until is not None and until < at:
            return f"the CRL of '{dn.show(self.issuer)[:80]}' was to be renewed by {_date(until)}"
        return ""

    def _trouble(self, issuer: Certificate) -> str:
        usage = issuer.extension(x509.KeyUsage)
        if usage is not None and not usage.crl_sign:
            return f"the key usage of '{issuer}' does not allow it to sign CRLs"
        # A CRL of megabytes is hashed once, and not for each peer.
        if self._signed_by == issuer.spki:
            return ""
        try:
            weak = isinstance(self.parsed.signature_hash_algorithm, WEAK_HASHES)
            key = issuer.parsed.public_key()
            valid = not weak and isinstance(key, _SIGNERS) and self.parsed.is_signature_valid(key)
        except UNREADABLE:
            valid = False
        if not valid:
            return f"the CRL of '{issuer}' is not signed by its key, or too weakly"
        self._signed_by = issuer.spki
        return ""


def check_revocation(
    path: Sequence[Certificate],
    crls: Iterable[Crl],
    responses: Sequence[bytes],
    policy: Revocation,
    at: datetime,
) -> None:
    """Of a valid path, all but the anchor. Raises CertificateError."""
    if policy is Revocation.OFF:
        return
    known = [*crls]
    answers = list(_load_responses(responses))
    for certificate, issuer in pairwise(path):
        of_issuer = [crl for crl in known if crl.issuer == issuer.subject]
        findings = [crl.find(certificate, issuer, at) for crl in of_issuer]
        findings += [_ask(answer, certificate, issuer, at) for answer in answers]
        strict = policy is Revocation.REQUIRED or any(crl.covers(certificate) for crl in of_issuer)
        _decide(certificate, issuer, findings, strict=strict)


def _decide(
    certificate: Certificate, issuer: Certificate, findings: Sequence[Finding], *, strict: bool
) -> None:
    for finding in findings:
        if finding.state is State.REVOKED:
            raise CertificateError(
                Refusal.REVOKED,
                f"the certificate '{certificate}' was revoked by '{issuer}': {finding.why}",
                remedy="Its owner needs a new certificate.",
            )
    if strict and not any(finding.state is State.GOOD for finding in findings):
        why = "; ".join(finding.why for finding in findings if finding.why)
        raise CertificateError(
            Refusal.UNCHECKED,
            f"nothing says whether '{certificate}' was revoked: {why or 'no CRL, no OCSP response'}",
            remedy=f"Give the present CRL of '{issuer}' with --crl, or do without: --revocation off",
        )


def read_response(octets: bytes) -> ocsp.OCSPResponse | None:
    """An OCSP response in DER, if it can be read and is an answer at all. Who it is by is not looked at."""
    try:
        with quietly():
            response = ocsp.load_der_ocsp_response(octets)
            return response if response.response_status is ocsp.OCSPResponseStatus.SUCCESSFUL else None
    except UNREADABLE:
        return None


def _load_responses(responses: Sequence[bytes]) -> Iterator[ocsp.OCSPResponse]:
    """Those that say something. For all others, a peer might as well have sent none."""
    short = (one for one in responses[:MAX_RESPONSES] if len(one) <= MAX_RESPONSE_OCTETS)
    return (response for one in short if (response := read_response(one)) is not None)


def _ask(response: ocsp.OCSPResponse, certificate: Certificate, issuer: Certificate, at: datetime) -> Finding:
    """What an OCSP response says of a certificate."""
    try:
        with quietly():
            return _ask_readable(response, certificate, issuer, at)
    except UNREADABLE:
        return Finding(State.UNKNOWN, "an OCSP response cannot be read")


def _ask_readable(
    response: ocsp.OCSPResponse, certificate: Certificate, issuer: Certificate, at: datetime
) -> Finding:
    single = next((one for one in response.responses if _is_about(one, certificate, issuer)), None)
    if single is None:
        return Finding(State.UNKNOWN, "")
    if not any(_signed(response, responder) for responder in _responders(response, issuer, at)):
        return Finding(State.UNKNOWN, "the OCSP response is not signed by the CA or a responder of its own")
    begin, end = single.this_update_utc, single.next_update_utc
    if begin > at + _SKEW:
        return Finding(State.UNKNOWN, f"the OCSP response is of {_date(begin)}, to come")
    if (end or begin + _MAX_AGE) < at - _SKEW:
        return Finding(State.UNKNOWN, f"the OCSP response is of {_date(begin)}, and out of date")
    if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
        when = single.revocation_time_utc
        return Finding(State.REVOKED, f"on {_date(when)}, by OCSP" if when else "by OCSP")
    if single.certificate_status is ocsp.OCSPCertStatus.GOOD:
        return Finding(State.GOOD, "OCSP says so")
    return Finding(State.UNKNOWN, "the OCSP responder does not know it")


def _is_about(single: ocsp.OCSPSingleResponse, certificate: Certificate, issuer: Certificate) -> bool:
    """RFC 6960 section 4.1.1: whether the CertID is the one that a question for this certificate has."""
    if single.serial_number != certificate.parsed.serial_number:
        return False
    question = ocsp.OCSPRequestBuilder()
    question = question.add_certificate(certificate.parsed, issuer.parsed, single.hash_algorithm)
    asked = question.build()
    given = single.issuer_name_hash, single.issuer_key_hash
    return given == (asked.issuer_name_hash, asked.issuer_key_hash)


def _responders(response: ocsp.OCSPResponse, issuer: Certificate, at: datetime) -> Iterator[Certificate]:
    """RFC 6960 section 4.2.2.2: the CA itself, or whom it issued a certificate for signing OCSP."""
    if _is_responder(response, issuer):
        yield issuer
    for one in response.certificates:
        try:
            delegate = Certificate.parse(one.public_bytes(serialization.Encoding.DER))
            usage = delegate.extension(x509.ExtendedKeyUsage)
            if usage is None or ExtendedKeyUsageOID.OCSP_SIGNING not in usage:
                continue
            if not _is_responder(response, delegate):
                continue
            check_validity(delegate, at)
            check_key(delegate)
            check_signature(delegate, issuer)
        except CertificateError:
            continue
        yield delegate


def _is_responder(response: ocsp.OCSPResponse, certificate: Certificate) -> bool:
    if response.responder_name is not None:
        return response.responder_name.public_bytes() == certificate.subject
    # RFC 6960 section 4.2.1: KeyHash is SHA-1 of the key without its algorithm, as this identifier is.
    identifier = x509.SubjectKeyIdentifier.from_public_key(certificate.parsed.public_key())
    return response.responder_key_hash == identifier.digest


def _signed(response: ocsp.OCSPResponse, responder: Certificate) -> bool:
    key, hash_ = responder.parsed.public_key(), response.signature_hash_algorithm
    signature, data = response.signature, response.tbs_response_bytes
    try:
        if isinstance(key, ed25519.Ed25519PublicKey | ed448.Ed448PublicKey):
            key.verify(signature, data)
        elif hash_ is None or isinstance(hash_, WEAK_HASHES):
            return False
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, padding.PKCS1v15(), hash_)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, ec.ECDSA(hash_))
        else:
            return False
    except InvalidSignature:
        return False
    return True


def _why_revoked(crl: x509.CertificateRevocationList, serial: int) -> str:
    entry = crl.get_revoked_certificate_by_serial_number(serial)
    if entry is None:
        return "by its CRL"
    try:
        reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason.value
    except (x509.ExtensionNotFound, *UNREADABLE):
        reason = "unspecified"
    return f"on {_date(entry.revocation_date_utc)}, reason: {reason}"


def _date(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"


def _unfit(crl: Crl, what: str) -> ConfigError:
    return ConfigError(
        f"the CRL of '{dn.show(crl.issuer)[:80]}' is {what}",
        field="crl",
        remedy="Give the CA's own complete CRL.",
    )
