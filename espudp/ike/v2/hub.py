"""What the states of all IKE SAs share: the way out, the registry of SPIs, and the timers.

Nothing in here knows the protocol.
"""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import TYPE_CHECKING, Protocol

from espudp.crypto.random import Rng, draw
from espudp.errors import AuthenticationFailed, CryptoError, PeerError
from espudp.ike.config import Limits, ListenerConfig
from espudp.ike.credentials import WallClock, no_clock
from espudp.ike.drop import Drop
from espudp.ike.events import Event, PeerRefused
from espudp.ike.identity import Identity
from espudp.ike.keylog import KeyLog, KeyLogEntry
from espudp.ike.pool import AddressPool
from espudp.ike.tickets import Issuer, Wallet
from espudp.ike.v2.admission import REFUSALS_AT_ONCE, REFUSALS_PER_SECOND, Admission
from espudp.ike.v2.child_spis import ChildSpis
from espudp.ike.v2.detours import Detours
from espudp.timing import Timers, TokenBucket
from espudp.wire.address import Path, UdpAddress
from espudp.wire.ikev2.header import SPI_OCTETS, Header

if TYPE_CHECKING:
    from espudp.ike.v2.connection import Connection, Farewell
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


class Hub:
    """Shared by all states of one endpoint."""

    def __init__(
        self,
        rng: Rng,
        listener: ListenerConfig | None,
        key_log: KeyLog | None,
        workers: int = 1,
        wall_clock: WallClock | None = None,
        path_mtus: Callable[[str], int | None] = lambda _: None,
    ) -> None:
        """`workers`: how many there are that child SAs can be given to. `path_mtus`: see Endpoint."""
        self.rng = rng
        self.wall_clock = wall_clock or no_clock
        self.workers = workers
        self.child_spis = ChildSpis(rng, workers)
        self.listener = listener
        self.local: tuple[UdpAddress, ...] | None = None
        """Where this host can send from, what it prefers first; None: nobody has said."""
        self.pool = AddressPool(listener.pool) if listener is not None and listener.pool else None
        self.events: deque[Event] = deque()
        self.outbox: list[tuple[bytes, Path]] = []
        self.drops: Counter[Enum] = Counter()
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
        self.path_mtus = path_mtus
        self.admission = Admission(rng, listener.limits if listener is not None else Limits())
        self._key_log = key_log
        self.detours = Detours()
        self.wallet = Wallet()
        self.issuer = Issuer(rng, listener.secret) if listener is not None and listener.tickets else None
        self.rumours = TokenBucket(REFUSALS_AT_ONCE, REFUSALS_PER_SECOND)
        """How many unprotected messages to an IKE SA may be looked at."""
        self.complaints = TokenBucket(REFUSALS_AT_ONCE, REFUSALS_PER_SECOND)
        """How often it is told what peers may not have: they can ask as fast as they like."""
        self._refusals = TokenBucket(REFUSALS_AT_ONCE, REFUSALS_PER_SECOND)
        self._numbers = count(1)

    # The way out

    def send(self, message: bytes, path: Path) -> None:
        self.outbox.append((message, path))

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def tell_refusal(self, refusal: PeerRefused, now: float) -> None:
        """Strangers cause these, so they are counted out."""
        if self._refusals.take(now):
            self.emit(refusal)

    def drop(self, reason: Drop) -> None:
        self.drops[reason] += 1

    def count_refusal(self, error: PeerError) -> None:
        """Those of proofs are counted, by what is wrong with a certificate where that is known."""
        if isinstance(error, AuthenticationFailed):
            self.drops[error.reason or Drop.UNPROVED] += 1

    def log_keys(self, entry: KeyLogEntry) -> None:
        """Only for who asked for it; see keylog."""
        if self._key_log is not None:
            self._key_log(entry)

    # Names

    def next_number(self) -> int:
        """The number of a new connection, from 1."""
        return next(self._numbers)

    def nonce(self, octets: int) -> bytes:
        return draw(self.rng, octets)

    def share(self) -> float:
        """A random number from 0 to 1, for jitter."""
        return int.from_bytes(draw(self.rng, 4)) / (1 << 32)

    def new_spi(self) -> bytes:
        """An SPI for an IKE SA: random, not zero, not in use (RFC 7296 section 2.6)."""
        for _ in range(_DRAWS):
            spi = draw(self.rng, SPI_OCTETS)
            if spi != NO_SPI and spi not in self.states:
                return spi
        raise CryptoError("the random generator repeats itself")

    def resource_of(self, spi: int) -> int | None:
        """The worker that an SPI of ESP leads to; None where there is no choice."""
        return self.child_spis.worker_of(spi) if self.workers > 1 else None

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
