"""Negotiating one pair of ESP SAs, from either side (RFC 7296 sections 1.2, 1.3.1, 2.9, 2.17).

The same payloads make the first child SA in IKE_AUTH and every further one in CREATE_CHILD_SA; only the
nonces come from elsewhere, and IKE_AUTH has no key exchange of its own.
"""

from dataclasses import dataclass, field

from espudp.crypto.aead import CipherKeys
from espudp.crypto.dh import KeyPair, generate
from espudp.crypto.ikekeys import derive_child_keys
from espudp.crypto.suites import Dh, EspSuite
from espudp.errors import PeerError
from espudp.ike.config import ChildConfig, Mode
from espudp.ike.narrowing import MAX_TRANSPORT_PAIRS, describe_no_common, narrow, pairs
from espudp.ike.natd import NatStatus
from espudp.ike.offers import describe_mismatch
from espudp.ike.proposals import EspChoice, offer_esp, select_esp, verify_esp
from espudp.ike.v2.groups import refusal_of_group
from espudp.ike.v2.hub import Hub
from espudp.ike.v2.resources import info, is_one_of_several
from espudp.ike.v2.sa import IkeSa
from espudp.wire.ikev2.constants import NotifyType
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import (
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    SecurityAssociation,
    TsInitiator,
    TsResponder,
)
from espudp.wire.selectors import TrafficSelector, at_host, only_host
from espudp.wire.transport import Transport

_USE_TRANSPORT_MODE = Notify.of(NotifyType.USE_TRANSPORT_MODE)

# RFC 7296 section 2.10: at least half the key size of any PRF that we propose.
NONCE_OCTETS = 32

Selectors = tuple[TrafficSelector, ...]


@dataclass(slots=True, eq=False)
class Child:
    """A pair of ESP SAs that exists. SPIs as integers; `local` and `remote` as negotiated."""

    spi_in: int
    spi_out: int
    suite: EspSuite
    local: Selectors
    remote: Selectors
    config: ChildConfig
    successor: "Child | None" = None
    """What a rekey has put in its place; this one is about to be deleted then."""
    rekeying: bool = False
    """We mean to rekey it, or are at it."""
    deleting: bool = False
    """We mean to delete it, or are at it."""
    delete_sent: bool = False
    """We have told the peer."""
    unknown_until: float = 0.0
    """Until then the peer may not have got the answer that tells it of this child SA."""
    retired: bool = False
    """Redundant after simultaneous rekeys; its removal has been told."""
    shared: bool = False
    """Both sides know it as one of several for the same traffic (RFC 9611)."""
    transport: Transport | None = None
    """None: tunnel mode."""

    @property
    def is_going(self) -> bool:
        """It has been replaced, or is about to be deleted: not to be rekeyed any more."""
        return self.deleting or self.retired or self.successor is not None

    @property
    def spi_in_octets(self) -> bytes:
        """As Delete and REKEY_SA payloads of ours name it."""
        return self.spi_in.to_bytes(4)


@dataclass(frozen=True, slots=True)
class NewChild:
    """What a negotiation has come to."""

    child: Child
    keys_in: CipherKeys = field(repr=False)
    keys_out: CipherKeys = field(repr=False)


@dataclass(frozen=True, slots=True)
class Nonces:
    """Ni and Nr of an exchange."""

    initiator: bytes
    responder: bytes

    @property
    def lowest(self) -> bytes:
        """What decides between simultaneous rekeys: compared octet by octet (RFC 7296 section 2.8.1)."""
        return min(self.initiator, self.responder)


