"""What two peers say to each other, as the ladder diagram that an RFC would draw of it."""

from dataclasses import dataclass

from espudp.errors import WireError
from espudp.wire import natt
from espudp.wire.ikev2.constants import ExchangeType, PayloadType
from espudp.wire.ikev2.header import Header
from tests.sim.host import IKE_PORT, Host
from tests.sim.link import Datagram

_WIDTH = 34

# RFC 7383 section 2.5: behind both headers
_FRAGMENT_NUMBER = slice(32, 34)


@dataclass(frozen=True, slots=True)
class Step:
    """One IKE message as its sender sent it: whether it was `left`, and what it was."""

    left: bool
    exchange: str
    message_id: int
    response: bool
    time: float

    def __str__(self) -> str:
        text = f"{self.exchange} {self.message_id} {'response' if self.response else 'request'}"
        return f"{text:<{_WIDTH}}-->" if self.left else f"{'':<{_WIDTH}}<-- {text}"


class Ladder:
    """Listens to the IKE messages that two hosts send, from now on."""

    def __init__(self, left: Host, right: Host) -> None:
        self.steps: list[Step] = []
        left.on_send.append(lambda datagram: self._saw(datagram, left, at_left=True))
        right.on_send.append(lambda datagram: self._saw(datagram, right, at_left=False))

    def _saw(self, datagram: Datagram, sender: Host, *, at_left: bool) -> None:
        message = datagram.payload
        if datagram.source.port != IKE_PORT:
            if natt.classify(message) is not natt.Kind.IKE:
                return
            message = message[len(natt.NON_ESP_MARKER) :]
        try:
            header = Header.parse(message)
        except WireError:
            return
        if header.next_payload == PayloadType.SKF and message[_FRAGMENT_NUMBER] != b"\0\1":
            return  # one message, however many pieces it goes in
        name = ExchangeType(header.exchange).name
        self.steps.append(Step(at_left, name, header.message_id, header.is_response, sender.world.now))

    def clear(self) -> None:
        """Forget what was said so far."""
        self.steps.clear()

    def __str__(self) -> str:
        return "\n".join(str(step).rstrip() for step in self.steps)

    def matches(self, drawing: str) -> bool:
        """Whether this is what was said, white space aside."""
        return [line.split() for line in str(self).splitlines()] == [
            line.split() for line in drawing.strip().splitlines()
        ]
