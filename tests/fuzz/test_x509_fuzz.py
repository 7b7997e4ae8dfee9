"""Certificates, CRLs and OCSP responses of any octets: refused with a reason, in time, not believed."""

import contextlib
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.x509 import ocsp
from hypothesis import given, settings
from hypothesis import strategies as st

from espudp.crypto.certificate import (
    MAX_CERTIFICATE_OCTETS,
    UNREADABLE,
    Certificate,
    CertificateError,
    Refusal,
    quietly,
)
from espudp.crypto.revocation import Revocation
from espudp.crypto.x509 import MAX_CERTIFICATES, Trust, names_of, show_name
from espudp.errors import ConfigError
from tests.unit.crypto.certs import NOW, Issuer, crl, issue, ocsp_response, root, san

FQDN, GW = 2, b"gw.example.org"
NAMES = ("dns:gw.example.org", "email:a@example.org", "ip:192.0.2.1", "dn:CN=other")

KEYS = (None, rsa.generate_private_key(65537, 2048), ed25519.Ed25519PrivateKey.generate())
CAS = [root("C=CH, O=Example, CN=Root", key) for key in KEYS]
SUBS = [ca.ca("C=CH, O=Example, CN=Sub") for ca in CAS]
LEAVES = [sub.issue("C=CH, O=Example, CN=gw", *NAMES) for sub in SUBS]
DIRECT_CA = root("CN=Root")
DIRECT: Issuer = DIRECT_CA.issue("CN=gw", *NAMES)
OCSP = ocsp_response(DIRECT, DIRECT_CA)
CRL = crl(DIRECT_CA, DIRECT_CA.issue("CN=other"))

CHAINS = [(leaf.der, sub.der) for leaf, sub in zip(LEAVES, SUBS, strict=True)]


def flipped(octets: bytes, bit: int) -> bytes:
    bent = bytearray(octets)
    bent[bit // 8 % len(bent)] ^= 1 << bit % 8
    return bytes(bent)


def spliced(octets: bytes, at: int, cut: int, inserted: bytes) -> bytes:
    at %= len(octets)
    return octets[:at] + inserted + octets[at + cut :]


def same_to_a_verifier(bent: bytes, octets: bytes) -> bool:
    """A BIT STRING may announce unused bits that are zero: what is signed and the signature are the same."""
    with contextlib.suppress(*UNREADABLE), quietly():
        one, other = (x509.load_der_x509_certificate(der) for der in (bent, octets))
        return (one.tbs_certificate_bytes, one.signature) == (other.tbs_certificate_bytes, other.signature)
    return False


def is_the_answer(bent: bytes) -> bool:
    with contextlib.suppress(*UNREADABLE), quietly():
        one, other = (ocsp.load_der_ocsp_response(der) for der in (bent, OCSP))
        return (one.tbs_response_bytes, one.signature) == (other.tbs_response_bytes, other.signature)
    return False


def is_the_list(bent: bytes) -> bool:
    with contextlib.suppress(*UNREADABLE), quietly():
        one, other = (x509.load_der_x509_crl(der) for der in (bent, CRL))
        return (one.tbs_certlist_bytes, one.signature) == (other.tbs_certlist_bytes, other.signature)
    return False


def refused(trust: Trust, *chain: bytes) -> Refusal:
    with pytest.raises(CertificateError) as error:
        trust.verify(chain, FQDN, GW, NOW)
    assert str(error.value).isprintable()
    assert error.value.remedy
    return error.value.reason


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=30))
def test_garbage(chain: list[bytes]) -> None:
    assert refused(Trust([CAS[0].der]), *chain) in (Refusal.MALFORMED, Refusal.TOO_MANY)


