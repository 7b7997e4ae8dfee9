"""Quick mode as the one who asks (RFC 2409 section 5.5).

sent       -- HASH(2), SA, Nr, ...  -->  installed, HASH(3) sent  -->  finished
sent       -- a notification        -->  refused: another group, or nothing
installed, and the peer has set the commit bit: finished when it says CONNECTED (RFC 2408 section 3.1)
"""

from typing import TYPE_CHECKING

from espudp.crypto.dh import KeyPair, generate
from espudp.crypto.ikev1keys import hash_1, hash_2, hash_3
from espudp.crypto.suites import Dh
from espudp.errors import BadPublicValue, ConfigError, PeerError
from espudp.ike.drop import Drop
from espudp.ike.events import Fault
from espudp.ike.farewell import Farewell
from espudp.ike.v1 import informational
from espudp.ike.v1.child import Child, NewChild, Nonces, keyed
from espudp.ike.v1.client_ids import identification_of, refused, selector_of
from espudp.ike.v1.esp_proposals import EspChoice, groups_of, offer_esp, takes, verify_esp
from espudp.ike.v1.hub import Datagram
from espudp.ike.v1.life import Life, life_told
from espudp.ike.v1.quick import (
    NONCE_OCTETS,
    Quick,
    Said,
    kept,
    mode_of,
    original_addresses,
    proved,
    read,
    transport_of,
    worker_for,
)
from espudp.wire.ikev1.constants import ExchangeType, NotifyType, ProtocolId, name_of_notify
from espudp.wire.ikev1.message import Message, emit_payloads
from espudp.wire.ikev1.payloads import (
    Delete,
    Hash,
    KeyExchange,
    Nonce,
    Notification,
    Payload,
    SecurityAssociation,
)
from espudp.wire.selectors import TrafficSelector
from espudp.wire.transport import Transport

if TYPE_CHECKING:
    from espudp.ike.v1.established import Established
    from espudp.ike.v1.upkeep import Wish

# Our bound: how many groups are tried on a peer that says no without saying why.
_MAX_GROUPS = 4

# What a peer says that would have agreed to another group, or to none.
_ABOUT_PROPOSALS = frozenset(
    {
        NotifyType.NO_PROPOSAL_CHOSEN,
        NotifyType.BAD_PROPOSAL_SYNTAX,
        NotifyType.ATTRIBUTES_NOT_SUPPORTED,
        NotifyType.INVALID_KEY_INFORMATION,
        NotifyType.INVALID_TRANSFORM_ID,
    }
)


class StartChildren:
    """The last step before traffic flows."""

    def begin(self, established: "Established", now: float) -> None:
        if established.connection is not None:
            established.connection.upkeep.start(now)
            if established.connection.alive:
                established.next_step(now)


def begin(established: "Established", wish: "Wish", now: float) -> None:
    """Starts one. Raises ConfigError for what IKEv1 cannot say."""
    groups = _groups(established, wish)
    if not groups:
        raise ConfigError(
            "IKEv1 has no numbers for any of the ESP proposals",
            field="esp-proposal",
            remedy="Name others: aes256gcm16, aes256-sha256, aes128-sha1, with groups such as modp2048.",
        )
    exchange = QuickInitiator(established, wish, groups[0], now)
    exchange.start(now)


def unanswered(established: "Established") -> "list[QuickInitiator]":
    """Our quick modes that have no answer yet."""
    ours = (e for e in established.exchanges.values() if isinstance(e, QuickInitiator))
    return [exchange for exchange in ours if not exchange.finished]


def _groups(established: "Established", wish: "Wish") -> list[Dh | None]:
    """What is worth trying, best first: what the peer has had before, none where that is allowed, the group
    of phase 1.
    """
    proposals = wish.config.proposals
    named = groups_of(proposals)
    known = [c.group for c in wish.replaces if any(takes(proposal, c.group) for proposal in proposals)]
    of_phase_1 = [group for group in named if group == established.sa.suite.dh]
    optional = [group for group in named if group is None]
    ordered = list(dict.fromkeys([*known, *optional, *of_phase_1, *named]))[:_MAX_GROUPS]
    return [group for group in ordered if group not in wish.refused]


