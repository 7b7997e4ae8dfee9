"""What phase 1 comes to once both sides have said everything: keys, and proofs of who they are.

A proof is HASH_I or HASH_R, which only who has the PSK can make, or a signature of that (RFC 2409 section 5).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from espudp.crypto.auth import equal
from espudp.crypto.ikev1keys import (
    Ikev1Keys,
    Ikev1Suite,
    Transcript,
    derive_keys,
    hash_i,
    hash_r,
    phase_1_iv,
    skeyid_psk,
    skeyid_signatures,
)
from espudp.errors import AuthenticationFailed
from espudp.ike.certified import is_for, vouched
from espudp.ike.credentials import CertificateOf, Demand, Proof, SignKey, WallClock
from espudp.ike.identity import Identity
from espudp.ike.v1.ways import Way
from espudp.wire.ikev1.constants import CertEncoding
from espudp.wire.ikev1.message import Message
from espudp.wire.ikev1.payloads import (
    Certificate,
    CertificateRequest,
    Hash,
    Identification,
    Payload,
    Signature,
    body_of,
)

# Our bound: anybody can ask for the message that names them.
_MAX_AUTHORITIES = 25


@dataclass(frozen=True, slots=True)
class Material:
    """What the keys are made of, and what the proofs cover."""

    suite: Ikev1Suite
    way: Way
    transcript: Transcript
    nonce_i: bytes
    nonce_r: bytes
    shared: bytes = field(repr=False)

    @property
    def iv(self) -> bytes:
        """Of the first encrypted message."""
        return phase_1_iv(self.suite, self.transcript.ke_i, self.transcript.ke_r)

    def keys(self, psk: bytes | None) -> Ikev1Keys:
        """Raises CryptoError without a PSK where there is to be one."""
        hash_ = self.suite.hash
        skeyid = (
            skeyid_psk(hash_, psk or b"", self.nonce_i, self.nonce_r)
            if self.way.psk
            else skeyid_signatures(hash_, self.nonce_i, self.nonce_r, self.shared)
        )
        cookies = self.transcript.cookie_i, self.transcript.cookie_r
        return derive_keys(self.suite, skeyid, self.shared, *cookies)

    def hash(self, keys: Ikev1Keys, who: Identification, *, initiator: bool) -> bytes:
        """HASH_I or HASH_R."""
        make = hash_i if initiator else hash_r
        return make(self.suite.hash, keys.skeyid, self.transcript, body_of(who))


def identification(identity: Identity) -> Identification:
    """The ID payload for one of us. Its types are those of IKEv2 (RFC 7296 section 3.5)."""
    return Identification(identity.type, identity.data)


def identity_of(who: Identification) -> Identity:
    """Protocol and port mean nothing (RFC 2407 section 4.6.2)."""
    return Identity(who.id_type, who.data)


def prove(
    material: Material, keys: Ikev1Keys, identity: Identity, proof: Proof, *, initiator: bool
) -> list[Payload]:
    """What we prove ourselves with: the HASH payload, or certificates and a signature. Raises CryptoError."""
    hash_ = material.hash(keys, identification(identity), initiator=initiator)
    if not material.way.signs(initiator=initiator):
        return [Hash(hash_)]
    if not isinstance(proof, SignKey):
        raise AuthenticationFailed("there is no private key to sign with")
    chain = [Certificate(CertEncoding.X509_SIGNATURE, der) for der in proof.certificates]
    return [*chain, Signature(proof.private_key.sign_hash(hash_))]


def requests(demands: Iterable[Demand]) -> list[CertificateRequest]:
    """CERTREQ: whose certificates are believed here (RFC 2408 section 3.10). An empty one asks for any."""
    trusted = [demand.trust for demand in demands if isinstance(demand, CertificateOf)]
    subjects = dict.fromkeys(name for trust in trusted for name in trust.subjects())
    kind = CertEncoding.X509_SIGNATURE
    if len(subjects) > _MAX_AUTHORITIES:
        return [CertificateRequest(kind)]
    return [CertificateRequest(kind, name) for name in subjects]


def certificates_of(message: Message, claimed: Identity) -> list[bytes]:
    """The certificates that a peer shows, in DER: its own first, if one is for the name that it claims. They
    come in any order, and in several encodings (RFC 2408 section 3.9).
    """
    found: list[bytes] = []
    for certificate in message.all(Certificate):
        if certificate.encoding == CertEncoding.X509_SIGNATURE:
            found.append(certificate.data)
        elif certificate.encoding == CertEncoding.PKCS7_X509:
            # Not above: it takes some megabytes, and hardly anybody sends this.
            from espudp.crypto.bundles import unwrapped

            found += unwrapped(certificate.data)
    return sorted(found, key=lambda der: not is_for(der, claimed)) if len(found) > 1 else found


@dataclass(frozen=True, slots=True)
class Claim:
    """Who a peer says it is, and what it says for proof."""

    material: Material
    keys: Ikev1Keys
    who: Identification
    message: Message
    """The one with the proof; in aggressive mode the initiator's identity came before."""
    by_initiator: bool

    @property
    def holds(self) -> bool:
        """Whether the HASH payload is right: made by who has the key."""
        proof = self.message.get(Hash)
        hash_ = self.material.hash(self.keys, self.who, initiator=self.by_initiator)
        return proof is not None and equal(proof.data, hash_)

    def judge(self, demand: Demand, wanted: Identity | None, clock: WallClock) -> Identity:
        """Whom the proof is good for. Raises AuthenticationFailed. `wanted`: whom we mean to talk to."""
        claimed = identity_of(self.who)
        if self.material.way.signs(initiator=self.by_initiator):
            return self._judge_signature(demand, claimed, wanted, clock)
        if not self.holds:
            raise self._unknowing(claimed)
        if wanted is not None and not wanted.means(claimed):
            raise AuthenticationFailed(
                f"the peer calls itself {claimed}, and not {wanted}",
                remedy=f"If it is the right peer, name it so: --remote-id {claimed}",
            )
        return claimed

    def _unknowing(self, claimed: Identity) -> AuthenticationFailed:
        if self.material.way.psk:
            return AuthenticationFailed(
                f"{claimed} does not know the PSK", remedy="Put the same PSK on both sides."
            )
        return AuthenticationFailed(f"{claimed} is not the one that has begun this")

    def _judge_signature(
        self, demand: Demand, claimed: Identity, wanted: Identity | None, clock: WallClock
    ) -> Identity:
        chain = certificates_of(self.message, claimed)
        signature = self.message.get(Signature)
        if not isinstance(demand, CertificateOf) or signature is None:
            raise AuthenticationFailed(f"{claimed} does not sign")
        if not chain:
            raise AuthenticationFailed(
                f"{claimed} shows no certificate",
                remedy="Let the peer send its certificate (strongSwan: send_cert = always).",
            )
        name, key = vouched(demand.trust, claimed, wanted, chain, clock)
        hash_ = self.material.hash(self.keys, self.who, initiator=self.by_initiator)
        if not key.verifies_hash(signature.data, hash_):
            raise AuthenticationFailed(
                f"the peer's signature is not of its key, {key.name}",
                remedy="The peer's private key is not that of its certificate, or somebody has changed "
                "messages on the way.",
            )
        return name
