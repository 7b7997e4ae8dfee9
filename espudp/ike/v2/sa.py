"""One keyed IKE SA: its SPIs, its keys, and the two windows of messages (RFC 7296 sections 2.2, 2.3, 3.14).

What a message means is for the states; here it is decided whether it counts at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from espudp.crypto.ikekeys import IkeKeys, IkeSuite
from espudp.errors import WireError
from espudp.ike.config import Timers
from espudp.ike.drop import Drop
from espudp.ike.exchange import Arrival, IncomingRequests, OutgoingRequests, Retransmission
from espudp.ike.keylog import IkeKeyLog
from espudp.ike.protect import Opened, Protection
from espudp.ike.v2.hub import Datagram, Hub
from espudp.wire.address import Path
from espudp.wire.ikev2.constants import name_of_exchange
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import Message, parse_message
from espudp.wire.ikev2.payloads import Encrypted, Payload


@dataclass(frozen=True, slots=True)
class Received:
    """An authentic message: `message` holds the payloads from inside of the Encrypted payload.

    `nonsense` says what is wrong with the payloads of a peer that has the keys and cannot encode; there are
    none then.
    """

    message: Message
    datagram: Datagram
    nonsense: str | None = None

    @property
    def is_response(self) -> bool:
        return self.message.header.is_response

    @property
    def exchange(self) -> int:
        return self.message.header.exchange

    @property
    def path(self) -> Path:
        """The way it came, which is the way back for its answer (RFC 7296 section 2.11)."""
        return self.datagram.path


class IkeSa:
    """`is_initiator`: we are the original initiator, whose SPI comes first and who sets the I flag."""

    def __init__(
        self,
        hub: Hub,
        spi_i: bytes,
        spi_r: bytes,
        suite: IkeSuite,
        keys: IkeKeys,
        timers: Timers,
        *,
        is_initiator: bool,
        initial: bool,
    ) -> None:
        """`initial`: it comes from IKE_SA_INIT, where the initiator has used message ID 0 already."""
        self.hub = hub
        self.spi_i, self.spi_r = spi_i, spi_r
        self.is_initiator = is_initiator
        self.suite = suite
        self.sk_d = keys.d
        self.timers = timers
        self.outgoing = OutgoingRequests(1 if initial and is_initiator else 0)
        self.incoming = IncomingRequests(1 if initial and not is_initiator else 0)
        self._protection = Protection(suite, keys, hub.rng, is_initiator=is_initiator)
        hub.log_keys(IkeKeyLog(spi_i, spi_r, suite, keys))

    @property
    def local_spi(self) -> bytes:
        return self.spi_i if self.is_initiator else self.spi_r

    # Sending

    def request(self, exchange: int, payloads: Sequence[Payload], path: Path, now: float) -> None:
        """Sends a request and starts its retransmission. There must be none under way."""
        header = self._header(exchange, self.outgoing.next_id, is_response=False)
        datagram = self._protection.seal(header, payloads)
        self.outgoing.start(exchange, datagram, self.timers, now)
        self.hub.send(datagram, path)

    def respond(self, received: Received, payloads: Sequence[Payload]) -> None:
        """Answers a request, once; repetitions get the same octets from `accept`."""
        header = self._header(received.exchange, received.message.header.message_id, is_response=True)
        datagram = self._protection.seal(header, payloads)
        self.incoming.answer(received.datagram.data, datagram)
        self.hub.send(datagram, received.path)

    def notify_once(self, exchange: int, payloads: Sequence[Payload], path: Path) -> None:
        """Sends a request whose answer nobody will wait for, because the IKE SA ends with it."""
        header = self._header(exchange, self.outgoing.next_id, is_response=False)
        self.hub.send(self._protection.seal(header, payloads), path)

    def retransmit(self, path: Path, now: float) -> bool:
        """To be called at any time. False: the peer does not answer, and the tries are used up."""
        pending = self.outgoing.pending
        if pending is None or not pending.is_due(now):
            return True
        if not pending.advance(now):
            return False
        self.hub.send(pending.datagram, path)
        return True

    @property
    def pending(self) -> Retransmission | None:
        """Our request that has no answer yet."""
        return self.outgoing.pending

    def _header(self, exchange: int, message_id: int, *, is_response: bool) -> Header:
        return Header(
            self.spi_i,
            self.spi_r,
            next_payload=0,
            exchange=exchange,
            is_initiator=self.is_initiator,
            is_response=is_response,
            message_id=message_id,
        )

    # Receiving

    def accept(self, datagram: Datagram, exchanges: frozenset[int]) -> Received | None:
        """An authentic message that is in the window and of an exchange that the state has; None: dealt with.

        The checks that cost nothing come first; nothing changes before the ICV has been verified.
        """
        reason = self._misfit(datagram, exchanges)
        if reason is not None:
            self.hub.drop(reason)
            return None
        header = datagram.header
        if not header.is_response and self._repeated(datagram):
            # RFC 7296 section 2.1: octet for octet the answer of before, to where the request came from.
            self.hub.send(self.incoming.response, datagram.path)
            return None
        if header.exchange not in exchanges:
            self.hub.drop(Drop.WRONG_EXCHANGE)
            return None
        opened = self._open(datagram)
        if opened is None:
            return None
        if header.is_response:
            self.outgoing.finish()
        try:
            return Received(Message(header, opened.payloads()), datagram)
        except WireError as error:
            what = f"{name_of_exchange(header.exchange)}: {error}"
            return Received(Message(header, ()), datagram, nonsense=what)

    def _misfit(self, datagram: Datagram, exchanges: frozenset[int]) -> Drop | None:
        header = datagram.header
        if header.is_initiator == self.is_initiator:
            return Drop.WRONG_ROLE
        if (header.spi_i, header.spi_r) != (self.spi_i, self.spi_r):
            return Drop.WRONG_SPI
        if header.is_response:
            awaited = self.outgoing.awaits(header.message_id, header.exchange)
            return None if awaited else Drop.UNSOLICITED
        if self.incoming.classify(header.message_id, datagram.data) is Arrival.OUTSIDE:
            return Drop.OUT_OF_WINDOW
        return None

    def _repeated(self, datagram: Datagram) -> bool:
        return self.incoming.classify(datagram.header.message_id, datagram.data) is Arrival.REPEATED

    def _open(self, datagram: Datagram) -> Opened | None:
        try:
            message = parse_message(datagram.data)
        except WireError:
            self.hub.drop(Drop.MALFORMED)
            return None
        # RFC 7296 section 3.14: the Encrypted payload is the only one, whatever else stands there is
        # nobody's.
        if len(message.payloads) != 1 or not isinstance(message.payloads[0], Encrypted):
            self.hub.drop(Drop.UNPROTECTED)
            return None
        opened = self._protection.open(datagram.data, message.payloads[0])
        if opened is None:
            self.hub.drop(Drop.BAD_ICV)
        return opened
