"""IKEv1 with many peers: finds the ISAKMP SA that a message is for, and lets it act.

    datagram --> fragments --> cookies --> state
                                  +-- no responder cookie --> Doorkeeper

`Endpoint` owns one of these where IKEv1 is switched on, and gives it what has the version 1 in its header.
"""

from collections.abc import Callable
from functools import partial

from espudp.errors import ConfigError, CryptoError, WireError
from espudp.ike.commons import Commons
from espudp.ike.config import ChildConfig, ConnectionConfig
from espudp.ike.drop import Drop
from espudp.ike.events import Fault
from espudp.ike.farewell import Farewell
from espudp.ike.snapshot import ConnectionSnapshot
from espudp.ike.v1 import informational, quick_responder, transaction
from espudp.ike.v1.aggressive_initiator import AggressiveSent
from espudp.ike.v1.attempt import Attempt
from espudp.ike.v1.connection import Connection
from espudp.ike.v1.doorkeeper import Doorkeeper
from espudp.ike.v1.exchanged_roles import as_called, as_caller
from espudp.ike.v1.hub import NO_COOKIE, Datagram, Hub, State
from espudp.ike.v1.main_initiator import SaSent
from espudp.ike.v1.reception import CookieJar
from espudp.ike.v1.snapshot import snapshot_of
from espudp.wire.address import Path
from espudp.wire.ikev1.constants import ExchangeType, PayloadType
from espudp.wire.ikev1.header import Header
from espudp.wire.ikev1.message import parse_message
from espudp.wire.ikev1.payloads import Fragment

_CLOSED_BY_US = Farewell(Fault.LOCAL_REQUEST, "closed")