class ChildOffer:
    """The initiator's half of a negotiation. `accept` or `withdraw` ends it."""

    def __init__(
        self,
        hub: Hub,
        config: ChildConfig,
        local: Selectors,
        remote: Selectors,
        *,
        shared: bool,
        group: Dh | None = None,
        worker: int | None = None,
    ) -> None:
        """`group` is the one for perfect forward secrecy, None in IKE_AUTH and where none is asked for.

        `shared`: it may be one of several; `worker`: whom it is for, None: who has the fewest.
        """
        self._hub = hub
        self._config = config
        self._local, self._remote = local, remote
        self._pair: KeyPair | None = None if group is None else generate(group, hub.rng)
        self._several = shared
        self.spi_in = hub.child_spis.draw(worker)

    def payloads(self, nonce: bytes | None) -> list[Payload]:
        """SA, Ni, KEi, TSi, TSr; without nonce, and without groups, in IKE_AUTH. Before them, perhaps,
        USE_TRANSPORT_MODE and SA_RESOURCE_INFO.
        """
        spi = self.spi_in.to_bytes(4)
        proposals = offer_esp(self._config.proposals, spi, pfs=nonce is not None)
        payloads = [*info(self._several), SecurityAssociation(proposals)]
        if nonce is not None:
            payloads.append(Nonce(nonce))
        if self._pair is not None:
            payloads.append(KeyExchange(self._pair.group.transform_id, self._pair.public))
        mode = [_USE_TRANSPORT_MODE] if self._config.mode is Mode.TRANSPORT else []
        return [*mode, *payloads, TsInitiator(self._local), TsResponder(self._remote)]

    def accept(self, answer: Message, sa: IkeSa, nonces: Nonces, *, pfs: bool) -> NewChild:
        """Checks that the answer is one of the things that we offered. Raises PeerError."""
        proposals, tsi, tsr = (
            answer.get(SecurityAssociation),
            answer.get(TsInitiator),
            answer.get(TsResponder),
        )
        if proposals is None or tsi is None or tsr is None:
            raise PeerError("the peer answers with half a child SA", notify=NotifyType.INVALID_SYNTAX)
        choice = verify_esp(proposals.proposals, self._config.proposals, pfs=pfs)
        if choice is None:
            raise PeerError(
                "the peer chose a child SA that we did not offer",
                notify=NotifyType.NO_PROPOSAL_CHOSEN,
                remedy="Name one ESP proposal that both sides have.",
            )
        transport = self._transport(answer, tsi.selectors, tsr.selectors)
        # RFC 7296 section 2.9 has it choose among what we offer. Some answer with all that they have, wider
        # than that, and mean no harm: what we do not carry is dropped, and what both have is good.
        ours, theirs = tsi.selectors, tsr.selectors
        if transport is not None:
            ours, theirs = at_host(ours, transport.local), at_host(theirs, transport.remote)
        local, remote = narrow(ours, self._local), narrow(theirs, self._remote)
        if transport is not None:
            _require_few(local or (), remote or ())
        if local is None or remote is None:
            chosen = f"{_text(tsi.selectors)} here, {_text(tsr.selectors)} there"
            raise PeerError(
                f"the peer chose subnets that we did not offer: {chosen}",
                notify=NotifyType.TS_UNACCEPTABLE,
                remedy="Make the subnets of both sides agree.",
            )
        shared = self._shared(choice, answer.get(KeyExchange))
        keys_out, keys_in = derive_child_keys(
            sa.suite.prf, sa.sk_d, choice.suite, nonces.initiator, nonces.responder, shared
        )
        spi_out = int.from_bytes(choice.peer_spi)
        child = Child(self.spi_in, spi_out, choice.suite, local, remote, self._config, transport=transport)
        child.shared = self._several and is_one_of_several(answer)
        return NewChild(child, keys_in, keys_out)

    def _transport(self, answer: Message, ours: Selectors, theirs: Selectors) -> Transport | None:
        """RFC 7296 section 1.3.1: the peer may decline; section 2.23.1: which addresses it sees."""
        is_wanted = self._config.mode is Mode.TRANSPORT
        if is_wanted != (answer.notify(NotifyType.USE_TRANSPORT_MODE) is not None):
            raise _other_mode(Mode.TUNNEL if is_wanted else Mode.TRANSPORT)
        if not is_wanted:
            return None
        local_there, remote_there = only_host(ours), only_host(theirs)
        if local_there is None or remote_there is None:
            raise _many_hosts()
        local, remote = (str(selectors[0].first) for selectors in (self._local, self._remote))
        return Transport(local, remote, local_there, remote_there)

    def withdraw(self) -> None:
        """Nothing came of it."""
        self._hub.child_spis.free(self.spi_in)

    def _shared(self, choice: EspChoice, ke: KeyExchange | None) -> bytes:
        if choice.dh is None:
            return b""
        if (
            self._pair is None
            or ke is None
            or not ke.group == choice.dh.transform_id == self._pair.group.transform_id
        ):
            raise PeerError(
                "the peer's KE payload is not of the group it chose", notify=NotifyType.INVALID_SYNTAX
            )
        return self._pair.shared_secret(ke.data)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a responder agrees to: a child configuration with DYNAMIC replaced by addresses."""

    config: ChildConfig
    local: Selectors
    remote: Selectors
    shared: bool
    """The peer may have several for the same traffic, if it asks for that (RFC 9611)."""
    worker: int | None = None
    """Whom the child SA is for; None: who has the fewest."""
    nat: NatStatus = field(default_factory=NatStatus)

    def as_seen_here(self, request: Message) -> tuple[Selectors, Selectors]:
        """Ours and the peer's, of what it asks for; in transport mode what its NAT and ours make of them
        (RFC 7296 section 2.23.1).
        """
        theirs, ours = _selectors(request.get(TsInitiator)), _selectors(request.get(TsResponder))
        if self.config.mode is Mode.TRANSPORT:
            ours = at_host(ours, str(self.local[0].first)) if self.nat.local else ours
            theirs = at_host(theirs, str(self.remote[0].first)) if self.nat.remote else theirs
        return ours, theirs

    def transport(self, request: Message) -> Transport | None:
        """None: tunnel mode. Raises PeerError where the request is not for what it is to be."""
        if self.config.mode is Mode.TUNNEL:
            # RFC 7296 section 1.3.1: a responder that declines says nothing.
            return None
        if request.notify(NotifyType.USE_TRANSPORT_MODE) is None:
            raise _other_mode(Mode.TUNNEL, NotifyType.TS_UNACCEPTABLE)
        theirs, ours = _selectors(request.get(TsInitiator)), _selectors(request.get(TsResponder))
        local_there, remote_there = only_host(ours), only_host(theirs)
        if local_there is None or remote_there is None:
            raise _many_hosts()
        return Transport(str(self.local[0].first), str(self.remote[0].first), local_there, remote_there)


def answer_child(
    hub: Hub, sa: IkeSa, request: Message, allowed: Allowed, *, nonces: Nonces, pfs: bool
) -> tuple[NewChild, list[Payload]]:
    """The responder's half: the child SA, and SA, Nr, KEr, TSi, TSr for the answer (Nr and KEr not in
    IKE_AUTH), before them USE_TRANSPORT_MODE and SA_RESOURCE_INFO if both sides want it.

    `request` has been checked against its rule. Raises PeerError, and then nothing is left of it.
    """
    transport = allowed.transport(request)
    local, remote = narrowed(request, allowed)
    if transport is not None:
        _require_few(local, remote)
    further = _further(request, allowed, local, remote)
    choice = _choose(request, allowed.config, pfs=pfs)
    shared, ke = _exchanged(hub, choice, request.get(KeyExchange))
    keys_in, keys_out = derive_child_keys(
        sa.suite.prf, sa.sk_d, choice.suite, nonces.initiator, nonces.responder, shared
    )
    spi_in = hub.child_spis.draw(allowed.worker)
    spi_out = int.from_bytes(choice.peer_spi)
    child = Child(spi_in, spi_out, choice.suite, local, remote, allowed.config, transport=transport)
    child.shared = allowed.shared and is_one_of_several(request)
    mode = [] if transport is None else [_USE_TRANSPORT_MODE]
    payloads = [*mode, *info(child.shared), SecurityAssociation((choice.to_wire(child.spi_in_octets),))]
    if pfs:
        payloads += [Nonce(nonces.responder), *ke]
    return NewChild(child, keys_in, keys_out), [*further, *payloads, TsInitiator(remote), TsResponder(local)]


def narrowed(request: Message, allowed: Allowed) -> tuple[Selectors, Selectors]:
    """Ours and the peer's, of what it asks for. Raises PeerError if that is nothing."""
    ours, theirs = allowed.as_seen_here(request)
    remote, local = narrow(theirs, allowed.remote), narrow(ours, allowed.local)
    if remote is not None and local is not None and allowed.config.single_pair:
        pair = next(pairs(local, remote), None)
        local, remote = (None, None) if pair is None else ((pair[0],), (pair[1],))
    if remote is None or local is None:
        raise PeerError(
            "no common subnet",
            notify=NotifyType.TS_UNACCEPTABLE,
            remedy=describe_no_common(ours, theirs, allowed.local, allowed.remote),
        )
    return local, remote


