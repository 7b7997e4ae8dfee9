"""From a certificate to a CA that is trusted (RFC 5280 section 6.1), each step of which can say why it fails.

`cryptography.x509.verification` is made for the web's servers and clients: it knows no Ed25519 or Ed448 in a
CA, and says neither which certificate it refuses nor what to do. So the path is built here, and given to it
where a CA on the way constrains names, which it alone does.
"""

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.x509 import verification
from cryptography.x509.oid import ExtensionOID

from espudp.crypto import dn
from espudp.crypto.certificate import (
    UNREADABLE,
    Certificate,
    CertificateError,
    Refusal,
    check_key,
    check_signature,
    check_validity,
    quietly,
)

# From the end entity to the anchor, both counted. Chains of four are long in practice.
MAX_PATH = 10
# The work that a peer who is not authenticated yet can cause: some 10 ms of signatures.
MAX_SIGNATURES = 40

# RFC 5280 section 4.2, those that are obeyed here. The policies are: any will do, and none is required.
_UNDERSTOOD = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.POLICY_MAPPINGS,
        ExtensionOID.INHIBIT_ANY_POLICY,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
        ExtensionOID.OCSP_NO_CHECK,
    }
)

Path = tuple[Certificate, ...]


def check_extensions(certificate: Certificate) -> None:
    """RFC 5280 section 4.2: raises CertificateError for a critical extension that is not understood."""
    for oid in certificate.critical:
        if oid not in _UNDERSTOOD:
            raise CertificateError(
                Refusal.CRITICAL,
                f"the certificate '{certificate}' has a critical extension, {oid.dotted_string}, "
                "that is not understood here",
                remedy="The CA has to issue it without that extension, or as not critical.",
            )


def find_path(
    leaf: Certificate, given: Sequence[Certificate], anchors: Sequence[Certificate], at: datetime
) -> Path:
    """The certificates from `leaf` to an anchor, each signed by the next; raises CertificateError.

    `given` may come in any order and need not be used. A leaf that is an anchor itself is a path.
    """
    path = _Search(given, anchors, at).extend((leaf,))
    _check_name_constraints(path, at)
    return path


class _Search:
    """Depth first over all that might have issued a certificate, as there may be cross-certificates."""

    def __init__(self, given: Sequence[Certificate], anchors: Sequence[Certificate], at: datetime) -> None:
        self._anchors = {anchor.der for anchor in anchors}
        self._candidates = [*anchors, *(one for one in given if one.der not in self._anchors)]
        self._at = at
        self._signatures = 0

    def extend(self, path: Path) -> Path:
        """The path from here on; raises what was wrong with the first candidate, if none will do."""
        top = path[-1]
        if top.der in self._anchors:
            return path
        first: CertificateError | None = None
        for issuer in self._issuers(top):
            try:
                self._check_issuer(issuer, path)
                self._check_signature(top, issuer)
                return self.extend((*path, issuer))
            except CertificateError as error:
                if error.reason is Refusal.TOO_MANY:
                    raise
                first = first or error
        raise first or _unknown_issuer(top)

    def _issuers(self, certificate: Certificate) -> list[Certificate]:
        """All of the right name, those with the right key first."""
        named = [one for one in self._candidates if one.subject == certificate.issuer]
        wanted = certificate.issuer_key_id
        return sorted(named, key=lambda one: wanted is not None and one.key_id != wanted)

    def _check_issuer(self, issuer: Certificate, path: Path) -> None:
        if any(issuer.der == one.der for one in path):
            if issuer.self_issued:
                raise _unknown_issuer(issuer)
            raise CertificateError(
                Refusal.LOOP,
                f"the certificates certify each other in a circle, from '{issuer}' back to it",
                remedy="Name the CA above them with --ca.",
            )
        if len(path) >= MAX_PATH:
            raise CertificateError(
                Refusal.TOO_LONG,
                f"the chain from '{path[0]}' has more than {MAX_PATH} certificates",
                remedy="Name a CA nearer to its end with --ca.",
            )
        check_validity(issuer, self._at)
        check_key(issuer)
        check_extensions(issuer)
        check_is_ca(issuer)
        _check_path_length(issuer, path)

    def _check_signature(self, certificate: Certificate, issuer: Certificate) -> None:
        self._signatures += 1
        if self._signatures > MAX_SIGNATURES:
            raise CertificateError(
                Refusal.TOO_MANY,
                f"'{certificate}' has more certificates of the same names above it than are tried",
                remedy="The peer should send its own chain only.",
            )
        check_signature(certificate, issuer)


