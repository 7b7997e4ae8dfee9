"""Quick mode as the one who is asked (RFC 2409 section 5.5).

    HASH(1), SA, Ni, ...  -->  inbound installed, HASH(2) sent  -- HASH(3) -->  outbound too

Until HASH(3) is there, the request may be a replay, and whoever sent it has nothing: so nothing is sent on
the new child SA before, unless something arrives on it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from espudp.crypto.dh import generate
from espudp.crypto.ikev1keys import hash_1, hash_2, hash_3
from espudp.errors import BadPublicValue, PeerError
from espudp.ike.config import ChildConfig
from espudp.ike.drop import Drop
from espudp.ike.events import PeerRefused
from espudp.ike.narrowing import describe_no_common
from espudp.ike.v1 import informational
from espudp.ike.v1.child import Child, NewChild, Nonces, Selectors, Traffic, keyed
from espudp.ike.v1.client_ids import at, is_name, refused, selector_of
from espudp.ike.v1.esp_proposals import TRANSPORT_MODES, EspChoice, describe_mismatch, select_esp
from espudp.ike.v1.hub import Datagram
from espudp.ike.v1.life import DEFAULT_SECONDS, Life
from espudp.ike.v1.quick import (
    NONCE_OCTETS,
    Quick,
    Said,
    kept,
    modes_taken,
    original_addresses,
    proved,
    read,
    transport_of,
    worker_for,
)
from espudp.ike.v1.sa import Chain
from espudp.wire.buffer import Writer
from espudp.wire.ikev1.attributes import emit_attributes
from espudp.wire.ikev1.constants import ExchangeType, NotifyType, ProtocolId
from espudp.wire.ikev1.message import Message, emit_payloads
from espudp.wire.ikev1.payloads import (
    Hash,
    Identification,
    KeyExchange,
    Nonce,
    Notification,
    Payload,
    SecurityAssociation,
)
from espudp.wire.selectors import TrafficSelector
from espudp.wire.transport import Mode, Transport

if TYPE_CHECKING:
    from espudp.ike.v1.connection import Connection
    from espudp.ike.v1.established import Established


def answer_quick(established: "Established", datagram: Datagram, now: float) -> None:
    """The first message of a quick mode of the peer's, if it is one."""
    sa, connection = established.sa, established.connection
    chain = sa.chain(datagram.header.message_id)
    message = chain.open(datagram)
    if message is None or connection is None or not connection.alive:
        return
    if not proved(message, hash_1(sa.suite.hash, sa.keys.a, chain.message_id, message.after_hash)):
        established.hub.drop(Drop.BAD_ICV)
        return
    chain.advance(datagram)
    connection.heard(datagram.path, now)
    try:
        exchange = QuickResponder(established, chain, connection)
        exchange.answer(message, datagram, now)
    except PeerError as error:
        RefusedQuick(established, chain).answer(message, datagram, error, now)
        _tell(established, connection, error, now)


def _tell(established: "Established", connection: "Connection", error: PeerError, now: float) -> None:
    """Now and then: the peer can ask as often as it likes. What its user sees refers to our log."""
    if not connection.dialled:
        reason = f"{connection.peer.identity}: {error}"
        established.hub.tell_refusal(PeerRefused(connection.path, reason, error.remedy), now)
    elif established.hub.common.complaints.take(now):
        connection.note(f"refused the peer's request for a child SA: {error}")
        for line in error.remedy.splitlines():
            connection.note(line)


@dataclass(frozen=True, slots=True)
class _Agreed:
    """What a request comes to."""

    config: ChildConfig
    choice: EspChoice
    traffic: Traffic
    local: Selectors
    remote: Selectors
    transport: Transport | None


