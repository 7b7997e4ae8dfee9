"""IKE_SESSION_RESUME from the client's side (RFC 5723 section 4.3).

ResumeSent --Nr--> AuthSent --> Established
   |  ^ |
   |  +-+ COOKIE
   +--TICKET_NACK, any other answer, none after a while--> InitSent: as if there were no ticket
"""

from espudp.crypto.ikekeys import derive_resumed_ike_keys
from espudp.ike.config import ConnectionConfig
from espudp.ike.drop import Drop
from espudp.ike.encapsulation import Encapsulation, forbids
from espudp.ike.exchange import Retransmission
from espudp.ike.farewell import Farewell
from espudp.ike.natd import found_by
from espudp.ike.rules import Shape
from espudp.ike.tickets import Ticket
from espudp.ike.v2 import opening, redirect
from espudp.ike.v2.auth_initiator import AuthSent
from espudp.ike.v2.child import NONCE_OCTETS
from espudp.ike.v2.hub import NO_SPI, Datagram, Hub, State
from espudp.ike.v2.initial import Initial
from espudp.ike.v2.initiator import InitSent
from espudp.ike.v2.sa import IkeSa
from espudp.wire.address import Path
from espudp.wire.ikev2.constants import ExchangeType, NotifyType
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import Nonce, Notify

# Our choice: how often a ticket is shown again before we begin anew without it.
_TRIES = 2


class ResumeSent:
    """A ticket was shown. Whatever arrives is unauthenticated; the worst of it costs a full handshake."""

    def __init__(
        self,
        hub: Hub,
        number: int,
        config: ConnectionConfig,
        ticket: Ticket,
        path: Path,
        float_path: Path | None,
        now: float,
    ) -> None:
        self._hub = hub
        self.number = number
        self._config = config
        self._ticket = ticket
        self.path = path
        self._float_path = float_path
        self._nonce = hub.nonce(NONCE_OCTETS)
        self._cookies = opening.Cookies()
        self.local_spi = hub.new_spi()
        self._request = b""
        self._claims_nat = config.encap is Encapsulation.ALWAYS
        self._retransmission = self._send(now)

    @property
    def deadline(self) -> float | None:
        return self._retransmission.deadline

    def handle_timer(self, now: float) -> State | None:
        if not self._retransmission.is_due(now):
            return self
        if self._retransmission.tries >= _TRIES or not self._retransmission.advance(now):
            return self._begin_anew(now)
        self._hub.send(self._request, self.path)
        return self

    def close(self, farewell: Farewell) -> None:
        """Nothing is left at the peer but a half-open IKE SA."""
        self._hub.hang_up(self.number, farewell)

    def receive(self, datagram: Datagram, now: float) -> State | None:
        message = opening.read_answer(datagram, ExchangeType.IKE_SESSION_RESUME, Shape.SESSION_RESUME)
        if isinstance(message, Drop):
            self._hub.drop(message)
            return self
        return self._answered(message, datagram, now)

    def _answered(self, message: Message, datagram: Datagram, now: float) -> State | None:
        nonce, cookie = message.get(Nonce), message.notify(NotifyType.COOKIE)
        if nonce is not None and header_is_whole(message):
            return self._resumed(nonce, message, datagram, now)
        if cookie is not None:
            return self._retry_with_cookie(cookie.data, now)
        there = redirect.redirection(message, self._nonce)
        if there is not None and self._config.follow_redirects:
            self._hub.hang_up(self.number, redirect.departure(self._hub, self._config, there, now))
            return None
        self._hub.wallet.discard(self._ticket)
        return self._begin_anew(now)

    def _retry_with_cookie(self, cookie: bytes, now: float) -> State | None:
        if self._cookies.take(cookie):
            self._retransmission = self._send(now)
        else:
            self._hub.drop(Drop.UNSOLICITED)
        return self

    def _send(self, now: float) -> Retransmission:
        payloads = [
            *self._cookies.payloads(),
            Nonce(self._nonce),
            Notify.of(NotifyType.TICKET_OPAQUE, self._ticket.octets),
        ]
        self._request = opening.request(
            ExchangeType.IKE_SESSION_RESUME,
            self.local_spi,
            self.path,
            self._config,
            payloads,
            claims_nat=self._claims_nat,
        )
        self._hub.send(self._request, self.path)
        return Retransmission(self._config.timers, now)

    def _begin_anew(self, now: float) -> State | None:
        """Under another SPI; the ticket may be good for another time."""
        hub = self._hub
        following = InitSent(hub, self.number, self._config, self.path, self._float_path, now)
        hub.dialling[self.number] = following.local_spi
        hub.put(following)
        return None

    def _resumed(self, nonce: Nonce, message: Message, datagram: Datagram, now: float) -> State | None:
        hub, ticket, spi_r = self._hub, self._ticket, message.header.spi_r
        # RFC 5723 section 4.3.1: each ticket is for one time.
        hub.wallet.discard(ticket)
        keys = derive_resumed_ike_keys(
            ticket.suite, ticket.sk_d, self._nonce, nonce.data, self.local_spi, spi_r
        )
        sa = IkeSa(
            hub,
            self.local_spi,
            spi_r,
            ticket.suite,
            keys,
            self._config.timers,
            is_initiator=True,
            initial=True,
            fragments=message.notify(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED) is not None,
        )
        nat = found_by(message, self.local_spi, spi_r, self.path)
        if (not self._claims_nat and opening.must_claim(hub, nat, message)) or forbids(
            self._config.encap, nat
        ):
            return self._begin_anew(now)
        childless = message.notify(NotifyType.CHILDLESS_IKEV2_SUPPORTED) is not None
        initial = Initial(
            self._request,
            datagram.data,
            self._nonce,
            nonce.data,
            keys,
            nat,
            childless=childless,
            claims_nat=self._claims_nat,
        )
        path = self._float_path or self.path
        return AuthSent(
            hub, self.number, self._config, sa, initial, path, now, lambda *_: None, ticket=ticket
        )


def header_is_whole(message: Message) -> bool:
    """Whether the gateway has made an IKE SA of it."""
    return message.header.spi_r != NO_SPI
