"""Transaction exchanges (draft-dukes-ike-mode-cfg-02 section 3.1): what XAUTH and mode config go by.

    REQUEST -> <- REPLY      who asks wants to know something
    SET     -> <- ACK        who sets wants something to be known

Either side begins them, each with a message ID, and the IVs and HASH(1) of an informational exchange.
"""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from espudp.ike.drop import Drop
from espudp.ike.exchange import patience
from espudp.ike.v1 import mode_config, xauth
from espudp.ike.v1.asking import ANSWERED_BY, Afterwards, heard
from espudp.ike.v1.exchange import Turn
from espudp.ike.v1.hub import Datagram
from espudp.wire.ikev1.constants import ExchangeType
from espudp.wire.ikev1.payloads import Attributes

if TYPE_CHECKING:
    from espudp.ike.v1.established import Established


@runtime_checkable
class Listening(Protocol):
    """A step that waits for the peer to ask or to set something."""

    def told(self, told: Attributes, now: float) -> tuple[Attributes, Afterwards] | None:
        """What to answer, and what follows when that is on its way; None: it is not for this step."""


class Answering:
    """A REQUEST or SET of the peer's. Some gateways do all of XAUTH under one message ID, so that more may
    follow on the first.
    """

    def __init__(self, established: "Established", message_id: int, now: float) -> None:
        self._established = established
        self._turn = Turn(established.sa, established.sa.timers)
        self._chain = established.sa.chain(message_id)
        self.message_id = message_id
        self.finished = self.over = False
        self.deadline: float | None = now

    def receive(self, datagram: Datagram, now: float) -> None:
        if self._turn.repeats(datagram):
            return
        iv = self._chain.iv
        message = self._chain.open_hashed(datagram)
        if message is None:
            return
        heard(self._established, datagram, now)
        self.deadline = now + patience(self._established.sa.timers)
        told = message.get(Attributes)
        answered = None if told is None else _answer(self._established, told, now)
        if answered is None:
            self._chain.iv = iv  # too early perhaps, and it comes again
            return
        payload, afterwards = answered
        octets = self._chain.seal_hashed(ExchangeType.TRANSACTION, [payload])
        self._turn.say(octets, datagram.path, now, answers=datagram)
        self.finished = True
        afterwards(now)

    def handle_timer(self, now: float) -> None:
        """What is repeated from now on has had its answer long ago."""
        if self.deadline is not None and now >= self.deadline:
            self.abandon()

    def abandon(self) -> None:
        self.over = True
        self.deadline = None


def receive(established: "Established", datagram: Datagram, now: float) -> None:
    """The first message of an exchange that the peer begins."""
    exchange = Answering(established, datagram.header.message_id, now)
    if established.sa.is_used(exchange.message_id):
        return
    established.add(exchange)
    exchange.receive(datagram, now)
    if not established.sa.is_used(exchange.message_id):
        established.drop(exchange)  # not authentic: nothing is kept of it


def _answer(established: "Established", told: Attributes, now: float) -> tuple[Attributes, Afterwards] | None:
    """What the step that is being done makes of it, and else mode config, once the peer has proved itself."""
    step = established.step
    answered = step.told(told, now) if isinstance(step, Listening) else None
    if answered is None:
        answered = xauth.answer(established, told, now)
    if answered is None and established.connection is not None:
        answered = mode_config.answer(established, told)
    if answered is None:
        is_answer = told.cfg_type in ANSWERED_BY.values()
        established.hub.drop(Drop.UNSOLICITED if is_answer else Drop.WRONG_EXCHANGE)
    return answered