class QuickResponder(Quick):
    """The peer's."""

    def __init__(self, established: "Established", chain: Chain, connection: "Connection") -> None:
        super().__init__(established, chain)
        self._phase1 = established.phase1
        self._hosts = connection.hosts
        self._nonces = Nonces(b"", b"")
        self._former: list[Child] = []
        self._child: Child | None = None

    def answer(self, message: Message, datagram: Datagram, now: float) -> None:
        """Raises PeerError, and then nothing is left of it."""
        connection = self.connection
        if connection is None:
            return
        said = read(message, self._phase1.flavour)
        agreed = self._agree(connection, said)
        former = connection.alike(agreed.traffic)
        if not connection.has_room(rekey=bool(former)):
            raise PeerError("no more child SAs for this peer", notify=NotifyType.NO_PROPOSAL_CHOSEN)
        self._nonces = Nonces(said.nonce, self.established.hub.nonce(NONCE_OCTETS))
        shared, key_exchange = self._exchanged(agreed.choice, said.key_exchange)
        new, told = self._make(agreed, shared, now)
        rest: list[Payload] = [
            SecurityAssociation.of(agreed.choice.to_wire(new.child.spi_in_octets)),
            Nonce(self._nonces.responder),
            *key_exchange,
            *(said.ids or ()),
            *told,
        ]
        if agreed.transport is not None:
            ends = agreed.transport.local, agreed.transport.remote
            rest += original_addresses(self._phase1, *ends, is_initiator=False)
        # Ready to receive on it before the answer leaves.
        self._former, self._child = former, new.child
        connection.install(new, now, replaces=former, standby=True)
        self._reply(rest, datagram, now)

    def _reply(self, rest: list[Payload], datagram: Datagram, now: float) -> None:
        sa, after_hash = self.sa, emit_payloads(rest)[1]
        proof = hash_2(sa.suite.hash, sa.keys.a, self.message_id, self._nonces.initiator, after_hash)
        octets = self._chain.seal(ExchangeType.QUICK, [Hash(proof), *rest])
        self._turn.say(octets, self.established.path, now, answers=datagram, awaits=True)
        self.established.add(self)

    # What it comes to

    def _agree(self, connection: "Connection", said: Said) -> _Agreed:
        """The first of the configurations that allows it: that of a child SA that there is, or that of the
        connection. Raises PeerError.
        """
        policy = connection.policy.child
        configs = dict.fromkeys([policy, *(child.config for child in connection.children.values())])
        refusal: PeerError | None = None
        for config in configs:
            try:
                return self._agree_to(connection, config, said)
            except PeerError as error:
                refusal = refusal or error
        raise refusal or refused("nothing is allowed here")

    def _agree_to(self, connection: "Connection", config: ChildConfig, said: Said) -> _Agreed:
        choice = self._choose(config, said)
        transport = choice.terms.mode in TRANSPORT_MODES
        traffic = self._traffic(said.ids, transport=transport)
        local, remote = connection.resolved(config)
        ours = connection.served(traffic.local, config)
        if not ours or not any(s.contains(traffic.remote) for s in remote):
            raise PeerError(
                "no common subnet",
                notify=NotifyType.INVALID_ID_INFORMATION,
                remedy=describe_no_common((traffic.local,), (traffic.remote,), local, remote),
            )
        if not transport:
            return _Agreed(config, choice, traffic, ours, connection.carried(traffic.remote), None)
        seen = transport_of(self._phase1, self._hosts, said.original, is_initiator=False)
        former = connection.same_flow(traffic)
        if former is not None:
            traffic, seen = former.traffic, kept(seen, former.transport)
        return _Agreed(config, choice, traffic, (traffic.local,), (traffic.remote,), seen)

    def _choose(self, config: ChildConfig, said: Said) -> EspChoice:
        modes = modes_taken(self._phase1, transport=False)
        if config.mode is Mode.TRANSPORT:
            modes = (*modes_taken(self._phase1, transport=True), *modes)
        choice = select_esp(
            said.proposals,
            config.proposals,
            # RFC 2407 section 4.5: where none is named, it is for the host to say which one is meant.
            modes=(*modes, None),
            with_key_exchange=said.key_exchange is not None,
        )
        if choice is None:
            raise PeerError(
                "no common ESP proposal",
                notify=NotifyType.NO_PROPOSAL_CHOSEN,
                remedy=describe_mismatch(said.proposals, config.proposals, modes),
            )
        return choice

    def _traffic(self, ids: tuple[Identification, Identification] | None, *, transport: bool) -> Traffic:
        """What the identifiers stand for: theirs is the initiator's. Raises PeerError."""
        here, there = self._hosts
        if ids is None:
            # RFC 2409 section 5.5: the two peers themselves.
            anything = Identification(0, b"")
            return Traffic(at(anything, here), at(anything, there), transport)
        theirs, ours = ids
        if not transport:
            return Traffic(selector_of(ours), selector_of(theirs))
        nat = self._phase1.nat
        return Traffic(
            _of_host(ours, here, behind_nat=nat.local), _of_host(theirs, there, behind_nat=nat.remote), True
        )

    def _exchanged(self, choice: EspChoice, key_exchange: bytes | None) -> tuple[bytes, list[Payload]]:
        if choice.terms.group is None or key_exchange is None:
            return b"", []
        pair = generate(choice.terms.group, self.established.hub.rng)
        return pair.shared_secret(key_exchange), [KeyExchange(pair.public)]

    def _make(self, agreed: _Agreed, shared: bytes, now: float) -> tuple[NewChild, list[Payload]]:
        """The child SA, and what the peer is told of its lifetime."""
        choice, ours = agreed.choice, Life.of(agreed.config.lifetime)
        offered = choice.terms.life
        if offered == Life():
            offered = Life(DEFAULT_SECONDS)
        life = offered.within(ours)
        child = Child(
            self.established.hub.child_spis.draw(worker_for(self._phase1)),
            int.from_bytes(choice.peer_spi),
            choice.terms.suite,
            agreed.traffic,
            agreed.local,
            agreed.remote,
            agreed.config,
            life,
            now,
            group=choice.terms.group,
            transport=agreed.transport,
            confirmed=False,
        )
        told: list[Payload] = [] if life == offered else [_responder_lifetime(child)]
        return keyed(self.sa, child, self._nonces, shared), told

    # Messages

    def receive(self, datagram: Datagram, now: float) -> None:
        if self._turn.repeats(datagram):
            return
        if self.finished or self.connection is None or datagram.header.exchange != ExchangeType.QUICK:
            self.established.hub.drop(Drop.REPEATED)
            return
        message, sa = self._chain.open(datagram), self.sa
        if message is None:
            return
        nonces = self._nonces
        proof = hash_3(sa.suite.hash, sa.keys.a, self.message_id, nonces.initiator, nonces.responder)
        if not proved(message, proof):
            self.established.hub.drop(Drop.BAD_ICV)
            return
        self._chain.advance(datagram)
        self.connection.heard(datagram.path, now)
        self._ready(now)

    def _ready(self, now: float) -> None:
        """The peer has it."""
        if self._child is not None and self.connection is not None:
            self.connection.confirm(self._child)
            self.connection.upkeep.replaced_by_peer(self._former, self._child, now)
        self._finish(now)

    def handle_timer(self, now: float) -> None:
        if not self.finished and self._child is not None and self._child.confirmed:
            # RFC 2408 section 3.1: what has come on it says as much as the message that has not.
            self._ready(now)
        else:
            super().handle_timer(now)

    def _unanswered(self, now: float) -> None:
        """The peer may have lost our answer, or its interest."""
        self._end()
        if self._child is not None and self.connection is not None:
            self.connection.upkeep.delete_children([self._child], now)

    def abandon(self) -> None:
        """The ISAKMP SA goes. What the peer sends on the child SA will show that it has it."""
        self._end()
        if self._child is not None:
            self._child.confirmed = True


