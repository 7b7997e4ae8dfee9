"""What all connections of one endpoint share, of either version of IKE: the way out, names, counters."""

from collections import Counter, deque
from collections.abc import Callable
from enum import Enum
from itertools import count

from espudp.crypto.random import Rng, draw
from espudp.errors import AuthenticationFailed, PeerError
from espudp.ike.child_spis import ChildSpis
from espudp.ike.config import ListenerConfig
from espudp.ike.credentials import WallClock, no_clock
from espudp.ike.drop import Drop
from espudp.ike.events import Event, PeerRefused
from espudp.ike.keylog import KeyLog, KeyLogEntry
from espudp.ike.pool import AddressPool
from espudp.timing import TokenBucket
from espudp.wire.address import Path, UdpAddress

# Our choice: how often strangers are told that we refuse them, and we that it happened (RFC 7296 section
# 2.21.4).
REFUSALS_PER_SECOND = 5.0
REFUSALS_AT_ONCE = 50


class Commons:
    """Shared by all states of one endpoint. Nothing in here knows a protocol."""

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
        """`workers`: how many there are that child SAs can be given to. `path_mtus`, `plain_esp`: see
        Endpoint.
        """
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
        self.path_mtus = path_mtus
        self.plain_esp = plain_esp
        self.complaints = TokenBucket(REFUSALS_AT_ONCE, REFUSALS_PER_SECOND)
        """How often it is told what peers may not have: they can ask as fast as they like."""
        self._refusals = TokenBucket(REFUSALS_AT_ONCE, REFUSALS_PER_SECOND)
        self._key_log = key_log
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

    def resource_of(self, spi: int) -> int | None:
        """The worker that an SPI of ESP leads to; None where there is no choice."""
        return self.child_spis.worker_of(spi) if self.workers > 1 else None