@given(which=st.sampled_from(range(len(KEYS))), link=st.integers(0, 1), bit=st.integers(0, 1 << 14))
@settings(max_examples=600)
def test_one_bit_makes_every_chain_worthless(which: int, link: int, bit: int) -> None:
    chain = list(CHAINS[which])
    trust = Trust([CAS[which].der])
    trust.verify(chain, FQDN, GW, NOW)
    bent = flipped(chain[link], bit)
    if same_to_a_verifier(bent, chain[link]):
        return
    chain[link] = bent
    refused(trust, *chain)


@given(at=st.integers(0, 1 << 12), cut=st.integers(0, 40), inserted=st.binary(max_size=40))
@settings(max_examples=300)
def test_certificates_with_other_octets_in_them(at: int, cut: int, inserted: bytes) -> None:
    bent = spliced(LEAVES[0].der, at, cut, inserted)
    if same_to_a_verifier(bent, LEAVES[0].der):
        return
    refused(Trust([CAS[0].der]), bent, SUBS[0].der)
    with contextlib.suppress(CertificateError):
        assert all(show_name(name).isprintable() for name in names_of(bent))


@given(at=st.integers(0, 1 << 12), cut=st.integers(0, 40), inserted=st.binary(max_size=40))
@settings(max_examples=300)
def test_ocsp_responses_with_other_octets_in_them(at: int, cut: int, inserted: bytes) -> None:
    """None of them shows that the certificate holds."""
    bent = spliced(OCSP, at, cut, inserted)
    if is_the_answer(bent):
        return
    trust = Trust([DIRECT_CA.der], revocation=Revocation.REQUIRED)
    with pytest.raises(CertificateError) as error:
        trust.verify([DIRECT.der], FQDN, GW, NOW, [bent])
    assert error.value.reason is Refusal.UNCHECKED


@given(at=st.integers(0, 1 << 12), cut=st.integers(0, 40), inserted=st.binary(max_size=40))
@settings(max_examples=300)
def test_crls_with_other_octets_in_them(at: int, cut: int, inserted: bytes) -> None:
    bent = spliced(CRL, at, cut, inserted)
    if is_the_list(bent):
        return
    try:
        trust = Trust([DIRECT_CA.der], crls=[bent], revocation=Revocation.REQUIRED)
    except ConfigError:
        return
    with pytest.raises(CertificateError):
        trust.verify([DIRECT.der], FQDN, GW, NOW)


def test_certificates_of_64_kb_are_not_read() -> None:
    trust = Trust([CAS[0].der])
    huge = SUBS[0].issue("CN=gw", *(f"dns:host-{number:030}.example.org" for number in range(1400)))
    assert 65000 < len(huge.der) < 70000
    assert refused(trust, huge.der, SUBS[0].der) is Refusal.MALFORMED
    large = SUBS[0].issue("CN=gw", *NAMES, *(f"dns:host-{n:030}.example.org" for n in range(600)))
    assert 0 < MAX_CERTIFICATE_OCTETS - len(large.der) < 5000
    trust.verify([large.der, SUBS[0].der], FQDN, GW, NOW)


def test_the_most_that_a_peer_can_make_us_do_is_little() -> None:
    """Full-sized certificates in full number, all of them of one name and key: well below a second."""
    own = Issuer("CN=Thicket")
    names = san(*(f"dns:host-{n:030}.example.org" for n in range(600)))
    thicket = [
        issue(own, "CN=Thicket", own.key, ca=True, extensions=[names]) for _ in range(MAX_CERTIFICATES - 1)
    ]
    leaf = thicket[0].issue("CN=gw", "dns:gw.example.org")
    chain = [leaf.der, *(one.der for one in thicket)]
    started = time.process_time()
    assert refused(Trust([CAS[0].der]), *chain) is Refusal.TOO_MANY
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize(
    "octets", [b"", b"\x30", b"\x30\x80" + bytes(40), b"\x30\x84\xff\xff\xff\xff", b"-----"]
)
def test_octets_that_lie_about_their_length(octets: bytes) -> None:
    with pytest.raises(CertificateError):
        Certificate.parse(octets)
