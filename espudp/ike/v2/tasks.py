"""What an established IKE SA does of its own accord: one request at a time, the rest waits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from espudp.ike.v2.hub import State
from espudp.wire.ikev2.constants import ExchangeType
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import Payload

if TYPE_CHECKING:
    from espudp.ike.v2.established import Established


class Task(Protocol):
    """One exchange that we start, and what to make of its answer."""

    exchange: ClassVar[ExchangeType]

    busy: ClassVar[bool]
    """Meanwhile child SAs are in flux, and the peer cannot rekey the IKE SA (RFC 7296 section 2.25.1)."""

    def request(self, ike: "Established", now: float) -> Sequence[Payload] | None:
        """What to send; None: there is no need any more."""

    def answered(self, ike: "Established", answer: Message, now: float) -> State | None:
        """The answer is authentic. Returns the state that follows."""

    def abandon(self) -> None:
        """There will be no answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What to reply to a request, and the state that follows."""

    payloads: Sequence[Payload]
    following: State | None
