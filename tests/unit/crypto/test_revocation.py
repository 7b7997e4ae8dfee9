"""CRLs and OCSP responses: what revokes a certificate, what shows that it holds, and what says nothing."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from espudp.crypto.certificate import CertificateError, Refusal
from espudp.crypto.revocation import MAX_RESPONSE_OCTETS, Revocation
from espudp.crypto.x509 import Trust
from espudp.errors import ConfigError
from tests.unit.crypto.certs import CERTIFYING, NOW, SIGNING, Issuer, crl, ocsp_response, root

FQDN, GW = 2, b"gw.example.org"
DAY = timedelta(days=1)
OFF, IF_GIVEN, REQUIRED = Revocation.OFF, Revocation.IF_GIVEN, Revocation.REQUIRED
REVOKED, UNKNOWN = ocsp.OCSPCertStatus.REVOKED, ocsp.OCSPCertStatus.UNKNOWN


@pytest.fixture(scope="module")
def ca() -> Issuer:
    return root("CN=Root")


@pytest.fixture(scope="module")
def leaf(ca: Issuer) -> Issuer:
    return ca.issue("CN=gw", "dns:gw.example.org")


def outcome(
    ca: Issuer,
    *chain: Issuer,
    crls: Sequence[bytes] = (),
    responses: Sequence[bytes] = (),
    policy: Revocation = REQUIRED,
) -> Refusal | None:
    """Why the chain is refused; None: it is not."""
    trust = Trust([ca.der], crls=crls, revocation=policy)
    try:
        trust.verify([one.der for one in chain], FQDN, GW, NOW, responses)
    except CertificateError as error:
        return error.reason
    return None


def test_policies_without_anything_given(ca: Issuer, leaf: Issuer) -> None:
    assert outcome(ca, leaf, policy=OFF) is None
    assert outcome(ca, leaf, policy=IF_GIVEN) is None
    assert outcome(ca, leaf, policy=REQUIRED) is Refusal.UNCHECKED


def test_a_crl(ca: Issuer, leaf: Issuer) -> None:
    other = ca.issue("CN=other")
    assert outcome(ca, leaf, crls=[crl(ca, other)]) is None
    for policy, found in ((OFF, None), (IF_GIVEN, Refusal.REVOKED), (REQUIRED, Refusal.REVOKED)):
        assert outcome(ca, leaf, crls=[crl(ca, other, leaf)], policy=policy) is found
    trust = Trust([ca.der], crls=[crl(ca, leaf, reason=x509.ReasonFlags.key_compromise)])
    with pytest.raises(CertificateError, match="reason: keyCompromise") as error:
        trust.verify([leaf.der], FQDN, GW, NOW)
    assert error.value.remedy


def test_a_crl_of_someone_else_says_nothing(ca: Issuer, leaf: Issuer) -> None:
    other = root("CN=Other")
    lists = [crl(other, leaf)]
    assert outcome(ca, leaf, crls=lists, policy=IF_GIVEN) is None
    assert outcome(ca, leaf, crls=lists) is Refusal.UNCHECKED
    forged = [crl(ca, signed_by=other.key)]
    assert outcome(ca, leaf, crls=forged) is Refusal.UNCHECKED
    assert outcome(ca, leaf, crls=forged, policy=IF_GIVEN) is Refusal.UNCHECKED


def test_the_time_of_a_crl(ca: Issuer, leaf: Issuer) -> None:
    stale = crl(ca, begin=NOW - 9 * DAY, end=NOW - DAY)
    early = crl(ca, begin=NOW + DAY)
    for wrong in (stale, early):
        assert outcome(ca, leaf, crls=[wrong], policy=IF_GIVEN) is Refusal.UNCHECKED
        assert outcome(ca, leaf, crls=[wrong, crl(ca)]) is None
    assert outcome(ca, leaf, crls=[crl(ca, leaf, begin=NOW - 9 * DAY, end=NOW - DAY)]) is Refusal.REVOKED
    assert Trust([ca.der], crls=[stale, crl(ca)]).overdue_crls(NOW) == (
        "the CRL of 'CN=Root' was to be renewed by 2026-05-31 12:00 UTC",
    )


def test_every_certificate_of_the_chain_but_the_anchor(ca: Issuer) -> None:
    sub = ca.ca("CN=Sub")
    leaf = sub.issue("CN=gw", "dns:gw.example.org")
    assert outcome(ca, leaf, sub, crls=[crl(ca), crl(sub)]) is None
    assert outcome(ca, leaf, sub, crls=[crl(sub)]) is Refusal.UNCHECKED
    assert outcome(ca, leaf, sub, crls=[crl(sub)], policy=IF_GIVEN) is None
    assert outcome(ca, leaf, sub, crls=[crl(ca, sub)], policy=IF_GIVEN) is Refusal.REVOKED
    assert outcome(ca, leaf, sub, crls=[crl(ca), crl(sub, leaf)]) is Refusal.REVOKED


def test_who_may_sign_crls(leaf: Issuer) -> None:
    certifies_only = x509.KeyUsage(False, False, False, False, False, True, False, False, False)
    for usage, found in ((CERTIFYING, None), (certifies_only, Refusal.UNCHECKED)):
        ca = root("CN=Root", extensions=[(usage, True)])
        assert outcome(ca, ca.issue("CN=gw", "dns:gw.example.org"), crls=[crl(ca)]) is found


def scope(**parts: Any) -> list[tuple[x509.ExtensionType, bool]]:
    usual: dict[str, Any] = {
        "full_name": None,
        "relative_name": None,
        "only_contains_user_certs": False,
        "only_contains_ca_certs": False,
        "only_some_reasons": None,
        "indirect_crl": False,
        "only_contains_attribute_certs": False,
    }
    return [(x509.IssuingDistributionPoint(**(usual | parts)), True)]


POINT = x509.UniformResourceIdentifier("http://crl.example.org/1")


def test_the_scope_of_a_crl(ca: Issuer, leaf: Issuer) -> None:
    users, cas = scope(only_contains_user_certs=True), scope(only_contains_ca_certs=True)
    some = scope(only_some_reasons=frozenset({x509.ReasonFlags.key_compromise}))
    assert outcome(ca, leaf, crls=[crl(ca, extensions=users)]) is None
    for extensions in (cas, some):
        assert outcome(ca, leaf, crls=[crl(ca, extensions=extensions)]) is Refusal.UNCHECKED
        assert outcome(ca, leaf, crls=[crl(ca, extensions=extensions)], policy=IF_GIVEN) is None
        assert outcome(ca, leaf, crls=[crl(ca, leaf, extensions=extensions)]) is Refusal.REVOKED
    part = crl(ca, extensions=scope(full_name=[POINT]))
    points = x509.CRLDistributionPoints([x509.DistributionPoint([POINT], None, None, None)])
    within = ca.issue("CN=gw", "dns:gw.example.org", extensions=[(points, False)])
    assert outcome(ca, leaf, crls=[part]) is Refusal.UNCHECKED
    assert outcome(ca, within, crls=[part]) is None


@pytest.mark.parametrize(
    ("extensions", "said"),
    [
        ([(x509.DeltaCRLIndicator(1), True)], "delta"),
        (scope(indirect_crl=True), "indirect"),
        ([(x509.UnrecognizedExtension(ObjectIdentifier("1.2.3"), b"\x05\x00"), True)], "1.2.3"),
    ],
)
def test_crls_that_are_not_taken(ca: Issuer, extensions: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        Trust([ca.der], crls=[crl(ca, extensions=extensions)])
    assert error.value.remedy


def test_crls_are_renewed(ca: Issuer, leaf: Issuer) -> None:
    trust = Trust([ca.der], crls=[crl(ca)])
    trust.verify([leaf.der], FQDN, GW, NOW)
    with pytest.raises(ConfigError):
        trust.renew_crls([b"garbage"])
    trust.verify([leaf.der], FQDN, GW, NOW)
    trust.renew_crls([crl(ca, leaf)])
    with pytest.raises(CertificateError, match="revoked"):
        trust.verify([leaf.der], FQDN, GW, NOW)


# OCSP


def delegate(ca: Issuer, **how: Any) -> Issuer:
    use = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING])
    return ca.issue("CN=Responder", extensions=[(use, False)], **how)


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("hash_", [hashes.SHA1(), hashes.SHA256()])
@pytest.mark.parametrize(
    "key", [None, rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate()], ids=type
)
def test_the_ca_answers_itself(key: Any, hash_: hashes.HashAlgorithm, by_name: bool) -> None:
    ca = root("CN=Root", key)
    leaf = ca.issue("CN=gw", "dns:gw.example.org")
    assert outcome(ca, leaf, responses=[ocsp_response(leaf, ca, by_name=by_name, hash_=hash_)]) is None
    revoked = ocsp_response(leaf, ca, REVOKED, by_name=by_name, hash_=hash_)
    for policy, found in ((OFF, None), (IF_GIVEN, Refusal.REVOKED), (REQUIRED, Refusal.REVOKED)):
        assert outcome(ca, leaf, responses=[revoked], policy=policy) is found


def test_a_responder_of_the_ca(ca: Issuer, leaf: Issuer) -> None:
    assert outcome(ca, leaf, responses=[ocsp_response(leaf, ca, responder=delegate(ca))]) is None


def test_who_may_not_answer(ca: Issuer, leaf: Issuer) -> None:
    other = root("CN=Other")
    for impostor in (
        other,
        delegate(other),
        ca.issue("CN=no responder", extensions=[(SIGNING, True)]),
        delegate(ca, end=NOW - DAY),
        delegate(ca, key=rsa.generate_private_key(65537, 1024)),
        delegate(ca, signed_by=other.key),
    ):
        answer = ocsp_response(leaf, ca, responder=impostor)
        assert outcome(ca, leaf, responses=[answer]) is Refusal.UNCHECKED
        assert outcome(ca, leaf, responses=[ocsp_response(leaf, ca, REVOKED, responder=impostor)]) is (
            Refusal.UNCHECKED
        )
    forged = bytearray(ocsp_response(leaf, ca))
    forged[-1] ^= 1
    assert outcome(ca, leaf, responses=[bytes(forged)]) is Refusal.UNCHECKED
    assert outcome(ca, leaf, responses=[bytes(forged)], policy=IF_GIVEN) is None


@pytest.mark.parametrize(
    ("begin", "end", "good"),
    [
        (-DAY, DAY, True),
        (-2 * DAY, -DAY, False),
        (DAY, 2 * DAY, False),
        (timedelta(minutes=3), DAY, True),
        (timedelta(hours=-20), None, True),
        (timedelta(hours=-30), None, False),
    ],
)
def test_the_time_of_an_answer(
    ca: Issuer, leaf: Issuer, begin: timedelta, end: timedelta | None, good: bool
) -> None:
    answer = ocsp_response(leaf, ca, begin=NOW + begin, end=None if end is None else NOW + end)
    assert outcome(ca, leaf, responses=[answer]) is (None if good else Refusal.UNCHECKED)


def test_answers_that_are_none(ca: Issuer, leaf: Issuer) -> None:
    other = ca.issue("CN=gw", "dns:gw.example.org")
    late = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER)
    for nothing in (
        b"",
        b"\x30\x80",
        b"\x30" * (MAX_RESPONSE_OCTETS + 1),
        late.public_bytes(Encoding.DER),
        ocsp_response(other, ca),
        ocsp_response(leaf, ca, UNKNOWN),
        ocsp_response(leaf, ca)[:-1],
    ):
        assert outcome(ca, leaf, responses=[nothing]) is Refusal.UNCHECKED
        assert outcome(ca, leaf, responses=[nothing], policy=IF_GIVEN) is None
    good = ocsp_response(leaf, ca)
    assert outcome(ca, leaf, responses=[b"garbage", good]) is None
    assert outcome(ca, leaf, responses=[b"garbage"] * 100 + [good]) is Refusal.UNCHECKED


def test_a_revocation_counts_wherever_it_is_told(ca: Issuer, leaf: Issuer) -> None:
    good, revoked = ocsp_response(leaf, ca), ocsp_response(leaf, ca, REVOKED)
    assert outcome(ca, leaf, crls=[crl(ca, leaf)], responses=[good]) is Refusal.REVOKED
    assert outcome(ca, leaf, crls=[crl(ca)], responses=[revoked]) is Refusal.REVOKED
    assert outcome(ca, leaf, crls=[crl(ca, begin=NOW - 9 * DAY, end=NOW - DAY)], responses=[good]) is None


def test_ocsp_is_asked_for_unless_nobody_would_look(ca: Issuer) -> None:
    assert [Trust([ca.der], revocation=policy).wants_ocsp for policy in Revocation] == [False, True, True]
