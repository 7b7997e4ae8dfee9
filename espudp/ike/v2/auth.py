"""What the two sides prove to each other in IKE_AUTH (RFC 7296 section 2.15): the octets, AUTH and CERT."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Self

from espudp.crypto.auth import equal
from espudp.errors import AuthenticationFailed
from espudp.ike.certified import vouched
from espudp.ike.credentials import (
    ByEap,
    CertificateOf,
    Demand,
    EapClient,
    NoDemand,
    NoProof,
    Proof,
    Psk,
    PskOf,
    RawKeyOf,
    Resumed,
    ResumedAs,
    SignKey,
    WallClock,
)
from espudp.ike.identity import NOBODY, Identity
from espudp.ike.v2 import signing
from espudp.ike.v2.initial import Ground
from espudp.wire.ikev2.constants import AuthMethod, CertEncoding, name_of_auth_method
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import (
    Authentication,
    Certificate,
    CertificateRequest,
    IdInitiator,
    IdResponder,
    Payload,
)

# Our bound: anybody can ask for the answer to IKE_SA_INIT, which names them.
_MAX_AUTHORITIES = 25

_SAME_PSK = "Put the same PSK on both sides."


class WrongMethod(AuthenticationFailed):
    """A proof of another kind than the one that is asked for; whether it is good was not looked at."""

    def __init__(self, claim: "Claim", wanted: str) -> None:
        method = name_of_auth_method(claim.auth.method)
        super().__init__(
            f"{claim.identity} proves itself by {method}, and not by {wanted}",
            remedy="Configure both sides for the same way to authenticate.",
        )


# Our own proof


def prove(ground: Ground, identity: Identity, proof: Proof, hashes: frozenset[int]) -> list[Payload]:
    """CERT payloads and AUTH; nothing of one whose proof is EAP. Raises AuthenticationFailed, CryptoError.

    `hashes` are those that the peer has announced (RFC 7427 section 4).
    """
    match proof:
        case Psk(key):
            return [Authentication(AuthMethod.SHARED_KEY, ground.mac(identity, key))]
        case SignKey():
            return [*_certificates(proof), signing.sign(proof, ground.octets(identity), hashes)]
        case NoProof():
            # RFC 7619 section 2.1: as with a shared key, for which SK_p stands in
            return [Authentication(AuthMethod.NULL, ground.mac(identity, ground.sk_p))]
        case EapClient() | ByEap():
            return []
        case Resumed():
            return [Authentication(AuthMethod.SHARED_KEY, ground.resumed(identity))]


def prove_eap(ground: Ground, identity: Identity, msk: bytes | None) -> Authentication:
    """AUTH after EAP, of either side (RFC 7296 section 2.16). A method without a key: `msk` is None."""
    return Authentication(AuthMethod.SHARED_KEY, ground.mac(identity, msk or ground.sk_p))


def _certificates(proof: SignKey) -> list[Payload]:
    if not proof.certificates:
        # RFC 7670 section 3
        return [Certificate(CertEncoding.RAW_PUBLIC_KEY, proof.private_key.public.spki)]
    chain = [Certificate(CertEncoding.X509_SIGNATURE, der) for der in proof.certificates]
    return [*chain, *(Certificate(CertEncoding.OCSP_CONTENT, der) for der in proof.ocsp)]


def requests(demands: Iterable[Demand]) -> list[Payload]:
    """CERTREQ: what to prove oneself with here (RFC 7296 section 3.7, RFC 7670 section 3)."""
    kinds = list(demands)
    keys = dict.fromkeys(k for d in kinds if isinstance(d, CertificateOf) for k in d.trust.authorities())
    payloads: list[Payload] = []
    if keys:
        wanted = b"".join(islice(keys, _MAX_AUTHORITIES))
        payloads.append(CertificateRequest(CertEncoding.X509_SIGNATURE, wanted))
    if any(isinstance(d, CertificateOf) and d.trust.wants_ocsp for d in kinds):
        # RFC 4806 section 3.1
        payloads.append(CertificateRequest(CertEncoding.OCSP_CONTENT, b""))
    if any(isinstance(d, RawKeyOf) for d in kinds):
        payloads.append(CertificateRequest(CertEncoding.RAW_PUBLIC_KEY, b""))
    return payloads


# The peer's


@dataclass(frozen=True, slots=True)
class Claim:
    """Who a peer says it is, and what it says for proof."""

    identity: Identity
    auth: Authentication
    certificates: tuple[Certificate, ...]
    ground: Ground
    """What it has signed, if it is honest and nobody has changed IKE_SA_INIT on the way."""

    @classmethod
    def of(cls, message: Message, kind: type[IdInitiator] | type[IdResponder], ground: Ground) -> Self:
        """Raises AuthenticationFailed."""
        who, auth = message.get(kind), message.get(Authentication)
        if who is None or auth is None:
            raise AuthenticationFailed("the peer proves nothing")
        return cls(Identity(who.id_type, who.data), auth, tuple(message.all(Certificate)), ground)

    @property
    def octets(self) -> bytes:
        """What it has signed."""
        return self.ground.octets(self.identity)

    def content(self, encoding: CertEncoding) -> tuple[bytes, ...]:
        """What the CERT payloads of one encoding hold, in order."""
        return tuple(c.data for c in self.certificates if c.encoding == encoding)

    def knows(self, key: bytes, method: AuthMethod = AuthMethod.SHARED_KEY) -> bool:
        """Whether it is proved with this key. The time taken does not depend on how near it came."""
        expected = self.ground.mac(self.identity, key)
        return equal(expected, self.auth.data) and self.auth.method == method


def judge(demand: Demand, claim: Claim, clock: WallClock, wanted: Identity | None = None) -> Identity:
    """Whom the proof is good for. Raises AuthenticationFailed.

    `wanted` is whom we mean to talk to, if we do. What nothing vouches for is not what a peer is known by:
    who has a raw public key, and may call itself anything, is known by that key.
    """
    match demand:
        case PskOf(key):
            if claim.auth.method != AuthMethod.SHARED_KEY:
                raise WrongMethod(claim, "a PSK")
            if not claim.knows(key):
                raise AuthenticationFailed(f"{claim.identity} does not know the PSK", remedy=_SAME_PSK)
            return claim.identity
        case RawKeyOf(key):
            return _judge_raw(demand, claim)
        case CertificateOf():
            return _judge_certificate(demand, claim, clock, wanted)
        case NoDemand():
            return _judge_nobody(claim)
        case ResumedAs(claimed, known):
            if claimed != claim.identity or not equal(claim.ground.resumed(claimed), claim.auth.data):
                raise AuthenticationFailed("the peer is not the one of the session that it resumes")
            return known
    raise WrongMethod(claim, "EAP")


def judge_eap(claim: Claim, msk: bytes | None) -> None:
    """Raises AuthenticationFailed unless this is the side that has spoken EAP with us (RFC 7296 2.16)."""
    if not claim.knows(msk or claim.ground.sk_p):
        raise AuthenticationFailed(
            f"{claim.identity} is not the one that has spoken EAP with us",
            remedy="Somebody may be between the two of us: check whose network this is.",
        )


def _judge_nobody(claim: Claim) -> Identity:
    """RFC 7619 section 2.1: it is the one of IKE_SA_INIT, and that is all; whatever it calls itself."""
    if claim.auth.method != AuthMethod.NULL:
        raise WrongMethod(claim, "nothing at all")
    if not claim.knows(claim.ground.sk_p, AuthMethod.NULL):
        raise AuthenticationFailed("the peer is not the one that has begun this")
    return NOBODY


def key_identity(demand: RawKeyOf) -> Identity:
    """By which a raw public key goes where it has no other name."""
    return Identity.of_key(demand.key.fingerprint)


def _judge_raw(demand: RawKeyOf, claim: Claim) -> Identity:
    if claim.auth.method in (AuthMethod.SHARED_KEY, AuthMethod.NULL):
        raise WrongMethod(claim, "its key")
    for spki in claim.content(CertEncoding.RAW_PUBLIC_KEY):
        if spki != demand.key.spki:
            raise AuthenticationFailed(
                f"{claim.identity} has another public key than the one that is expected",
                remedy="Compare --peer-key with what `espudp keygen` printed on the other host.",
            )
    signing.check(demand.key, claim.auth, claim.octets)
    return key_identity(demand)


def _judge_certificate(
    demand: CertificateOf, claim: Claim, clock: WallClock, wanted: Identity | None
) -> Identity:
    if claim.auth.method in (AuthMethod.SHARED_KEY, AuthMethod.NULL):
        raise WrongMethod(claim, "a certificate")
    chain = claim.content(CertEncoding.X509_SIGNATURE)
    if not chain:
        raise AuthenticationFailed(
            f"{claim.identity} shows no certificate",
            remedy="Let the peer prove itself by certificate, and send it (strongSwan: send_cert = always).",
        )
    ocsp = claim.content(CertEncoding.OCSP_CONTENT)
    name, key = vouched(demand.trust, claim.identity, wanted, chain, clock, ocsp)
    signing.check(key, claim.auth, claim.octets, sha1=demand.sha1)
    return name
