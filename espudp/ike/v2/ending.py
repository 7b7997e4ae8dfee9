"""The last states of an IKE SA: replaced by another, or being deleted (RFC 7296 1.4.1, 2.8, 2.25.2)."""

from typing import Self

from espudp.ike.exchange import patience
from espudp.ike.farewell import Farewell
from espudp.ike.rules import REQUESTS, breach, critical, shape_of
from espudp.ike.v2.addresses import copied_cookie
from espudp.ike.v2.connection import Connection
from espudp.ike.v2.hub import Datagram, State
from espudp.ike.v2.informational import delete_children, deletes_ike
from espudp.ike.v2.sa import IkeSa, Received
from espudp.wire.ikev2.constants import ExchangeType, NotifyType, ProtocolId
from espudp.wire.ikev2.payloads import Delete, Notify, Payload

_EXCHANGES = frozenset({int(ExchangeType.CREATE_CHILD_SA), int(ExchangeType.INFORMATIONAL)})

# Our choice: how long closing a connection waits for the peer to agree.
CLOSE_SECONDS = 3.0


def _answer(connection: Connection, received: Received, now: float) -> list[Payload]:
    """What is still answered on an IKE SA that is about to go."""
    message = received.message
    if received.nonsense is not None:
        return [Notify.of(NotifyType.INVALID_SYNTAX)]
    unsupported = critical(message)
    if unsupported is not None:
        return [Notify.of(NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, bytes([unsupported.type]))]
    if received.exchange == ExchangeType.CREATE_CHILD_SA:
        # RFC 7296 sections 2.25.1 and 2.25.2
        return [Notify.of(NotifyType.TEMPORARY_FAILURE)]
    shape = shape_of(message)
    if shape is None or breach(message, REQUESTS[shape]) is not None:
        return [Notify.of(NotifyType.INVALID_SYNTAX)]
    copied = copied_cookie(message)
    return copied if deletes_ike(message) else [*copied, *delete_children(connection, message, now)]


class Answered:
    """The last answer was given. What is left is to repeat it, if it got lost (RFC 7296 section 2.1)."""

    def __init__(self, sa: IkeSa, deadline: float) -> None:
        self._sa = sa
        self.deadline: float | None = deadline

    @classmethod
    def for_a_while(cls, connection: Connection, sa: IkeSa, now: float) -> Self:
        """For as long as the peer goes on asking."""
        connection.keep_answer(sa.local_spi)
        return cls(sa, now + patience(sa.timers))

    @property
    def local_spi(self) -> bytes:
        return self._sa.local_spi

    def receive(self, datagram: Datagram, now: float) -> State | None:
        self._sa.accept(datagram, frozenset())
        return self

    def handle_timer(self, now: float) -> State | None:
        return self if self.deadline is None or now < self.deadline else None


class Superseded:
    """The peer has replaced this IKE SA, or lost with it against our rekey; the peer is to delete it."""

    def __init__(self, connection: Connection, sa: IkeSa, now: float) -> None:
        self._connection = connection
        self._sa = sa
        # Well after the peer has got our answer, however often it had to ask.
        self.deadline: float | None = now + 2 * patience(sa.timers)
        # What we had asked is asked again on the new IKE SA, if it still matters.
        sa.outgoing.pending = None

    @property
    def local_spi(self) -> bytes:
        return self._sa.local_spi

    def answer_again(self) -> None:
        """We have moved: the peer may not have got the answer by which this IKE SA was replaced."""
        self._sa.repeat_answer(self._connection.ike_path)

    def receive(self, datagram: Datagram, now: float) -> State | None:
        received = self._sa.accept(datagram, _EXCHANGES)
        if received is None:
            return self
        self._connection.heard(received.path, now)
        over = deletes_ike(received.message)
        self._sa.respond(received, _answer(self._connection, received, now))
        if not over:
            return self
        self._end(now)
        return Answered.for_a_while(self._connection, self._sa, now)

    def handle_timer(self, now: float) -> State | None:
        if self.deadline is None or now < self.deadline:
            return self
        self._end(now)
        return None

    def _end(self, now: float) -> None:
        self._connection.sas.discard(self.local_spi)
        if self._connection.current is not None:
            self._connection.current.confirm(now)


class Deleting:
    """We have sent DELETE for this IKE SA. With a farewell, the connection ends with it.

    Without one it is an IKE SA that another has replaced, or that lost against a simultaneous rekey.
    """

    def __init__(
        self, connection: Connection, sa: IkeSa, now: float, farewell: Farewell | None = None
    ) -> None:
        self._connection = connection
        self._sa = sa
        self._farewell = farewell
        self._give_up = None if farewell is None else now + CLOSE_SECONDS
        sa.request(ExchangeType.INFORMATIONAL, (Delete(ProtocolId.IKE),), connection.ike_path, now)

    @property
    def local_spi(self) -> bytes:
        return self._sa.local_spi

    @property
    def deadline(self) -> float | None:
        pending = self._sa.pending
        times = (None if pending is None else pending.deadline, self._give_up)
        return min((t for t in times if t is not None), default=None)

    def receive(self, datagram: Datagram, now: float) -> State | None:
        received = self._sa.accept(datagram, _EXCHANGES)
        if received is None:
            return self
        if received.is_response:
            return self._end()
        # RFC 7296 section 2.25.2: when both delete it, each answers, and forgets its own request.
        over = deletes_ike(received.message)
        self._sa.respond(received, _answer(self._connection, received, now))
        if not over:
            return self
        self._end()
        self._connection.hub.put(Answered.for_a_while(self._connection, self._sa, now))
        return None

    def handle_timer(self, now: float) -> State | None:
        if self._give_up is not None and now >= self._give_up:
            return self._end()
        return self if self._sa.retransmit(self._connection.ike_path, now) else self._end()

    def _end(self) -> State | None:
        self._connection.sas.discard(self.local_spi)
        if self._farewell is not None:
            self._connection.down(self._farewell)
        return None
