"""IKE_AUTH from the responder's side (RFC 7296 sections 1.2, 2.4, 2.15, 2.16, 2.19, 2.21.2).

AwaitAuth --IKE_AUTH, and the peer has proved who it is--> Established
  ^ |  |
  +-+  +--anything else--> Answered, which only repeats its answer, and not for long
 EAP, and further proofs
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from espudp.errors import AuthenticationFailed, CryptoError, EspudpError, PeerError
from espudp.ike.config import ListenerConfig, Mode
from espudp.ike.drop import Drop
from espudp.ike.eap.passthrough import BackendAnswer
from espudp.ike.events import BackendAsked, ConnectionUp, Fault, PeerAddressAssigned, PeerRefused
from espudp.ike.farewell import Farewell
from espudp.ike.identity import Identity
from espudp.ike.narrowing import Dynamic
from espudp.ike.rules import is_childless
from espudp.ike.tickets import Session
from espudp.ike.v2 import configuration, mobike, reauth, redirect, resumption
from espudp.ike.v2.caller import Caller
from espudp.ike.v2.child import NewChild, Nonces, answer_child
from espudp.ike.v2.connection import Connection, Peer
from espudp.ike.v2.crash import token_of
from espudp.ike.v2.ending import Answered
from espudp.ike.v2.established import Established
from espudp.ike.v2.hub import Datagram, Hub, State
from espudp.ike.v2.initial import Initial
from espudp.ike.v2.sa import IkeSa, Received
from espudp.wire.address import Path
from espudp.wire.ikev2.constants import ExchangeType, NotifyType
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import (
    Configuration,
    IdInitiator,
    Notify,
    Payload,
)

_EXCHANGES = frozenset({int(ExchangeType.IKE_AUTH)})

# Our bound on how much longer than usual several rounds of EAP may take: a person may be typing.
_PATIENCE = 5


@dataclass(frozen=True, slots=True)
class Resumes:
    """The ticket that a client has come with, and what is in it."""

    ticket: bytes = field(repr=False)
    session: Session


class AwaitAuth:
    """A half-open IKE SA: the peer has keys, and an address that works, and has proved nothing."""

    def __init__(
        self,
        hub: Hub,
        config: ListenerConfig,
        sa: IkeSa,
        initial: Initial,
        outer: str,
        deadline: float,
        resumes: Resumes | None = None,
    ) -> None:
        """`outer` is the IP address where the peer got our answer to its IKE_SA_INIT. `resumes`: it has come
        with a ticket.
        """
        self._resumes = resumes
        self._hub = hub
        self._config = config
        self._sa = sa
        self.initial = initial
        self._outer = outer
        self.deadline = deadline
        self._latest = deadline + _PATIENCE * config.timers.half_open_timeout
        self._caller = Caller(hub, config, initial, sa.suite.prf)
        self._held: Received | None = None
        """The request that is answered when somebody else has."""
        self._came_by: Path | None = None

    @property
    def local_spi(self) -> bytes:
        return self._sa.local_spi

    def handle_timer(self, now: float) -> State | None:
        if now < self.deadline:
            return self
        doubt = self._caller.doubt
        if doubt is not None and self._came_by is not None:
            # There are clients that say nothing to a wrong password, and are never heard of again
            self._hub.tell_refusal(PeerRefused(self._came_by, str(doubt), doubt.remedy), now)
        return None

    def receive(self, datagram: Datagram, now: float) -> State | None:
        if self._came_by is not None and datagram.path.remote.ip != self._came_by.remote.ip:
            # Our answer may be much larger than a request that is repeated in the name of others.
            self._hub.drop(Drop.ELSEWHERE)
            return self
        received = self._sa.accept(datagram, _EXCHANGES)
        if received is None or received.is_response or self._caller.asks_elsewhere:
            return self
        self._came_by = received.path
        return self._act(received, partial(self._caller.receive, received), now)

    def provide(self, answer: BackendAnswer, now: float) -> State | None:
        """What the server that knows the EAP users says, if it was asked."""
        received, self._held = self._held, None
        if received is None:
            return self
        return self._act(received, partial(self._caller.provide, answer), now)

    def _act(self, received: Received, act: Callable[[], list[Payload] | None], now: float) -> State | None:
        """Answers a request with what comes of it; None: that is not known yet."""
        try:
            payloads = act()
            if payloads is not None and self._caller.is_proved:
                self._use_ticket()
                return self._establish(received, payloads, now)
        except PeerError as error:
            # RFC 7296 section 2.21.2: these errors end the IKE SA, with nothing but the notify.
            return self._refuse(received, [Notify.of(error.notify, error.data)], error, now)
        refusal = self._caller.refusal
        if payloads is None:
            self._held = received
            self._ask(received)
            return self
        if refusal is not None:
            return self._refuse(received, payloads, refusal, now)
        self._sa.respond(received, payloads)
        self.deadline = min(now + self._config.timers.half_open_timeout, self._latest)
        return self

    def _use_ticket(self) -> None:
        """Raises AuthenticationFailed for one that was used (RFC 5723 section 4.3.1)."""
        issuer = self._hub.issuer
        if self._resumes is not None and (issuer is None or not issuer.use_up(self._resumes.ticket)):
            raise AuthenticationFailed("the ticket of a session was used already")

    def _entry(self) -> bytes:
        """The mark of the peer's entry in the database."""
        return self._config.pad[0].mark if self._resumes is None else self._resumes.session.entry

    def _ask(self, received: Received) -> None:
        question = self._caller.question
        if question is not None:
            self._hub.emit(BackendAsked(int.from_bytes(self.local_spi), question, received.path))

    def _refuse(
        self, received: Received, payloads: list[Payload], error: PeerError, now: float
    ) -> State | None:
        self._sa.respond(received, payloads)
        self._hub.count_refusal(error)
        self._hub.tell_refusal(PeerRefused(received.path, str(error), error.remedy), now)
        return Answered(self._sa, self.deadline)

    # What it gets

    def _establish(self, received: Received, proof: list[Payload], now: float) -> State | None:
        """`proof`: what we prove ourselves with at the end. The child SA is that of the first request."""
        hub, message = self._hub, self._caller.asked
        identity, self._config = self._caller.identity, self._caller.config
        hub.admission.authenticated(self.local_spi)
        number = hub.next_number()
        who = message.get(IdInitiator)
        peer = Peer(
            identity,
            self.initial.nat,
            self._outer,
            can_be_redirected=redirect.was_able(self.initial.request),
            claimed=None if who is None else Identity(who.id_type, who.data),
            entry=self._entry(),
        )
        if self._resumes is not None:
            resumption.end_former(hub, self._resumes.session)
        if message.notify(NotifyType.INITIAL_CONTACT) is not None and not identity.is_nobody:
            self._forget_former(peer)
        connection = Connection(hub, number, self._config, peer, received.path, now)
        connection.current = established = Established(connection, self._sa, now)
        hub.emit(
            ConnectionUp(
                number,
                initiator=False,
                local_identity=self._config.local_identity,
                remote_identity=identity,
                suite_name=self._sa.suite.name,
                path=received.path,
                nat=self.initial.nat,
            )
        )
        agreed = [*mobike.agree(connection, message), *reauth.agree(connection, message, now)]
        token = token_of(hub, self._sa.spi_i, self._sa.spi_r)
        away = redirect.by_entry(self._config) if peer.can_be_redirected else []
        if away:
            established.expire_by(now + redirect.LEAVE_SECONDS)
        make = self._addresses if is_childless(message) else self._child
        child = away or make(connection, message, now)
        if self._resumes is not None:
            resumption.limit(connection, self._resumes.session, now)
        ticket = resumption.grant(connection, self._sa, message, now)
        self._sa.respond(received, [*proof, *token, *child, *agreed, *ticket])
        return established.advance(now)

    def _forget_former(self, peer: Peer) -> None:
        """RFC 7296 section 2.4: the peer says that it has no other IKE SA with us. One user may log in from
        several hosts by EAP, which call themselves different things in IDi; and whom a key of all vouches for
        is not the one of that name whom a certificate does.
        """
        identity, alike = peer.identity, (peer.claimed, peer.entry)
        of_peer = [c for c in self._hub.with_peer(identity) if not c.dialled]
        former = [c for c in of_peer if (c.peer.claimed, c.peer.entry) == alike]
        for connection in former:
            reason = f"{identity} connected anew"
            connection.down(Farewell(Fault.PEER_REQUEST, reason))

    def _addresses(self, connection: Connection, message: Message, now: float) -> list[Payload]:
        """What a peer gets that wants no child SA yet: its addresses (RFC 6023 section 5)."""
        asked = message.get(Configuration)
        if asked is None or not configuration.wants_address(asked):
            return []
        try:
            self._assign(connection, asked)
        except PeerError as error:
            self._tell(connection, error, now)
            return [Notify.of(error.notify, error.data)]
        return [configuration.reply(asked, connection.peer.addresses, self._config.handout)]

    def _child(self, connection: Connection, message: Message, now: float) -> list[Payload]:
        """The first child SA. RFC 7296 section 2.21.2: its failure does not undo the authentication."""
        asked = message.get(Configuration)
        try:
            new, payloads = self._negotiate(connection, message, asked)
        except PeerError as error:
            self._tell(connection, error, now)
            return [Notify.of(error.notify, error.data)]
        except CryptoError as error:
            self._tell(connection, error, now)
            return [Notify.of(NotifyType.NO_PROPOSAL_CHOSEN)]
        connection.install(new, behind=reauth.predecessor(connection, new.child))
        if asked is not None and configuration.wants_address(asked):
            payloads.insert(0, configuration.reply(asked, connection.peer.addresses, self._config.handout))
        return payloads

    def _tell(self, connection: Connection, error: EspudpError, now: float) -> None:
        reason = f"{connection.peer.identity}: {error}"
        self._hub.tell_refusal(PeerRefused(connection.path, reason, error.remedy), now)

    def _negotiate(
        self, connection: Connection, message: Message, asked: Configuration | None
    ) -> tuple[NewChild, list[Payload]]:
        hub = self._hub
        if asked is not None and hub.pool is not None and configuration.wants_address(asked):
            self._assign(connection, asked)
        elif hub.pool is not None and self._wants_pool():
            # RFC 7296 section 2.19
            raise PeerError(
                "the peer asks for no virtual address",
                notify=NotifyType.FAILED_CP_REQUIRED,
                remedy="Let the peer ask for one, or name its subnet here.",
            )
        nonces = Nonces(self.initial.nonce_i, self.initial.nonce_r)
        return answer_child(hub, self._sa, message, connection.allowed(), nonces=nonces, pfs=False)

    def _wants_pool(self) -> bool:
        """Whether nothing but virtual addresses goes through the tunnel."""
        child = self._config.child
        return child.mode is Mode.TUNNEL and all(isinstance(s, Dynamic) for s in child.remote)

    def _assign(self, connection: Connection, asked: Configuration) -> None:
        """Raises PeerError."""
        hub, peer = self._hub, connection.peer
        if hub.pool is not None:
            within = self._config.pool
            holder = peer.identity, peer.entry
            addresses = configuration.assign(asked, hub.pool, holder, connection.number, within)
            connection.peer = replace(peer, addresses=addresses)
            hub.emit(PeerAddressAssigned(connection.number, addresses))
