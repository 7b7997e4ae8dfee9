"""What the two requests that open an IKE SA have in common, IKE_SA_INIT and IKE_SESSION_RESUME.

Neither they nor their answers are protected: whatever comes back may be anybody's.
"""

from collections.abc import Sequence

from espudp.errors import WireError
from espudp.ike.config import ConnectionConfig
from espudp.ike.drop import Drop
from espudp.ike.natd import NatStatus, natd_data
from espudp.ike.rules import RESPONSES, Shape, breach, critical
from espudp.ike.v2 import redirect
from espudp.ike.v2.hub import NO_SPI, Datagram, Hub
from espudp.wire.address import Path
from espudp.wire.ikev2.constants import ExchangeType, NotifyType
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import Message, emit_message, parse_message
from espudp.wire.ikev2.payloads import Notify, Payload

# Our bound on how often the request starts over: anybody can forge the answers that make it do so.
MAX_COOKIES = 5

# RFC 7296 section 2.6
MAX_COOKIE_OCTETS = 64


class Cookies:
    """RFC 7296 section 2.6.1: a cookie stays in all later tries, whatever the reason for them."""

    def __init__(self) -> None:
        self._last = b""
        self._taken = 0

    def take(self, cookie: bytes) -> bool:
        """Whether the request is to be sent again, with this one."""
        if self._taken >= MAX_COOKIES or not 1 <= len(cookie) <= MAX_COOKIE_OCTETS or cookie == self._last:
            return False
        self._taken += 1
        self._last = cookie
        return True

    def payloads(self) -> list[Payload]:
        """In front of all others."""
        return [Notify.of(NotifyType.COOKIE, self._last)] if self._last else []


def request(
    exchange: ExchangeType,
    spi: bytes,
    path: Path,
    config: ConnectionConfig,
    payloads: Sequence[Payload],
    abilities: Sequence[Payload] = (),
    *,
    claims_nat: bool,
) -> bytes:
    """The message. `abilities` are ours beside those that both exchanges tell of. `claims_nat`: the peer is
    to find one.
    """
    header = Header(spi, NO_SPI, 0, exchange, is_initiator=True, is_response=False, message_id=0)
    source, destination = natd_data(spi, NO_SPI, path, force_encap=claims_nat)
    return emit_message(
        header,
        [
            *payloads,
            Notify.of(NotifyType.NAT_DETECTION_SOURCE_IP, source),
            Notify.of(NotifyType.NAT_DETECTION_DESTINATION_IP, destination),
            *abilities,
            *redirect.ability(config),
            # RFC 7383 section 2.3
            Notify.of(NotifyType.IKEV2_FRAGMENTATION_SUPPORTED),
        ],
    )


def must_claim(hub: Hub, nat: NatStatus, answer: Message) -> bool:
    """Whether the peer sees no NAT, and so may send ESP without UDP, which we would not get."""
    if hub.plain_esp or nat.found or nat.claimed:
        return False
    return answer.notify(NotifyType.NAT_DETECTION_SOURCE_IP) is not None


def read_answer(datagram: Datagram, exchange: ExchangeType, shape: Shape) -> Message | Drop:
    """What may be an answer to such a request, and keeps the rules; or why it is none."""
    header = datagram.header
    if not header.is_response or header.is_initiator or header.message_id != 0:
        return Drop.UNSOLICITED
    if header.exchange != exchange:
        return Drop.WRONG_EXCHANGE
    try:
        message = parse_message(datagram.data)
    except WireError:
        return Drop.MALFORMED
    if breach(message, RESPONSES[shape]) is not None or critical(message) is not None:
        return Drop.BAD_PAYLOADS
    return message
