"""Chains, names and uses: which certificates prove an identity, and what is said of those that do not."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier, SignatureAlgorithmOID

from espudp.crypto import dn
from espudp.crypto.certificate import CertificateError, Refusal
from espudp.crypto.signatures import PublicKey
from espudp.crypto.x509 import MAX_CERTIFICATES, Trust, names_of
from espudp.errors import AuthenticationFailed, ConfigError
from tests.unit.crypto.certs import (
    CERTIFYING,
    CRL_SIGNING,
    ENCIPHERING,
    NOW,
    SIGNING,
    YEAR,
    Issuer,
    Key,
    general_name,
    issue,
    root,
    san,
)

FQDN, GW = 2, b"gw.example.org"


@pytest.fixture(scope="module")
def ca() -> Issuer:
    return root("C=CH, O=Example, CN=Root")


def verify(ca: Issuer, *chain: Issuer, name: bytes = GW, kind: int = FQDN, at: datetime = NOW) -> PublicKey:
    return Trust([ca.der]).verify([one.der for one in chain], kind, name, at)


def refused(ca: Issuer, *chain: Issuer, name: bytes = GW, kind: int = FQDN, at: datetime = NOW) -> Refusal:
    """Why; and that it is said so that a person can do something about it."""
    with pytest.raises(CertificateError) as error:
        verify(ca, *chain, name=name, kind=kind, at=at)
    assert error.value.notify == AuthenticationFailed.NOTIFY
    assert error.value.remedy
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400
    return error.value.reason


def gateway(ca: Issuer, **how: Any) -> Issuer:
    return ca.issue("CN=gw", "dns:gw.example.org", **how)


# Chains


def test_a_certificate_of_a_trusted_ca_gives_the_key(ca: Issuer) -> None:
    leaf = gateway(ca)
    assert verify(ca, leaf) == PublicKey(leaf.key.public_key())


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_intermediates_come_in_any_order(ca: Issuer, order: tuple[int, ...]) -> None:
    one = ca.ca("CN=Sub 1")
    two = one.ca("CN=Sub 2")
    leaf = gateway(two)
    others = [one, two, ca]
    assert verify(ca, leaf, *(others[at] for at in order))


def test_an_intermediate_that_was_not_sent_may_be_known(ca: Issuer) -> None:
    sub = ca.ca("CN=Sub")
    leaf = gateway(sub)
    assert refused(ca, leaf) is Refusal.UNKNOWN_ISSUER
    assert Trust([ca.der], [sub.der]).verify([leaf.der], FQDN, GW, NOW)
    other = root("CN=Other")
    with pytest.raises(CertificateError):  # it is known, which is not to be trusted
        Trust([other.der], [sub.der]).verify([leaf.der], FQDN, GW, NOW)


def test_an_intermediate_may_be_the_anchor(ca: Issuer) -> None:
    sub = ca.ca("CN=Sub")
    assert verify(sub, gateway(sub))
    assert refused(sub, gateway(ca)) is Refusal.UNKNOWN_ISSUER


def test_a_self_signed_certificate_is_believed_if_it_is_named(ca: Issuer) -> None:
    alone = root("CN=gw", ca=False, extensions=[san("dns:gw.example.org")])
    assert verify(alone, alone)
    assert refused(ca, alone) is Refusal.UNKNOWN_ISSUER
    assert refused(alone, issue(alone, "CN=gw2", extensions=[san("dns:gw.example.org")])) is Refusal.NOT_A_CA


def test_a_ca_with_a_new_key_and_the_old_name(ca: Issuer) -> None:
    renewed = root(ca.subject)
    leaf = gateway(renewed)
    assert Trust([ca.der, renewed.der]).verify([leaf.der], FQDN, GW, NOW)
    assert refused(ca, leaf) is Refusal.BAD_SIGNATURE
    cross = issue(ca, ca.subject, renewed.key, ca=True)  # the old key certifies the new one
    assert verify(ca, leaf, cross)


def test_of_two_ways_up_the_one_that_holds_is_taken(ca: Issuer) -> None:
    key = ca.ca("CN=Sub").key
    expired = issue(ca, "CN=Sub", key, ca=True, end=NOW - timedelta(days=1))
    valid = issue(ca, "CN=Sub", key, ca=True)
    leaf = gateway(valid)
    for others in ((expired, valid), (valid, expired)):
        assert verify(ca, leaf, *others)
    assert refused(ca, leaf, expired) is Refusal.EXPIRED


def test_chains_as_long_as_any_and_longer(ca: Issuer) -> None:
    chain = [ca]
    for number in range(8):
        chain.append(chain[-1].ca(f"CN=Sub {number}"))
    assert verify(ca, gateway(chain[-1]), *chain)
    longer = [*chain, chain[-1].ca("CN=Sub 8")]
    assert refused(ca, gateway(longer[-1]), *longer) is Refusal.TOO_LONG


def test_a_hundred_certificates_are_not_looked_at(ca: Issuer) -> None:
    leaf = gateway(ca)
    assert refused(ca, *[leaf] * 100) is Refusal.TOO_MANY
    with pytest.raises(CertificateError, match="100 certificates"):
        Trust([ca.der]).verify([leaf.der] + [b"\x30" * 65000] * 99, FQDN, GW, NOW)


def test_a_circle_has_no_end(ca: Issuer) -> None:
    one, two = Issuer("CN=One"), Issuer("CN=Two")
    certified = issue(two, "CN=One", one.key, ca=True)
    other_way = issue(one, "CN=Two", two.key, ca=True)
    assert refused(ca, gateway(certified), certified, other_way) is Refusal.LOOP


def test_a_thicket_of_equal_names_costs_a_bounded_number_of_signatures(ca: Issuer) -> None:
    """Nineteen CAs of one name and key, each of which may have issued every other: 19! ways up."""
    own = Issuer("CN=Thicket")
    thicket = [issue(own, "CN=Thicket", own.key, ca=True) for _ in range(MAX_CERTIFICATES - 1)]
    assert refused(ca, gateway(thicket[0]), *thicket) is Refusal.TOO_MANY


# What is wrong with one certificate


@pytest.mark.parametrize("who", ["leaf", "sub", "root"])
@pytest.mark.parametrize(
    ("shift", "reason"), [(-2 * YEAR, Refusal.EXPIRED), (2 * YEAR, Refusal.NOT_YET_VALID)]
)
def test_outside_its_time_no_certificate_counts(who: str, shift: timedelta, reason: Refusal) -> None:
    def times(which: str) -> dict[str, Any]:
        off = shift if which == who else timedelta()
        return {"begin": NOW - YEAR + off, "end": NOW + YEAR + off}

    top = root("CN=Root", **times("root"))
    sub = top.ca("CN=Sub", **times("sub"))
    leaf = gateway(sub, **times("leaf"))
    assert refused(top, leaf, sub) is reason


def test_the_first_and_the_last_second(ca: Issuer) -> None:
    leaf = gateway(ca, begin=NOW, end=NOW + timedelta(hours=1))
    assert verify(ca, leaf, at=NOW)
    assert verify(ca, leaf, at=NOW + timedelta(hours=1))
    assert refused(ca, leaf, at=NOW - timedelta(seconds=1)) is Refusal.NOT_YET_VALID
    assert refused(ca, leaf, at=NOW + timedelta(hours=1, seconds=1)) is Refusal.EXPIRED


def test_a_signature_that_does_not_verify(ca: Issuer) -> None:
    other = root("CN=Other")
    assert refused(ca, gateway(ca, signed_by=other.key)) is Refusal.BAD_SIGNATURE
    leaf = gateway(ca)
    bent = bytearray(leaf.der)
    bent[-3] ^= 1
    with pytest.raises(CertificateError, match="signature"):
        Trust([ca.der]).verify([bytes(bent)], FQDN, GW, NOW)


def test_another_ca(ca: Issuer) -> None:
    assert refused(root("CN=Other"), gateway(ca)) is Refusal.UNKNOWN_ISSUER


RSA_1024 = rsa.generate_private_key(65537, 1024)
RSA_2048 = rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    "key",
    [RSA_1024, ec.generate_private_key(ec.SECP192R1()), dsa.generate_private_key(1024)],
    ids=["RSA", "EC", "DSA"],
)
def test_weak_keys_and_odd_ones(ca: Issuer, key: Key) -> None:
    assert refused(ca, gateway(ca, key=key)) is Refusal.WEAK_KEY


def test_a_ca_with_a_weak_key(ca: Issuer) -> None:
    sub = ca.ca("CN=Sub", key=RSA_1024)
    assert refused(ca, gateway(sub), sub) is Refusal.WEAK_KEY
    with pytest.raises(ConfigError, match="1024 bits"):
        Trust([root("CN=Weak", RSA_1024).der])


def test_hashes_that_are_too_short(ca: Issuer) -> None:
    assert refused(ca, gateway(ca, hash_=hashes.SHA224())) is Refusal.WEAK_SIGNATURE
    assert verify(ca, gateway(ca, hash_=hashes.SHA3_256()))


# sha256WithRSAEncryption, and before it (RFC 8017 appendix A.2.4): MD5, SHA-1, and one that nobody knows
@pytest.mark.parametrize("last", [4, 5, 0x7F])
def test_signatures_with_md5_and_sha1(last: int) -> None:
    top = root("CN=Root", RSA_2048)
    sha256 = bytes.fromhex("06092a864886f70d01010b")
    old = gateway(top).der.replace(sha256, sha256[:-1] + bytes([last]))
    with pytest.raises(CertificateError) as error:
        Trust([top.der]).verify([old], FQDN, GW, NOW)
    assert error.value.reason is Refusal.WEAK_SIGNATURE


@pytest.mark.parametrize(
    "key",
    [
        *(ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())),
        *(RSA_2048, ed25519.Ed25519PrivateKey.generate(), ed448.Ed448PrivateKey.generate()),
    ],
    ids=lambda key: type(key).__name__,
)
def test_all_kinds_of_keys_certify_and_are_certified(key: Key) -> None:
    top = root("CN=Root", key)
    sub = top.ca("CN=Sub", key=key)
    assert verify(top, gateway(sub, key=key), sub).spki


def test_certificates_signed_with_rsa_pss() -> None:
    top = root("CN=Root", RSA_2048)
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    leaf = gateway(top, rsa_padding=pss)
    assert leaf.certificate.signature_algorithm_oid == SignatureAlgorithmOID.RSASSA_PSS
    assert verify(top, leaf)


def test_who_is_no_ca_certifies_nobody(ca: Issuer) -> None:
    thief = gateway(ca)
    assert refused(ca, gateway(thief), thief) is Refusal.NOT_A_CA
    modest = issue(ca, "CN=Modest", extensions=[(x509.BasicConstraints(False, None), True)])
    assert refused(ca, gateway(modest), modest) is Refusal.NOT_A_CA
    for usage, taken in ((CERTIFYING, True), (CRL_SIGNING, False), (SIGNING, False)):
        sub = ca.ca("CN=Sub", extensions=[(usage, True)])
        if taken:
            assert verify(ca, gateway(sub), sub)
        else:
            assert refused(ca, gateway(sub), sub) is Refusal.NOT_A_CA


def test_path_length() -> None:
    top = root("CN=Root", path_length=1)
    one = top.ca("CN=Sub 1")
    two = one.ca("CN=Sub 2")
    again = issue(one, "CN=Sub 1", ca=True)  # with a new key; RFC 5280 section 6.1.4 (l) does not count it
    assert verify(top, gateway(one), one)
    assert verify(top, gateway(again), again, one)
    assert refused(top, gateway(two), two, one) is Refusal.TOO_LONG


def extended(*usages: str) -> list[tuple[x509.ExtensionType, bool]]:
    return [(x509.ExtendedKeyUsage([ObjectIdentifier(usage) for usage in usages]), True)]


USAGE = ExtendedKeyUsageOID


@pytest.mark.parametrize(
    ("extensions", "taken"),
    [
        ([(SIGNING, True)], True),
        ([(ENCIPHERING, True)], False),
        ([(x509.KeyUsage(False, True, False, False, False, False, False, False, False), True)], True),
        (extended(USAGE.IPSEC_IKE.dotted_string), True),
        (extended(USAGE.ANY_EXTENDED_KEY_USAGE.dotted_string), True),
        (extended(USAGE.SERVER_AUTH.dotted_string), True),
        (extended(USAGE.CLIENT_AUTH.dotted_string), True),
        (extended("1.3.6.1.5.5.8.2.2"), True),
        (extended(USAGE.CODE_SIGNING.dotted_string), False),
        (extended(USAGE.CODE_SIGNING.dotted_string, USAGE.CLIENT_AUTH.dotted_string), True),
    ],
)
def test_uses(ca: Issuer, extensions: list[tuple[x509.ExtensionType, bool]], taken: bool) -> None:
    leaf = gateway(ca, extensions=extensions)
    if taken:
        assert verify(ca, leaf)
    else:
        assert refused(ca, leaf) is Refusal.KEY_USAGE


def test_a_critical_extension_that_nobody_knows(ca: Issuer) -> None:
    unknown = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    assert verify(ca, gateway(ca, extensions=[(unknown, False)]))
    assert refused(ca, gateway(ca, extensions=[(unknown, True)])) is Refusal.CRITICAL
    sub = ca.ca("CN=Sub", extensions=[(unknown, True)])
    assert refused(ca, gateway(sub), sub) is Refusal.CRITICAL


# Names


@pytest.mark.parametrize(
    ("name", "kind", "value", "taken"),
    [
        ("dns:gw.example.org", 2, b"gw.example.org", True),
        ("dns:gw.example.org", 2, b"GW.Example.ORG", True),
        ("dns:gw.example.org", 2, b"gw.example.or", False),
        ("dns:gw.example.org", 2, b"gw.example.org\x00", False),
        ("dns:gw.example.org", 2, b"", False),
        ("dns:*.example.org", 2, b"gw.example.org", False),
        ("dns:gw.example.org", 3, b"gw.example.org", False),
        ("dns:gw.example.org", 11, b"gw.example.org", False),
        ("email:me@example.org", 3, b"me@example.org", True),
        ("email:me@example.org", 3, b"me@EXAMPLE.org", True),
        ("email:me@example.org", 3, b"ME@example.org", False),
        ("email:me@example.org", 2, b"example.org", False),
        ("ip:192.0.2.1", 1, bytes([192, 0, 2, 1]), True),
        ("ip:192.0.2.1", 1, bytes([192, 0, 2, 2]), False),
        ("ip:192.0.2.1", 2, b"192.0.2.1", False),
        ("ip:2001:db8::1", 5, bytes.fromhex("20010db8" + "00" * 11 + "01"), True),
        ("dns:192.0.2.1", 1, bytes([192, 0, 2, 1]), False),
        ("dn:CN=other", 9, dn.parse("CN=other"), True),
        ("dns:a", 9, dn.parse("O=Example, CN=gw"), True),
        ("dns:a", 9, dn.parse("O=EXAMPLE, CN=Gw"), True),
        ("dns:a", 9, dn.parse("CN=gw, O=Example"), False),
        ("dns:a", 9, dn.parse("CN=gw"), False),
        ("dns:a", 9, b"O=Example, CN=gw", False),
        ("dns:a", 9, b"", False),
        ("dns:a", 2, b"gw", False),  # the common name
        ("dns:a", 13, b"", False),
    ],
)
def test_identities_and_names(ca: Issuer, name: str, kind: int, value: bytes, taken: bool) -> None:
    leaf = ca.issue("O=Example, CN=gw", name)
    if taken:
        assert verify(ca, leaf, kind=kind, name=value)
    else:
        assert refused(ca, leaf, kind=kind, name=value) is Refusal.NAME


def test_the_identities_that_a_certificate_gives(ca: Issuer) -> None:
    leaf = ca.issue("CN=gw", "email:a@b.c", "dns:gw.example.org", "ip:192.0.2.1", "ip:2001:db8::1", "dn:CN=x")
    assert [kind for kind, _ in names_of(leaf.der)] == [3, 2, 1, 5, 9, 9]
    assert names_of(leaf.der)[-1] == (9, dn.parse("CN=gw"))
    assert names_of(ca.issue("", "dns:gw").der) == ((2, b"gw"),)
    assert names_of(ca.issue("").der) == ()
    with pytest.raises(CertificateError):
        names_of(b"0")


def constrained(permitted: str = "", excluded: str = "") -> list[tuple[x509.ExtensionType, bool]]:
    lists = [[general_name(text)] if text else None for text in (permitted, excluded)]
    return [(x509.NameConstraints(*lists), True)]


@pytest.mark.parametrize(
    ("permitted", "excluded", "name", "kind", "value", "taken"),
    [
        ("dns:example.org", "", "dns:gw.example.org", 2, b"gw.example.org", True),
        ("dns:example.org", "", "dns:gw.example.com", 2, b"gw.example.com", False),
        ("", "dns:example.org", "dns:gw.example.org", 2, b"gw.example.org", False),
        ("email:example.org", "", "email:a@example.org", 3, b"a@example.org", True),
        ("email:example.org", "", "email:a@example.com", 3, b"a@example.com", False),
        ("dn:O=Example", "", "dns:gw.example.org", 2, b"gw.example.org", False),
    ],
)
@pytest.mark.parametrize("where", ["root", "sub"])
def test_name_constraints(
    where: str, permitted: str, excluded: str, name: str, kind: int, value: bytes, taken: bool
) -> None:
    limits = constrained(permitted, excluded)
    top = root("CN=Root", extensions=limits if where == "root" else ())
    sub = top.ca("CN=Sub", extensions=limits if where == "sub" else ())
    leaf = sub.issue("CN=gw", name)
    if taken:
        assert verify(top, leaf, sub, kind=kind, name=value)
    else:
        assert refused(top, leaf, sub, kind=kind, name=value) is Refusal.CONSTRAINED


@pytest.mark.parametrize("tree", ["permitted", "excluded"])
def test_constraints_of_dns_are_not_overlooked(tree: str) -> None:
    """Critical or not: whoever can prove a DN must not get round them."""
    ((extension, _),) = constrained(**{tree: "dn:O=Elsewhere"})
    top = root("CN=Root", extensions=[(extension, False)])
    leaf = top.issue("O=Elsewhere, CN=gw", "dns:gw.example.org")
    assert refused(top, leaf) is Refusal.CONSTRAINED


def test_what_cannot_be_constrained_is_refused() -> None:
    top = root("CN=Root", ed25519.Ed25519PrivateKey.generate(), extensions=constrained("dns:example.org"))
    assert refused(top, gateway(top)) is Refusal.CONSTRAINED


# What Trust is made of


def test_authorities_are_hashes_of_keys(ca: Issuer) -> None:
    other = root("CN=Other")
    hashes_ = Trust([ca.der, other.der]).authorities()
    assert [len(one) for one in hashes_] == [20, 20]
    digest = x509.SubjectKeyIdentifier.from_public_key(ca.key.public_key()).digest
    assert digest not in hashes_  # that is of the bare key, and a CERTREQ's of the SubjectPublicKeyInfo
    assert hashes_[0] == Trust([issue(other, "CN=Cross", ca.key, ca=True).der]).authorities()[0]


def test_trust_in_nobody(ca: Issuer) -> None:
    nobodies: list[tuple[list[bytes], list[bytes]]] = [
        ([], []),
        ([b"garbage"], []),
        ([ca.der], [ca.der[:-1]]),
    ]
    for anchors, intermediates in nobodies:
        with pytest.raises(ConfigError) as error:
            Trust(anchors, intermediates)
        assert error.value.remedy
    with pytest.raises(CertificateError, match="sent no certificate"):
        Trust([ca.der]).verify([], FQDN, GW, NOW)
