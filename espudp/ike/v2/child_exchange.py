"""CREATE_CHILD_SA for child SAs: making one, rekeying one, and both sides at once (RFC 7296 1.3.1, 1.3.3,
2.8.1, 2.25.1).

A rekey is make before break. The initiator of the rekey sends on the new SA at once and then deletes the old
one; the responder goes on sending on the old one until it has received something on the new, or the old one
is deleted.

When both sides rekey the same SA at the same time there are two new ones. Both sides then know all four
nonces; whose exchange has the lowest deletes the SA that it made, and the other deletes the old one. The
redundant SA never carries traffic from us, and receives until it is gone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from espudp.crypto.suites import Dh
from espudp.errors import BadPublicValue, PeerError
from espudp.ike.config import ChildConfig
from espudp.ike.events import Fault
from espudp.ike.exchange import patience
from espudp.ike.farewell import Farewell
from espudp.ike.rules import error_of
from espudp.ike.v2.child import (
    NONCE_OCTETS,
    Allowed,
    Child,
    ChildOffer,
    NewChild,
    Nonces,
    Selectors,
    answer_child,
    narrowed,
)
from espudp.ike.v2.connection import Connection
from espudp.ike.v2.groups import Groups
from espudp.ike.v2.hub import State
from espudp.ike.v2.informational import DeleteUnknown
from espudp.ike.v2.resources import config_like, is_one_of_several, most_alike
from espudp.ike.v2.tasks import Answer
from espudp.wire.ikev2.constants import ExchangeType, NotifyType, ProtocolId, name_of_notify
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import Configuration, Nonce, Notify, Payload

if TYPE_CHECKING:
    from espudp.ike.v2.established import Established

_ESP_SPI_OCTETS = 4

# Our choice: how often the peer may put off a child SA that the tunnel can do without.
_TRIES = 8


class _Negotiation:
    """What creating and rekeying have in common: one offer, its nonce, and the group of its key exchange."""

    exchange: ClassVar[ExchangeType] = ExchangeType.CREATE_CHILD_SA
    busy: ClassVar[bool] = True

    def __init__(self, config: ChildConfig) -> None:
        self._config = config
        groups = [group for proposal in config.proposals for group in proposal.groups]
        self._groups = Groups(groups) if groups else None
        self._offer: ChildOffer | None = None
        self._nonce = b""

    def _propose(
        self, ike: "Established", local: Selectors, remote: Selectors, *, shared: bool, worker: int | None
    ) -> list[Payload]:
        """See `ChildOffer`."""
        hub = ike.connection.hub
        self._nonce = hub.nonce(NONCE_OCTETS)
        group: Dh | None = None
        if self._groups is not None:
            self._groups.prefer(ike.sa.suite.dh)
            group = self._groups.current
        self._offer = ChildOffer(hub, self._config, local, remote, shared=shared, group=group, worker=worker)
        return self._offer.payloads(self._nonce)

    def _accept(self, ike: "Established", answer: Message) -> tuple[NewChild, Nonces]:
        """Raises PeerError; the peer has a child SA then that we do not, and it is deleted there."""
        nonce, offer = answer.get(Nonce), self._offer
        if nonce is None or offer is None:
            raise PeerError("the peer answers without a nonce", notify=NotifyType.INVALID_SYNTAX)
        nonces = Nonces(self._nonce, nonce.data)
        try:
            new = offer.accept(answer, ike.sa, nonces, pfs=True)
            self._check(new.child)
        except PeerError:
            offer.withdraw()
            ike.enqueue(DeleteUnknown(offer.spi_in), first=True)
            raise
        return new, nonces

    def _check(self, child: Child) -> None:
        """Raises PeerError for a child SA that is of no use, though we had offered it."""

    def abandon(self) -> None:
        if self._offer is not None:
            self._offer.withdraw()
            self._offer = None


def _leave(ike: "Established", lie: BadPublicValue, now: float) -> State | None:
    """RFC 6989 section 2.5: the IKE SA is deleted at once."""
    return ike.close(Farewell(Fault.PROTOCOL, f"the peer broke the protocol: {lie}", retry=True), now)


class CreateChild(_Negotiation):
    """One more child SA."""

    def request(self, ike: "Established", now: float) -> Sequence[Payload] | None:
        local, remote = ike.connection.selectors(self._config)
        return self._propose(ike, local, remote, shared=ike.connection.hub.workers > 1, worker=None)

    def answered(self, ike: "Established", answer: Message, now: float) -> State | None:
        error = error_of(answer)
        if error is not None:
            return self._failed(ike, error, now)
        try:
            new, _ = self._accept(ike, answer)
        except BadPublicValue as lie:
            return _leave(ike, lie, now)
        except PeerError as refusal:
            self._useless(ike, refusal)
            return ike
        ike.succeeded()
        ike.connection.install(new)
        ike.share()
        return ike

    def _useless(self, ike: "Established", refusal: PeerError) -> None:
        ike.connection.note(f"no child SA: {refusal}")

    def _failed(self, ike: "Established", error: Notify, now: float) -> State | None:
        self.abandon()
        if self._groups is not None and self._groups.change(error):
            ike.enqueue(self, first=True)
            return ike
        if error.type == NotifyType.TEMPORARY_FAILURE:
            return ike.postpone(self, now)
        reason = f"the peer refuses a child SA: {name_of_notify(error.type)}"
        ike.connection.note(reason)
        if ike.connection.dialled and not ike.connection.children:
            return ike.close(Farewell(fault_of(error.type), reason, retry=True), now)
        return ike


class ReplaceChild(CreateChild):
    """What the peer did not know, from scratch (RFC 7296 section 2.25); unless it is replaced by then."""

    def __init__(self, lost: Child) -> None:
        super().__init__(lost.config)
        self._lost = lost

    def request(self, ike: "Established", now: float) -> Sequence[Payload] | None:
        lost = self._lost
        worker = ike.connection.hub.child_spis.worker_of(lost.spi_in)
        if worker in ike.connection.served(lost.local, lost.remote):
            return None
        return self._propose(ike, lost.local, lost.remote, shared=lost.shared, worker=worker)


class CreateForWorker(CreateChild):
    """One more child SA for the same traffic, for a worker that has none; unless it has one by then.

    Whatever the peer has against it, the tunnel stands, and the peer is not asked again.
    """

    def __init__(self, like: Child, worker: int) -> None:
        super().__init__(config_like(like))
        self._like = like
        self._worker = worker
        self._tries = _TRIES

    def request(self, ike: "Established", now: float) -> Sequence[Payload] | None:
        like, served = self._like, ike.connection.served(self._like.local, self._like.remote)
        if not served or self._worker in served:
            return None
        return self._propose(ike, like.local, like.remote, shared=True, worker=self._worker)

    def _check(self, child: Child) -> None:
        # RFC 9611 section 3
        if (set(child.local), set(child.remote)) != (set(self._like.local), set(self._like.remote)):
            raise PeerError("the peer narrows its subnets", notify=NotifyType.TS_UNACCEPTABLE)

    def _useless(self, ike: "Established", refusal: PeerError) -> None:
        self._give_up(ike, str(refusal))

    def _failed(self, ike: "Established", error: Notify, now: float) -> State | None:
        self.abandon()
        if self._groups is not None and self._groups.change(error):
            ike.enqueue(self, first=True)
        elif error.type == NotifyType.TEMPORARY_FAILURE and self._tries:
            self._tries -= 1
            ike.wait_for_peer(self, now)
        else:
            self._give_up(ike, name_of_notify(error.type))
        return ike

    def _give_up(self, ike: "Established", reason: str) -> None:
        ike.connection.has_all = True
        ike.connection.note(f"no further child SA for worker {self._worker}: {reason}")


@dataclass(frozen=True, slots=True)
class RivalChild:
    """What the peer made of the same old SA while our rekey was under way."""

    nonces: Nonces
    child: Child

    def wins_over(self, ours: Nonces, connection: Connection) -> bool:
        """The lowest nonce loses. That the peer's child SA may have been replaced in turn changes nothing."""
        exists = self.child.spi_in in connection.children or self.child.successor is not None
        return exists and ours.lowest < self.nonces.lowest


