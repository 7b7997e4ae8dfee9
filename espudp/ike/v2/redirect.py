"""REDIRECT (RFC 5685): a gateway sends its clients elsewhere, before, during or after authentication.

    in IKE_SA_INIT    N(REDIRECT, gateway, Ni), and nothing is remembered of the client
    in IKE_AUTH       N(REDIRECT, gateway) beside AUTH, in place of the child SA: by who the client is
    in a session      N(REDIRECT, gateway) in an INFORMATIONAL request

The client goes there with the configuration that it has, so that the other gateway must prove to be the same
peer (section 3). How its name becomes an address is for the host: here the connection ends, and says where.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from espudp.errors import WireError
from espudp.ike.config import ConnectionConfig, ListenerConfig
from espudp.ike.events import Fault
from espudp.ike.farewell import Farewell
from espudp.ike.v2.connection import Connection
from espudp.ike.v2.detours import MAX_REDIRECTS
from espudp.ike.v2.hub import Hub, State
from espudp.wire.ikev2.constants import ExchangeType, NotifyType
from espudp.wire.ikev2.message import Message, parse_message
from espudp.wire.ikev2.payloads import Notify, Payload
from espudp.wire.ikev2.redirect import Redirection

if TYPE_CHECKING:
    from espudp.ike.v2.established import Established

# Our choice: how long a client may take to leave that was told to go elsewhere (RFC 5685 section 5).
LEAVE_SECONDS = 30.0


# The client


def ability(config: ConnectionConfig) -> list[Notify]:
    """What IKE_SA_INIT says of it."""
    if not config.follow_redirects:
        return []
    if config.redirected_from:
        came_from = Redirection(config.redirected_from).emit()
        return [Notify.of(NotifyType.REDIRECTED_FROM, came_from)]
    return [Notify.of(NotifyType.REDIRECT_SUPPORTED)]


def redirection(message: Message, nonce: bytes = b"") -> str | None:
    """Where the peer sends us; None: nowhere, or it is not to be believed. `nonce`: ours, in IKE_SA_INIT."""
    notify = message.notify(NotifyType.REDIRECT)
    if notify is None:
        return None
    try:
        there = Redirection.parse(notify.data)
    except WireError:
        return None
    return there.gateway if there.nonce == nonce else None


def departure(hub: Hub, config: ConnectionConfig, gateway: str, now: float) -> Farewell:
    """The end of a connection that goes on elsewhere."""
    if not hub.detours.may_follow(config, now):
        reason = f"sent elsewhere {MAX_REDIRECTS} times in a few minutes, now to {gateway}"
        remedy = "The gateways send their clients in circles; ask whoever runs them."
        return Farewell(Fault.PROTOCOL, reason, remedy)
    return Farewell(Fault.PEER_REQUEST, f"the peer sends us to {gateway}", retry=True, redirect=gateway)


def follow(ike: "Established", message: Message, now: float) -> None:
    """The peer may have sent us elsewhere in a session; we leave when that is answered."""
    connection = ike.connection
    config, there = connection.policy, redirection(message)
    # RFC 5685 section 10: only the original responder can send the original initiator elsewhere.
    if there is None or not isinstance(config, ConnectionConfig):
        return
    if config.follow_redirects:
        ike.close_soon(departure(connection.hub, config, there, now), now)
    else:
        connection.note(f"the peer would like us to go to {there}")


# The gateway


def elsewhere(hub: Hub, config: ListenerConfig, message: Message, nonce: bytes) -> list[Payload]:
    """What a new client is told instead of an answer to its IKE_SA_INIT; nothing: it may come in."""
    if len(hub.connections) < config.redirect_above or not config.redirect_to or not is_able(message):
        return []
    # RFC 5685 section 3: never back to where it came from, which does not want it either.
    came_from = _came_from(message)
    there = [gateway for gateway in config.redirect_to if gateway != came_from]
    if not there:
        return []
    gateway = there[int(hub.share() * len(there)) % len(there)]
    return [Notify.of(NotifyType.REDIRECT, Redirection(gateway, nonce).emit())]


def by_entry(config: ListenerConfig) -> list[Payload]:
    """What an authenticated client is told instead of getting a child SA; nothing: it gets one."""
    gateway = config.pad[0].redirect_to
    return [Notify.of(NotifyType.REDIRECT, Redirection(gateway).emit())] if gateway else []


def was_able(request: bytes) -> bool:
    """As `is_able`, of the IKE_SA_INIT request as it was kept."""
    return is_able(parse_message(request))


def is_able(message: Message) -> bool:
    """Whether a client can be sent elsewhere, by its IKE_SA_INIT request."""
    said = (NotifyType.REDIRECT_SUPPORTED, NotifyType.REDIRECTED_FROM)
    return any(message.notify(type_) is not None for type_ in said)


def _came_from(message: Message) -> str | None:
    notify = message.notify(NotifyType.REDIRECTED_FROM)
    try:
        return None if notify is None else Redirection.parse(notify.data).gateway
    except WireError:
        return None


class SendElsewhere:
    """Sends the client of a session to another gateway (RFC 5685 section 5)."""

    exchange: ClassVar[ExchangeType] = ExchangeType.INFORMATIONAL
    busy: ClassVar[bool] = False

    def __init__(self, gateway: str) -> None:
        """Raises WireError for a gateway that is no address and no host name."""
        self._data = Redirection(gateway).emit()

    def request(self, ike: "Established", now: float) -> Sequence[Notify] | None:
        return [Notify.of(NotifyType.REDIRECT, self._data)]

    def answered(self, ike: "Established", answer: Message, now: float) -> State | None:
        ike.expire_by(now + LEAVE_SECONDS)
        return ike

    def abandon(self) -> None:
        pass


def may_be_sent(connection: Connection) -> bool:
    """Whether the peer called us, and said that it would go elsewhere."""
    return not connection.dialled and connection.peer.can_be_redirected
