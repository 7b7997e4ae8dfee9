"""Who calls us: the initiator's proofs as the responder sees them (RFC 7296 section 2.16, RFC 4739).

    first request   with AUTH: it is judged; without: EAP begins
    EAP             until the method is done, then AUTH from its key
    further proof   IDi again, and AUTH or EAP, as long as the entry of the database asks for more

What is answered comes back as payloads. `is_proved` says that the last of them go with the child SA.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from espudp.crypto.suites import Prf
from espudp.errors import AuthenticationFailed, PeerError
from espudp.ike.certified import is_certified
from espudp.ike.config import ListenerConfig
from espudp.ike.credentials import ByEap, Demand, EapOf, EapServer, RawKeyOf
from espudp.ike.eap.method import Outcome
from espudp.ike.eap.passthrough import BackendAnswer, BackendQuestion, PassThrough
from espudp.ike.identity import NOBODY, Identity
from espudp.ike.pad import PadEntry, candidates, entry_of_user
from espudp.ike.rules import REQUESTS, Shape, breach, critical, is_childless
from espudp.ike.v2 import auth
from espudp.ike.v2.auth import Claim, WrongMethod
from espudp.ike.v2.hub import Hub
from espudp.ike.v2.initial import Initial
from espudp.ike.v2.sa import Received
from espudp.wire.ikev2.constants import NotifyType
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import Authentication, Eap, IdInitiator, IdResponder, Payload

# Our bound on how many entries are tried for one peer: each may cost the check of a signature.
_MAX_ENTRIES = 8

# What stands in for a PSK that does not exist, so that an unknown identity costs the same as a wrong PSK.
_DUMMY_OCTETS = 32


class Caller:
    """A peer that is proving who it is."""

    def __init__(self, hub: Hub, config: ListenerConfig, initial: Initial, prf: Prf) -> None:
        self._hub = hub
        self.config = config
        """What holds for it; that of its entry, once that is known."""
        self._listener = config
        self._hashes = initial.hashes
        self._theirs, self._ours = initial.initiator(prf), initial.responder(prf)
        self._first: Message | None = None
        self._claimed = NOBODY
        """What it calls itself, in this turn."""
        self._known: list[Identity] = []
        """Whom it has proved to be, turn by turn."""
        self._further: deque[Demand] = deque()
        self._eap: EapServer | None = None
        self._expects = Shape.IKE_AUTH
        self.is_proved = False
        self.refusal: AuthenticationFailed | None = None
        """It is told in EAP that it is refused, and this is why."""

    @property
    def asked(self) -> Message:
        """The first request, which says what the peer wants. It has come when there is something to ask."""
        if self._first is None:
            raise AuthenticationFailed("the peer has asked for nothing")
        return self._first

    @property
    def identity(self) -> Identity:
        """Whom it has proved to be first."""
        return self._known[0]

    @property
    def question(self) -> BackendQuestion | None:
        """What another server is to be asked before we can answer."""
        return None if self._eap is None else self._eap.question

    @property
    def doubt(self) -> AuthenticationFailed | None:
        """What is wrong with its login so far, while it may still mend that."""
        return None if self._eap is None or self._eap.error is None else _of_user(self._eap, self._eap.error)

    @property
    def asks_elsewhere(self) -> bool:
        """Whether a request of the peer is waiting for that."""
        return self.question is not None

    # Requests

    def receive(self, received: Received) -> list[Payload] | None:
        """The answer; None: `question` is to be answered first. Raises PeerError."""
        message = received.message
        self._check(received)
        if self._expects is Shape.IKE_AUTH:
            self._first = message
            return self._begin(message, received.path.remote.ip)
        if self._expects is Shape.EAP:
            return self._converse(message)
        if self._expects is Shape.EAP_PROOF:
            return self._end_eap(message, received.path.remote.ip)
        return self._go_on(message)

    def provide(self, answer: BackendAnswer) -> list[Payload]:
        """The answer to the request that was waiting."""
        eap = self._eap
        if not isinstance(eap, PassThrough):
            raise AuthenticationFailed("nobody was asked")
        return self._said(eap, eap.provide(answer))

    def _check(self, received: Received) -> None:
        """Raises PeerError for messages whose authentication is not even looked at."""
        message = received.message
        if received.nonsense is not None:
            raise PeerError(received.nonsense, notify=NotifyType.INVALID_SYNTAX)
        unsupported = critical(message)
        if unsupported is not None:
            raise PeerError(
                f"payload {unsupported.type} is critical and unknown",
                notify=NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD,
                data=bytes([unsupported.type]),
            )
        shape = self._expects
        if shape is Shape.IKE_AUTH:
            alone = self.config.childless and is_childless(message)
            shape = Shape.CHILDLESS if alone else Shape.IKE_AUTH
            if message.get(Authentication) is None:
                shape = Shape.EAP_BEGIN_CHILDLESS if alone else Shape.EAP_BEGIN
        wrong = breach(message, REQUESTS[shape])
        if wrong is not None:
            raise PeerError(f"IKE_AUTH {wrong}", notify=NotifyType.INVALID_SYNTAX)

    # The first one: which entry it is

    def _begin(self, message: Message, ip: str) -> list[Payload]:
        claimed = self._named(message)
        wanted = message.get(IdResponder)
        ours = None if wanted is None else Identity(wanted.id_type, wanted.data)
        open_to_us = [entry for entry in self.config.pad if entry.xauth is None]
        entries = candidates(open_to_us, claimed, ip, ours, self.config.local_identity)[:_MAX_ENTRIES]
        if message.get(Authentication) is None:
            entry = self._entry_for_eap(entries, message)
        else:
            entry = self._entry_by_proof(entries, message)
        self.config = self.config.by(entry)
        if ours is not None and is_certified(ours, entry.proof):
            self.config = replace(self.config, local_identity=ours)
        self._further.extend(entry.further)
        name = self.config.local_identity
        payloads = [
            IdResponder(name.type, name.data),
            *auth.prove(self._ours, name, entry.proof, self._hashes),
        ]
        if self._known:
            return self._turn_over(message, payloads)
        return [*payloads, *self._begin_eap(entry.demand)]

    def _named(self, message: Message) -> Identity:
        who = message.get(IdInitiator)
        if who is None:
            raise PeerError("IKE_AUTH has no identity", notify=NotifyType.INVALID_SYNTAX)
        self._claimed = Identity(who.id_type, who.data)
        return self._claimed

    def _entry_by_proof(self, entries: Sequence[PadEntry], message: Message) -> PadEntry:
        claim = Claim.of(message, IdInitiator, self._theirs)
        refusal: AuthenticationFailed | None = None
        for entry in entries:
            try:
                known = auth.judge(entry.demand, claim, self._hub.wall_clock)
            except AuthenticationFailed as error:
                if refusal is None or isinstance(refusal, WrongMethod):
                    refusal = error
            else:
                # Nothing vouches for what the owner of a raw key calls itself, but an entry of that name.
                is_named = isinstance(entry.demand, RawKeyOf) and entry.names(claim.identity)
                self._known.append(claim.identity if is_named else known)
                return entry
        if refusal is None:
            claim.knows(self._hub.nonce(_DUMMY_OCTETS))
        raise refusal or self._stranger()

    def _entry_for_eap(self, entries: Sequence[PadEntry], message: Message) -> PadEntry:
        only = message.notify(NotifyType.EAP_ONLY_AUTHENTICATION) is not None
        able = [entry for entry in entries if isinstance(entry.demand, EapOf)]
        for entry in able:
            if only or not isinstance(entry.proof, ByEap):
                return entry
        if able:
            raise AuthenticationFailed(
                f"{self._claimed} wants us to prove ourselves by more than EAP",
                remedy="Name a certificate (--cert, --key), or let the peer be content with EAP (RFC 5998).",
            )
        if entries:
            raise AuthenticationFailed(
                f"{self._claimed} wants EAP, and is to prove itself in another way",
                remedy="Name the users with --eap-users, or configure the peer with a certificate or a PSK.",
            )
        raise self._stranger()

    def _stranger(self) -> AuthenticationFailed:
        remedy = "Let this identity in, or let the peer use another one."
        if all(entry.xauth is not None for entry in self.config.pad):
            remedy = "All who come here log in by XAUTH, which is IKEv1: the peer has to speak that."
        return AuthenticationFailed(f"nobody is expected who is {self._claimed}", remedy=remedy)

    # EAP

    def _begin_eap(self, demand: Demand) -> list[Payload]:
        if not isinstance(demand, EapOf):
            raise AuthenticationFailed(f"{self._claimed} wants EAP, and is to prove itself in another way")
        self._eap = demand.users.server(self._hub.rng)
        self._expects = Shape.EAP
        return [Eap(self._eap.start())]

    def _converse(self, message: Message) -> list[Payload] | None:
        packet, eap = message.get(Eap), self._eap
        if packet is None or eap is None:
            raise PeerError("IKE_AUTH has no EAP", notify=NotifyType.INVALID_SYNTAX)
        reply = eap.receive(packet.data)
        return None if reply is None and eap.question is not None else self._said(eap, reply)

    def _said(self, eap: EapServer, packet: bytes | None) -> list[Payload]:
        if eap.outcome is Outcome.SUCCESS:
            self._expects = Shape.EAP_PROOF
        if eap.outcome is Outcome.FAILURE or packet is None:
            self.refusal = _of_user(eap, eap.error or AuthenticationFailed("EAP has failed"))
        return [] if packet is None else [Eap(packet)]

    def _end_eap(self, message: Message, ip: str) -> list[Payload]:
        """RFC 7296 section 2.16: both show that it was they who have spoken EAP."""
        proof, eap = message.get(Authentication), self._eap
        if proof is None or eap is None:
            raise PeerError("IKE_AUTH has no proof", notify=NotifyType.INVALID_SYNTAX)
        auth.judge_eap(Claim(self._claimed, proof, (), self._theirs), eap.msk)
        if not self._known:
            self._find_place(eap.identity, ip)
        self._known.append(Identity.of_user(eap.identity))
        ours = auth.prove_eap(self._ours, self.config.local_identity, eap.msk)
        return self._turn_over(message, [ours])

    def _find_place(self, user: bytes, ip: str) -> None:
        """Policy goes by who has logged in, and not by IDi."""
        came_by, name = self.config.pad[0], self.config.local_identity
        entry = entry_of_user(self._listener.pad, came_by, user, ip)
        if entry is None:
            raise AuthenticationFailed(
                f"{Identity.of_user(user)} has logged in as {self._claimed}, where that user may not come in",
                remedy="Let the client call itself (IDi) by its user name, or let this user in there.",
            )
        if entry is not came_by:
            self.config = replace(self._listener.by(entry), local_identity=name)
            self._further = deque(entry.further)

    # Further proofs (RFC 4739)

    def _turn_over(self, message: Message, payloads: list[Payload]) -> list[Payload]:
        announced = message.notify(NotifyType.ANOTHER_AUTH_FOLLOWS) is not None
        if self._further and not announced:
            raise AuthenticationFailed(
                f"{self._claimed} gives one proof, and is to give {1 + len(self._further)}",
                remedy="Configure the peer for several authentications (RFC 4739).",
            )
        if announced and not self._further:
            raise AuthenticationFailed(
                f"{self._claimed} means to give a further proof, for which nobody has asked",
                remedy="Configure the peer for one authentication.",
            )
        self._expects = Shape.ANOTHER_AUTH
        self.is_proved = not self._further
        return payloads

    def _go_on(self, message: Message) -> list[Payload]:
        self._named(message)
        demand = self._further.popleft()
        if message.get(Authentication) is None:
            return self._begin_eap(demand)
        claim = Claim.of(message, IdInitiator, self._theirs)
        self._known.append(auth.judge(demand, claim, self._hub.wall_clock))
        return self._turn_over(message, [])


def _of_user(eap: EapServer, error: AuthenticationFailed) -> AuthenticationFailed:
    """The same, with the name that was to be logged in: an operator looks for that."""
    if not eap.identity:
        return error
    who = Identity.of_user(eap.identity)
    return AuthenticationFailed(f"{who}: {error}", remedy=error.remedy, reason=error.reason)
