"""IKE_AUTH from the initiator's side (RFC 7296 sections 1.2, 2.15, 2.19, 2.21.2)."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address

from espudp.errors import AuthenticationFailed, CryptoError, PeerError
from espudp.ike.config import ConnectionConfig, Mode
from espudp.ike.credentials import ByEap, EapClient, NoDemand, Proof, Psk, RawKeyOf, SignKey
from espudp.ike.events import ConnectionUp, Fault
from espudp.ike.farewell import Farewell
from espudp.ike.given import NOTHING, Given
from espudp.ike.identity import Identity
from espudp.ike.narrowing import narrow, pairs, resolve
from espudp.ike.offers import describe_offer
from espudp.ike.proposals import offer_esp
from espudp.ike.rules import RESPONSES, Shape, breach, critical, error_of
from espudp.ike.tickets import Ticket
from espudp.ike.v2 import auth, configuration, mobike, reauth, redirect, resumption
from espudp.ike.v2.child import ChildOffer, NewChild, Nonces
from espudp.ike.v2.child_exchange import fault_of
from espudp.ike.v2.connection import Connection, Peer
from espudp.ike.v2.crash import take_token
from espudp.ike.v2.established import Established
from espudp.ike.v2.hub import Datagram, Hub, State
from espudp.ike.v2.initial import Initial
from espudp.ike.v2.sa import IkeSa, Received
from espudp.ike.v2.turns import Callee, turn_of
from espudp.ike.v2.wanted import WantedChild, split, spread
from espudp.wire.address import Path
from espudp.wire.ikev2.constants import ExchangeType, NotifyType, name_of_notify
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import (
    Authentication,
    Configuration,
    Eap,
    IdResponder,
    Notify,
    Payload,
)
from espudp.wire.selectors import TrafficSelector

# Our bounds: answers to IKE_SA_INIT beside the one that we follow, and tries of IKE_AUTH before the next one
# is.
_MAX_OTHERS = 4
_TRIES_OF_ONE = 2

_EXCHANGES = frozenset({int(ExchangeType.IKE_AUTH)})


class AuthSent:
    """The peer has keys, but has not proved yet who it is."""

    def __init__(
        self,
        hub: Hub,
        number: int,
        config: ConnectionConfig,
        sa: IkeSa,
        initial: Initial,
        path: Path,
        now: float,
        reconsider: "Callable[[Datagram, float], AuthSent | None]",
        ticket: Ticket | None = None,
    ) -> None:
        """`reconsider` makes the same state of another answer to IKE_SA_INIT. Raises AuthenticationFailed and
        CryptoError where we cannot prove ourselves to this peer. `ticket`: it resumes a session.
        """
        self._policy = config
        self._is_resumed = ticket is not None
        config = config if ticket is None else resumption.as_resumed(config, ticket)
        self._hub = hub
        self.number = number
        self._config = config
        self._sa = sa
        self._initial = initial
        self.path = path
        self._reconsider = reconsider
        self._others: deque[Datagram] = deque(maxlen=_MAX_OTHERS)
        self._callee: Callee | None = None
        """Whom we have called; None before the first answer."""
        grounds = initial.initiator(sa.suite.prf), initial.responder(sa.suite.prf)
        proofs = [(config.local_identity, config.proof), *config.further]
        self._turns = deque(turn_of(hub, who, proof, grounds, initial) for who, proof in proofs)
        """Our proofs, the one under way first."""
        if len(proofs) > 1 and not initial.several:
            raise AuthenticationFailed(
                "the peer takes one proof of us, and not several",
                remedy="Leave out what it does not ask for.",
            )
        self._is_childless = config.childless and initial.childless
        """RFC 6023: the child SA follows when both are authenticated."""
        self._claimed = self._turns[0].identity
        local, remote = self._selectors()
        self._offer = ChildOffer(hub, config.child, local, remote, shared=hub.workers > 1)
        sa.request(ExchangeType.IKE_AUTH, self._payloads(), path, now)

    @property
    def local_spi(self) -> bytes:
        return self._sa.local_spi

    @property
    def deadline(self) -> float | None:
        pending = self._sa.pending
        return None if pending is None else pending.deadline

    def handle_timer(self, now: float) -> State | None:
        pending = self._sa.pending
        if self._others and pending is not None and pending.is_due(now) and pending.tries >= _TRIES_OF_ONE:
            return self._try_another(now) or self
        if self._sa.retransmit(self.path, now):
            return self
        return self._end(
            Farewell(
                Fault.TIMEOUT,
                f"{self.path.remote} answered at first, and then no more",
                f"Check that UDP port {self.path.remote.port} is open on the way, and the peer's log.",
                retry=True,
            )
        )

    def _try_another(self, now: float) -> "AuthSent | None":
        """RFC 7296 section 2.4: the answer that we followed may be forged, and this one the peer's."""
        while self._others:
            following = self._reconsider(self._others.popleft(), now)
            if following is not None:
                following._others = self._others
                self._offer.withdraw()
                return following
        return None

    def receive(self, datagram: Datagram, now: float) -> State | None:
        if datagram.header.exchange == ExchangeType.IKE_SA_INIT:
            if datagram.data != self._initial.response and self._callee is None:
                self._others.append(datagram)
            return self
        received = self._sa.accept(datagram, _EXCHANGES)
        if received is None:
            return self
        if not received.is_response:
            # Nobody may ask us anything before they have proved who they are.
            return self
        try:
            return self._answered(received, now)
        except AuthenticationFailed as error:
            if error.reason is not None:
                self._hub.count_refusal(error)
            # RFC 7296 section 2.21.2
            notify = Notify.of(NotifyType.AUTHENTICATION_FAILED)
            self._sa.notify_once(ExchangeType.INFORMATIONAL, [notify], self.path)
            return self._end(Farewell(Fault.AUTHENTICATION, str(error), error.remedy))
        except PeerError as error:
            self._sa.notify_once(ExchangeType.INFORMATIONAL, [Notify.of(error.notify)], self.path)
            return self._end(Farewell(Fault.PROTOCOL, f"the peer broke the protocol: {error}", error.remedy))

    def close(self, farewell: Farewell) -> None:
        """The peer finds out by itself: we do not know whether it has an IKE SA to delete."""
        self._end(farewell)

    # The request

    def _selectors(self) -> tuple[tuple[TrafficSelector, ...], tuple[TrafficSelector, ...]]:
        config = self._config
        # The responder may give us another address than the one that we ask for, and narrows to what it
        # gives.
        versions = (
            a[-1] if a in ("any4", "any6") else ip_address(a).version for a in config.request_addresses
        )
        hosts = tuple(f"any{version}" for version in versions) or (self.path.local.ip,)
        if config.child.mode is Mode.TRANSPORT:
            hosts = (self.path.local.ip,)
        local = resolve(config.child.local, hosts)
        remote = resolve(config.child.remote, (self.path.remote.ip,))
        if config.child.single_pair:
            first = list(pairs(local, remote))[:1]
            return tuple(ours for ours, _ in first), tuple(theirs for _, theirs in first)
        return local, remote

    def _payloads(self) -> list[Payload]:
        config, turn = self._config, self._turns[0]
        who, *proof = turn.begin()
        payloads: list[Payload] = [who, *auth.requests([config.demand])]
        if self._is_only_contact():
            payloads.append(Notify.of(NotifyType.INITIAL_CONTACT))
        if config.remote_identity is not None:
            payloads.append(IdResponder(config.remote_identity.type, config.remote_identity.data))
        if isinstance(config.demand, ByEap):
            payloads.append(Notify.of(NotifyType.EAP_ONLY_AUTHENTICATION))
        if len(self._turns) > 1:
            payloads.append(Notify.of(NotifyType.MULTIPLE_AUTH_SUPPORTED))
        payloads += [*proof, *self._announcement()]
        if config.request_addresses:
            payloads.append(configuration.request(config.request_addresses))
        payloads += resumption.wish(config)
        moves = mobike.offer(self._hub, self.path) if mobike.is_for(config) else []
        child = [] if self._is_childless else self._offer.payloads(None)
        return [*payloads, *child, *moves]

    def _announcement(self) -> list[Payload]:
        """RFC 4739 section 3.2: beside AUTH, that it is not the last one."""
        follows = len(self._turns) > 1 and self._turns[0].proves
        return [Notify.of(NotifyType.ANOTHER_AUTH_FOLLOWS)] if follows else []

    def _is_only_contact(self) -> bool:
        """Whether we know of no other IKE SA between these two (RFC 7296 section 2.4). Of a user who logs in
        from several hosts, as EAP's may, none of these knows that.
        """
        return not isinstance(self._config.proof, EapClient) and not any(
            c.dialled
            and c.policy.local_identity == self._config.local_identity
            and c.path.remote.ip == self.path.remote.ip
            for c in self._hub.connections.values()
        )

    # The answer

    def _answered(self, received: Received, now: float) -> State | None:
        message = received.message
        error = error_of(message)
        if error is not None and message.get(Authentication) is None and message.get(Eap) is None:
            return self._end(self._refused(error))
        wrong = received.nonsense or breach(message, RESPONSES[self._shape()])
        if wrong is None and critical(message) is not None:
            wrong = "critical payloads in a response"
        if wrong is not None:
            raise PeerError(wrong, notify=NotifyType.INVALID_SYNTAX)
        callee = self._callee = self._callee or self._met(message)
        following = self._turns[0].answered(message, callee)
        if following is None and message.notify(NotifyType.ANOTHER_AUTH_FOLLOWS) is not None:
            raise AuthenticationFailed(
                "the peer means to prove itself twice", remedy="Let it leave out one of its proofs."
            )
        if following is None and len(self._turns) == 1:
            return self._established(message, self._identity(callee), now)
        if following is None:
            self._turns.popleft()
            following = self._turns[0].begin()
        self._sa.request(ExchangeType.IKE_AUTH, [*following, *self._announcement()], self.path, now)
        return self

    def _shape(self) -> Shape:
        """What the response is to look like."""
        if self._callee is not None:
            return self._turns[0].shape
        return Shape.IKE_AUTH if self._turns[0].proves else Shape.EAP_BEGIN

    def _established(self, message: Message, identity: Identity, now: float) -> State | None:
        given = configuration.read_reply(message.get(Configuration), self._config.request_addresses)
        connection = Connection(
            self._hub,
            self.number,
            self._policy,
            Peer(identity, self._initial.nat, self.path.remote.ip),
            self.path,
            now,
            given.addresses,
        )
        connection.claims_nat |= self._initial.claims_nat
        mobike.agree(connection, message)
        reauth.agree(connection, message, now)
        self._hub.dialling.pop(self.number, None)
        connection.current = established = Established(connection, self._sa, now)
        take_token(self._sa, message)
        if self._callee is not None:
            names = self._claimed, self._callee.claimed
            resumption.take_ticket(connection, self._sa, message, names, now)
        there = redirect.redirection(message)
        if there is not None and self._config.follow_redirects:
            self._offer.withdraw()
            return established.close(redirect.departure(self._hub, self._config, there, now), now)
        if self._is_childless and error_of(message) is None:
            return self._without_child(established, given, now)
        try:
            new = self._first_child(message, given.addresses)
        except PeerError as refusal:
            if refusal.notify == NotifyType.SINGLE_PAIR_REQUIRED and split(established):
                self._offer.withdraw()
                self._announce(connection, given)
                return established.advance(now)
            # RFC 7296 section 2.21.2: the IKE SA stands even without; but a tunnel it is not, so we delete
            # it.
            self._offer.withdraw()
            return established.close(self._no_child(refusal), now)
        anonymous = isinstance(self._config.demand, NoDemand)
        self._announce(connection, given.beside(new.child.remote, anonymous=anonymous))
        connection.install(new)
        spread(established, new.child, message)
        established.share()
        return established.advance(now)

    def _without_child(self, established: Established, given: Given, now: float) -> State | None:
        self._offer.withdraw()
        self._announce(established.connection, given)
        if not (self._config.child.single_pair and split(established)):
            established.enqueue(WantedChild(self._config.child))
        return established.advance(now)

    def _first_child(self, message: Message, addresses: tuple[str, ...]) -> NewChild:
        """Raises PeerError. We asked for whatever address there is: what we take is what is for ours."""
        error = error_of(message)
        if error is not None:
            raise PeerError(name_of_notify(error.type), notify=error.type)
        nonces = Nonces(self._initial.nonce_i, self._initial.nonce_r)
        try:
            new = self._offer.accept(message, self._sa, nonces, pfs=False)
        except CryptoError as error:
            raise PeerError(str(error), notify=NotifyType.NO_PROPOSAL_CHOSEN) from error
        if new.child.transport is not None:
            return new
        ours = resolve(self._config.child.local, addresses or (self.path.local.ip,))
        local = narrow(new.child.local, ours)
        if local is None:
            raise PeerError("none of it is for our address", notify=NotifyType.TS_UNACCEPTABLE)
        new.child.local = local
        return new

    def _announce(self, connection: Connection, given: Given) -> None:
        self._hub.emit(
            ConnectionUp(
                self.number,
                initiator=True,
                local_identity=self._config.local_identity,
                remote_identity=connection.peer.identity,
                suite_name=self._sa.suite.name,
                path=connection.path,
                nat=connection.peer.nat,
                resumed=self._is_resumed,
            )
        )
        if given != NOTHING:
            self._hub.emit(given.event(self.number))

    def _met(self, message: Message) -> Callee:
        """The first answer: who the peer is. Raises AuthenticationFailed."""
        who, demand, wanted = message.get(IdResponder), self._config.demand, self._config.remote_identity
        if isinstance(demand, ByEap) and who is not None:
            return Callee(Identity(who.id_type, who.data), None)
        claim = auth.Claim.of(message, IdResponder, self._initial.responder(self._sa.suite.prf))
        return Callee(claim.identity, auth.judge(demand, claim, self._hub.wall_clock, wanted))

    def _identity(self, callee: Callee) -> Identity:
        """Whom we know that we talk to. Raises AuthenticationFailed if that is somebody else than meant."""
        wanted, known = self._config.remote_identity, callee.known or callee.claimed
        if wanted is None or wanted.means(known):
            return known
        if isinstance(self._config.demand, RawKeyOf) and wanted.means(callee.claimed):
            return callee.claimed
        raise AuthenticationFailed(
            f"the peer is {callee.claimed}, not {wanted}",
            remedy=f"Use --remote-id {callee.claimed} if that is right.",
        )

    # The end

    def _end(self, farewell: Farewell) -> State | None:
        self._offer.withdraw()
        # The next try has no ticket, and may well do better.
        again = farewell.retry or self._is_resumed
        self._hub.hang_up(self.number, replace(farewell, retry=again))
        return None

    def _refused(self, notify: Notify) -> Farewell:
        if notify.type == NotifyType.AUTHENTICATION_FAILED:
            return Farewell(
                Fault.AUTHENTICATION,
                f"{self.path.remote} does not accept us as {self._config.local_identity}",
                _remedy(self._config.proof),
                retry=self._initial.ambiguous,
            )
        if notify.type in (NotifyType.NO_PROPOSAL_CHOSEN, NotifyType.TS_UNACCEPTABLE):
            return self._no_child(PeerError(name_of_notify(notify.type), notify=notify.type))
        reason = f"{self.path.remote} refuses us: {name_of_notify(notify.type)}"
        return Farewell(Fault.PROTOCOL, reason, "The peer's log says why.", retry=True)

    def _no_child(self, refusal: PeerError) -> Farewell:
        fault = fault_of(refusal.notify)
        if fault is Fault.PROPOSAL:
            offers = [describe_offer(p) for p in offer_esp(self._config.child.proposals, bytes(4), pfs=False)]
            return Farewell(
                fault,
                f"the peer accepts none of our ESP proposals ({refusal})",
                _lines("Name one that the peer has; its log says what it accepts. We offered:", offers),
            )
        if fault is Fault.SELECTORS:
            local, remote = self._selectors()
            sides = [f"our side    {_list(local)}", f"peer's side {_list(remote)}"]
            return Farewell(
                fault,
                f"the peer shares none of our subnets ({refusal})",
                _lines("Name subnets that the peer has; its log says which. We asked for:", sides),
            )
        if refusal.notify == NotifyType.INTERNAL_ADDRESS_FAILURE:
            remedy = "The peer has no virtual address for us: enlarge its pool, or connect with --vip none."
            return Farewell(fault, f"no virtual address ({refusal})", remedy, retry=True)
        if refusal.notify == NotifyType.FAILED_CP_REQUIRED:
            remedy = "The peer wants to give us a virtual address: connect with --vip any."
            return Farewell(fault, f"the peer insists on a virtual address ({refusal})", remedy)
        return Farewell(fault, f"the peer gives us no child SA: {refusal}", refusal.remedy, retry=True)


def _remedy(proof: Proof) -> str:
    """What to do when the peer does not believe us."""
    match proof:
        case Psk():
            return "Put the same PSK on both sides, and use the identity that the peer knows."
        case SignKey(certificates=()):
            return "Name our public key, as `espudp keygen` prints it, at the peer; its log may say more."
        case SignKey():
            return "Check that the peer trusts our CA and knows our identity; its log may say more."
        case EapClient():
            return "Check the user name and the password; the peer's log may say more."
    return "The peer wants us to prove who we are."


def _lines(head: str, lines: Sequence[str]) -> str:
    return "\n".join([head, *(f"  {line}" for line in lines)])


def _list(selectors: Sequence[TrafficSelector]) -> str:
    return ", ".join(str(s) for s in selectors[:8]) or "none"
