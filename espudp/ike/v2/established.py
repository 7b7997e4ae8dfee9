"""An authenticated IKE SA at work: it answers the peer's requests, and carries out tasks of our own.

request  --> rules --> handler --> answer, the state that follows
response --> rules --> the task that asked --> the state that follows
time     --> retransmission, lifetime, dead peer detection --> the next task
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from espudp.errors import PeerError
from espudp.ike.events import Fault
from espudp.ike.exchange import MAX_MESSAGE_ID, patience
from espudp.ike.farewell import Farewell
from espudp.ike.lifetimes import jittered
from espudp.ike.rules import REQUESTS, RESPONSES, Shape, breach, critical, shape_of
from espudp.ike.v2 import mobike, reauth, redirect
from espudp.ike.v2.addresses import copied_cookie
from espudp.ike.v2.child import Child, Nonces
from espudp.ike.v2.child_exchange import (
    ChildNotFound,
    CreateForWorker,
    RekeyChild,
    answer_create_child,
)
from espudp.ike.v2.connection import LONGEST_PAUSE, NEVER, Connection
from espudp.ike.v2.crash import HandToken, take_token, unprotected
from espudp.ike.v2.ending import CLOSE_SECONDS, Answered, Deleting, Superseded
from espudp.ike.v2.hub import Datagram, State
from espudp.ike.v2.ike_rekey import RekeyIke, adopt, answer_rekey_ike
from espudp.ike.v2.informational import CheckAlive, DeleteChildren, delete_children, deletes_ike, fatal_error
from espudp.ike.v2.resumption import grant, renew
from espudp.ike.v2.sa import IkeSa, Received
from espudp.ike.v2.tasks import Answer, Task
from espudp.ike.v2.wanted import WantedChild
from espudp.wire.ikev2.constants import ExchangeType, NotifyType, PayloadType, ProtocolId
from espudp.wire.ikev2.payloads import Configuration, Notify

_EXCHANGES = frozenset({int(ExchangeType.CREATE_CHILD_SA), int(ExchangeType.INFORMATIONAL)})

# RFC 7296 section 2.25: after several minutes of TEMPORARY_FAILURE the two sides are out of step.
PATIENCE_SECONDS = 300.0

# Our choice: before something is tried again that the peer refuses for good.
REFUSED_SECONDS = 60.0

# Message IDs are rekeyed away long before they run out (RFC 7296 section 2.2).
_LAST_ID = MAX_MESSAGE_ID - 1_000

# What waits for its time is swept out when there is so much more of it than there are child SAs.
_SWEEP_ABOVE = 32


@dataclass(frozen=True, slots=True)
class Rival:
    """A rekey of this IKE SA that the peer started while ours was under way (RFC 7296 section 2.8.2)."""

    nonces: Nonces
    state: "Established"


class Established:
    """The IKE SA of a connection, or one that is about to become it: then it only answers (`is_current`)."""

    def __init__(self, connection: Connection, sa: IkeSa, now: float, *, confirmed: bool = True) -> None:
        """`confirmed`: the peer knows that this IKE SA exists, and so can be asked something over it."""
        self.connection = connection
        self._confirmed = confirmed
        self.sa = sa
        self.task: Task | None = None
        """What our request under way is for."""
        # Not a deque, which is 0.7 KB while it is empty, as it is nearly always.
        self.tasks: list[Task] = []
        self.later: list[tuple[float, int, Task]] = []
        self.rival: Rival | None = None
        self.farewell: Farewell | None = None
        """Set when the connection is to be closed as soon as the request under way is answered."""
        self._close_by = NEVER
        self._wake_at = NEVER
        self._order = count()
        self._failing_since: float | None = None
        self._failed_at = now
        lifetime = jittered(connection.policy.timers.ike_lifetime, connection.hub.rng)
        self.rekey_at = NEVER if lifetime.soft_seconds is None else now + lifetime.soft_seconds
        self.expires_at = NEVER if lifetime.hard_seconds is None else now + lifetime.hard_seconds
        connection.sas.add(sa.local_spi)

    @property
    def local_spi(self) -> bytes:
        return self.sa.local_spi

    @property
    def is_current(self) -> bool:
        """Whether the connection's own requests go over this IKE SA."""
        return self.connection.current is self

    # Messages

    def receive(self, datagram: Datagram, now: float) -> State | None:
        if datagram.header.next_payload == PayloadType.NOTIFY:
            return unprotected(self, datagram, now)
        received = self.sa.accept(datagram, _EXCHANGES)
        if received is None:
            return self
        self.connection.heard(received.path, now)
        self._confirmed = True
        following = self._response(received, now) if received.is_response else self._request(received, now)
        return self.advance(now) if following is self else following

    def _request(self, received: Received, now: float) -> State | None:
        self.connection.peer_is_up_to_date()
        try:
            answer = self._answer(received, now)
        except PeerError as error:
            if self.connection.hub.complaints.take(now):
                self.connection.note(f"refused the peer's request: {error}")
            self.sa.respond(received, [_notify(error)])
            # RFC 7296 section 2.21.3: this one, and no other, is fatal on both sides.
            if error.notify == NotifyType.INVALID_SYNTAX:
                self._lost(Farewell(Fault.PROTOCOL, f"the peer broke the protocol: {error}", retry=True))
                return self._answered_last(now)
            return self
        self.sa.respond(received, answer.payloads)
        return self._answered_last(now) if answer.following is None else answer.following

    def _answered_last(self, now: float) -> State | None:
        self.connection.hub.put(Answered.for_a_while(self.connection, self.sa, now))
        return None

    def _answer(self, received: Received, now: float) -> Answer:
        message = received.message
        if received.nonsense is not None:
            raise PeerError(received.nonsense, notify=NotifyType.INVALID_SYNTAX)
        unsupported = critical(message)
        if unsupported is not None:
            raise PeerError(
                f"payload {unsupported.type} is critical and unknown",
                notify=NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD,
                data=bytes([unsupported.type]),
            )
        shape = shape_of(message)
        wrong = "unknown" if shape is None else breach(message, REQUESTS[shape])
        if wrong is not None:
            raise PeerError(wrong, notify=NotifyType.INVALID_SYNTAX)
        if shape is Shape.REKEY_IKE:
            return answer_rekey_ike(self, message, now)
        if shape is Shape.CREATE_CHILD:
            return answer_create_child(self, message, now)
        return self._informational(received, now)

    def _informational(self, received: Received, now: float) -> Answer:
        message = received.message
        take_token(self.sa, message)
        reauth.obey(self.connection, message, now)
        if deletes_ike(message):
            return Answer(copied_cookie(message), self._deleted_by_peer(now))
        farewell = fatal_error(message)
        if farewell is not None:
            return Answer((), self._lost(farewell))
        redirect.follow(self, message, now)
        told = [
            *grant(self.connection, self.sa, message, now),
            *self.connection.configured(message.get(Configuration)),
            *mobike.answer(self, received, now),
        ]
        return Answer([*told, *delete_children(self.connection, message, now)], self)

    def _response(self, received: Received, now: float) -> State | None:
        task, self.task = self.task, None
        if task is None:
            return self
        if self.connection.mobike is not None:
            self.connection.mobike.answered_over(self, received.path, now)
        message = received.message
        shape = shape_of(message)
        wrong = received.nonsense or ("unknown" if shape is None else breach(message, RESPONSES[shape]))
        if wrong is None and critical(message) is not None:
            wrong = "critical payloads in a response"
        farewell = fatal_error(message)
        if wrong is None and farewell is not None:
            # RFC 7296 section 2.21.3: the peer has forgotten the IKE SA with this answer.
            task.abandon()
            return self._lost(farewell)
        if wrong is not None:
            task.abandon()
            return self.close(
                Farewell(Fault.PROTOCOL, f"the peer broke the protocol: {wrong}", retry=True), now
            )
        return task.answered(self, message, now)

    def _deleted_by_peer(self, now: float) -> State | None:
        if self.rival is not None and self.rival.state.is_alive:
            # RFC 7296 section 2.8.2: the peer has not noticed that we were rekeying too; its rekey counts.
            adopt(self, self.rival.state, now)
            self.rival.state.confirm(now)
            return self._gone()
        if not self.is_current:
            return self._gone()
        return self._lost(Farewell(Fault.PEER_REQUEST, "the peer closed the connection", retry=True))

    def _gone(self) -> State | None:
        self.abandon()
        self.connection.sas.discard(self.local_spi)
        return None

    def _lost(self, farewell: Farewell) -> State | None:
        self.connection.down(self.farewell or farewell)
        return None

    @property
    def is_alive(self) -> bool:
        """Whether messages still reach this state."""
        return self.connection.hub.states.get(self.local_spi) is self

    def abandon(self) -> None:
        """There will be no answer to what is under way."""
        if self.task is not None:
            self.task.abandon()

    # Rekeys of the IKE SA

    def successor(self, sa: IkeSa, now: float) -> "Established":
        """A new IKE SA of the same connection, which is not the current one yet."""
        return Established(self.connection, sa, now, confirmed=sa.is_initiator)

    def confirm(self, now: float) -> None:
        """The IKE SA before this one is gone at the peer too, so the peer has this one."""
        self._confirmed = True
        self._wake_at = now
        self.connection.hub.reschedule(self)

    def contest(self, nonces: Nonces, state: "Established") -> None:
        """The peer rekeys the IKE SA while we are at it."""
        self.rival = Rival(nonces, state)

    def inherit(self, old: "Established", now: float) -> None:
        """Takes over what the replaced IKE SA had yet to do; its own rekey is done."""
        self.tasks.extend(task for task in old.tasks if not isinstance(task, RekeyIke))
        for at, _, task in old.later:
            if not isinstance(task, RekeyIke):
                self.enqueue_later(task, at)
        self.farewell, self._close_by = old.farewell, old._close_by
        if self.sa.is_initiator:
            self.enqueue(HandToken())
        renew(self)
        # Not before the answer that tells the peer of this IKE SA has left.
        self._wake_at = now

    def require_not_rekeying(self) -> None:
        """RFC 7296 section 2.25.2: child SAs are not made while the IKE SA is replaced. Raises PeerError."""
        if isinstance(self.task, RekeyIke) or self.farewell is not None:
            raise PeerError("the IKE SA is being replaced or closed", notify=NotifyType.TEMPORARY_FAILURE)

    # Tasks

    def enqueue(self, task: Task, *, first: bool = False) -> None:
        """To be carried out when its turn comes; the caller lets `advance` follow."""
        if first:
            self.tasks.insert(0, task)
        else:
            self.tasks.append(task)

    def enqueue_later(self, task: Task, at: float) -> None:
        heapq.heappush(self.later, (at, next(self._order), task))

    def delete(self, *children: Child) -> None:
        """Deletes child SAs before anything else is done."""
        for child in children:
            child.deleting = True
        self.enqueue(DeleteChildren(children), first=True)

    def delete_if_overdue(self, child: Child, now: float) -> None:
        """The peer is to delete this child SA; if it has not, long after it must have heard, we do."""
        self.enqueue_later(DeleteChildren((child,)), now + 2 * patience(self.sa.timers))
        if len(self.later) > 2 * len(self.connection.children) + _SWEEP_ABOVE:
            # Most peers delete it at once; one that rekeys on and on must not leave a trail.
            self.later = [entry for entry in self.later if not self._is_moot(entry[2])]
            heapq.heapify(self.later)

    def _is_moot(self, task: Task) -> bool:
        return isinstance(task, DeleteChildren) and not task.of(self.connection)

    def postpone(self, task: Task, now: float) -> State | None:
        """TEMPORARY_FAILURE (RFC 7296 section 2.25): not at once, and not for ever."""
        if self._failing_since is None or now - self._failed_at > REFUSED_SECONDS:
            self._failing_since = now
        self._failed_at = now
        if now - self._failing_since > PATIENCE_SECONDS:
            task.abandon()
            reason = "the peer has put off our requests for minutes"
            return self.close(Farewell(Fault.PROTOCOL, reason, retry=True), now)
        self.enqueue_later(task, now + self._spread(self.connection.policy.timers.rekey_retry))
        return self

    def wait_for_peer(self, task: Task, now: float) -> None:
        """The peer may not have got an answer of ours that this task builds on."""
        self.enqueue_later(task, now + self._spread(self.connection.policy.timers.rekey_retry))

    def refused(self, task: Task, now: float) -> State | None:
        """The peer will not do it; perhaps it will when somebody has changed its configuration."""
        self.enqueue_later(task, now + self._spread(REFUSED_SECONDS))
        return self

    def succeeded(self) -> None:
        """The two sides are in step."""
        self._failing_since = None

    def _spread(self, seconds: float) -> float:
        """Half to one and a half times as long, so that two sides in each other's way do not stay there."""
        return seconds * (0.5 + self.connection.hub.share())

    def has(self, kind: type[Task]) -> bool:
        """Whether a task of this kind is under way or waits."""
        return any(isinstance(task, kind) for task in self._waiting())

    def _waiting(self) -> Iterator[Task | None]:
        """The task under way, and all that come after it."""
        yield self.task
        yield from self.tasks
        yield from (task for _, _, task in self.later)

    def advance(self, now: float) -> State | None:
        """Starts the next task, if none is under way; to be called after whatever may have changed that."""
        if not self.is_current or self.task is not None:
            return self
        if self.sa.outgoing.next_id > MAX_MESSAGE_ID:
            return self._lost(Farewell(Fault.PROTOCOL, "the IKE SA has no message IDs left", retry=True))
        if self.farewell is not None:
            return Deleting(self.connection, self.sa, now, self.farewell)
        if not self._confirmed:
            return self
        if self.connection.mobike is not None and (urgent := self.connection.mobike.next_task()) is not None:
            self.tasks.insert(0, urgent)
        while self.tasks:
            task = self.tasks.pop(0)
            payloads = task.request(self, now)
            if payloads is not None:
                self.task = task
                self.sa.request(task.exchange, payloads, self.connection.ike_path, now)
                break
        return self

    def close(self, farewell: Farewell, now: float) -> State | None:
        """Deletes the IKE SA at both ends, once the request under way is answered."""
        self.close_soon(farewell, now)
        return self.advance(now)

    def close_soon(self, farewell: Farewell, now: float) -> None:
        """As `close`; the caller lets `advance` follow."""
        if self.farewell is None:
            self.farewell = farewell
            self._close_by = now + CLOSE_SECONDS
            self.tasks.clear()
            self.later.clear()

    def expire_by(self, when: float) -> None:
        """The IKE SA is closed at this time at the latest."""
        self.expires_at = min(self.expires_at, when)

    # Time

    @property
    def deadline(self) -> float | None:
        if not self.is_current:
            return None
        pending = self.sa.pending
        times = [self.rekey_at, self.expires_at, self._close_by, self._wake_at]
        times += [self.connection.reauth_at, self.connection.ends_at]
        if pending is not None:
            times.append(pending.deadline)
        elif self._confirmed:
            times.append(self._silent_at)
        if self.later:
            times.append(self.later[0][0])
        first = min(times)
        return None if first == NEVER else first

    @property
    def _silent_at(self) -> float:
        """When the peer has been silent for so long that it is asked whether it lives."""
        interval = self.connection.policy.timers.dpd_interval
        return self.connection.last_inbound + interval if interval > 0 else NEVER

    def handle_timer(self, now: float) -> State | None:
        if not self.is_current:
            return self
        self._wake_at = NEVER
        if now >= self._close_by or not self._retransmit(now):
            return self._lost(Farewell(Fault.TIMEOUT, "the peer does not answer any more", retry=True))
        connection = self.connection
        if now >= connection.ends_at:
            connection.ends_at = NEVER
            return self.close(connection.last_word, now)
        if now >= connection.reauth_at:
            connection.reauth_at = NEVER
            connection.hub.due_for_reauth.append(connection.number)
        if now >= self.expires_at:
            self.expires_at = NEVER
            return self.close(
                Farewell(Fault.TIMEOUT, "the IKE SA expired before it was rekeyed", retry=True), now
            )
        if now >= self.rekey_at or self.sa.outgoing.next_id > _LAST_ID:
            self.rekey_at = NEVER
            self.rekey(now)
        while self.later and self.later[0][0] <= now:
            self.enqueue(heapq.heappop(self.later)[2])
        if self._confirmed and self.task is None and not self.tasks and now >= self._silent_at:
            self.enqueue(CheckAlive())
        return self.advance(now)

    def _retransmit(self, now: float) -> bool:
        """False: the peer does not answer, and there is no reason to go on asking."""
        if self.sa.pending is None or not self.sa.pending.is_due(now):
            return True
        connection = self.connection
        goes_on = self.sa.retransmit(connection.ike_path, now)
        if connection.mobike is None:
            return goes_on
        if goes_on:
            connection.mobike.probe(self)
        elif connection.mobike.is_patient(self):
            self.resend(now)
            return True
        return goes_on

    def resend(self, now: float) -> None:
        """The way to the peer is another one: what is under way goes there at once, and has all its tries."""
        if self.sa.pending is not None:
            self.sa.pending.restart(now)
            self.sa.repeat(self.connection.ike_path)
        if not self._confirmed:
            # The peer may not know of this IKE SA yet, and can neither get nor tell that where we were.
            self._confirmed = True
            for state in map(self.connection.hub.states.get, self.connection.sas):
                if isinstance(state, Superseded):
                    state.answer_again()
        self.connection.hub.reschedule(self)

    # Commands

    def check_alive(self) -> None:
        """Asks the peer whether it is there, unless that is to be asked already."""
        if not self.has(CheckAlive):
            self.enqueue(CheckAlive())

    def rekey(self, now: float) -> State | None:
        if not self.has(RekeyIke):
            self.enqueue(RekeyIke(self.connection.policy.ike_proposals))
        return self.advance(now)

    def rekey_child(self, spi_in: int, now: float) -> State | None:
        child = self.connection.children.get(spi_in)
        if child is not None and not (child.rekeying or child.is_going):
            child.rekeying = True
            self.enqueue(RekeyChild(child))
        return self.advance(now)

    def delete_child(self, spi_in: int, now: float) -> State | None:
        child = self.connection.children.get(spi_in)
        if child is not None and not child.deleting:
            self.delete(child)
        return self.advance(now)

    def run(self, task: Task, now: float) -> State | None:
        """A task of the caller's choice."""
        self.enqueue(task)
        return self.advance(now)

    def share(self) -> None:
        """Asks, if who dialled are we, for a child SA for a worker that has none (RFC 9611)."""
        gap = self.connection.gap() if self.connection.dialled else None
        if gap is not None:
            self.enqueue(CreateForWorker(*gap))

    def restore(self, now: float) -> None:
        """Who dialled keeps the tunnel up: what is gone will be there again, and when it is the child SA of
        one worker, later.
        """
        connection = self.connection
        if not connection.dialled or self.farewell is not None:
            return
        asked_for = [task.config for task in self._waiting() if isinstance(task, WantedChild)]
        missing = [config for config in connection.missing() if config not in asked_for]
        if missing:
            at = now + self._spread(connection.pause_before_restoring(now))
            for config in missing:
                self.enqueue_later(WantedChild(config), at)
        elif (gap := connection.gap()) is not None and not self.has(CreateForWorker):
            self.enqueue_later(CreateForWorker(*gap), now + self._spread(connection.pause))
            connection.pause = min(2 * connection.pause, LONGEST_PAUSE)
        connection.hub.reschedule(self)


def _notify(error: PeerError) -> Notify:
    if isinstance(error, ChildNotFound):
        return Notify(ProtocolId.ESP, error.spi, error.notify, b"")
    return Notify.of(error.notify, error.data)
