"""An ISAKMP SA after phase 1: it hands messages to their exchanges, by message ID, and keeps their time.

    message ID 0           phase 1 again: our last message got lost
    message ID known       the exchange that has it
    message ID new         quick mode, informational or transaction exchange of the peer's

First come the steps that are left before traffic flows: XAUTH, the connection itself, mode config, quick
mode.
"""

from collections import deque
from collections.abc import Callable, Iterable

from espudp.ike.drop import Drop
from espudp.ike.events import Fault, PeerRefused
from espudp.ike.exchange import patience
from espudp.ike.farewell import Farewell
from espudp.ike.identity import Identity
from espudp.ike.v1.connection import Connection
from espudp.ike.v1.exchange import Exchange
from espudp.ike.v1.hub import Datagram, Hub, Key
from espudp.ike.v1.phase1 import Phase1, Step
from espudp.wire.address import Path
from espudp.wire.ikev1.constants import ExchangeType, ProtocolId
from espudp.wire.ikev1.payloads import Delete

# Our bound on what an authenticated peer makes us keep at a time: more than it takes for both sides to rekey
# as many child SAs at once as a listener lets a peer have.
MAX_EXCHANGES = 128

Handler = Callable[["Established", Datagram, float], None]
"""Takes the first message of an exchange that the peer begins."""

NEVER = float("inf")


