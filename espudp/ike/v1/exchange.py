"""Exchanges under the protection of an ISAKMP SA, and who repeats what in them.

IKEv1 says little of retransmission (RFC 2408 section 5.1): whoever waits for a message repeats its own last
one. So each side keeps its last message of every exchange, with the message of the peer that it answers, and
when that comes again octet for octet, so does the answer.
"""

from collections.abc import Sequence
from typing import Protocol

from espudp.crypto.digest import sha1
from espudp.ike.config import Timers
from espudp.ike.drop import Drop
from espudp.ike.exchange import Retransmission
from espudp.ike.v1.hub import Datagram, Hub
from espudp.wire.address import Path

# Our bound: whoever has seen a message can repeat it as often as it likes.
MAX_REPEATS = 10


class Exchange(Protocol):
    """One message ID of an ISAKMP SA. Several go on at a time, each with IVs of its own."""

    @property
    def message_id(self) -> int: ...

    @property
    def deadline(self) -> float | None: ...

    @property
    def finished(self) -> bool:
        """There is nothing left to do, but something to repeat."""

    @property
    def over(self) -> bool:
        """There is nothing left to repeat, either: it is forgotten."""

    def receive(self, datagram: Datagram, now: float) -> None:
        """A message with its message ID; nothing of it is verified."""

    def handle_timer(self, now: float) -> None:
        """Called at or after `deadline`, and possibly for nothing."""

    def abandon(self) -> None:
        """The ISAKMP SA goes: there will be no answer."""


class Sender(Protocol):
    """What messages go out by."""

    @property
    def hub(self) -> Hub: ...

    def fragmented(self, octets: bytes, path: Path) -> Sequence[bytes]:
        """The datagrams that a message goes out in."""


class Turn:
    """Our last message of an exchange, and the one of the peer that it answers."""

    def __init__(self, sender: Sender, timers: Timers) -> None:
        self._sender = sender
        self._timers = timers
        self._said: Sequence[bytes] = ()
        self._answers = b""  # a hash of it
        self._repeats = 0
        self._pending: Retransmission | None = None

    def say(
        self,
        octets: bytes,
        path: Path,
        now: float,
        *,
        answers: Datagram | None = None,
        awaits: bool = False,
    ) -> None:
        """Sends our next message. `awaits`: there is to be an answer, so it is repeated until there is."""
        self._said = self._sender.fragmented(octets, path)
        self._answers = b"" if answers is None else sha1(answers.data)
        self._repeats = 0
        self._pending = Retransmission(self._timers, now) if awaits else None
        self._send(path)

    def repeats(self, datagram: Datagram, path: Path | None = None) -> bool:
        """Whether this is octet for octet what our last message answers; that goes out again then, though not
        for ever: over `path`, or to where it came from.
        """
        if not self._answers or sha1(datagram.data) != self._answers:
            return False
        if self._repeats >= MAX_REPEATS:
            self._sender.hub.drop(Drop.REPEATED)
            return True
        self._repeats += 1
        self._send(path or datagram.path)
        return True

    def again(self, path: Path) -> None:
        """Our message once more, though not for ever: the peer seems not to have got it."""
        if self._repeats < MAX_REPEATS:
            self._repeats += 1
            self._send(path)

    def heard(self) -> None:
        """The answer is there: no need to go on asking."""
        self._pending = None

    @property
    def deadline(self) -> float | None:
        """When our message is due to be repeated."""
        return None if self._pending is None else self._pending.deadline

    def handle_timer(self, path: Path, now: float) -> bool:
        """To be called at any time. False: there is no answer, and the tries are used up."""
        if self._pending is None or not self._pending.is_due(now):
            return True
        if not self._pending.advance(now):
            return False
        self._send(path)
        return True

    def _send(self, path: Path) -> None:
        for octets in self._said:
            self._sender.hub.send(octets, path)
