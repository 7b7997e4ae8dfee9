"""What the states of all IKE SAs share: the way out, the registry of SPIs, and the timers.

Nothing in here knows the protocol.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from espudp.crypto.random import Rng, draw
from espudp.errors import CryptoError
from espudp.ike.commons import REFUSALS_AT_ONCE, REFUSALS_PER_SECOND, Commons
from espudp.ike.config import Limits, ListenerConfig
from espudp.ike.credentials import WallClock
from espudp.ike.identity import Identity
from espudp.ike.keylog import KeyLog
from espudp.ike.tickets import Issuer, Wallet
from espudp.ike.v2.admission import Admission
from espudp.ike.v2.detours import Detours
from espudp.timing import Timers, TokenBucket
from espudp.wire.address import Path
from espudp.wire.ikev2.header import SPI_OCTETS, Header

if TYPE_CHECKING:
    from espudp.ike.farewell import Farewell
    from espudp.ike.v2.connection import Connection
    from espudp.ike.v2.fragments import Reassembly

NO_SPI = bytes(SPI_OCTETS)

# A generator that repeats itself must not hang us.
_DRAWS = 64


@dataclass(frozen=True, slots=True)
class Datagram:
    """A message as it came, with its header read and nothing of it trusted. `path` is seen from here, and
    `at` is when it came.
    """

    data: bytes
    header: Header
    path: Path
    at: float


class State(Protocol):
    """One IKE SA at one point of its life. Each method returns the state that follows, None at the end."""

    @property
    def local_spi(self) -> bytes:
        """Our SPI, 8 octets, by which messages find this IKE SA."""

    def receive(self, datagram: Datagram, now: float) -> "State | None": ...

    def handle_timer(self, now: float) -> "State | None":
        """Called at or after `deadline`, and possibly for nothing."""

    @property
    def deadline(self) -> float | None: ...


class Hub(Commons):
    """Shared by all states of one endpoint that speak IKEv2."""

    def __init__(
        self,
        rng: Rng,
        listener: ListenerConfig | None,
        key_log: KeyLog | None,
        workers: int = 1,
        wall_clock: WallClock | None = None,
        path_mtus: Callable[[str], int | None] = lambda _: None,
        *,
        plain_esp: bool = False,
    ) -> None:
        super().__init__(rng, listener, key_log, workers, wall_clock, path_mtus, plain_esp=plain_esp)
        self.states: dict[bytes, State] = {}
        self.connections: dict[int, Connection] = {}
        self.numbers: dict[Identity, set[int]] = {}
        """Connections by the identity of their peer."""
        self.dialling: dict[int, bytes] = {}
        """Connections that we are calling, by their number: our SPI."""
        self.due_for_reauth: list[int] = []
        """Connections whose authentication is to be repeated."""
        self.timers = Timers[bytes]()
        self.reassemblies: Timers[Reassembly] = Timers()
        """Messages that are on their way in fragments."""
        self.admission = Admission(rng, listener.limits if listener is not None else Limits())
        self.detours = Detours()
        self.wallet = Wallet()
        self.issuer = Issuer(rng, listener.secret) if listener is not None and listener.tickets else None
        self.rumours = TokenBucket(REFUSALS_AT_ONCE, REFUSALS_PER_SECOND)
        """How many unprotected messages to an IKE SA may be looked at."""

    # Names

    def new_spi(self) -> bytes:
        """An SPI for an IKE SA: random, not zero, not in use (RFC 7296 section 2.6)."""
        for _ in range(_DRAWS):
            spi = draw(self.rng, SPI_OCTETS)
            if spi != NO_SPI and spi not in self.states:
                return spi
        raise CryptoError("the random generator repeats itself")

    # The registry

    def enroll(self, connection: "Connection") -> None:
        """The connection exists from now on."""
        self.connections[connection.number] = connection
        self.numbers.setdefault(connection.peer.identity, set()).add(connection.number)

    def strike(self, connection: "Connection") -> None:
        """The connection is over, and with it what it had from the pool."""
        del self.connections[connection.number]
        numbers = self.numbers[connection.peer.identity]
        numbers.discard(connection.number)
        if not numbers:
            del self.numbers[connection.peer.identity]
        if self.pool is not None:
            self.pool.release(connection.number)

    def with_peer(self, identity: Identity) -> "list[Connection]":
        """All connections with this peer."""
        return [self.connections[number] for number in sorted(self.numbers.get(identity, ()))]

    def hang_up(self, number: int, farewell: "Farewell") -> None:
        """A connection that never came about."""
        if self.dialling.pop(number, None) is not None:
            self.emit(farewell.event(number))

    def put(self, state: State) -> None:
        """Makes `state` the one that its SPI leads to."""
        self.states[state.local_spi] = state
        self.reschedule(state)

    def discard(self, spi: bytes) -> None:
        """Ends whatever `spi` leads to; nothing happens if that is nothing."""
        if self.states.pop(spi, None) is not None:
            self.timers.discard(spi)
            self.admission.forget(spi)

    def reschedule(self, state: State) -> None:
        """To be called after anything that may have changed a deadline from outside of the state."""
        if self.states.get(state.local_spi) is state:
            self.timers.set(state.local_spi, state.deadline)
