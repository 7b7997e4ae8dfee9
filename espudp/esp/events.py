"""What the data path tells the rest."""

from collections import deque
from dataclasses import dataclass

from espudp.timing import TokenBucket
from espudp.wire.address import Path

# Unknown SPIs are anyone's to send: so many are told at once, and so many per second after that.
UNKNOWN_SPI_BURST = 8
UNKNOWN_SPI_PER_SECOND = 1.0


@dataclass(frozen=True, slots=True)
class SoftExpired:
    """The SA pair has reached a soft limit: time to rekey it. Told once."""

    connection: int
    spi_in: int


@dataclass(frozen=True, slots=True)
class HardExpired:
    """The SA pair has reached a hard limit or its last sequence number: it is at its end. Told once."""

    connection: int
    spi_in: int


@dataclass(frozen=True, slots=True)
class PeerReady:
    """An authentic packet came on an SA pair that stood by: the peer has it. Told once."""

    connection: int
    spi_in: int


@dataclass(frozen=True, slots=True)
class PeerMoved:
    """An authentic packet, newer than all before, came over another path, which the connection uses now."""

    connection: int
    path: Path


@dataclass(frozen=True, slots=True)
class UnknownSpi:
    """ESP for an SPI that is none of ours. Unauthenticated, and bounded in rate."""

    spi: int
    path: Path


OfPair = SoftExpired | HardExpired | PeerReady
Event = OfPair | PeerMoved | UnknownSpi


class EventQueue:
    """Events to be told: at most three for an SA and one move for a connection, the rest bounded in rate."""

    __slots__ = ("_moves", "_of_pairs", "_unknown", "_unknown_rate", "waiting")

    def __init__(self) -> None:
        self.waiting = False
        """Whether `pop` may have something."""
        self._moves: dict[int, Path] = {}
        self._of_pairs: deque[OfPair] = deque()
        self._unknown: deque[UnknownSpi] = deque(maxlen=UNKNOWN_SPI_BURST)
        self._unknown_rate = TokenBucket(UNKNOWN_SPI_BURST, UNKNOWN_SPI_PER_SECOND)

    def moved(self, connection: int, path: Path) -> None:
        """Only the last of several moves that nobody has asked for yet matters."""
        self._moves[connection] = path
        self.waiting = True

    def tell(self, event: OfPair) -> None:
        self._of_pairs.append(event)
        self.waiting = True

    def unknown_spi(self, spi: int, path: Path, now: float) -> None:
        if self._unknown_rate.take(now):
            self._unknown.append(UnknownSpi(spi, path))
            self.waiting = True

    def pop(self) -> Event | None:
        """The next event, or None. Where the peer is comes first, then what is to be done about SA pairs."""
        if self._moves:
            connection = next(iter(self._moves))
            return PeerMoved(connection, self._moves.pop(connection))
        if self._of_pairs:
            return self._of_pairs.popleft()
        if self._unknown:
            return self._unknown.popleft()
        self.waiting = False
        return None