class Established:
    """The ISAKMP SA of a connection, or of one that is about to be."""

    def __init__(self, hub: Hub, phase1: Phase1, steps: Iterable[Step], now: float) -> None:
        self.hub = hub
        self.phase1 = phase1
        self.sa = phase1.sa
        self.identity = phase1.remote_identity
        """Whom the peer has proved to be; after XAUTH that is who has logged in."""
        self.refused_until: float | None = None
        """Why the peer does not get a connection has been told, and until then it keeps its place among the
        half-open ones, whatever it says.
        """
        self.connection: Connection | None = None
        """None as long as the peer has not proved all that it is to prove."""
        self.exchanges: dict[int, Exchange] = {}
        self.step: Step | None = None
        """What is being done before traffic flows; None: all of it is done."""
        self._steps = deque(steps)
        self._until = now + self._patience()
        """When all of it must be done."""
        self._handlers = hub.handlers

    def _patience(self) -> float:
        timers = self.sa.timers
        # An initiator has time for a question of its own that stays without an answer.
        return 2 * patience(timers) if self.sa.is_initiator else timers.half_open_timeout

    @property
    def key(self) -> Key:
        return self.sa.key

    @property
    def path(self) -> Path:
        """Where our messages go."""
        return self.phase1.path if self.connection is None else self.connection.path

    @property
    def is_alive(self) -> bool:
        """Whether messages still reach it."""
        return self.hub.states.get(self.key) is self

    # Steps

    def next_step(self, now: float) -> None:
        """The step before is done, or there was none yet."""
        self.step = self._steps.popleft() if self._steps else None
        if self.step is None:
            self._until = NEVER
        else:
            self.step.begin(self, now)
        self.reschedule()

    def skip_steps(self) -> None:
        """All that is left was done long ago: this ISAKMP SA takes the place of another."""
        self._steps.clear()

    def known_as(self, identity: Identity) -> None:
        """Who has logged in by XAUTH."""
        self.identity = identity

    def lives(self, seconds: int) -> None:
        """The peer keeps it no longer than this."""
        known = self.phase1.lifetime_seconds
        if known is None or seconds < known:
            self.phase1.lifetime_seconds = float(seconds)
            if self.connection is not None:
                self.connection.upkeep.phase_1_shortened(self)

    # Messages

    def receive(self, datagram: Datagram, now: float) -> None:
        header = datagram.header
        if not self.sa.cookies.fit(header):
            self.hub.drop(Drop.WRONG_SPI)
        elif not header.message_id:
            # Not compared with the one before: of that, a part that no proof covers may have been damaged.
            self.hub.drop(Drop.REPEATED)
            if header.exchange == self.sa.mode:
                # Our last message may go to another port than the one that it answers came to.
                self.phase1.turn.again(self.path if self.sa.is_initiator else datagram.path)
        elif not header.encrypted:
            self._rumour(now)
        else:
            self._receive(datagram, now)
            if self.sa.is_worn and self.connection is not None:
                self.connection.upkeep.phase_1_is_worn(self, now)
            self.reschedule()

    def _receive(self, datagram: Datagram, now: float) -> None:
        message_id, kind = datagram.header.message_id, datagram.header.exchange
        exchange = self.exchanges.get(message_id)
        if exchange is not None:
            exchange.receive(datagram, now)
            self._sweep(message_id)
            return
        handler = self._handlers.get(kind)
        if self.sa.is_used(message_id):
            self.hub.drop(Drop.REPEATED)
        elif handler is None or (kind == ExchangeType.QUICK and self.connection is None):
            self.hub.drop(Drop.WRONG_EXCHANGE)
        elif kind != ExchangeType.INFORMATIONAL and not self._has_room():
            self.hub.drop(Drop.EXCHANGES)
        else:
            handler(self, datagram, now)

    def _rumour(self, now: float) -> None:
        """Anybody can say that the peer knows nothing of this any more: we ask it."""
        self.hub.drop(Drop.UNPROTECTED)
        if self.connection is not None and self.hub.rumours.take(now):
            self.connection.check_alive(now)

    # Exchanges

    def _has_room(self) -> bool:
        """For one more that the peer begins. Of an informational exchange nothing is kept."""
        return len(self.exchanges) < MAX_EXCHANGES or self._oldest_finished() is not None

    def _oldest_finished(self) -> Exchange | None:
        return next((e for e in self.exchanges.values() if e.finished), None)

    def add(self, exchange: Exchange) -> None:
        """Messages with its message ID go to it from now on."""
        if len(self.exchanges) >= MAX_EXCHANGES and (oldest := self._oldest_finished()) is not None:
            self.drop(oldest)
        self.exchanges[exchange.message_id] = exchange
        self.reschedule()

    def drop(self, exchange: Exchange) -> None:
        """It is forgotten."""
        if self.exchanges.get(exchange.message_id) is exchange:
            del self.exchanges[exchange.message_id]
            self.reschedule()

    def _sweep(self, message_id: int) -> None:
        exchange = self.exchanges.get(message_id)
        if exchange is not None and exchange.over:
            del self.exchanges[message_id]

    # Time

    @property
    def deadline(self) -> float | None:
        times = [e.deadline for e in self.exchanges.values()]
        first = min((t for t in times if t is not None), default=NEVER)
        first = min(first, self._until)
        return None if first == NEVER else first

    def handle_timer(self, now: float) -> None:
        if now >= self._until:
            self._too_late(now)
            return
        for message_id, exchange in list(self.exchanges.items()):
            if self.exchanges.get(message_id) is exchange:
                if exchange.deadline is not None and now >= exchange.deadline:
                    exchange.handle_timer(now)
                self._sweep(message_id)
        if self.is_alive:
            self.reschedule()

    def reschedule(self) -> None:
        """To be called after whatever may have changed a deadline."""
        if self.is_alive:
            self.hub.reschedule(self)

    def _too_late(self, now: float) -> None:
        self._until = NEVER
        if self.step is None:
            self.gone(now)
            return
        who = "the peer lets us wait" if self.sa.is_initiator else f"{self.identity} has waited"
        what = "to log in" if self.connection is None else "to go on"
        self.fail(Farewell(Fault.TIMEOUT, f"{who} too long {what} after phase 1", retry=True), now)

    # The end

    def fail(self, farewell: Farewell, now: float) -> None:
        """Ends the connection, or what was to become one; the peer is told."""
        connection = self.connection
        if connection is not None:
            connection.close(farewell, now)
            return
        if not self.is_alive:
            return
        if self.refused_until is not None and now < self.refused_until:
            self._until = self.refused_until
            self.reschedule()
            return
        self._say_delete()
        self.gone(now)
        phase1 = self.phase1
        if phase1.replaces is not None and self.sa.is_initiator:
            phase1.replaces.renewal_failed(farewell, now)
        elif phase1.number is not None:
            self.hub.hang_up(phase1.number, farewell)
        elif self.refused_until is None:
            self.hub.tell_refusal(PeerRefused(phase1.path, farewell.reason, farewell.remedy), now)

    def retire(self, now: float) -> None:
        """Another ISAKMP SA has taken its place: the peer is told, and it answers repetitions for a while."""
        self._say_delete()
        self.step = None
        self._until = now + patience(self.sa.timers)
        self.reschedule()

    def gone(self, now: float) -> None:
        """It is forgotten at once, as it is by the peer. What becomes of the connection is not said here."""
        for exchange in list(self.exchanges.values()):
            exchange.abandon()
        self.exchanges.clear()
        self.hub.discard(self)
        if self.connection is not None:
            self.connection.upkeep.isakmp.forget(self)

    def _say_delete(self) -> None:
        """RFC 2408 section 3.15: an ISAKMP SA is named by both cookies."""
        delete = Delete(ProtocolId.ISAKMP, (self.sa.cookie_i + self.sa.cookie_r,))
        chain = self.sa.chain(self.sa.new_message_id())
        octets = chain.seal_hashed(ExchangeType.INFORMATIONAL, [delete])
        for piece in self.sa.fragmented(octets, self.path):
            self.hub.send(piece, self.path)