def check_is_ca(issuer: Certificate) -> None:
    """RFC 5280 section 6.1.4 (k), (n): raises CertificateError."""
    constraints = issuer.extension(x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        raise CertificateError(
            Refusal.NOT_A_CA,
            f"'{issuer}' signed a certificate and is not a CA",
            remedy="Its owner has no right to; or the CA's certificate lacks the basic constraint CA:TRUE.",
        )
    usage = issuer.extension(x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        raise CertificateError(
            Refusal.NOT_A_CA,
            f"'{issuer}' signed a certificate, which its key usage does not allow",
            remedy="The CA's certificate needs the key usage keyCertSign.",
        )


def _check_path_length(issuer: Certificate, path: Path) -> None:
    """RFC 5280 section 6.1.4 (l), (m): those below the issuer, without the end and without renewed keys."""
    constraints = issuer.extension(x509.BasicConstraints)
    below = sum(not one.self_issued for one in path[1:])
    if constraints is not None and constraints.path_length is not None and below > constraints.path_length:
        raise CertificateError(
            Refusal.TOO_LONG,
            f"'{issuer}' allows {constraints.path_length} CAs below itself, and there are {below}",
            remedy="The CA has to issue its certificate anew, with a greater path length.",
        )


def _unknown_issuer(certificate: Certificate) -> CertificateError:
    if certificate.self_issued:
        return CertificateError(
            Refusal.UNKNOWN_ISSUER,
            f"'{certificate}' is certified by itself alone, and is not among what is trusted here",
            remedy="If it is to be, name its file with --ca.",
        )
    return CertificateError(
        Refusal.UNKNOWN_ISSUER,
        f"'{certificate}' was issued by '{dn.show(certificate.issuer)[:80]}', "
        "which is neither trusted here nor was sent",
        remedy="Name that CA's certificate with --ca; if it is below one that is, the peer should send it.",
    )


def _check_name_constraints(path: Path, at: datetime) -> None:
    """RFC 5280 section 4.2.1.10: raises CertificateError for names that a CA does not allow, or might not.

    The library judges DNS names, e-mail and IP addresses; constraints of DNs, if not critical, it overlooks.
    """
    constrained = [ca for ca in path[1:] if ca.extension(x509.NameConstraints)]
    if not constrained:
        return
    if any(map(_constrains_dns, constrained)) or not _is_within(path, at):
        raise CertificateError(
            Refusal.CONSTRAINED,
            f"the CA '{constrained[0]}' constrains names, and '{path[0]}' is not seen to keep to that",
            remedy="Its CA has to issue it for names that the CA above allows. Constraints of DNS names, "
            "e-mail and IP addresses are understood, from CAs with RSA and ECDSA keys.",
        )


def _constrains_dns(ca: Certificate) -> bool:
    """Whether it constrains distinguished names."""
    constraints = ca.extension(x509.NameConstraints)
    if constraints is None:
        return False
    trees = (*(constraints.permitted_subtrees or ()), *(constraints.excluded_subtrees or ()))
    return any(isinstance(tree, x509.DirectoryName) for tree in trees)


def _is_within(path: Path, at: datetime) -> bool:
    anything = verification.ExtensionPolicy.permit_all()
    ca_policy = anything.require_present(x509.BasicConstraints, verification.Criticality.AGNOSTIC, None)
    builder = verification.PolicyBuilder().store(verification.Store([path[-1].parsed]))
    builder = builder.time(at).max_chain_depth(MAX_PATH)
    builder = builder.extension_policies(ca_policy=ca_policy, ee_policy=anything)
    try:
        with quietly():
            builder.build_client_verifier().verify(path[0].parsed, [one.parsed for one in path[1:-1]])
    except (verification.VerificationError, *UNREADABLE):
        return False
    return True