class QuickInitiator(Quick):
    """Ours."""

    def __init__(self, established: "Established", wish: "Wish", group: Dh | None, now: float) -> None:
        super().__init__(established, established.sa.chain(established.sa.new_message_id()))
        self._wish = wish
        self._group = group
        self._began_at = now
        self._pair: KeyPair | None = None if group is None else generate(group, established.hub.rng)
        self._nonce = established.hub.nonce(NONCE_OCTETS)
        self._mode = mode_of(established.phase1, transport=wish.traffic.transport)
        self._spi = established.hub.child_spis.draw(worker_for(established.phase1))
        self._made: Child | None = None
        """What waits for the peer to say CONNECTED."""

    @property
    def spi_octets(self) -> bytes:
        """As our proposal has it."""
        return self._spi.to_bytes(4)

    def start(self, now: float) -> None:
        """Sends the first message."""
        try:
            rest = self._request()
        except ConfigError:
            self.established.hub.child_spis.free(self._spi)
            raise
        proof = hash_1(self.sa.suite.hash, self.sa.keys.a, self.message_id, emit_payloads(rest)[1])
        octets = self._chain.seal(ExchangeType.QUICK, [Hash(proof), *rest])
        self._turn.say(octets, self.established.path, now, awaits=True)
        self.established.add(self)

    def _request(self) -> list[Payload]:
        config, traffic = self._wish.config, self._wish.traffic
        offer = offer_esp(
            config.proposals,
            self.spi_octets,
            group=self._group,
            mode=self._mode,
            life=Life.of(config.lifetime),
        )
        rest: list[Payload] = [SecurityAssociation.of(offer), Nonce(self._nonce)]
        if self._pair is not None:
            rest.append(KeyExchange(self._pair.public))
        rest += [identification_of(traffic.local), identification_of(traffic.remote)]
        if traffic.transport:
            ends = str(traffic.local.first), str(traffic.remote.first)
            rest += original_addresses(self.established.phase1, *ends, is_initiator=True)
        return rest

    # Messages

    def receive(self, datagram: Datagram, now: float) -> None:
        if self._turn.repeats(datagram):
            return
        if self.finished or self.connection is None:
            self.established.hub.drop(Drop.REPEATED)
        elif self._made is not None:
            self._connected(datagram, now)
        elif datagram.header.exchange == ExchangeType.QUICK:
            self._answer(datagram, now)
        else:
            self._notified(datagram, now)

    def _answer(self, datagram: Datagram, now: float) -> None:
        message, sa = self._chain.open(datagram), self.sa
        if message is None:
            return
        proof = hash_2(sa.suite.hash, sa.keys.a, self.message_id, self._nonce, message.after_hash)
        if not proved(message, proof):
            self.established.hub.drop(Drop.BAD_ICV)
            return
        self._heard(datagram, now)
        try:
            said = read(message, self.established.phase1.flavour)
            new = self._accept(said, message, now)
        except PeerError as error:
            self._useless(error, now)
            return
        self._install(new, said, datagram, now)

    def _heard(self, datagram: Datagram, now: float) -> None:
        self._chain.advance(datagram)
        self._turn.heard()
        if self.connection is not None:
            self.connection.heard(datagram.path, now)

    def _accept(self, said: Said, message: Message, now: float) -> NewChild:
        """Checks that the answer is one of the things that we offered. Raises PeerError."""
        wish, connection = self._wish, self.connection
        choice = verify_esp(said.proposals, wish.config.proposals, group=self._group, mode=self._mode)
        if choice is None or connection is None:
            raise PeerError(
                "the peer chose a child SA that we did not offer",
                notify=NotifyType.NO_PROPOSAL_CHOSEN,
                remedy="Name one ESP proposal that both sides have.",
            )
        local, remote = self._sides(said)
        in_tunnel = not wish.traffic.transport
        child = Child(
            self._spi,
            int.from_bytes(choice.peer_spi),
            choice.terms.suite,
            wish.traffic,
            (in_tunnel and connection.served(local, wish.config)) or (local,),
            connection.carried(remote) if in_tunnel else (remote,),
            wish.config,
            _life(wish, choice, message),
            now,
            group=self._group,
            transport=self._transport(said, connection.hosts),
        )
        nonces = Nonces(self._nonce, said.nonce)
        return keyed(self.sa, child, nonces, self._shared(said.key_exchange))

    def _transport(self, said: Said, hosts: tuple[str, str]) -> Transport | None:
        if not self._wish.traffic.transport:
            return None
        former = next((child.transport for child in self._wish.replaces), None)
        return kept(transport_of(self.established.phase1, hosts, said.original, is_initiator=True), former)

    def _sides(self, said: Said) -> tuple[TrafficSelector, TrafficSelector]:
        """What both mean. In transport mode each side names addresses as it sees them; no identifiers at all
        are found where all is as we asked.
        """
        traffic = self._wish.traffic
        if said.ids is None or traffic.transport:
            return traffic.local, traffic.remote
        local, remote = selector_of(said.ids[0]), selector_of(said.ids[1])
        if not (traffic.local.contains(local) and traffic.remote.contains(remote)):
            raise refused(f"the peer chose subnets that we did not offer: {local} here, {remote} there")
        return local, remote

    def _shared(self, key_exchange: bytes | None) -> bytes:
        if (self._pair is None) != (key_exchange is None):
            raise PeerError(
                "the peer's answer does not fit its choice of a group",
                notify=NotifyType.INVALID_KEY_INFORMATION,
            )
        return b"" if self._pair is None or key_exchange is None else self._pair.shared_secret(key_exchange)

    def _install(self, new: NewChild, said: Said, datagram: Datagram, now: float) -> None:
        connection, sa = self.connection, self.sa
        if connection is None:
            return
        commit = datagram.header.commit
        new.child.confirmed = not commit
        # The peer has it once our last message is there: until then the one before is not yet out of use.
        former = [c for c in self._wish.replaces if c.spi_in in connection.children]
        connection.install(new, now, replaces=former, standby=commit or bool(former))
        proof = hash_3(sa.suite.hash, sa.keys.a, self.message_id, self._nonce, said.nonce)
        octets = self._chain.seal(ExchangeType.QUICK, [Hash(proof)])
        self._turn.say(octets, self.established.path, now, answers=datagram, awaits=commit)
        if commit:
            self._made = new.child
            self.established.reschedule()
        else:
            self._finish(now)
        connection.upkeep.fulfilled(self._wish, new.child, now)

    def _connected(self, datagram: Datagram, now: float) -> None:
        """RFC 2408 section 3.1: an informational exchange with our message ID, so an IV of its own; others
        send it as a fourth message of quick mode.
        """
        quick = datagram.header.exchange == ExchangeType.QUICK
        chain = self._chain if quick else self.sa.chain(self.message_id)
        message = chain.open_hashed(datagram)
        if message is not None and message.notify(NotifyType.CONNECTED) is not None:
            self._go_on(now)

    def _go_on(self, now: float) -> None:
        if self._made is not None and self.connection is not None:
            self.connection.confirm(self._made)
        self._made = None
        self._finish(now)

    # Refusals

    def _notified(self, datagram: Datagram, now: float) -> None:
        """A notification with our message ID."""
        message = self.sa.chain(self.message_id).open_hashed(datagram)
        for notify in () if message is None else message.all(Notification):
            if notify.is_error:
                self.refused(notify.type, now)

    def refused(self, notify: int, now: float) -> None:
        """The peer does not want what we ask for. It may with another group."""
        if self.finished or self._made is not None or self.connection is None:
            return
        upkeep, wish = self.connection.upkeep, self._wish
        self._withdraw()
        if notify in _ABOUT_PROPOSALS:
            wish.refused.add(self._group)
            if _groups(self.established, wish):
                begin(self.established, wish, now)
                return
        upkeep.failed(wish, _no_child(wish, notify, name_of_notify(notify)), now)

    def _useless(self, error: PeerError, now: float) -> None:
        """The peer has a child SA now that we do not: it is deleted there."""
        notify = NotifyType.INVALID_KEY_INFORMATION if isinstance(error, BadPublicValue) else error.notify
        informational.send(self.established, informational.refusal(notify, self.spi_octets))
        informational.send(self.established, [Delete(ProtocolId.ESP, (self.spi_octets,))])
        connection = self.connection
        self._withdraw()
        if connection is not None:
            connection.upkeep.failed(self._wish, _no_child(self._wish, notify, str(error)), now)

    def _withdraw(self) -> None:
        """Nothing came of it."""
        self._end()
        self.established.hub.child_spis.free(self._spi)
        self.established.drop(self)

    def _unanswered(self, now: float) -> None:
        if self._made is not None:
            # The peer never said CONNECTED; it has our last message nine times, and may as well be ready.
            self._go_on(now)
            return
        connection = self.connection
        self._withdraw()
        if connection is not None:
            connection.upkeep.unanswered(self._wish, self.established, self._began_at, now)

    def abandon(self) -> None:
        """The ISAKMP SA goes: there will be no answer."""
        connection, made = self.connection, self._made
        if self.finished:
            return
        self._end()
        if made is None:
            self.established.hub.child_spis.free(self._spi)
        if connection is None:
            return
        if made is not None:
            connection.confirm(made)
        else:
            connection.upkeep.abandoned(self._wish, self._began_at)


