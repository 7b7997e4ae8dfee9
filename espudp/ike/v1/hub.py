"""What the states of all ISAKMP SAs share: the registry of cookies, the connections, and the timers.

What IKEv2's states share with them is in `common`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from espudp.crypto.suites import Dh
from espudp.errors import CryptoError
from espudp.ike.commons import REFUSALS_AT_ONCE, REFUSALS_PER_SECOND, Commons
from espudp.ike.config import Limits
from espudp.ike.drop import Drop
from espudp.ike.farewell import Farewell
from espudp.ike.identity import Identity
from espudp.ike.v1.admission import Admission
from espudp.timing import Timers, TokenBucket
from espudp.wire.address import Path
from espudp.wire.ikev1.fragment import Reassembly
from espudp.wire.ikev1.header import COOKIE_OCTETS, Header
from espudp.wire.ikev1.payloads import Fragment

if TYPE_CHECKING:
    from espudp.ike.v1.connection import Connection
    from espudp.ike.v1.established import Handler

NO_COOKIE = bytes(COOKIE_OCTETS)

Key = tuple[bool, bytes]
"""By which messages find an ISAKMP SA: whether we are its initiator, and our cookie."""

# Our choice: what aggressive mode may cost, for whoever asks, in key pairs of a group with elements of 256
# octets. One of twice the size takes more than four times as long.
AGGRESSIVE_AT_ONCE = 100
AGGRESSIVE_PER_SECOND = 20.0
_USUAL_GROUP_OCTETS = 256

# Our bound on messages that are on their way in fragments, of all peers together: some megabytes.
MAX_INCOMPLETE = 256

# A generator that repeats itself must not hang us.
_DRAWS = 64


@dataclass(frozen=True, slots=True)
class Datagram:
    """A message as it came, put together if it was in fragments, with its header read and nothing of it
    trusted. `path` is seen from here, and `at` is when it came.
    """

    data: bytes
    header: Header
    path: Path
    at: float


class State(Protocol):
    """One ISAKMP SA at one point of its life. What follows puts itself in its place."""

    @property
    def key(self) -> Key: ...

    @property
    def path(self) -> Path:
        """Where its messages go."""

    @property
    def deadline(self) -> float | None: ...

    def receive(self, datagram: Datagram, now: float) -> None: ...

    def handle_timer(self, now: float) -> None:
        """Called at or after `deadline`, and possibly for nothing."""

    def fail(self, farewell: Farewell, now: float) -> None:
        """It cannot go on."""


class Hub:
    """Shared by all states of one endpoint that speak IKEv1."""

    def __init__(self, common: Commons) -> None:
        self.common = common
        self.listener = common.listener
        self.pool = common.pool
        self.child_spis = common.child_spis
        self.rng, self.nonce, self.share = common.rng, common.nonce, common.share
        self.send, self.emit, self.drop = common.send, common.emit, common.drop
        self.tell_refusal = common.tell_refusal
        self.states: dict[Key, State] = {}
        self.connections: dict[int, Connection] = {}
        self.called: dict[int, Connection] = {}
        """Of these, those that we have called."""
        self.dialling: dict[int, Key] = {}
        """Connections that we are calling, by their number."""
        self.timers: Timers[State | Connection] = Timers()
        self._reassemblies: dict[Key, Reassembly] = {}
        """Messages that are on their way in fragments: one for each ISAKMP SA."""
        self._incomplete: Timers[Key] = Timers()
        """Until when the parts that are missing of them may come."""
        limits = common.listener.limits if common.listener is not None else Limits()
        self.admission = Admission(limits)
        self.refusals = TokenBucket(REFUSALS_AT_ONCE, REFUSALS_PER_SECOND)
        """How often strangers are told that a first message is refused."""
        self._aggressive = TokenBucket(AGGRESSIVE_AT_ONCE, AGGRESSIVE_PER_SECOND)
        self.rumours = TokenBucket(REFUSALS_AT_ONCE, REFUSALS_PER_SECOND)
        """How many unprotected messages about an ISAKMP SA may be looked at."""
        self.renew: Callable[[Connection, float], bool] = lambda _connection, _now: False
        """Starts a phase 1 in place of a connection's; False: it is not ours to start."""
        self.handlers: dict[int, Handler] = {}
        """What becomes of exchanges that a peer begins, by their type."""
        self._numbers: dict[Identity, set[int]] = {}

    # Names

    def new_cookie(self) -> bytes:
        """Of an initiator: random, not zero, not in use (RFC 2408 section 2.5.3)."""
        for _ in range(_DRAWS):
            cookie = self.nonce(COOKIE_OCTETS)
            if cookie != NO_COOKIE and (True, cookie) not in self.states:
                return cookie
        raise CryptoError("the random generator repeats itself")

    # The registry

    def enroll(self, connection: "Connection") -> None:
        """The connection exists from now on."""
        self.connections[connection.number] = connection
        if connection.dialled:
            self.called[connection.number] = connection
        self._numbers.setdefault(connection.peer.identity, set()).add(connection.number)

    def strike(self, connection: "Connection") -> None:
        """The connection is over, and with it what it had from the pool."""
        del self.connections[connection.number]
        self.called.pop(connection.number, None)
        numbers = self._numbers[connection.peer.identity]
        numbers.discard(connection.number)
        if not numbers:
            del self._numbers[connection.peer.identity]
        self.timers.discard(connection)
        if self.pool is not None:
            self.pool.release(connection.number)

    def with_peer(self, identity: Identity) -> "list[Connection]":
        """All connections with this peer."""
        return [self.connections[number] for number in sorted(self._numbers.get(identity, ()))]

    def hang_up(self, number: int, farewell: Farewell) -> None:
        """A connection that never came about."""
        if self.dialling.pop(number, None) is not None:
            self.emit(farewell.event(number))

    def take_key_pair(self, group: Dh, now: float) -> bool:
        """Whether a stranger's first message may cost a key pair of this group at once."""
        return self._aggressive.take(now, max(1.0, (group.public_octets / _USUAL_GROUP_OCTETS) ** 2))

    def admit(self, state: State, now: float) -> None:
        """Half-open, for somebody who may be anybody: the oldest such makes room if there are too many."""
        self.put(state)
        key = self.admission.enter(state.key, now)
        oldest = None if key is None else self.states.get(key)
        if oldest is not None:
            self.drop(Drop.HALF_OPEN)
            self.discard(oldest)

    def put(self, state: State) -> None:
        """Makes `state` the one that its cookie leads to."""
        former = self.states.get(state.key)
        if former is not None and former is not state:
            self.timers.discard(former)
        self.states[state.key] = state
        self.reschedule(state)

    def discard(self, state: State) -> None:
        """Messages do not reach it any more; nothing happens if they did not."""
        if self.states.get(state.key) is state:
            del self.states[state.key]
            self.admission.forget(state.key)
            self._forget_parts(state.key)
        self.timers.discard(state)

    def reschedule(self, item: "State | Connection") -> None:
        """To be called after whatever may have changed a deadline."""
        self.timers.set(item, item.deadline)

    def put_together(self, state: State, fragment: Fragment, now: float) -> bytes | None:
        """The whole message, once all of it is there. Raises WireError for more than any message has.

        Where too many are under way, the one that has waited longest makes room.
        """
        for late in self._incomplete.take_due(now):
            self._forget_parts(late)
        reassembly = self._reassemblies.setdefault(state.key, Reassembly())
        try:
            return reassembly.add(fragment, now)
        finally:
            if reassembly.octets:
                self._incomplete.set(state.key, reassembly.until)
                if len(self._reassemblies) > MAX_INCOMPLETE:
                    self._forget_parts(next(iter(self._reassemblies)))
            else:
                self._forget_parts(state.key)

    def _forget_parts(self, key: Key) -> None:
        self._reassemblies.pop(key, None)
        self._incomplete.discard(key)
