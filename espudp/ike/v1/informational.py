"""Informational exchanges: one message each, which nobody answers (RFC 2409 section 5.7, RFC 2408 4.8).

Each has a random message ID of its own, so an IV of its own, and HASH(1) in front. What comes without that
proof is not looked at here.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from espudp.ike.drop import Drop
from espudp.ike.events import Fault
from espudp.ike.farewell import Farewell
from espudp.ike.v1.child import Child
from espudp.ike.v1.hub import Datagram, Hub
from espudp.ike.v1.life import life_told
from espudp.ike.v1.phase1_rekey import forget_former
from espudp.wire.address import Path
from espudp.wire.ikev1.constants import ExchangeType, NotifyType, ProtocolId, name_of_notify
from espudp.wire.ikev1.payloads import Delete, Notification, Payload

if TYPE_CHECKING:
    from espudp.ike.v1.connection import Connection
    from espudp.ike.v1.established import Established

_SPI_OCTETS = 4

# What a peer that refuses phase 1, or the login after it, has to say (RFC 2408 section 3.14.1).
_FATAL = frozenset(
    {
        NotifyType.AUTHENTICATION_FAILED,
        NotifyType.INVALID_SIGNATURE,
        NotifyType.INVALID_HASH_INFORMATION,
        NotifyType.INVALID_CERTIFICATE,
        NotifyType.INVALID_CERT_AUTHORITY,
    }
)


def sealed(established: "Established", payloads: Sequence[Payload]) -> bytes:
    """One message to the peer."""
    chain = established.sa.chain(established.sa.new_message_id())
    return chain.seal_hashed(ExchangeType.INFORMATIONAL, payloads)


def send(established: "Established", payloads: Sequence[Payload]) -> None:
    """One message to the peer. Whether it arrives, nobody will say."""
    path = established.path
    for piece in established.sa.fragmented(sealed(established, payloads), path):
        established.hub.send(piece, path)


def refusal(notify: int, spi: bytes = b"", data: bytes = b"") -> list[Payload]:
    """What is wrong with what the peer wants; `spi` is the one in its proposal."""
    return [Notification(ProtocolId.ESP, spi, notify, data)]


def say_deleted(established: "Established", children: Iterable[Child]) -> None:
    """RFC 2408 section 3.15: by the SPIs that we receive on."""
    spis = tuple(child.spi_in_octets for child in children)
    if spis:
        send(established, [Delete(ProtocolId.ESP, spis)])


def unknown_spi(hub: Hub, spi: int, path: Path, now: float) -> bool:
    """ESP arrived for an SPI that we do not have: if the sender is a peer, it is told, under protection.

    There may be several behind one NAT, and ESP without UDP has no port by which to tell them apart.
    """
    here = [c for c in hub.connections.values() if c.path.remote.ip == path.remote.ip and c.current]
    for connection in [c for c in here if c.path.remote == path.remote] or here[:1]:
        if connection.current is not None and hub.rumours.take(now):
            send(connection.current, refusal(NotifyType.INVALID_SPI, data=spi.to_bytes(_SPI_OCTETS)))
    return bool(here)


def receive(established: "Established", datagram: Datagram, now: float) -> None:
    """A message with a new message ID."""
    message = established.sa.chain(datagram.header.message_id).open_hashed(datagram)
    if message is None:
        return
    connection = established.connection
    if connection is not None and connection.alive:
        connection.heard(datagram.path, now)
    for notification in message.all(Notification):
        _notified(established, notification, now)
    for delete in message.all(Delete):
        _deleted(established, delete, now)


def _live(established: "Established") -> "Connection | None":
    connection = established.connection
    return connection if connection is not None and connection.alive else None


def _notified(established: "Established", notification: Notification, now: float) -> None:
    connection = _live(established)
    if notification.type == NotifyType.RESPONDER_LIFETIME:
        _lifetime_told(established, notification)
        return
    if connection is None:
        if established.connection is None:
            _notified_before(established, notification, now)
        return
    match notification.type:
        case NotifyType.R_U_THERE:
            connection.upkeep.asked(established, notification)
        case NotifyType.R_U_THERE_ACK:
            connection.upkeep.answered(established, notification)
        case NotifyType.INVALID_SPI:
            _unknown_there(connection, notification, now)
        case NotifyType.INITIAL_CONTACT:
            # Some do not say so in phase 1, but right behind it.
            forget_former(established.hub, connection.peer, but=connection)
            connection.upkeep.peer_began_anew(established.phase1.began_at, now)
        case NotifyType.REPLAY_STATUS:
            pass  # told of outside of the exchange that they belong to
        case _ if notification.is_error:
            connection.upkeep.refused(established, notification, now)


def _notified_before(established: "Established", notification: Notification, now: float) -> None:
    """Before the peer has proved all that it is to prove."""
    if notification.type == NotifyType.INITIAL_CONTACT:
        established.phase1.initial_contact = True
    elif notification.type in _FATAL:
        reason = f"the peer refuses us: {name_of_notify(notification.type)}"
        established.fail(Farewell(Fault.AUTHENTICATION, reason), now)


def _lifetime_told(established: "Established", notification: Notification) -> None:
    """How long the peer keeps the ISAKMP SA, or a child SA: some say so when those stand (Cisco, Shrew)."""
    connection, life = _live(established), life_told(notification)
    if life is None or life.seconds is None:
        return
    if notification.protocol == ProtocolId.ISAKMP:
        established.lives(life.seconds)
    elif connection is not None and (child := connection.child_of_peer(notification.spi)) is not None:
        connection.upkeep.shorten(child, life)


def _unknown_there(connection: "Connection", notification: Notification, now: float) -> None:
    """The peer does not have a child SA that we send on: another one is made."""
    spi = next((s for s in (notification.spi, notification.data) if len(s) == _SPI_OCTETS), b"")
    child = connection.child_of_peer(spi) if spi else None
    if child is None:
        # Nor do we: anybody can have sent it ESP in our name.
        return
    connection.note(f"the peer does not know the child SA {child.spi_in:08x} any more")
    connection.upkeep.delete_children([child], now)
    connection.upkeep.restore(now)


def _deleted(established: "Established", delete: Delete, now: float) -> None:
    """A peer deletes its own: SPIs that it receives on, or the ISAKMP SA that this came over."""
    connection = _live(established)
    if delete.protocol == ProtocolId.ESP and connection is not None:
        for spi in delete.spis:
            # Looked up anew for each SPI: it may be named twice (CVE-2023-38712).
            child = connection.child_of_peer(spi)
            if child is not None:
                connection.remove(child, now)
        connection.upkeep.restore(now)
    elif delete.protocol == ProtocolId.ISAKMP:
        _isakmp_deleted(established, delete, now)
    else:
        established.hub.drop(Drop.UNKNOWN_SPI)


def _isakmp_deleted(established: "Established", delete: Delete, now: float) -> None:
    sa, connection = established.sa, established.connection
    if connection is None:
        if sa.cookie_i + sa.cookie_r in delete.spis:
            reason = "the peer closed the connection"
            established.fail(Farewell(Fault.PEER_REQUEST, reason, retry=True), now)
        return
    for spi in delete.spis:
        named = connection.upkeep.isakmp.named(spi)
        if named is None:
            established.hub.drop(Drop.UNKNOWN_SPI)
            continue
        named.gone(now)
        if connection.alive:
            connection.lost(named, now)
