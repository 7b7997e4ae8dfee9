"""Session resumption (RFC 5723): a connection that broke off goes on without Diffie-Hellman, and without
asking its user for anything.

    IKE_AUTH ... N(TICKET_REQUEST)  -->
                                    <--  ... N(TICKET_LT_OPAQUE)    the gateway gives a ticket, and may forget
    ~~~ the laptop sleeps ~~~
    IKE_SESSION_RESUME Ni, ticket   -->
                                    <--  Nr                         or TICKET_NACK: all from the beginning
    IKE_AUTH                       <-->  with the old SK_d for proof

The ticket says all that the gateway must know, sealed with a key that only the gateway has.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from espudp.errors import AuthenticationFailed
from espudp.ike.config import ConnectionConfig, ListenerConfig
from espudp.ike.credentials import Resumed, ResumedAs
from espudp.ike.events import Fault
from espudp.ike.farewell import Farewell
from espudp.ike.identity import Identity
from espudp.ike.pad import Pattern
from espudp.ike.tickets import LONGEST_SECONDS, Session, Ticket
from espudp.ike.v2.connection import Connection
from espudp.ike.v2.hub import Hub, State
from espudp.ike.v2.sa import IkeSa
from espudp.wire.ikev2.constants import ExchangeType, NotifyType
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import Notify, Payload

if TYPE_CHECKING:
    from espudp.ike.v2.established import Established

# RFC 5723 section 7.1
_LIFETIME_OCTETS = 4
# Our bound: a ticket goes into a message that cannot be fragmented.
_MAX_TICKET_OCTETS = 1024


# The client


def wish(config: ConnectionConfig) -> list[Payload]:
    """What IKE_AUTH says of it."""
    return [Notify.of(NotifyType.TICKET_REQUEST)] if config.resume else []


def take_ticket(
    connection: Connection, sa: IkeSa, message: Message, names: tuple[Identity, Identity], now: float
) -> None:
    """Keeps the ticket of an answer, if there is one. `names`: IDi and IDr as they were sent."""
    notify = message.notify(NotifyType.TICKET_LT_OPAQUE)
    octets = b"" if notify is None else notify.data
    if not _LIFETIME_OCTETS < len(octets) <= _LIFETIME_OCTETS + _MAX_TICKET_OCTETS:
        return
    lifetime = min(int.from_bytes(octets[:_LIFETIME_OCTETS]), LONGEST_SECONDS)
    ours, theirs = names
    connection.ticket = Ticket(
        octets[_LIFETIME_OCTETS:], sa.suite, sa.sk_d, ours, theirs, connection.peer.identity, now + lifetime
    )


def as_resumed(config: ConnectionConfig, ticket: Ticket) -> ConnectionConfig:
    """The same connection, authenticated by the session that goes on (RFC 5723 section 4.3.3)."""
    demand = ResumedAs(ticket.claimed, ticket.peer)
    return replace(config, local_identity=ticket.ours, proof=Resumed(), demand=demand, further=())


class AskForTicket:
    """A new ticket after a rekey, which has made the old one useless (RFC 5723 sections 4.1 and 6.2)."""

    exchange: ClassVar[ExchangeType] = ExchangeType.INFORMATIONAL
    busy: ClassVar[bool] = False

    def __init__(self, old: Ticket) -> None:
        self._names = old.ours, old.claimed

    def request(self, ike: "Established", now: float) -> Sequence[Payload] | None:
        return [Notify.of(NotifyType.TICKET_REQUEST)]

    def answered(self, ike: "Established", answer: Message, now: float) -> State | None:
        take_ticket(ike.connection, ike.sa, answer, self._names, now)
        return ike

    def abandon(self) -> None:
        pass


def renew(ike: "Established") -> None:
    """The IKE SA is a new one."""
    old, ike.connection.ticket = ike.connection.ticket, None
    if old is not None:
        ike.enqueue(AskForTicket(old))


# The gateway


def grant(connection: Connection, sa: IkeSa, message: Message, now: float) -> list[Payload]:
    """What a client gets that asks for a ticket. It is good for no longer than its authentication."""
    if message.notify(NotifyType.TICKET_REQUEST) is None or connection.dialled:
        return []
    issuer, peer, policy = connection.hub.issuer, connection.peer, connection.policy
    today = _now(connection.hub)
    if issuer is None:
        return []
    if peer.claimed is None or peer.identity.is_nobody or today is None:
        return [Notify.of(NotifyType.TICKET_NACK)]
    limits = policy.timers.ike_lifetime.hard_seconds or LONGEST_SECONDS, connection.ends_at - now
    lifetime = max(0, int(min(*limits, LONGEST_SECONDS)))
    names = peer.claimed, peer.identity, policy.local_identity
    session = Session(sa.suite.name, sa.sk_d, *names, peer.entry, today + lifetime, sa.local_spi)
    ticket = issuer.issue(session)
    if len(ticket) > _MAX_TICKET_OCTETS:
        return [Notify.of(NotifyType.TICKET_NACK)]
    return [Notify.of(NotifyType.TICKET_LT_OPAQUE, lifetime.to_bytes(_LIFETIME_OCTETS) + ticket)]


def session_of(hub: Hub, ticket: bytes) -> Session | None:
    """What a ticket says that is ours, and not too old or used; None: it is not."""
    now = _now(hub)
    return None if hub.issuer is None or now is None else hub.issuer.read(ticket, now)


def for_session(config: ListenerConfig, session: Session, ip: str) -> ListenerConfig | None:
    """What holds for the client that resumes this; None: who came that way may come no more."""
    entry = next((entry for entry in config.pad if entry.mark == session.entry), None)
    if entry is None or not entry.fit(session.claimed, ip):
        return None
    back = replace(
        entry,
        proof=Resumed(),
        demand=ResumedAs(session.claimed, session.known),
        further=(),
        peers=(Pattern(session.claimed),),
        local_identity=session.ours,
    )
    return replace(config, pad=(back,))


def end_former(hub: Hub, session: Session) -> None:
    """The IKE SA that the ticket is of is over, without a word (RFC 5723 section 4.3.4)."""
    for connection in hub.with_peer(session.known):
        if not connection.dialled and session.spi in connection.sas:
            connection.down(Farewell(Fault.PEER_REQUEST, f"{session.known} resumes its session"))


def limit(connection: Connection, session: Session, now: float) -> None:
    """A session that is limited is not longer for having been resumed."""
    today = _now(connection.hub)
    if today is not None and connection.policy.timers.reauth is not None:
        connection.ends_at = min(connection.ends_at, now + session.expires - today)


def _now(hub: Hub) -> int | None:
    """Seconds since 1970; None: there is no clock."""
    try:
        return int(hub.wall_clock().timestamp())
    except AuthenticationFailed:
        return None
