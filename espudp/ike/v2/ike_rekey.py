"""CREATE_CHILD_SA for the IKE SA itself, and both sides at once (RFC 7296 sections 1.3.2, 2.8.2, 2.18,
2.25.2).

    no collision     we ask: the new IKE SA takes over, and we delete the old one
                     the peer asks: the new IKE SA takes over, and the peer deletes the old one
    both, noticed    both new IKE SAs exist; the one whose exchange has the lowest of the four nonces loses,
    and is
                     deleted by the side that made it; the maker of the other one deletes the old one
    both, unnoticed  the peer refuses ours (TEMPORARY_FAILURE), or deletes the old one: its rekey counts

Child SAs belong to the connection, and so are inherited by whichever IKE SA is the current one.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from espudp.crypto.dh import KeyPair, generate
from espudp.crypto.ikekeys import IkeSuite, derive_rekeyed_ike_keys
from espudp.errors import PeerError
from espudp.ike.events import Fault, IkeRekeyed
from espudp.ike.farewell import Farewell
from espudp.ike.proposals import IkeProposal, offer_ike, select_ike, verify_ike
from espudp.ike.rules import error_of
from espudp.ike.v2.child import NONCE_OCTETS, Nonces
from espudp.ike.v2.crash import take_token, token_of
from espudp.ike.v2.ending import Deleting, Superseded
from espudp.ike.v2.groups import Groups, refusal_of_group
from espudp.ike.v2.hub import State
from espudp.ike.v2.sa import IkeSa
from espudp.ike.v2.tasks import Answer
from espudp.wire.ikev2.constants import ExchangeType, NotifyType, name_of_notify
from espudp.wire.ikev2.header import SPI_OCTETS
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import KeyExchange, Nonce, Notify, Payload, SecurityAssociation

if TYPE_CHECKING:
    from espudp.ike.v2.established import Established


class RekeyIke:
    """Our rekey of the IKE SA."""

    exchange: ClassVar[ExchangeType] = ExchangeType.CREATE_CHILD_SA
    busy: ClassVar[bool] = False

    def __init__(self, proposals: Sequence[IkeProposal]) -> None:
        self._proposals = proposals
        self._groups = Groups([group for proposal in proposals for group in proposal.dh])
        self._pair: KeyPair | None = None
        self._nonce = b""
        self._spi = b""

    def request(self, ike: "Established", now: float) -> Sequence[Payload] | None:
        hub = ike.connection.hub
        self._groups.prefer(ike.sa.suite.dh)
        self._pair = generate(self._groups.current, hub.rng)
        self._nonce = hub.nonce(NONCE_OCTETS)
        self._spi = hub.new_spi()
        return (
            SecurityAssociation(offer_ike(self._proposals, self._spi)),
            Nonce(self._nonce),
            KeyExchange(self._pair.group.transform_id, self._pair.public),
        )

    def answered(self, ike: "Established", answer: Message, now: float) -> State | None:
        error = error_of(answer)
        if error is not None:
            return self._failed(ike, error, now)
        try:
            sa, nonces = self._accept(ike, answer)
        except PeerError as refusal:
            # The peer has an IKE SA that we do not have, and takes it for the current one.
            farewell = Farewell(Fault.PROTOCOL, f"the IKE SA was not rekeyed: {refusal}", retry=True)
            return ike.close(farewell, now)
        ike.succeeded()
        rival = ike.rival
        if rival is None or not rival.state.is_alive:
            adopt(ike, ike.successor(sa, now), now)
            return Deleting(ike.connection, ike.sa, now)
        if nonces.lowest < rival.nonces.lowest:
            return self._lose(ike, sa, now)
        adopt(ike, ike.successor(sa, now), now)
        # The peer deletes the one that it made.
        ike.connection.hub.put(Superseded(ike.connection, rival.state.sa, now))
        return Deleting(ike.connection, ike.sa, now)

    def _lose(self, ike: "Established", sa: IkeSa, now: float) -> State | None:
        connection, rival = ike.connection, ike.rival
        connection.sas.add(sa.local_spi)
        connection.hub.put(Deleting(connection, sa, now))
        if rival is not None:
            adopt(ike, rival.state, now)
        return Superseded(connection, ike.sa, now)

    def _accept(self, ike: "Established", answer: Message) -> tuple[IkeSa, Nonces]:
        """Raises PeerError unless the peer chose one of the things that we offered."""
        offer, nonce, ke = answer.get(SecurityAssociation), answer.get(Nonce), answer.get(KeyExchange)
        if offer is None or nonce is None or ke is None or self._pair is None:
            raise PeerError("the answer lacks a part", notify=NotifyType.INVALID_SYNTAX)
        choice = verify_ike(offer.proposals, self._proposals, spi_octets=SPI_OCTETS)
        if choice is None or not choice.suite.dh.transform_id == ke.group == self._pair.group.transform_id:
            raise PeerError(
                "the peer chose something that we did not offer", notify=NotifyType.NO_PROPOSAL_CHOSEN
            )
        shared = self._pair.shared_secret(ke.data)
        nonces = Nonces(self._nonce, nonce.data)
        sa = _rekeyed(ike, choice.suite, shared, nonces, self._spi, choice.peer_spi, is_initiator=True)
        take_token(sa, answer)
        return sa, nonces

    def _failed(self, ike: "Established", error: Notify, now: float) -> State | None:
        rival = ike.rival
        if rival is not None and rival.state.is_alive:
            # RFC 7296 section 2.8.2: the peer was done before it heard of our rekey.
            adopt(ike, rival.state, now)
            return Superseded(ike.connection, ike.sa, now)
        if self._groups.change(error):
            ike.enqueue(self, first=True)
            return ike
        if error.type == NotifyType.TEMPORARY_FAILURE:
            return ike.postpone(self, now)
        ike.connection.note(f"the peer refuses to rekey the IKE SA: {name_of_notify(error.type)}")
        return ike.refused(self, now)

    def abandon(self) -> None:
        self._pair = None


def answer_rekey_ike(ike: "Established", request: Message, now: float) -> Answer:
    """The responder's part. Raises PeerError."""
    connection, hub = ike.connection, ike.connection.hub
    # RFC 7296 sections 2.8.2, 2.25.1 and 2.25.2
    if not ike.is_current or ike.rival is not None or ike.farewell is not None:
        raise PeerError("this IKE SA is being replaced or closed", notify=NotifyType.TEMPORARY_FAILURE)
    if not connection.has_room_for_ike:
        raise PeerError("too many IKE SAs that were replaced exist", notify=NotifyType.TEMPORARY_FAILURE)
    if ike.task is not None and ike.task.busy:
        raise PeerError("a child SA is being negotiated or deleted", notify=NotifyType.TEMPORARY_FAILURE)
    offer, nonce, ke = request.get(SecurityAssociation), request.get(Nonce), request.get(KeyExchange)
    if offer is None or nonce is None or ke is None:
        raise PeerError("a payload is missing", notify=NotifyType.INVALID_SYNTAX)
    proposals = connection.policy.ike_proposals
    choice = select_ike(offer.proposals, proposals, spi_octets=SPI_OCTETS, ke_group=ke.group)
    if choice is None:
        raise PeerError("no common IKE proposal", notify=NotifyType.NO_PROPOSAL_CHOSEN)
    if choice.suite.dh.transform_id != ke.group:
        raise refusal_of_group(choice.suite.dh)
    pair = generate(choice.suite.dh, hub.rng)
    shared = pair.shared_secret(ke.data)
    nonces = Nonces(nonce.data, hub.nonce(NONCE_OCTETS))
    spi = hub.new_spi()
    sa = _rekeyed(ike, choice.suite, shared, nonces, choice.peer_spi, spi, is_initiator=False)
    new = ike.successor(sa, now)
    hub.put(new)
    payloads: list[Payload] = [
        SecurityAssociation((choice.to_wire(spi),)),
        Nonce(nonces.responder),
        KeyExchange(ke.group, pair.public),
        *token_of(hub, choice.peer_spi, spi),
    ]
    if isinstance(ike.task, RekeyIke):
        ike.contest(nonces, new)
        return Answer(payloads, ike)
    adopt(ike, new, now)
    return Answer(payloads, Superseded(connection, ike.sa, now))


def adopt(old: "Established", new: "Established", now: float) -> None:
    """`new` is the IKE SA of the connection from now on, and takes over what waits to be done."""
    connection = old.connection
    new.inherit(old, now)
    connection.current = new
    connection.hub.emit(IkeRekeyed(connection.number, new.sa.suite.name))
    connection.hub.put(new)


def _rekeyed(
    ike: "Established",
    suite: IkeSuite,
    shared: bytes,
    nonces: Nonces,
    spi_i: bytes,
    spi_r: bytes,
    *,
    is_initiator: bool,
) -> IkeSa:
    """Who starts the rekey is the original initiator of the new IKE SA (RFC 7296 section 1.3.2)."""
    keys = derive_rekeyed_ike_keys(
        ike.sa.suite.prf, ike.sa.sk_d, suite, shared, nonces.initiator, nonces.responder, spi_i, spi_r
    )
    return IkeSa(
        ike.connection.hub,
        spi_i,
        spi_r,
        suite,
        keys,
        ike.sa.timers,
        is_initiator=is_initiator,
        initial=False,
        fragments=ike.sa.fragments,
    )
