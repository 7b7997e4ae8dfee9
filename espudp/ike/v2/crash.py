"""Quick crash detection (RFC 6290), and what else unprotected messages may set off (RFC 7296 section 2.4).

A listener hands each peer a token: a MAC over the SPIs of their IKE SA, under a secret that outlives it.
After a restart it knows none of its IKE SAs any more, and can still make the token of each. Who gets that
back for a request of its own knows at once that the other side has forgotten everything:

    request of a forgotten IKE SA  -->
                                   <--  N(INVALID_IKE_SPI), N(QCD_TOKEN)    unprotected

Without the right token anybody may have said it, so the peer is asked whether it lives: soon, and not often.
"""

from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

from espudp.crypto.auth import equal
from espudp.crypto.digest import cookie_mac
from espudp.errors import WireError
from espudp.ike.drop import Drop
from espudp.ike.events import Fault
from espudp.ike.farewell import Farewell
from espudp.ike.v2.connection import Connection
from espudp.ike.v2.hub import Datagram, Hub, State
from espudp.ike.v2.informational import CheckAlive
from espudp.ike.v2.sa import IkeSa
from espudp.wire.ikev2.constants import ExchangeType, NotifyType, PayloadType, ProtocolId
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import Message, emit_message, parse_message
from espudp.wire.ikev2.payloads import Notify

if TYPE_CHECKING:
    from espudp.ike.v2.established import Established

# RFC 6290 section 5
_MIN_TOKEN_OCTETS, _MAX_TOKEN_OCTETS = 16, 128

# RFC 6290 section 4.5: a taker looks at four tokens at least; we at no more.
_TOKENS_AT_ONCE = 4

# Our choice: a peer that was heard so lately is not asked again because of what anybody may have said.
_HASTE_SECONDS = 5.0

_LABEL = b"QCD"
_ESP_SPI_OCTETS = 4

_RESTARTED = Farewell(
    Fault.TIMEOUT, "the peer has restarted and knows nothing of this connection any more", retry=True
)


# The maker


def token_of(hub: Hub, spi_i: bytes, spi_r: bytes) -> list[Notify]:
    """What we hand to the peer of an IKE SA; nothing, unless we would know it again after a restart."""
    secret = b"" if hub.listener is None else hub.listener.secret
    if not secret:
        return []
    # RFC 6290 section 5.1
    token = cookie_mac(secret, _LABEL + spi_i + spi_r)
    return [Notify.of(NotifyType.QUICK_CRASH_DETECTION, token, ProtocolId.IKE)]


def token_for_stranger(hub: Hub, header: Header) -> list[Notify]:
    """The token of an IKE SA that we do not have. RFC 6290 section 9.2: never that of one that we have, not
    even to who turns its flags or SPIs round.
    """
    protected = header.next_payload in (PayloadType.SK, PayloadType.SKF)
    if not protected or header.spi_i in hub.states or header.spi_r in hub.states:
        return []
    return token_of(hub, header.spi_i, header.spi_r)


class HandToken:
    """The token of an IKE SA whose rekey we have started (RFC 6290 section 4.3)."""

    exchange: ClassVar[ExchangeType] = ExchangeType.INFORMATIONAL
    busy: ClassVar[bool] = False

    def request(self, ike: "Established", now: float) -> Sequence[Notify] | None:
        return token_of(ike.connection.hub, ike.sa.spi_i, ike.sa.spi_r) or None

    def answered(self, ike: "Established", answer: Message, now: float) -> State | None:
        return ike

    def abandon(self) -> None:
        pass


# The taker


def take_token(sa: IkeSa, message: Message) -> None:
    """Remembers what the peer hands out for this IKE SA, in a protected message (RFC 6290 section 4.4)."""
    for notify in message.notifies():
        fits = _MIN_TOKEN_OCTETS <= len(notify.data) <= _MAX_TOKEN_OCTETS
        if notify.type == NotifyType.QUICK_CRASH_DETECTION and fits:
            sa.token = notify.data


def unprotected(ike: "Established", datagram: Datagram, now: float) -> State | None:
    """What anybody can say to an IKE SA."""
    hub, sa, header = ike.connection.hub, ike.sa, datagram.header
    hub.drop(Drop.UNPROTECTED)
    ours = header.is_response and header.is_initiator != sa.is_initiator
    if not ours or (header.spi_i, header.spi_r) != (sa.spi_i, sa.spi_r):
        return ike
    message = _heeded(hub, datagram, now)
    if message is None or message.notify(NotifyType.INVALID_IKE_SPI) is None:
        return ike
    if _is_proved(sa, message):
        ike.connection.down(_RESTARTED)
        return None
    return hasten(ike, now)


def _is_proved(sa: IkeSa, message: Message) -> bool:
    tokens = (n.data for n in message.notifies() if n.type == NotifyType.QUICK_CRASH_DETECTION)
    return bool(sa.token) and any(equal(sa.token, token) for token in islice(tokens, _TOKENS_AT_ONCE))


def hasten(ike: "Established", now: float) -> State | None:
    """Asks a peer that was not heard lately whether it lives (RFC 7296 section 2.4)."""
    silent = now - ike.connection.last_inbound >= _HASTE_SECONDS
    if not silent or not ike.is_current or ike.task is not None or ike.has(CheckAlive):
        return ike
    return ike.run(CheckAlive(), now)


def _heeded(hub: Hub, datagram: Datagram, now: float) -> Message | None:
    """An unprotected message that may count; None: it is no message, or there were too many of them."""
    if not hub.rumours.take(now):
        hub.drop(Drop.RATE)
        return None
    try:
        return parse_message(datagram.data)
    except WireError:
        return None


# Child SAs that one side has forgotten (RFC 7296 section 1.5)


def invalid_spi(spi: int) -> bytes:
    """What tells whoever sends ESP to an SPI that we do not have."""
    header = Header(
        bytes(8),
        bytes(8),
        0,
        ExchangeType.INFORMATIONAL,
        is_initiator=True,
        is_response=False,
        message_id=0,
    )
    return emit_message(header, [Notify.of(NotifyType.INVALID_SPI, spi.to_bytes(_ESP_SPI_OCTETS))])


def connection_that_lost(hub: Hub, datagram: Datagram, now: float) -> Connection | None:
    """The connection that an unprotected INVALID_SPI is about: that of the child SA, with the peer that says
    so.
    """
    header = datagram.header
    outside = header.exchange == ExchangeType.INFORMATIONAL and header.next_payload == PayloadType.NOTIFY
    if not outside or header.is_response or not header.is_initiator or header.message_id != 0:
        return None
    message = _heeded(hub, datagram, now)
    notify = None if message is None else message.notify(NotifyType.INVALID_SPI)
    if notify is None or len(notify.data) != _ESP_SPI_OCTETS:
        return None
    there = (c for c in hub.connections.values() if c.path.remote == datagram.path.remote)
    return next((c for c in there if c.child_of_peer(notify.data) is not None), None)