class Negotiator:
    """Any number of connections by IKEv1."""

    def __init__(self, common: Commons) -> None:
        self._hub = hub = Hub(common)
        hub.renew = self._renew
        hub.handlers = {
            ExchangeType.QUICK: quick_responder.answer_quick,
            ExchangeType.INFORMATIONAL: informational.receive,
            ExchangeType.TRANSACTION: transaction.receive,
        }
        config = common.listener
        policy = None if config is None else config.ikev1
        self._jar = jar = CookieJar(hub)
        self._doorkeeper = None if config is None or policy is None else Doorkeeper(hub, config, policy, jar)

    # Commands. One for a connection or a child SA that is gone does nothing: it may have ended a moment ago.

    def connect(self, config: ConnectionConfig, path: Path, float_path: Path | None, now: float) -> int:
        """Starts a connection; see Endpoint. Raises ConfigError for what IKEv1 cannot."""
        hub = self._hub
        number = hub.common.next_number()
        attempt = Attempt(hub, number, config, path, float_path, now)
        hub.dialling[number] = attempt.key
        self._begin(attempt, now)
        return number

    def _begin(self, attempt: Attempt, now: float) -> None:
        first = SaSent if attempt.mode is ExchangeType.MAIN else AggressiveSent
        self._hub.put(first(attempt, now))

    def _renew(self, connection: Connection, now: float) -> bool:
        """A phase 1 in place of that of a connection, by us; False: the peer has to."""
        config = as_caller(connection)
        if config is None:
            return False
        try:
            attempt = Attempt(self._hub, None, config, connection.path, None, now, connection)
        except ConfigError:
            return False
        self._begin(attempt, now)
        return True

    @property
    def numbers(self) -> list[int]:
        """Of all connections."""
        return [*self._hub.dialling, *self._hub.connections]

    def close(self, connection: int, now: float) -> None:
        """Deletes everything at both ends."""
        known = self._hub.connections.get(connection)
        if known is not None:
            self._guard(partial(known.close, _CLOSED_BY_US, now), known.down)
            return
        key = self._hub.dialling.get(connection)
        state = None if key is None else self._hub.states.get(key)
        if state is not None:
            state.fail(_CLOSED_BY_US, now)

    def rekey_ike(self, connection: int, now: float) -> None:
        """Replaces the ISAKMP SA; IkeRekeyed follows."""
        self._command(connection, lambda known: known.rekey(now))

    def rekey_child(self, connection: int, spi_in: int, now: float) -> None:
        self._command(connection, lambda known: known.rekey_child(spi_in, now))

    def create_child(self, connection: int, child: ChildConfig, now: float) -> None:
        self._command(connection, lambda known: known.create_child(child, now))

    def delete_child(self, connection: int, spi_in: int, now: float) -> None:
        self._command(connection, lambda known: known.delete_child(spi_in, now))

    def check_alive(self, connection: int, now: float) -> None:
        self._command(connection, lambda known: known.check_alive(now))

    def addresses_changed(self, usable: set[str], now: float) -> None:
        """IKEv1 does not move: what was dialled from an address that is gone is over."""
        for connection in list(self._hub.called.values()):
            if connection.path.local.ip not in usable:
                connection.down(_gone(connection.path.local.ip))
        for key in list(self._hub.dialling.values()):
            state = self._hub.states.get(key)
            if state is not None and state.path.local.ip not in usable:
                state.fail(_gone(state.path.local.ip), now)

    def _command(self, connection: int, act: Callable[[Connection], None]) -> None:
        known = self._hub.connections.get(connection)
        if known is not None:
            self._guard(partial(act, known), known.down)

    # What ESP noticed

    def note_inbound(self, connection: int, now: float) -> None:
        """Authentic ESP arrived."""
        known = self._hub.connections.get(connection)
        if known is not None:
            known.last_inbound = max(known.last_inbound, now)

    def child_used(self, connection: int, spi_in: int, now: float) -> None:
        """ESP arrived on a child SA that the peer was not known to have."""
        self._command(connection, lambda known: known.child_used(spi_in))

    def move(self, connection: int, path: Path, now: float) -> None:
        """ESP found the peer at a new mapping of its NAT; IKE goes there too, if that is in UDP."""
        known = self._hub.connections.get(connection)
        if known is not None:
            known.last_inbound = max(known.last_inbound, now)
            if path.local.port:
                known.path = path

    def unknown_spi(self, spi: int, path: Path, now: float) -> bool:
        """ESP arrived for an SPI that we do not have. Whether a peer of ours was told of it."""
        return informational.unknown_spi(self._hub, spi, path, now)

    # What came in

    def receive(self, octets: bytes, path: Path, now: float) -> None:
        """One ISAKMP message that is as long as it says."""
        header = Header.parse(octets)
        datagram = Datagram(octets, header, path, now)
        if header.cookie_i == NO_COOKIE:
            self._hub.drop(Drop.MALFORMED)
        elif header.next_payload == PayloadType.FRAGMENT:
            self._receive_fragment(datagram, now)
        else:
            self._receive(datagram, now)

    def _receive(self, datagram: Datagram, now: float) -> None:
        state = self._state_for(datagram.header)
        if state is not None:
            self._guard(partial(state.receive, datagram, now), partial(state.fail, now=now))
        elif datagram.header.cookie_r != NO_COOKIE:
            self._hub.drop(Drop.UNKNOWN_SPI)
        elif (doorkeeper := self._doorkeeper_for(datagram.path)) is None:
            self._hub.drop(Drop.NOT_LISTENING)
        else:
            try:
                doorkeeper.receive(datagram, now)
            except CryptoError:
                self._hub.drop(Drop.BAD_KEY_EXCHANGE)

    def _doorkeeper_for(self, path: Path) -> Doorkeeper | None:
        """The listener's, or one for the peer that we have called, who may begin a phase 1 as well."""
        for connection in self._hub.called.values():
            if connection.path.remote == path.remote:
                return self._doorkeeper_of(connection) or self._doorkeeper
        return self._doorkeeper

    def _doorkeeper_of(self, connection: Connection) -> Doorkeeper | None:
        config = as_called(connection)
        if config is None or config.ikev1 is None:
            return None
        return Doorkeeper(self._hub, config, config.ikev1, self._jar, connection)

    def _state_for(self, header: Header) -> State | None:
        """By our cookie, whichever of the two it is."""
        states = self._hub.states
        return states.get((True, header.cookie_i)) or states.get((False, header.cookie_r))

    def _receive_fragment(self, datagram: Datagram, now: float) -> None:
        """Those of states that are there are put together, and no others (CVE-2013-6076)."""
        hub, state = self._hub, self._state_for(datagram.header)
        if state is None:
            hub.drop(Drop.UNKNOWN_SPI)
            return
        try:
            fragment = parse_message(datagram.data).get(Fragment)
            whole = None if fragment is None else hub.put_together(state, fragment, now)
            header = None if whole is None else Header.parse(whole)
        except WireError:
            hub.drop(Drop.FRAGMENT)
            return
        if whole is None or header is None:
            return
        same = (header.cookie_i, header.cookie_r) == (datagram.header.cookie_i, datagram.header.cookie_r)
        if not same or header.length != len(whole) or header.next_payload == PayloadType.FRAGMENT:
            hub.drop(Drop.FRAGMENT)
            return
        self._receive(Datagram(whole, header, datagram.path, now), now)

    def _guard(self, act: Callable[[], None], fail: Callable[[Farewell], None]) -> None:
        try:
            act()
        except CryptoError as error:
            # CVE-2018-10811: the SA that a failing operation was for does not go on.
            fail(Farewell(Fault.PROTOCOL, f"a cryptographic operation failed: {error}", retry=True))

    # Time

    def poll_timer(self) -> float | None:
        """When `handle_timer` is due next."""
        return self._hub.timers.poll()

    def handle_timer(self, now: float) -> None:
        """Whatever is due."""
        for item in self._hub.timers.take_due(now):
            if isinstance(item, Connection):
                if item.alive:
                    self._guard(partial(item.handle_timer, now), item.down)
            elif self._hub.states.get(item.key) is item:
                self._guard(partial(item.handle_timer, now), partial(item.fail, now=now))

    def snapshot(self, now: float) -> list[ConnectionSnapshot]:
        """Every connection. Never a key."""
        return snapshot_of(self._hub, now)


def _gone(ip: str) -> Farewell:
    return Farewell(Fault.TIMEOUT, f"our address {ip} is gone", retry=True)
