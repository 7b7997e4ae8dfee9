"""The initiator's proofs, one turn after the other (RFC 7296 section 2.16, RFC 4739 section 2).

IDi, CERT, AUTH -->                       IDi -->
<-- the answer                            <-- EAP
                                          EAP -->   ... until
                                          <-- EAP success
                                          AUTH -->
                                          <-- AUTH, the answer
"""

from dataclasses import dataclass
from typing import Protocol

from espudp.errors import AuthenticationFailed, PeerError
from espudp.ike.credentials import EapClient, EapPeer, NoProof, Proof
from espudp.ike.eap.method import Outcome
from espudp.ike.identity import NOBODY, Identity
from espudp.ike.rules import Shape
from espudp.ike.v2 import auth
from espudp.ike.v2.auth import Claim
from espudp.ike.v2.hub import Hub
from espudp.ike.v2.initial import Ground, Initial
from espudp.wire.ikev2.constants import NotifyType
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import Authentication, Eap, IdInitiator, Payload


@dataclass(frozen=True, slots=True)
class Callee:
    """Whom we have called."""

    claimed: Identity
    """What it calls itself, in IDr."""

    known: Identity | None
    """Whom it has proved to be; None: that is left to EAP (RFC 5998)."""


class Turn(Protocol):
    """One proof of ours."""

    @property
    def identity(self) -> Identity: ...

    @property
    def shape(self) -> Shape:
        """What the next response is to look like, but for what the peer proves in the very first one."""

    def begin(self) -> list[Payload]:
        """IDi, and the proof if it takes no more than one message."""

    def answered(self, message: Message, callee: Callee) -> list[Payload] | None:
        """What to ask next; None: this turn is over. Raises AuthenticationFailed and PeerError."""

    @property
    def proves(self) -> bool:
        """Whether AUTH is in what was asked last."""


def turn_of(
    hub: Hub, identity: Identity, proof: Proof, grounds: tuple[Ground, Ground], initial: Initial
) -> Turn:
    """`grounds`: ours, the peer's. Raises AuthenticationFailed and CryptoError."""
    if isinstance(proof, EapClient):
        return EapTurn(hub, identity, proof, grounds)
    if isinstance(proof, NoProof):
        # RFC 7619 section 2.2: who proves nothing does not say who it is, either
        identity = NOBODY
    return PlainTurn(identity, auth.prove(grounds[0], identity, proof, initial.hashes))


class PlainTurn:
    """AUTH in one message."""

    shape = Shape.ANOTHER_AUTH
    proves = True

    def __init__(self, identity: Identity, proof: list[Payload]) -> None:
        self.identity = identity
        self._proof = proof

    def begin(self) -> list[Payload]:
        return [IdInitiator(self.identity.type, self.identity.data), *self._proof]

    def answered(self, message: Message, callee: Callee) -> list[Payload] | None:
        return None


class EapTurn:
    """EAP, as its client, and AUTH at its end."""

    def __init__(
        self, hub: Hub, identity: Identity, proof: EapClient, grounds: tuple[Ground, Ground]
    ) -> None:
        self._hub = hub
        self.identity = identity
        self._login = proof.login
        self._ours, self._theirs = grounds
        self._eap: EapPeer | None = None
        self.proves = False

    @property
    def shape(self) -> Shape:
        return Shape.EAP_PROOF if self.proves else Shape.EAP

    def begin(self) -> list[Payload]:
        return [IdInitiator(self.identity.type, self.identity.data)]

    def answered(self, message: Message, callee: Callee) -> list[Payload] | None:
        if self.proves:
            return self._confirmed(message, callee)
        packet = message.get(Eap)
        if packet is None:
            raise PeerError("no EAP, where there must be", notify=NotifyType.INVALID_SYNTAX)
        if self._eap is None:
            # Whoever has proved nothing (RFC 7619) has not proved to be the one that a password is for.
            proven = callee.known is not None and not callee.known.is_nobody
            self._eap = self._login.peer(self._hub.rng, gateway_proven=proven)
        reply = self._eap.receive(packet.data)
        if self._eap.outcome is Outcome.SUCCESS:
            self.proves = True
            return [auth.prove_eap(self._ours, self.identity, self._eap.msk)]
        if self._eap.outcome is Outcome.FAILURE or reply is None:
            raise self._eap.error or AuthenticationFailed("the gateway refused the login")
        return [Eap(reply)]

    def _confirmed(self, message: Message, callee: Callee) -> list[Payload] | None:
        """The peer has the key of the method, too."""
        proof = message.get(Authentication)
        if proof is None or self._eap is None:
            raise AuthenticationFailed("the peer does not prove that it has spoken EAP with us")
        auth.judge_eap(Claim(callee.claimed, proof, (), self._theirs), self._eap.msk)
        return None