class RefusedQuick(Quick):
    """The peer's, of which nothing came. It has proved itself, so it is told what is wrong, and once more
    whenever it asks the same again: what tells it so is a message that nobody answers.
    """

    def answer(self, message: Message, datagram: Datagram, error: PeerError, now: float) -> None:
        offer = message.get(SecurityAssociation)
        spi = offer.proposals[0].spi if offer is not None and offer.proposals else b""
        notify = NotifyType.INVALID_KEY_INFORMATION if isinstance(error, BadPublicValue) else error.notify
        octets = informational.sealed(self.established, informational.refusal(notify, spi))
        self._turn.say(octets, self.established.path, now, answers=datagram)
        self._finish(now)
        self.established.add(self)

    def receive(self, datagram: Datagram, now: float) -> None:
        if not self._turn.repeats(datagram):
            self.established.hub.drop(Drop.REPEATED)

    def _unanswered(self, now: float) -> None:
        self._end()

    def abandon(self) -> None:
        self._end()


def _of_host(identification: Identification, address: str, *, behind_nat: bool) -> TrafficSelector:
    """Transport mode is between the two hosts. Behind a NAT a host tells an address that only it knows, or
    its name; here it is the outer one.
    """
    if behind_nat or is_name(identification):
        return at(identification, address)
    named = selector_of(identification)
    if named != at(identification, address):
        raise refused(f"transport mode for {named}, which is not {address}")
    return named


def _responder_lifetime(child: Child) -> Notification:
    """RFC 2407 section 4.6.3.1: it is shorter than the peer has offered."""
    writer = Writer()
    emit_attributes(writer, tuple(child.life.attributes()))
    return Notification(ProtocolId.ESP, child.spi_in_octets, NotifyType.RESPONDER_LIFETIME, writer.getvalue())