class RekeyChild(_Negotiation):
    """A new child SA in place of an old one."""

    def __init__(self, old: Child) -> None:
        super().__init__(old.config)
        self.old = old
        self.rival: RivalChild | None = None

    def request(self, ike: "Established", now: float) -> Sequence[Payload] | None:
        old = self.old
        if old.spi_in not in ike.connection.children or old.is_going:
            old.rekeying = False
            return None
        if now < old.unknown_until:
            ike.wait_for_peer(self, now)
            return None
        # RFC 7296 section 2.9.2: the same selectors, so that no traffic is left out.
        worker = ike.connection.hub.child_spis.worker_of(old.spi_in)
        payloads = self._propose(ike, old.local, old.remote, shared=old.shared, worker=worker)
        return [Notify.of(NotifyType.REKEY_SA, b"", ProtocolId.ESP, old.spi_in_octets), *payloads]

    def answered(self, ike: "Established", answer: Message, now: float) -> State | None:
        error = error_of(answer)
        if error is not None:
            return self._failed(ike, error, now)
        try:
            new, nonces = self._accept(ike, answer)
        except BadPublicValue as lie:
            return _leave(ike, lie, now)
        except PeerError as refusal:
            ike.connection.note(f"the child SA was not rekeyed: {refusal}")
            return ike.refused(self, now)
        ike.succeeded()
        # RFC 9611 section 3: whatever the peer says of it now.
        new.child.shared = self.old.shared
        self.old.rekeying = False
        if self.rival is not None and self.rival.wins_over(nonces, ike.connection):
            self._lose(ike, new)
        else:
            self._win(ike, new, now)
        return ike

    def _win(self, ike: "Established", new: NewChild, now: float) -> None:
        ike.connection.install(new, replaces=self.old)
        self.old.successor = new.child
        if self.rival is not None and self.rival.child.spi_in in ike.connection.children:
            # The peer deletes it; we do not send on it, whatever happens to the old one.
            ike.connection.retire(self.rival.child)
            ike.delete_if_overdue(self.rival.child, now)
        ike.delete(self.old)

    def _lose(self, ike: "Established", new: NewChild) -> None:
        ike.connection.install(new, replaces=self.old, standby=True)
        ike.connection.retire(new.child)
        ike.delete(new.child)

    def _failed(self, ike: "Established", error: Notify, now: float) -> State | None:
        self.abandon()
        connection, old = ike.connection, self.old
        if old.is_going:
            # RFC 7296 section 2.8.1: the peer has rekeyed it already; nothing is missing.
            old.rekeying = False
            return ike
        if self._groups is not None and self._groups.change(error):
            ike.enqueue(self, first=True)
            return ike
        if error.type == NotifyType.TEMPORARY_FAILURE:
            return ike.postpone(self, now)
        connection.note(
            f"the peer refuses to rekey the child SA {old.spi_in:08x}: {name_of_notify(error.type)}"
        )
        if error.type == NotifyType.CHILD_SA_NOT_FOUND:
            # RFC 7296 section 2.25: what the peer does not have is of no use; a new one from scratch.
            connection.remove(old)
            ike.enqueue(ReplaceChild(old), first=True)
            # In case it was on its way to the peer, with an answer of ours.
            ike.enqueue(DeleteUnknown(old.spi_in), first=True)
            return ike
        return ike.refused(self, now)


