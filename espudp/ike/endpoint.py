"""IKE with many peers: finds the IKE SA that a message is for, and keeps one timer for all of them.

Sans-IO. Four kinds of method: commands; `receive_datagram` and what ESP noticed (`note_inbound`, `move`);
one timer (`poll_timer`, `handle_timer`); and the drains `datagrams_to_send` and `next_event`, to be emptied
after each of the others. `now` is in seconds, monotonic. Nothing that arrives raises; whatever is wrong with
it is counted in `drops`.

    datagram --> header --> our SPI --> state --> the state that follows
                   |           +-- unknown: counted, and answered now and then
                   +-- IKE_SA_INIT request --> Doorkeeper
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from espudp.crypto.random import Rng
from espudp.errors import ConfigError, CryptoError, WireError
from espudp.ike import encapsulation
from espudp.ike.commons import REFUSALS_AT_ONCE, REFUSALS_PER_SECOND
from espudp.ike.config import ChildConfig, ConnectionConfig, ListenerConfig
from espudp.ike.credentials import WallClock
from espudp.ike.drop import Drop
from espudp.ike.eap.passthrough import BackendAnswer
from espudp.ike.events import Event, Fault, PeerRefused
from espudp.ike.farewell import Farewell
from espudp.ike.keylog import KeyLog
from espudp.ike.snapshot import ConnectionSnapshot
from espudp.ike.tickets import Ticket
from espudp.ike.v2.auth_initiator import AuthSent
from espudp.ike.v2.auth_responder import AwaitAuth
from espudp.ike.v2.child_exchange import CreateChild
from espudp.ike.v2.crash import connection_that_lost, hasten, invalid_spi, token_for_stranger
from espudp.ike.v2.established import Established
from espudp.ike.v2.hub import NO_SPI, Datagram, Hub, State
from espudp.ike.v2.informational import CheckAlive
from espudp.ike.v2.init_responder import Doorkeeper
from espudp.ike.v2.initiator import InitSent
from espudp.ike.v2.mobike import local_addresses_changed
from espudp.ike.v2.reauth import Succession
from espudp.ike.v2.redirect import SendElsewhere, may_be_sent
from espudp.ike.v2.resume_initiator import ResumeSent
from espudp.ike.v2.snapshot import snapshot_of
from espudp.timing import TokenBucket
from espudp.wire.address import Path, UdpAddress
from espudp.wire.buffer import Buffer
from espudp.wire.ikev2.constants import MAJOR_VERSION, ExchangeType, NotifyType
from espudp.wire.ikev2.header import SPI_OCTETS, Header
from espudp.wire.ikev2.message import emit_message
from espudp.wire.ikev2.payloads import Notify
from espudp.wire.ikev2.redirect import is_gateway

if TYPE_CHECKING:
    from espudp.ike.v1.negotiator import Negotiator

# RFC 2408 section 3.1
IKEV1 = 1
IKEV1_REMEDY = "To let such peers in, add --ikev1 main."

_CLOSED_BY_US = Farewell(Fault.LOCAL_REQUEST, "closed")


class Endpoint:
    """Any number of connections that we dial, and, with a listener, that others dial.

    `rng` is the source of all randomness. `key_log` gets every key, and is for tests that decrypt a capture.
    `workers`: how many there are to give child SAs to; see v2/resources.py. `wall_clock` tells the time that
    certificates are judged by; who uses none needs none. `path_mtus`: the largest IP packet, in octets, that
    is known to get to an address; None: nobody knows. `plain_esp`: whether ESP without UDP can be sent and
    received, too.
    """

    def __init__(
        self,
        rng: Rng,
        *,
        listener: ListenerConfig | None = None,
        key_log: KeyLog | None = None,
        workers: int = 1,
        wall_clock: WallClock | None = None,
        path_mtus: Callable[[str], int | None] = lambda _: None,
        plain_esp: bool = False,
    ) -> None:
        """Raises ConfigError for a pool without room, without a worker, and for ESP that cannot be sent."""
        if workers < 1:
            raise ConfigError("no worker at all", field="workers", remedy="One is enough.")
        if listener is not None:
            encapsulation.check(listener.encap, plain_esp=plain_esp)
        self._hub = Hub(rng, listener, key_log, workers, wall_clock, path_mtus, plain_esp=plain_esp)
        self._doorkeeper = None if listener is None else Doorkeeper(self._hub, listener)
        self._succession = Succession(
            self._hub, lambda config, path, now: self._dial(config, path, None, None, now)
        )
        self._answers_to_strangers = TokenBucket(REFUSALS_AT_ONCE, REFUSALS_PER_SECOND)
        self._told_of = NO_SPI  # the one that we told of last who speaks IKEv1
        self._v1: Negotiator | None = None
        if listener is not None and listener.ikev1 is not None:
            self._switch_v1_on()

    def _switch_v1_on(self) -> "Negotiator":
        if self._v1 is None:
            # Not above: who speaks IKEv2 alone, as most do, has no use for it.
            from espudp.ike.v1.negotiator import Negotiator

            self._v1 = Negotiator(self._hub)
        return self._v1

    # Commands. One for a connection or a child SA that is gone does nothing: it may have ended a moment ago.

    def connect(self, config: ConnectionConfig, path: Path, float_path: Path | None, now: float) -> int:
        """Starts a connection; returns its number, which all its events carry.

        IKE_SA_INIT goes over `path`, everything after it over `float_path` (RFC 7296 section 2.23: from port
        500 to 4500); None: over `path` as well. ConnectionUp or ConnectionDown follows.

        Raises ConfigError for ESP that this host cannot send.
        """
        encapsulation.check(config.encap, plain_esp=self._hub.plain_esp)
        if config.ikev1 is not None:
            return self._switch_v1_on().connect(config, path, float_path, now)
        ticket = self._hub.wallet.find(config, path.remote.ip, now) if config.resume else None
        return self._dial(config, path, float_path, ticket, now)

    def _dial(
        self,
        config: ConnectionConfig,
        path: Path,
        float_path: Path | None,
        ticket: Ticket | None,
        now: float,
    ) -> int:
        number = self._hub.next_number()
        state: InitSent | ResumeSent
        if ticket is None:
            state = InitSent(self._hub, number, config, path, float_path, now)
        else:
            state = ResumeSent(self._hub, number, config, ticket, path, float_path, now)
        self._hub.dialling[number] = state.local_spi
        self._hub.put(state)
        return number

    def close(self, connection: int, now: float) -> None:
        """Deletes the IKE SA at both ends. ConnectionDown follows the peer's answer, or a few seconds."""
        if self._v1 is not None:
            self._v1.close(connection, now)
        spi = self._hub.dialling.get(connection)
        if spi is not None:
            state = self._hub.states.get(spi)
            self._hub.discard(spi)
            if isinstance(state, InitSent | ResumeSent | AuthSent):
                state.close(_CLOSED_BY_US)
            return
        self._command(connection, lambda ike: ike.close(_CLOSED_BY_US, now))

    def close_all(self, now: float) -> None:
        """As `close`, for every connection."""
        by_v1 = [] if self._v1 is None else self._v1.numbers
        for connection in [*self._hub.dialling, *self._hub.connections, *by_v1]:
            self.close(connection, now)

    def rekey_ike(self, connection: int, now: float) -> None:
        """Replaces the IKE SA; IkeRekeyed follows."""
        if self._v1 is not None:
            self._v1.rekey_ike(connection, now)
        self._command(connection, lambda ike: ike.rekey(now))

    def reauthenticate(self, connection: int, now: float) -> None:
        """Replaces a connection that we have dialled by a new one, make before break: ConnectionUp follows
        for that, and later ConnectionDown for this one.
        """
        known = self._hub.connections.get(connection)
        if known is not None:
            self._succession.begin(known, now)

    def rekey_child(self, connection: int, spi_in: int, now: float) -> None:
        """Replaces a child SA, make before break, unless it is being replaced or deleted already."""
        if self._v1 is not None:
            self._v1.rekey_child(connection, spi_in, now)
        self._command(connection, lambda ike: ike.rekey_child(spi_in, now))

    def create_child(self, connection: int, child: ChildConfig, now: float) -> None:
        """Negotiates one more child SA; ChildInstalled or a Diagnostic follows."""
        if self._v1 is not None:
            self._v1.create_child(connection, child, now)
        self._command(connection, lambda ike: ike.run(CreateChild(child), now))

    def delete_child(self, connection: int, spi_in: int, now: float) -> None:
        """Deletes a child SA at both ends. Who dialled gets a new one if it was the last."""
        if self._v1 is not None:
            self._v1.delete_child(connection, spi_in, now)
        self._command(connection, lambda ike: ike.delete_child(spi_in, now))

    def check_alive(self, connection: int, now: float) -> None:
        """Asks the peer at once whether it is there; ConnectionDown follows if it is not."""
        if self._v1 is not None:
            self._v1.check_alive(connection, now)
        self._command(connection, lambda ike: ike.run(CheckAlive(), now))

    def local_addresses_changed(self, addresses: Sequence[UdpAddress], now: float) -> None:
        """This host can send from these addresses from now on, what it prefers first (RFC 4555).

        To be told as well when only routes have changed. Connections that we have dialled move to the first
        one that leads to their peer; the peers of others are told the list.
        """
        self._hub.local = tuple(addresses)
        usable = {address.ip for address in addresses}
        if self._v1 is not None:
            self._v1.addresses_changed(usable, now)
        for spi in list(self._hub.dialling.values()):
            state = self._hub.states.get(spi)
            if isinstance(state, InitSent | ResumeSent | AuthSent) and state.path.local.ip not in usable:
                # Nobody could answer us there.
                self._hub.discard(spi)
                reason = f"our address {state.path.local.ip} is gone"
                state.close(Farewell(Fault.TIMEOUT, reason, retry=True))
        for connection in list(self._hub.connections):
            self._command(connection, lambda ike: local_addresses_changed(ike, now))

    def backend_answered(self, handle: int, answer: BackendAnswer, now: float) -> None:
        """What came of the question of BackendAsked. The peer gets its answer, if it still waits."""
        state = self._hub.states.get(handle.to_bytes(SPI_OCTETS))
        if isinstance(state, AwaitAuth):
            self._step(state, partial(state.provide, answer, now))

    def redirect(self, connection: int, gateway: str, now: float) -> None:
        """Sends a client to another gateway, by address or name, if it would go there (RFC 5685 section 5).

        Raises ConfigError for what is neither.
        """
        if not is_gateway(gateway):
            raise ConfigError(
                f'"{gateway}" is neither an address nor a host name',
                field="redirect",
                remedy="Name the gateway that the client is to go to.",
            )
        known = self._hub.connections.get(connection)
        if known is not None and may_be_sent(known):
            self._command(connection, lambda ike: ike.run(SendElsewhere(gateway), now))

    def _command(self, connection: int, act: Callable[[Established], State | None]) -> None:
        known = self._hub.connections.get(connection)
        if known is not None and known.current is not None and known.current.is_alive:
            ike = known.current
            self._step(ike, partial(act, ike))

    # What ESP noticed

    def note_inbound(self, connection: int, now: float) -> None:
        """Authentic ESP arrived: the peer lives (RFC 7296 section 2.4). Costs next to nothing."""
        if self._v1 is not None:
            self._v1.note_inbound(connection, now)
        known = self._hub.connections.get(connection)
        if known is not None:
            known.last_inbound = max(known.last_inbound, now)

    def child_used(self, connection: int, spi_in: int, now: float) -> None:
        """ESP arrived on a child SA that the peer was not known to have. In IKEv2 the peer's next request
        tells as much.
        """
        if self._v1 is not None:
            self._v1.child_used(connection, spi_in, now)

    def move(self, connection: int, path: Path, now: float) -> None:
        """ESP found the peer at a new mapping of its NAT; IKE goes there too. No event follows."""
        if self._v1 is not None:
            self._v1.move(connection, path, now)
        known = self._hub.connections.get(connection)
        if known is not None:
            if known.mobike is not None:
                known.mobike.moved_by_esp(path)
            known.path = path
            known.last_inbound = max(known.last_inbound, now)

    def unknown_spi(self, spi: int, path: Path, now: float) -> None:
        """ESP arrived for an SPI that we do not have: its sender may like to know (RFC 7296 section 1.5)."""
        if not self._answers_to_strangers.take(now):
            return
        if self._v1 is None or not self._v1.unknown_spi(spi, path, now):
            self._hub.send(invalid_spi(spi), path)

    # What came in

    def receive_datagram(self, data: Buffer, path: Path, now: float) -> None:
        """One IKE message, without the non-ESP marker, that came over `path` (its `remote` is the sender)."""
        octets = bytes(data)
        try:
            header = Header.parse(octets)
        except WireError:
            self._hub.drop(Drop.MALFORMED)
            return
        datagram = Datagram(octets, header, path, now)
        if header.length != len(octets):
            self._hub.drop(Drop.MALFORMED)
        elif header.major == IKEV1 and self._v1 is not None:
            # RFC 7296 section 1.5: the version in the header tells the two apart, wherever they meet.
            self._v1.receive(octets, path, now)
        elif header.major != MAJOR_VERSION:
            self._other_version(datagram, now)
        elif _starts(header):
            self._receive_init(datagram, now)
        else:
            self._receive(datagram, now)

    def _receive_init(self, datagram: Datagram, now: float) -> None:
        if self._doorkeeper is None:
            self._hub.drop(Drop.NOT_LISTENING)
        else:
            self._doorkeeper.receive(datagram, now)

    def _receive(self, datagram: Datagram, now: float) -> None:
        header = datagram.header
        # RFC 7296 section 2.6: the I flag says which of the two SPIs is ours.
        spi = header.spi_r if header.is_initiator else header.spi_i
        state = self._hub.states.get(spi)
        if state is None:
            self._unknown_spi(datagram, now)
        else:
            self._step(state, partial(state.receive, datagram, now))
            self._succeed(now)

    def _unknown_spi(self, datagram: Datagram, now: float) -> None:
        """RFC 7296 section 2.21.4: requests may be answered, unprotected and rarely; responses never are."""
        self._hub.drop(Drop.UNKNOWN_SPI)
        header = datagram.header
        lost = connection_that_lost(self._hub, datagram, now)
        if lost is not None:
            self._command(lost.number, lambda ike: hasten(ike, now))
        elif not header.is_response and NO_SPI not in (header.spi_i, header.spi_r):
            token = token_for_stranger(self._hub, header)
            self._answer_stranger(datagram, [Notify.of(NotifyType.INVALID_IKE_SPI), *token], now)

    def _other_version(self, datagram: Datagram, now: float) -> None:
        """RFC 7296 section 2.5: a higher version is told what we speak; a lower one would not understand."""
        self._hub.drop(Drop.VERSION)
        if datagram.header.major == IKEV1:
            self._tell_of_ikev1(datagram, now)
        if datagram.header.major > MAJOR_VERSION and not datagram.header.is_response:
            notify = Notify.of(NotifyType.INVALID_MAJOR_VERSION, bytes([MAJOR_VERSION]))
            self._answer_stranger(datagram, [notify], now)

    def _tell_of_ikev1(self, datagram: Datagram, now: float) -> None:
        """Who listens may want to know that somebody begins with what is not switched on."""
        header = datagram.header
        begins = header.spi_r == NO_SPI and not header.message_id
        if self._doorkeeper is not None and begins and header.spi_i != self._told_of:
            self._told_of = header.spi_i  # it comes again, and is told of once
            refusal = PeerRefused(datagram.path, "it speaks IKEv1, which is not served here", IKEV1_REMEDY)
            self._hub.tell_refusal(refusal, now)

    def _answer_stranger(self, datagram: Datagram, notifies: list[Notify], now: float) -> None:
        if not self._answers_to_strangers.take(now):
            self._hub.drop(Drop.RATE)
            return
        # RFC 7296 section 1.5: SPIs, message ID and exchange type as in the request, the other I flag.
        header = replace(
            datagram.header,
            is_initiator=not datagram.header.is_initiator,
            is_response=True,
            major=MAJOR_VERSION,
            minor=0,
            higher_version=False,
        )
        self._hub.send(emit_message(header, notifies), datagram.path)

    def _step(self, state: State, act: Callable[[], State | None]) -> None:
        """Lets a state act, and puts what follows in its place; another one may have ended it meanwhile."""
        hub, spi = self._hub, state.local_spi
        try:
            following = act()
        except CryptoError as error:
            # CVE-2018-10811: the SA that a failing operation was for does not go on.
            following = self._failed(state, error)
        if hub.states.get(spi) is state:
            if following is None:
                hub.discard(spi)
            else:
                hub.put(following)

    def _succeed(self, now: float) -> None:
        """One connection may replace another now, or is to."""
        for orphan in self._succession.watch(now):
            self.close(orphan, now)

    def _failed(self, state: State, error: CryptoError) -> State | None:
        farewell = Farewell(Fault.PROTOCOL, f"a cryptographic operation failed: {error}", retry=True)
        if isinstance(state, InitSent | ResumeSent | AuthSent):
            state.close(farewell)
        elif isinstance(state, Established):
            state.connection.down(farewell)
        return None

    # Time

    def poll_timer(self) -> float | None:
        """When `handle_timer` is due next; calls before that do nothing. None: never."""
        timers = (
            self._hub.timers.poll(),
            self._hub.reassemblies.poll(),
            None if self._v1 is None else self._v1.poll_timer(),
        )
        return min((timer for timer in timers if timer is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Retransmissions, lifetimes, dead peer detection, half-open IKE SAs: whatever is due."""
        if self._v1 is not None:
            self._v1.handle_timer(now)
        for spi in self._hub.timers.take_due(now):
            state = self._hub.states.get(spi)
            if state is not None:
                self._step(state, partial(state.handle_timer, now))
        self._succeed(now)
        for reassembly in self._hub.reassemblies.take_due(now):
            reassembly.clear()

    # Drains

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Path]]:
        """IKE messages in order, without the non-ESP marker, each with its path."""
        messages, self._hub.outbox = self._hub.outbox, []
        return messages

    def next_event(self) -> Event | None:
        """What the rest should know, oldest first; None when there is nothing."""
        return self._hub.events.popleft() if self._hub.events else None

    @property
    def drops(self) -> Counter[Enum]:
        """How many messages came to nothing, by reason."""
        return self._hub.drops

    def snapshot(self, now: float) -> list[ConnectionSnapshot]:
        """Every connection, those that we are dialling included. Never a key."""
        by_v1 = [] if self._v1 is None else self._v1.snapshot(now)
        return sorted([*snapshot_of(self._hub, now), *by_v1], key=lambda known: known.connection)


def _starts(header: Header) -> bool:
    """A request that may be the first of an IKE SA (RFC 7296 section 3.1)."""
    return (
        header.exchange in (ExchangeType.IKE_SA_INIT, ExchangeType.IKE_SESSION_RESUME)
        and header.is_initiator
        and not header.is_response
        and header.message_id == 0
        and header.spi_r == NO_SPI
        and header.spi_i != NO_SPI
    )
