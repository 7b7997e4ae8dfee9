"""Asking a peer whether it lives, and answering (RFC 3706).

    R-U-THERE n  -->
                 <--  R-U-THERE-ACK n

A question that is not answered is asked again with the next number, so that no repetition looks like a
replay. Anything authentic from the peer, ESP as well, is an answer.
"""

from typing import TYPE_CHECKING

from espudp.ike.drop import Drop
from espudp.ike.exchange import Retransmission
from espudp.wire.ikev1.constants import NotifyType, ProtocolId
from espudp.wire.ikev1.payloads import Notification

if TYPE_CHECKING:
    from espudp.ike.v1.established import Established

_SEQUENCE_OCTETS = 4
_SEQUENCES = 1 << 8 * _SEQUENCE_OCTETS


class DeadPeerDetection:
    """Over one ISAKMP SA: the numbers begin anew with the next (RFC 3706 section 6.2)."""

    def __init__(self, established: "Established") -> None:
        self._established = established
        # RFC 3706 section 6.2: random, with the high bit zero
        self._sequence = int.from_bytes(established.hub.nonce(_SEQUENCE_OCTETS)) >> 1
        self._first_asked = 0
        self._asked_at = 0.0
        self._pending: Retransmission | None = None
        self._theirs: int | None = None

    @property
    def deadline(self) -> float | None:
        """When the question is asked again; None: there is none."""
        return None if self._pending is None else self._pending.deadline

    def ask(self, now: float) -> Notification | None:
        """A question to send; None: one is under way."""
        if self._pending is not None:
            return None
        self._pending = Retransmission(self._established.sa.timers, now)
        self._asked_at = now
        self._first_asked = self._sequence + 1
        return self._next()

    def ask_again(self, now: float, last_inbound: float) -> tuple[bool, Notification | None]:
        """To be called at any time. Whether the peer may still live, and what to send."""
        if self._pending is None or not self._pending.is_due(now):
            return True, None
        if last_inbound > self._asked_at:
            self._pending = None
            return True, None
        if not self._pending.advance(now):
            self._pending = None
            return False, None
        return True, self._next()

    def answer(self, question: Notification) -> Notification | None:
        """What to answer; None: nothing, the question is an old one or was not put to this SA."""
        sequence = self._checked(question)
        if sequence is None or (self._theirs is not None and sequence < self._theirs):
            self._established.hub.drop(Drop.REPEATED)
            return None
        self._theirs = sequence
        return self._notify(NotifyType.R_U_THERE_ACK, sequence)

    def answered(self, answer: Notification) -> None:
        """RFC 3706 section 6.1: only a number that was asked counts."""
        sequence = self._checked(answer)
        asked = self._pending is not None and sequence is not None
        if asked and sequence is not None and self._first_asked <= sequence <= self._sequence:
            self._pending = None
        else:
            self._established.hub.drop(Drop.UNSOLICITED)

    def _checked(self, notification: Notification) -> int | None:
        """RFC 3706 section 6.1: both cookies, where the peer says them, and a number of four octets."""
        cookies = self._established.sa.cookie_i + self._established.sa.cookie_r
        if notification.spi not in (b"", cookies) or len(notification.data) != _SEQUENCE_OCTETS:
            return None
        return int.from_bytes(notification.data)

    def _next(self) -> Notification:
        self._sequence += 1
        return self._notify(NotifyType.R_U_THERE, self._sequence % _SEQUENCES)

    def _notify(self, kind: NotifyType, sequence: int) -> Notification:
        # RFC 3706 section 5.3
        cookies = self._established.sa.cookie_i + self._established.sa.cookie_r
        return Notification(ProtocolId.ISAKMP, cookies, kind, sequence.to_bytes(_SEQUENCE_OCTETS))