def _further(request: Message, allowed: Allowed, local: Selectors, remote: Selectors) -> list[Payload]:
    """RFC 7296 section 2.9: that there could have been more, in a child SA of its own."""
    if not allowed.config.single_pair:
        return []
    ours, theirs = allowed.as_seen_here(request)
    everything = narrow(ours, allowed.local), narrow(theirs, allowed.remote)
    return [] if everything == (local, remote) else [Notify.of(NotifyType.ADDITIONAL_TS_POSSIBLE)]


def _choose(request: Message, config: ChildConfig, *, pfs: bool) -> EspChoice:
    sa, ke = request.get(SecurityAssociation), request.get(KeyExchange)
    offered = () if sa is None else sa.proposals
    # Group 0 is "none": without a KE payload that is what fits.
    choice = select_esp(offered, config.proposals, pfs=pfs, ke_group=0 if ke is None else ke.group)
    if choice is None:
        raise PeerError(
            "no common ESP proposal",
            notify=NotifyType.NO_PROPOSAL_CHOSEN,
            remedy=describe_mismatch(offered, offer_esp(config.proposals, bytes(4), pfs=pfs)),
        )
    return choice


def _exchanged(hub: Hub, choice: EspChoice, ke: KeyExchange | None) -> tuple[bytes, list[Payload]]:
    if choice.dh is None:
        return b"", []
    if ke is None or ke.group != choice.dh.transform_id:
        raise refusal_of_group(choice.dh)
    pair = generate(choice.dh, hub.rng)
    return pair.shared_secret(ke.data), [KeyExchange(ke.group, pair.public)]