def _no_child(wish: "Wish", notify: int, reason: str) -> Farewell:
    """What it means to the user who dialled that there is no child SA."""
    if notify == NotifyType.INVALID_ID_INFORMATION:
        traffic = wish.traffic
        sides = f"our side    {traffic.local}\npeer's side {traffic.remote}"
        remedy = f"Name subnets that the peer has; its log says which. We asked for:\n{sides}"
        return Farewell(Fault.SELECTORS, f"the peer shares none of our subnets ({reason})", remedy)
    if notify in _ABOUT_PROPOSALS:
        offers = "\n".join(map(str, wish.config.proposals))
        remedy = f"Name one that the peer has; its log says what it accepts. We offered:\n{offers}"
        return Farewell(Fault.PROPOSAL, f"the peer accepts none of our ESP proposals ({reason})", remedy)
    return Farewell(Fault.PROTOCOL, f"the peer gives us no child SA: {reason}", retry=True)


def _life(wish: "Wish", choice: EspChoice, message: Message) -> Life:
    """The shortest of what we offered, what came back, and what the responder says that it keeps to
    (RFC 2407 section 4.5.4).
    """
    agreed = Life.of(wish.config.lifetime).within(choice.terms.life)
    notify = message.notify(NotifyType.RESPONDER_LIFETIME)
    told = None if notify is None else life_told(notify)
    return agreed if told is None else agreed.within(told)