def answer_create_child(ike: "Established", request: Message, now: float) -> Answer:
    """The responder's part, for new child SAs and for rekeys. Raises PeerError."""
    connection = ike.connection
    old = _rekeyed(ike, request)
    ike.require_not_rekeying()
    nonce = request.get(Nonce)
    if nonce is None:
        raise PeerError("no nonce", notify=NotifyType.INVALID_SYNTAX)
    allowed = _allowed(connection, request) if old is None else _instead_of(connection, old)
    nonces = Nonces(nonce.data, connection.hub.nonce(NONCE_OCTETS))
    new, payloads = answer_child(connection.hub, ike.sa, request, allowed, nonces=nonces, pfs=True)
    # RFC 7296 section 2.8: ready to receive on it before the answer leaves.
    connection.install(new, replaces=old, standby=old is not None)
    connection.may_be_unknown(new.child, now + 2 * patience(ike.sa.timers))
    if old is not None:
        old.successor, new.child.shared = new.child, old.shared
        ike.delete_if_overdue(old, now)
        if isinstance(ike.task, RekeyChild) and ike.task.old is old:
            ike.task.rival = RivalChild(nonces, new.child)
    ike.succeeded()
    return Answer([*connection.configured(request.get(Configuration)), *payloads], ike)


def _allowed(connection: Connection, request: Message) -> Allowed:
    """What the peer may have when it asks for one more child SA. Raises PeerError."""
    several, allowed = is_one_of_several(request), connection.allowed()
    if not connection.has_room(rekey=False):
        # RFC 9611 section 6
        full = NotifyType.TS_MAX_QUEUE if several else NotifyType.NO_ADDITIONAL_SAS
        raise PeerError("no more child SAs for this peer", notify=full)
    if not several:
        return allowed
    alike = connection.alike(*narrowed(request, allowed))
    if not alike:
        return allowed
    if len(alike) >= most_alike(connection.hub.workers):
        raise PeerError("the peer has enough for this traffic", notify=NotifyType.TS_MAX_QUEUE)
    first = alike[0]
    worker = connection.hub.child_spis.least_loaded(child.spi_in for child in alike)
    return replace(allowed, config=config_like(first), local=first.local, remote=first.remote, worker=worker)


