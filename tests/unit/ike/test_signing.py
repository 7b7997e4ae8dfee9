"""AUTH that is a signature: method 14 with each kind of key, the older methods, and what is refused."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from espudp.crypto.prf import prf
from espudp.crypto.signatures import ECDSA_RAW, RSA_PKCS1, RSA_SHA1, SCHEMES, SUPPORTED_HASHES, PrivateKey
from espudp.crypto.suites import PRF
from espudp.crypto.x509 import Trust
from espudp.errors import AuthenticationFailed
from espudp.ike.credentials import CertificateOf, Demand, NoDemand, PskOf, RawKeyOf, SignKey, no_clock
from espudp.ike.identity import Identity
from espudp.ike.v2 import auth, signing
from espudp.ike.v2.initial import Ground
from espudp.wire.ikev2.constants import AuthMethod, CertEncoding, NotifyType
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import Authentication, Certificate, CertificateRequest, Notify
from tests.unit.crypto.certs import NOW, root
from tests.unit.crypto.test_signatures import KEYS, key

ALL = frozenset(int(hash_) for hash_ in SUPPORTED_HASHES)
WHO = Identity.parse("gw.example.org")
GROUND = Ground(PRF[0], b"message", b"nonce", b"SK_p")
OCTETS = GROUND.octets(WHO)


def _signed(
    name: str, hashes: frozenset[int] = ALL, *, pss: bool = False, sha1: bool = False
) -> Authentication:
    return signing.sign(SignKey(private_key=key(name), pss=pss, sha1=sha1), OCTETS, hashes)


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("pss", [False, True])
def test_what_is_signed_is_verified(name: str, pss: bool) -> None:
    signed = _signed(name, pss=pss)
    assert signed.method == AuthMethod.DIGITAL_SIGNATURE
    signing.check(key(name).public, signed, OCTETS)
    for octets in (OCTETS + b"x", OCTETS[:-1], b""):
        with pytest.raises(AuthenticationFailed):
            signing.check(key(name).public, signed, octets)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("RSA", AuthMethod.RSA_SIGNATURE),
        ("P-256", AuthMethod.ECDSA_SHA256_P256),
        ("P-384", AuthMethod.ECDSA_SHA384_P384),
        ("P-521", AuthMethod.ECDSA_SHA512_P521),
    ],
)
def test_peers_that_do_not_know_rfc_7427(name: str, method: AuthMethod) -> None:
    signed = _signed(name, frozenset())
    assert signed.method == method
    signing.check(key(name).public, signed, OCTETS)
    if key(name).public.curve:  # RFC 4754 section 7: twice the size of the curve
        assert len(signed.data) == {"P-256": 64, "P-384": 96, "P-521": 132}[name]


@pytest.mark.parametrize("name", ["Ed25519", "Ed448"])
def test_edwards_curves_need_rfc_8420(name: str) -> None:
    for hashes in (frozenset[int](), ALL - {5}):
        with pytest.raises(AuthenticationFailed, match="does not understand") as error:
            _signed(name, hashes)
        assert "ECDSA P-256" in error.value.remedy


@pytest.mark.parametrize("name", KEYS)
def test_signatures_of_another_key_or_kind(name: str) -> None:
    for other in KEYS:
        if other != name:
            with pytest.raises(AuthenticationFailed):
                signing.check(key(other).public, _signed(name), OCTETS)


def test_the_hash_is_one_that_the_peer_has_announced() -> None:
    for hash_ in (2, 3, 4):
        signed = _signed("RSA", frozenset({1, hash_, 77}))
        length = signed.data[0]
        (scheme,) = (s for s in SCHEMES if s.identifier == signed.data[1 : 1 + length])
        assert scheme.hash == hash_


def test_sha1_is_for_who_asks_for_it() -> None:
    old = Authentication(AuthMethod.RSA_SIGNATURE, key("RSA").sign(RSA_SHA1, OCTETS))
    with pytest.raises(AuthenticationFailed) as error:
        signing.check(key("RSA").public, old, OCTETS)
    assert "--allow-sha1" in error.value.remedy
    signing.check(key("RSA").public, old, OCTETS, sha1=True)
    assert _signed("RSA", frozenset(), sha1=True) == old
    assert _signed("RSA", sha1=True).method == AuthMethod.DIGITAL_SIGNATURE  # not where there is better


@pytest.mark.parametrize("hash_", RSA_PKCS1, ids=lambda scheme: scheme.name)
def test_method_1_with_better_hashes(hash_: object) -> None:
    scheme = next(s for s in RSA_PKCS1 if s is hash_)
    signed = Authentication(AuthMethod.RSA_SIGNATURE, key("RSA").sign(scheme, OCTETS))
    signing.check(key("RSA").public, signed, OCTETS)


def _method_14(identifier: bytes, signature: bytes) -> Authentication:
    return Authentication(
        AuthMethod.DIGITAL_SIGNATURE, bytes([len(identifier) & 0xFF]) + identifier + signature
    )


def test_signatures_by_what_is_too_weak() -> None:
    weak = _method_14(bytes.fromhex("300d06092a864886f70d0101050500"), key("RSA").sign(RSA_SHA1, OCTETS))
    for sha1 in (False, True):  # SHA-1 inside of RFC 7427 is nobody's that knows nothing better
        with pytest.raises(AuthenticationFailed, match="not taken") as error:
            signing.check(key("RSA").public, weak, OCTETS, sha1=sha1)
        assert "SHA-256 or better" in error.value.remedy


def test_a_signature_under_the_name_of_another_hash() -> None:
    sha256, sha384 = RSA_PKCS1[0], RSA_PKCS1[1]
    with pytest.raises(AuthenticationFailed, match="SHA-384"):
        signing.check(
            key("RSA").public, _method_14(sha384.identifier, key("RSA").sign(sha256, OCTETS)), OCTETS
        )


def test_an_old_method_for_another_curve() -> None:
    signed = key("P-256").sign(ECDSA_RAW["P-256"], OCTETS)
    for method in (AuthMethod.ECDSA_SHA384_P384, AuthMethod.ECDSA_SHA512_P521):
        with pytest.raises(AuthenticationFailed):
            signing.check(key("P-256").public, Authentication(method, signed), OCTETS)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff", b"\x0f\x30", bytes(300), b"\x07" + bytes(7)])
@pytest.mark.parametrize("method", [0, 1, 2, 3, 9, 10, 11, 12, 13, 14, 255])
def test_octets_that_are_no_signature(method: int, data: bytes) -> None:
    for name in ("RSA", "P-256", "Ed25519"):
        with pytest.raises(AuthenticationFailed):
            signing.check(key(name).public, Authentication(method, data), OCTETS)


# The notify of RFC 7427 section 4


def _message(*payloads: Notify) -> Message:
    return Message(Header(bytes(8), bytes(8), 0, 34, True, False, 0), payloads)


def test_what_we_announce() -> None:
    notify = signing.hashes_notify()
    assert notify.data == bytes.fromhex("0002000300040005")
    assert signing.announced(_message(notify)) == ALL


def test_announcements_that_are_odd() -> None:
    def of(data: bytes) -> frozenset[int]:
        return signing.announced(_message(Notify.of(NotifyType.SIGNATURE_HASH_ALGORITHMS, data)))

    assert signing.announced(_message()) == frozenset()
    assert of(b"") == frozenset()
    assert of(b"\x00") == frozenset()
    assert of(b"\x00\x02\x00") == {2}
    assert of(b"\xff\xff" * 3000) == {0xFFFF}


# Whose proof it is


def _claim(name: str, *, certificates: tuple[Certificate, ...] = (), who: Identity = WHO) -> auth.Claim:
    return auth.Claim(who, _signed(name), certificates, GROUND)


def _certificate(der: bytes) -> Certificate:
    return Certificate(CertEncoding.X509_SIGNATURE, der)


def test_a_raw_key_is_who_it_is() -> None:
    """Whatever it calls itself: nothing vouches for that."""
    ours = key("Ed25519").public
    shown = Certificate(CertEncoding.RAW_PUBLIC_KEY, ours.spki)
    for certificates in ((), (shown,)):  # RFC 7670 section 3; some send none
        known = auth.judge(RawKeyOf(ours), _claim("Ed25519", certificates=certificates), no_clock)
        assert known == Identity.of_key(ours.fingerprint)
        assert str(known).startswith("keyid:SHA256:")
    with pytest.raises(AuthenticationFailed, match="another public key") as error:
        auth.judge(RawKeyOf(key("P-256").public), _claim("Ed25519", certificates=(shown,)), no_clock)
    assert "--peer-key" in error.value.remedy
    with pytest.raises(AuthenticationFailed):
        auth.judge(RawKeyOf(key("P-256").public), _claim("Ed25519"), no_clock)


def test_a_certificate_and_the_key_in_it() -> None:
    ca = root()
    raw = ca.issue("CN=gw", "dns:gw.example.org")
    ours = PrivateKey(raw.key)
    proof = SignKey(private_key=ours, certificates=(raw.der,))
    demand = CertificateOf(Trust([ca.der]))
    *certificates, signed = auth.prove(GROUND, WHO, proof, ALL)
    assert isinstance(signed, Authentication)
    claim = auth.Claim(WHO, signed, tuple(c for c in certificates if isinstance(c, Certificate)), GROUND)
    clock = lambda: NOW  # noqa: E731
    assert auth.judge(demand, claim, clock) == WHO
    other = Identity.parse("other.example.org")
    with pytest.raises(AuthenticationFailed):
        auth.judge(demand, replace(claim, identity=other), clock)
    # A peer that goes by another name than the one we know it by, and has a certificate of both
    signed_as_other = signing.sign(proof, GROUND.octets(other), ALL)
    as_other = replace(claim, identity=other, auth=signed_as_other)
    assert auth.judge(demand, as_other, clock, wanted=WHO) == WHO
    with pytest.raises(AuthenticationFailed):
        auth.judge(demand, claim, clock, wanted=other)
    with pytest.raises(AuthenticationFailed, match="not of its key"):
        auth.judge(demand, replace(claim, ground=replace(GROUND, message=b"another")), clock)
    with pytest.raises(AuthenticationFailed, match="no certificate"):
        auth.judge(demand, replace(claim, certificates=()), clock)
    with pytest.raises(AuthenticationFailed, match="clock"):
        auth.judge(demand, claim, no_clock)


@pytest.mark.parametrize("demand", [PskOf(b"secret"), NoDemand()], ids=["PSK", "nothing"])
def test_a_signature_where_none_is_wanted(demand: PskOf | NoDemand) -> None:
    with pytest.raises(AuthenticationFailed, match="DIGITAL_SIGNATURE"):
        auth.judge(demand, _claim("Ed25519"), no_clock)


@pytest.mark.parametrize(
    "demand", [lambda: RawKeyOf(key("P-256").public), lambda: CertificateOf(Trust([root().der]))]
)
def test_a_psk_where_a_signature_is_wanted(demand: Callable[[], RawKeyOf | CertificateOf]) -> None:
    """Not even one that is right by chance: the demand has no PSK to compare with."""
    proof = Authentication(AuthMethod.SHARED_KEY, prf(PRF[0], b"", OCTETS))
    with pytest.raises(AuthenticationFailed):
        auth.judge(demand(), auth.Claim(WHO, proof, (), GROUND), lambda: NOW)


def test_what_is_asked_for() -> None:
    one, other = Trust([root().der]), Trust([root("CN=Other").der])
    demands: list[Demand] = [CertificateOf(one), CertificateOf(other), CertificateOf(one), PskOf(b"x")]
    asked, ocsp = auth.requests(demands)
    assert ocsp == CertificateRequest(CertEncoding.OCSP_CONTENT, b"")  # RFC 4806 section 3.1
    assert asked == CertificateRequest(
        CertEncoding.X509_SIGNATURE, b"".join([*one.authorities(), *other.authorities()])
    )
    raw = auth.requests([RawKeyOf(key("P-256").public), RawKeyOf(key("Ed25519").public)])
    assert raw == [CertificateRequest(CertEncoding.RAW_PUBLIC_KEY, b"")]
    assert auth.requests([PskOf(b"x"), NoDemand()]) == []
