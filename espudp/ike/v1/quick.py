"""Quick mode, what both sides of it have in common (RFC 2409 section 5.5, RFC 3947 section 5).

HASH(1), SA, Ni [, KE] [, IDci, IDcr] [, NAT-OAi, NAT-OAr]  -->
              <--  HASH(2), SA, Nr [, KE] [, IDci, IDcr] [, NAT-OAi, NAT-OAr]
HASH(3)  -->
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from espudp.crypto.auth import equal
from espudp.errors import PeerError
from espudp.ike.child_spis import FRONT
from espudp.ike.exchange import patience
from espudp.ike.v1.exchange import Turn
from espudp.ike.v1.natt import Flavour
from espudp.ike.v1.phase1 import Phase1
from espudp.ike.v1.sa import Chain
from espudp.wire.ikev1.constants import Encapsulation, IdType, NotifyType
from espudp.wire.ikev1.message import Message
from espudp.wire.ikev1.payloads import (
    Hash,
    Identification,
    KeyExchange,
    NatOriginalAddress,
    Nonce,
    Payload,
    SecurityAssociation,
)
from espudp.wire.ikev1.proposal import Proposal
from espudp.wire.transport import Transport

if TYPE_CHECKING:
    from espudp.ike.v1.connection import Connection
    from espudp.ike.v1.established import Established

# RFC 2409 section 5: 8 to 256 octets. As many as most have; vpnc answers right to no others.
NONCE_OCTETS = 20

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Said:
    """What a peer says in its first message of a quick mode."""

    proposals: tuple[Proposal, ...]
    nonce: bytes
    key_exchange: bytes | None
    ids: tuple[Identification, Identification] | None
    """Of the initiator's side and of the responder's; None: there are none."""
    original: tuple[str, ...]
    """The addresses in its NAT-OA payloads, in order."""


def proved(message: Message, proof: bytes) -> bool:
    """Whether the message begins with this HASH."""
    first = message.payloads[0] if message.payloads else None
    return isinstance(first, Hash) and equal(first.data, proof)


def read(message: Message, flavour: Flavour | None) -> Said:
    """Raises PeerError for payloads that are too few or too many."""
    offers, nonces = message.all(SecurityAssociation), message.all(Nonce)
    exchanges, ids = message.all(KeyExchange), message.all(Identification)
    if len(offers) != 1 or len(nonces) != 1 or len(exchanges) > 1 or len(ids) not in (0, 2):
        raise PeerError(
            f"a quick mode of {len(offers)} SA, {len(nonces)} nonces, {len(exchanges)} KE and {len(ids)} ID",
            notify=NotifyType.PAYLOAD_MALFORMED,
        )
    original = tuple(
        str(ip_address(payload.address))
        for payload in message.all(NatOriginalAddress)
        # CVE-2015-3204: one that was not agreed on means nothing.
        if flavour is not None and payload.type == flavour.nat_oa
    )
    return Said(
        offers[0].proposals,
        nonces[0].data,
        exchanges[0].data if exchanges else None,
        (ids[0], ids[1]) if ids else None,
        original,
    )


def mode_of(phase1: Phase1, *, transport: bool) -> int:
    """The encapsulation mode that we mean, as the agreed version of NAT traversal numbers it."""
    flavour = phase1.flavour
    if not phase1.encapsulates or flavour is None:
        return Encapsulation.TRANSPORT if transport else Encapsulation.TUNNEL
    return flavour.transport if transport else flavour.tunnel


def modes_taken(phase1: Phase1, *, transport: bool) -> tuple[int, ...]:
    """Those that mean it: peers are found that agree on a draft and number as the RFC does."""
    ours = mode_of(phase1, transport=transport)
    if not phase1.encapsulates:
        return (ours,)
    return (ours, Encapsulation.UDP_TRANSPORT if transport else Encapsulation.UDP_TUNNEL)


def worker_for(phase1: Phase1) -> int | None:
    """Whom a child SA is for; None: who has the fewest. ESP of the first drafts goes by IKE's own port."""
    flavour = phase1.flavour
    stays = phase1.encapsulates and flavour is not None and not flavour.floats
    return FRONT if stays else None


def original_addresses(phase1: Phase1, local: str, remote: str, *, is_initiator: bool) -> list[Payload]:
    """RFC 3947 section 5.2: our address and the peer's as our programs see them, the initiator's first."""
    flavour = phase1.flavour
    if flavour is None or flavour.nat_oa is None or not phase1.encapsulates:
        return []
    ends = [local, remote] if is_initiator else [remote, local]
    payloads: list[Payload] = []
    for end in map(ip_address, ends):
        kind = IdType.IPV4_ADDR if end.version == 4 else IdType.IPV6_ADDR
        payloads.append(NatOriginalAddress(kind, end.packed, flavour.nat_oa))
    return payloads


def transport_of(
    phase1: Phase1, hosts: tuple[str, str], original: Sequence[str], *, is_initiator: bool
) -> Transport:
    """Both addresses as each side sees them; `hosts` are ours and the peer's as we do.

    Drafts had the sender's own address alone. Who has no NAT in front of it has the same address everywhere.
    """
    (local, remote), nat = hosts, phase1.nat
    if len(original) >= 2:
        ours, theirs = (original[0], original[1]) if is_initiator else (original[1], original[0])
    else:
        ours, theirs = "" if nat.local else local, original[0] if original else ""
    if not theirs and not nat.remote:
        theirs = remote
    return Transport(local, remote, local_there=ours, remote_there=theirs)


def kept(now: Transport, former: Transport | None) -> Transport:
    """Programs go on with the addresses that they began with, wherever the peer has gone since."""
    if former is None:
        return now
    return replace(former, local_there=now.local_there, remote_there=now.remote_there)


class Quick(ABC):
    """One quick mode. When it is finished it goes on answering repetitions, as long as there may be any."""

    def __init__(self, established: "Established", chain: Chain) -> None:
        self.established = established
        self.sa = established.sa
        self.finished = False
        self.over = False
        self._chain = chain
        self._turn = Turn(self.sa, self.sa.timers)
        self._ends_at = NEVER

    @property
    def message_id(self) -> int:
        return self._chain.message_id

    @property
    def connection(self) -> "Connection | None":
        """None: it is over, or was never there."""
        connection = self.established.connection
        return connection if connection is not None and connection.alive else None

    @property
    def deadline(self) -> float | None:
        times = [t for t in (self._turn.deadline, self._ends_at) if t is not None]
        first = min(times)
        return None if first == NEVER else first

    def _finish(self, now: float) -> None:
        self.finished = True
        self._turn.heard()
        self._ends_at = now + patience(self.sa.timers)
        self.established.reschedule()

    def _end(self) -> None:
        self.finished = self.over = True
        self._turn.heard()

    def handle_timer(self, now: float) -> None:
        """Called at or after `deadline`, and possibly for nothing."""
        if now >= self._ends_at:
            self.over = True
        elif not self._turn.handle_timer(self.established.path, now):
            self._unanswered(now)

    @abstractmethod
    def _unanswered(self, now: float) -> None:
        """The tries are used up."""


def is_busy(established: "Established") -> bool:
    """Whether quick modes are under way that the end of the ISAKMP SA would cut short."""
    return any(isinstance(e, Quick) and not e.finished for e in established.exchanges.values())