def _instead_of(connection: Connection, old: Child) -> Allowed:
    """What the peer may have when it rekeys a child SA: the same, for the same worker. Raises PeerError."""
    if not connection.has_room(rekey=True):
        raise PeerError("no more child SAs for this peer", notify=NotifyType.NO_ADDITIONAL_SAS)
    worker = connection.hub.child_spis.worker_of(old.spi_in)
    return Allowed(old.config, old.local, old.remote, old.shared, worker, connection.peer.nat)


def _rekeyed(ike: "Established", request: Message) -> Child | None:
    """The child SA that the peer wants to replace; None: it wants one more. Raises PeerError."""
    notify = request.notify(NotifyType.REKEY_SA)
    if notify is None:
        return None
    # Nothing goes back to the peer that was not looked at (CVE-2023-38710).
    if notify.protocol != ProtocolId.ESP or len(notify.spi) != _ESP_SPI_OCTETS:
        raise PeerError("a rekey of something that is no ESP SA", notify=NotifyType.CHILD_SA_NOT_FOUND)
    old = ike.connection.child_of_peer(notify.spi)
    if old is None:
        raise ChildNotFound(notify.spi)
    if old.is_going:
        raise PeerError("that child SA is being deleted", notify=NotifyType.TEMPORARY_FAILURE)
    return old


class ChildNotFound(PeerError):
    """CHILD_SA_NOT_FOUND, whose notify names the SPI (RFC 7296 section 2.25)."""

    def __init__(self, spi: bytes) -> None:
        super().__init__(f"there is no child SA {spi.hex()}", notify=NotifyType.CHILD_SA_NOT_FOUND)
        self.spi = spi


def fault_of(notify: int) -> Fault:
    """What a refusal of a child SA means to a user."""
    if notify == NotifyType.NO_PROPOSAL_CHOSEN:
        return Fault.PROPOSAL
    if notify in (NotifyType.TS_UNACCEPTABLE, NotifyType.SINGLE_PAIR_REQUIRED):
        return Fault.SELECTORS
    return Fault.PROTOCOL
