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
from espudp.ike.protect import Content, Opened, Protection
from espudp.ike.v2.fragments import TRIES_OF_ONE_SIZE, Letter, Reassembly, ip_octets_of, sizes_for
from espudp.ike.v2.hub import Datagram, Hub
from espudp.wire.address import Path
from espudp.wire.ikev2.constants import PayloadType, name_of_exchange
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import Message, parse_message
from espudp.wire.ikev2.payloads import EncryptedFragment, Payload, Protected


@dataclass(frozen=True, slots=True)
class Received:
    """An authentic message: `message` holds the payloads from inside of the Encrypted payload.

    `nonsense` says what is wrong with the payloads of a peer that has the keys and cannot encode; there are
    none then. Of a message in fragments `datagram` is the one that came last, and `ip_octets` the largest IP
    packet; None: it was whole.
    """

    message: Message
    datagram: Datagram
    nonsense: str | None = None
    ip_octets: int | None = None

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
        fragments: bool = False,
    ) -> None:
        """`initial`: it comes from IKE_SA_INIT, where the initiator has used message ID 0 already.
        `fragments`: both sides have said that they can be sent some (RFC 7383 section 2.3).
        """
        self.hub = hub
        self.spi_i, self.spi_r = spi_i, spi_r
        self.is_initiator = is_initiator
        self.suite = suite
        self.sk_d = keys.d
        self.timers = timers
        self.fragments = fragments
        self.token = b""
        """By which the peer shows that it has forgotten this IKE SA (RFC 6290)."""
        self.outgoing = OutgoingRequests(1 if initial and is_initiator else 0)
        self.incoming = IncomingRequests(1 if initial and not is_initiator else 0)
        self._protection = Protection(suite, keys, hub.rng, is_initiator=is_initiator)
        self._question: Letter | None = None
        self._answer: Letter | None = None
        self._asked_again = 0
        self._at_most: int | None = None  # larger IP packets have got no answer
        self._parts = {is_response: Reassembly(hub) for is_response in (False, True)}
        hub.log_keys(IkeKeyLog(spi_i, spi_r, suite, keys))

    @property
    def local_spi(self) -> bytes:
        return self.spi_i if self.is_initiator else self.spi_r

    # Sending

    def request(self, exchange: int, payloads: Sequence[Payload], path: Path, now: float) -> None:
        """Sends a request and starts its retransmission. There must be none under way."""
        header = self._header(exchange, self.outgoing.next_id, is_response=False)
        self._question = self._letter(header, payloads, path, self._at_most)
        self.outgoing.start(exchange, self.timers, now)
        self._post(self._question, path)

    def respond(self, received: Received, payloads: Sequence[Payload]) -> None:
        """Answers a request, once; repetitions get the same octets from `accept`.

        RFC 7383 section 2.5.1: what is too large goes in fragments of the size that the request came in.
        """
        header = self._header(received.exchange, received.message.header.message_id, is_response=True)
        self._answer = self._letter(header, payloads, received.path, received.ip_octets)
        self._asked_again = 0
        self.incoming.answered(received.datagram.data if received.ip_octets is None else None)
        self._post(self._answer, received.path)

    def notify_once(self, exchange: int, payloads: Sequence[Payload], path: Path) -> None:
        """Sends a request whose answer nobody will wait for, because the IKE SA ends with it."""
        header = self._header(exchange, self.outgoing.next_id, is_response=False)
        self._post(self._letter(header, payloads, path, self._at_most), path)

    def retransmit(self, path: Path, now: float) -> bool:
        """To be called at any time. False: the peer does not answer, and the tries are used up."""
        pending, letter = self.outgoing.pending, self._question
        if pending is None or letter is None or not pending.is_due(now):
            return True
        if pending.tries >= TRIES_OF_ONE_SIZE and letter.shrink():
            self._at_most = letter.ip_octets
            pending.restart(now)
        elif not pending.advance(now):
            return False
        self._post(letter, path)
        return True

    def repeat(self, path: Path) -> None:
        """The request under way once more, over another path; this is none of its tries."""
        if self.pending is not None and self._question is not None:
            self._post(self._question, path)

    def repeat_answer(self, path: Path) -> None:
        """Our last answer once more, over a path of the caller's choice."""
        if self._answer is not None:
            self._post(self._answer, path)

    @property
    def pending(self) -> Retransmission | None:
        """Our request that has no answer yet."""
        return self.outgoing.pending

    def _letter(self, header: Header, payloads: Sequence[Payload], path: Path, at_most: int | None) -> Letter:
        sizes = sizes_for(self.hub.path_mtus(path.remote.ip), at_most) if self.fragments else ()
        return Letter(self._protection, header, Content.of(payloads), path, sizes)

    def _post(self, letter: Letter, path: Path) -> None:
        for octets in letter.datagrams:
            self.hub.send(octets, path)

    def _repeat_answer(self, datagram: Datagram, *, smaller: bool = False) -> None:
        """RFC 7296 section 2.1: octet for octet the answer of before, to where the request came from.

        RFC 7383 sections 2.4 and 2.5.1: unless it seems to get lost for its size, as it does to a peer that
        asks again in `smaller` pieces.
        """
        letter = self._answer
        if letter is None:
            return
        self._asked_again += 1
        if (smaller or self._asked_again > TRIES_OF_ONE_SIZE) and letter.shrink():
            self._asked_again = 0
        self._post(letter, datagram.path)

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
        """An authentic message that is in the window and of an exchange that the state has; None: dealt with,
        or a fragment that waits for others.

        The checks that cost nothing come first; nothing changes before the ICV has been verified.
        """
        reason = self._misfit(datagram)
        if reason is not None:
            self.hub.drop(reason)
            return None
        if datagram.header.next_payload == PayloadType.SKF:
            return self._accept_fragment(datagram, exchanges)
        if not datagram.header.is_response:
            arrival = self.incoming.classify(datagram.header.message_id, datagram.data)
            if arrival is Arrival.OUTSIDE:
                self.hub.drop(Drop.OUT_OF_WINDOW)
                return None
            if arrival is Arrival.REPEATED:
                self._repeat_answer(datagram)
                return None
        if datagram.header.exchange not in exchanges:
            self.hub.drop(Drop.WRONG_EXCHANGE)
            return None
        protected = self._protected(datagram)
        opened = None if protected is None else self._open(datagram, protected)
        return None if opened is None else self._received(datagram, opened, None)

    def _misfit(self, datagram: Datagram) -> Drop | None:
        header = datagram.header
        if header.is_initiator == self.is_initiator:
            return Drop.WRONG_ROLE
        if (header.spi_i, header.spi_r) != (self.spi_i, self.spi_r):
            return Drop.WRONG_SPI
        if header.is_response and not self.outgoing.awaits(header.message_id, header.exchange):
            return Drop.UNSOLICITED
        return None

    def _received(self, datagram: Datagram, opened: Opened | Content, ip_octets: int | None) -> Received:
        header = datagram.header
        if header.is_response:
            self.outgoing.finish()
        try:
            return Received(Message(header, opened.payloads()), datagram, ip_octets=ip_octets)
        except WireError as error:
            what = f"{name_of_exchange(header.exchange)}: {error}"
            return Received(Message(header, ()), datagram, nonsense=what, ip_octets=ip_octets)

    def _protected(self, datagram: Datagram) -> Protected | None:
        """The payload that is all there is in a message; None: it is no such message, and dropped."""
        try:
            message = parse_message(datagram.data)
        except WireError:
            self.hub.drop(Drop.MALFORMED)
            return None
        # RFC 7296 section 3.14: the Encrypted payload is the only one, whatever else stands there is
        # nobody's.
        if len(message.payloads) != 1 or not isinstance(message.payloads[0], Protected):
            self.hub.drop(Drop.UNPROTECTED)
            return None
        return message.payloads[0]

    def _open(self, datagram: Datagram, protected: Protected) -> Opened | None:
        opened = self._protection.open(datagram.data, protected)
        if opened is None:
            self.hub.drop(Drop.BAD_ICV)
        return opened

    # Receiving fragments

    def _accept_fragment(self, datagram: Datagram, exchanges: frozenset[int]) -> Received | None:
        header, parts = datagram.header, self._parts[datagram.header.is_response]
        again = not header.is_response and self.incoming.is_last(header.message_id)
        fragment = self._protected(datagram)
        if not isinstance(fragment, EncryptedFragment):
            return None
        reason = self._misfit_of_fragment(header, fragment, exchanges, again=again)
        reason = reason or (None if again else parts.misfit(header, fragment))
        if reason is not None:
            self.hub.drop(reason)
            return None
        opened = self._open(datagram, fragment)
        if opened is None:
            return None
        if again:
            size = None if self._answer is None else self._answer.ip_octets
            self._repeat_answer(datagram, smaller=size is not None and ip_octets_of(datagram) < size)
            return None
        try:
            content = opened.content()
        except WireError:
            self.hub.drop(Drop.MALFORMED)
            return None
        whole = parts.add(datagram, fragment, content)
        return None if whole is None else self._received(datagram, whole.content, whole.ip_octets)

    def _misfit_of_fragment(
        self, header: Header, fragment: EncryptedFragment, exchanges: frozenset[int], *, again: bool
    ) -> Drop | None:
        if not self.fragments:
            return Drop.FRAGMENT
        if again:
            # RFC 7383 section 2.6.1: of a request that was answered only the first one counts.
            return None if fragment.number == 1 else Drop.FRAGMENT_REPEATED
        if not header.is_response and not self.incoming.is_next(header.message_id):
            return Drop.OUT_OF_WINDOW
        return None if header.exchange in exchanges else Drop.WRONG_EXCHANGE