def _selectors(payload: TsInitiator | TsResponder | None) -> Selectors:
    if payload is None:
        raise PeerError("no traffic selectors", notify=NotifyType.INVALID_SYNTAX)
    return payload.selectors


def _other_mode(chosen: Mode, notify: NotifyType = NotifyType.INVALID_SYNTAX) -> PeerError:
    """Of a peer that wants, or has taken, a mode that is not to be."""
    text = "the peer chose transport mode, which we did not offer"
    if chosen is Mode.TUNNEL:
        text = "transport mode is asked for here, and the peer takes tunnel mode"
    return PeerError(text, notify=notify, remedy="Choose the same mode on both sides.")


def _many_hosts() -> PeerError:
    return PeerError(
        "the peer wants transport mode for more than the two hosts", notify=NotifyType.TS_UNACCEPTABLE
    )


def _require_few(local: Selectors, remote: Selectors) -> None:
    if len(local) * len(remote) > MAX_TRANSPORT_PAIRS:
        raise PeerError(
            f"the peer wants transport mode for {len(local)} x {len(remote)} protocols and ports",
            notify=NotifyType.TS_UNACCEPTABLE,
            remedy=f"Name at most {MAX_TRANSPORT_PAIRS} pairs of them, or ranges of ports.",
        )


def _text(selectors: Selectors) -> str:
    return ", ".join(str(s) for s in selectors[:8]) or "none"
