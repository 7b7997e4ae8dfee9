"""What the two sides prove to each other in IKE_AUTH (RFC 7296 section 2.15): the octets, AUTH and CERT."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Self

from espudp.crypto.auth import equal, psk_auth
from espudp.crypto.prf import prf
from espudp.crypto.suites import Prf
from espudp.errors import AuthenticationFailed
from espudp.ike.credentials import CertificateOf, Demand, Proof, Psk, PskOf, RawKeyOf, SignKey, WallClock
from espudp.ike.identity import Identity
from espudp.ike.v2 import signing
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

# RFC 7296 section 3.5: ID type, three reserved octets, then the identity.
_ID_RESERVED = bytes(3)

# Our bound: anybody can ask for the answer to IKE_SA_INIT, which names them.
_MAX_AUTHORITIES = 25

_SAME_METHOD = "Configure both sides for the same way to authenticate."
_SAME_PSK = "Put the same PSK on both sides."


def signed_octets(p: Prf, message: bytes, nonce: bytes, sk_p: bytes, identity: Identity) -> bytes:
    """One side signs its own IKE_SA_INIT message, the other's nonce, and its identity under its SK_p."""
    id_body = bytes([identity.type]) + _ID_RESERVED + identity.data
    return message + nonce + prf(p, sk_p, id_body)


# Our own proof


def prove(p: Prf, proof: Proof, octets: bytes, hashes: frozenset[int]) -> list[Payload]:
    """CERT payloads and AUTH of one who does not need EAP for it. Raises AuthenticationFailed, CryptoError.

    `hashes` are those that the peer has announced (RFC 7427 section 4).
    """
    match proof:
        case Psk(key):
            return [Authentication(AuthMethod.SHARED_KEY, psk_auth(p, key, octets))]
        case SignKey():
            return [*_certificates(proof), signing.sign(proof, octets, hashes)]
    raise AuthenticationFailed("we have nothing to prove ourselves with")


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
    prf: Prf
    octets: bytes = field(repr=False)
    """What it has signed, if it is honest and nobody has changed IKE_SA_INIT on the way."""

    @classmethod
    def of(
        cls,
        message: Message,
        kind: type[IdInitiator] | type[IdResponder],
        p: Prf,
        signed: tuple[bytes, bytes, bytes],
    ) -> Self:
        """`signed`: the peer's IKE_SA_INIT message, our nonce, its SK_p. Raises AuthenticationFailed."""
        who, auth = message.get(kind), message.get(Authentication)
        if who is None or auth is None:
            raise AuthenticationFailed("the peer proves nothing")
        identity = Identity(who.id_type, who.data)
        certificates = tuple(message.all(Certificate))
        return cls(identity, auth, certificates, p, signed_octets(p, *signed, identity))

    def content(self, encoding: CertEncoding) -> tuple[bytes, ...]:
        """What the CERT payloads of one encoding hold, in order."""
        return tuple(c.data for c in self.certificates if c.encoding == encoding)

    def knows(self, key: bytes) -> bool:
        """Whether it is proved with this key. The time taken does not depend on how near it came."""
        expected = psk_auth(self.prf, key, self.octets)
        return equal(expected, self.auth.data) and self.auth.method == AuthMethod.SHARED_KEY


def judge(demand: Demand, claim: Claim, clock: WallClock, wanted: Identity | None = None) -> Identity:
    """Whom the proof is good for. Raises AuthenticationFailed.

    `wanted` is whom we mean to talk to, if we do. What nothing vouches for is not what a peer is known by:
    who has a raw public key, and may call itself anything, is known by that key.
    """
    match demand:
        case PskOf(key):
            _require(claim, AuthMethod.SHARED_KEY)
            if not claim.knows(key):
                raise AuthenticationFailed(f"{claim.identity} does not know the PSK", remedy=_SAME_PSK)
            return claim.identity
        case RawKeyOf(key):
            return _judge_raw(demand, claim)
        case CertificateOf():
            return _judge_certificate(demand, claim, clock, wanted)
    raise AuthenticationFailed(
        f"{claim.identity} proves itself by {name_of_auth_method(claim.auth.method)}, which is not wanted"
    )


def key_identity(demand: RawKeyOf) -> Identity:
    """By which a raw public key goes where it has no other name."""
    return Identity.of_key(demand.key.fingerprint)


def _judge_raw(demand: RawKeyOf, claim: Claim) -> Identity:
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
    if claim.auth.method == AuthMethod.SHARED_KEY:
        raise AuthenticationFailed(
            f"{claim.identity} proves itself by a PSK, and not by a certificate", remedy=_SAME_METHOD
        )
    chain = claim.content(CertEncoding.X509_SIGNATURE)
    if not chain:
        raise AuthenticationFailed(
            f"{claim.identity} shows no certificate",
            remedy="Let the peer prove itself by certificate, and send it (strongSwan: send_cert = always).",
        )
    name = wanted or claim.identity
    ocsp = claim.content(CertEncoding.OCSP_CONTENT)
    key = demand.trust.verify(chain, name.type, name.data, clock(), ocsp)
    signing.check(key, claim.auth, claim.octets, sha1=demand.sha1)
    return name


def _require(claim: Claim, method: AuthMethod) -> None:
    if claim.auth.method != method:
        raise AuthenticationFailed(
            f"{claim.identity} proves itself by {name_of_auth_method(claim.auth.method)}, and not by a PSK",
            remedy=_SAME_METHOD,
        )
