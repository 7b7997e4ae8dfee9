"""INFORMATIONAL exchanges: deleting SAs, and asking whether the peer lives (RFC 7296 sections 1.4, 2.4)."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from espudp.ike.events import Fault
from espudp.ike.farewell import Farewell
from espudp.ike.v2.child import Child
from espudp.ike.v2.connection import Connection
from espudp.ike.v2.hub import State
from espudp.wire.ikev2.constants import ExchangeType, NotifyType, ProtocolId, name_of_notify
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import Delete, Payload

if TYPE_CHECKING:
    from espudp.ike.v2.established import Established

# RFC 7296 section 2.21.2: these end the IKE SA without a Delete payload.
_FATAL = (NotifyType.AUTHENTICATION_FAILED, NotifyType.INVALID_SYNTAX)


def deletes_ike(message: Message) -> bool:
    """Whether the peer ends the IKE SA that the message came over."""
    return any(d.protocol == ProtocolId.IKE for d in message.all(Delete))


def fatal_error(message: Message) -> Farewell | None:
    """What the peer holds against us, if it is something that ends the IKE SA."""
    notify = next((n for n in message.notifies() if n.type in _FATAL), None)
    if notify is None:
        return None
    denied = notify.type == NotifyType.AUTHENTICATION_FAILED
    return Farewell(
        Fault.AUTHENTICATION if denied else Fault.PROTOCOL,
        f"the peer ended the connection: {name_of_notify(notify.type)}",
        "Compare what both sides are known by: identities, PSK, keys, CAs." if denied else "",
        retry=not denied,
    )


def delete_children(connection: Connection, message: Message, now: float) -> list[Payload]:
    """Ends the child SAs that the peer deletes; returns the Delete payload for the other direction.

    RFC 7296 section 1.4.1: not for those that we have sent a Delete for, nor for those that do not exist.
    """
    ours: list[bytes] = []
    for delete in message.all(Delete):
        if delete.protocol != ProtocolId.ESP:
            continue
        for spi in delete.spis:
            # Looked up anew for each SPI: it may be named twice (CVE-2023-38712).
            child = connection.child_of_peer(spi)
            if child is None:
                continue
            if not child.delete_sent:
                ours.append(child.spi_in_octets)
            connection.remove(child)
    connection.restore(now)
    return [Delete(ProtocolId.ESP, tuple(ours))] if ours else []


class CheckAlive:
    """A request without a command: dead peer detection (RFC 7296 section 2.4)."""

    exchange: ClassVar[ExchangeType] = ExchangeType.INFORMATIONAL
    busy: ClassVar[bool] = False

    def request(self, ike: "Established", now: float) -> Sequence[Payload] | None:
        mobike = ike.connection.mobike
        return () if mobike is None else mobike.detection(ike)

    def answered(self, ike: "Established", answer: Message, now: float) -> State | None:
        if ike.connection.mobike is not None:
            ike.connection.mobike.compare(ike, answer)
        return ike

    def abandon(self) -> None:
        pass


class DeleteChildren:
    """Deletes child SAs at both ends (RFC 7296 section 1.4.1)."""

    exchange: ClassVar[ExchangeType] = ExchangeType.INFORMATIONAL
    busy: ClassVar[bool] = True

    def __init__(self, children: Iterable[Child]) -> None:
        self._children = list(children)

    def of(self, connection: Connection) -> list[Child]:
        """Those that still exist."""
        return [c for c in self._children if c.spi_in in connection.children]

    def request(self, ike: "Established", now: float) -> Sequence[Payload] | None:
        here = self.of(ike.connection)
        unknown = [c for c in here if now < c.unknown_until]
        if unknown:
            ike.wait_for_peer(DeleteChildren(unknown), now)
        self._children = [c for c in here if c not in unknown]
        if not self._children:
            return None
        for child in self._children:
            child.deleting = child.delete_sent = True
        return (Delete(ProtocolId.ESP, tuple(child.spi_in_octets for child in self._children)),)

    def answered(self, ike: "Established", answer: Message, now: float) -> State | None:
        # Whatever the peer answers, it has heard that these are gone.
        for child in self._children:
            ike.connection.remove(child)
        ike.connection.restore(now)
        return ike

    def abandon(self) -> None:
        pass


class DeleteUnknown:
    """Deletes, at the peer, a child SA that never came into being here."""

    exchange: ClassVar[ExchangeType] = ExchangeType.INFORMATIONAL
    busy: ClassVar[bool] = True

    def __init__(self, spi_in: int) -> None:
        self._spi_in = spi_in

    def request(self, ike: "Established", now: float) -> Sequence[Payload] | None:
        return (Delete(ProtocolId.ESP, (self._spi_in.to_bytes(4),)),)

    def answered(self, ike: "Established", answer: Message, now: float) -> State | None:
        return ike

    def abandon(self) -> None:
        pass
