"""Exchanges: message IDs, windows of one, retransmission (RFC 7296 sections 2.1 to 2.3).

Each side numbers its own requests. We have one request under way at a time, and keep one answer, for the
case that the peer did not get it; the octets of both are kept in `v2/sa.py`.
"""

from enum import Enum, auto

from espudp.crypto.digest import sha1
from espudp.ike.config import Timers
from espudp.wire.buffer import Buffer

# RFC 7296 section 2.2: an IKE SA whose message IDs run out must be closed or rekeyed.
MAX_MESSAGE_ID = 0xFFFF_FFFF


def patience(timers: Timers) -> float:
    """Seconds from a request to the end of its tries: as long a peer with our timers may repeat it."""
    total, wait = 0.0, timers.retransmit_initial
    for _ in range(timers.retransmit_tries + 1):
        total += wait
        wait = min(wait * timers.retransmit_factor, timers.retransmit_max)
    return total


class Retransmission:
    """One request until it is answered or given up: when it goes out again, waiting longer each time."""

    __slots__ = ("_timers", "_wait", "deadline", "tries")

    def __init__(self, timers: Timers, now: float) -> None:
        self.tries = 0
        self._timers = timers
        self._wait = timers.retransmit_initial
        self.deadline = now + self._wait

    def is_due(self, now: float) -> bool:
        return now >= self.deadline

    def advance(self, now: float) -> bool:
        """Counts one more try, which the caller sends now. False: the tries are used up."""
        if self.tries >= self._timers.retransmit_tries:
            return False
        self.tries += 1
        self._wait = min(self._wait * self._timers.retransmit_factor, self._timers.retransmit_max)
        self.deadline = now + self._wait
        return True

    def restart(self, now: float) -> None:
        """As if it were the first time: in another form (RFC 7383 section 2.5.2), or another way."""
        self.tries = 0
        self._wait = self._timers.retransmit_initial
        self.deadline = now + self._wait


class OutgoingRequests:
    """Our requests on one IKE SA: the next message ID, and the one request that has no answer yet."""

    __slots__ = ("_exchange", "next_id", "pending")

    def __init__(self, first_id: int = 0) -> None:
        self.next_id = first_id
        self.pending: Retransmission | None = None
        self._exchange = 0

    def start(self, exchange: int, timers: Timers, now: float) -> None:
        """A request with `next_id` has just been sent."""
        self._exchange = exchange
        self.pending = Retransmission(timers, now)

    def awaits(self, message_id: int, exchange: int) -> bool:
        """Whether a response with this header would answer the request under way."""
        return self.pending is not None and (message_id, exchange) == (self.next_id, self._exchange)

    def finish(self) -> None:
        """The answer is there and authentic."""
        self.pending = None
        self.next_id += 1


class Arrival(Enum):
    """What a request is to us."""

    NEW = auto()
    REPEATED = auto()
    OUTSIDE = auto()


class IncomingRequests:
    """The peer's requests on one IKE SA: the message ID that comes next, and what the last one was."""

    __slots__ = ("_request", "expected_id")

    def __init__(self, first_id: int = 0) -> None:
        self.expected_id = first_id
        self._request = b""  # its hash: the peer may make it 64 KB long

    def classify(self, message_id: int, datagram: Buffer) -> Arrival:
        """NEW has yet to be verified. REPEATED is octet for octet the last request, so it has been."""
        if self.is_next(message_id):
            return Arrival.NEW
        if self._request and self.is_last(message_id) and sha1(bytes(datagram)) == self._request:
            return Arrival.REPEATED
        return Arrival.OUTSIDE

    def is_next(self, message_id: int) -> bool:
        """Whether a request with this message ID would be a new one."""
        return message_id == self.expected_id and message_id <= MAX_MESSAGE_ID

    def is_last(self, message_id: int) -> bool:
        """Whether the request with this message ID is the one that was answered last."""
        return message_id == self.expected_id - 1

    def answered(self, request: Buffer | None) -> None:
        """The request was verified and answered; None: it came in fragments, of which none stands for all."""
        self._request = b"" if request is None else sha1(bytes(request))
        self.expected_id += 1
