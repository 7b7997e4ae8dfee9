"""What lasts as long as a connection, while IKE SAs come and go beneath it: who, where, the child SAs."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from espudp.ike.config import ChildConfig, ConnectionConfig, Limits, ListenerConfig, Mode
from espudp.ike.encapsulation import Encapsulation, is_in_udp, plain
from espudp.ike.events import (
    ChildInstalled,
    ChildRemoved,
    Diagnostic,
    Fault,
    NatStatus,
    PathChanged,
)
from espudp.ike.farewell import Farewell
from espudp.ike.handout import Handout
from espudp.ike.identity import Identity
from espudp.ike.keylog import ChildKeyLog
from espudp.ike.lifetimes import jittered
from espudp.ike.narrowing import resolve
from espudp.ike.tickets import Ticket
from espudp.ike.v2 import configuration
from espudp.ike.v2.child import Allowed, Child, NewChild, Selectors
from espudp.ike.v2.hub import Hub
from espudp.ike.v2.resources import most_alike
from espudp.wire.address import Path
from espudp.wire.ikev2.payloads import Configuration

if TYPE_CHECKING:
    from espudp.ike.v2.established import Established
    from espudp.ike.v2.mobike import Mobike

# Our choice: as long as a peer may take to notice that it should not send on a redundant SA.
RETIRED_LINGER = 60.0

# Our choice: a peer may find the child SA of one worker idle and delete it. It gets another one, and then
# later and later, so that this never is a loop (RFC 9611 section 6).
FIRST_PAUSE = 60.0
LONGEST_PAUSE = 3600.0

# Our choice: far more than simultaneous rekeys on a bad line need.
MAX_IKE_SAS = 16

NEVER = float("inf")

Policy = ConnectionConfig | ListenerConfig


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom we talk to, as proved in IKE_AUTH."""

    identity: Identity
    nat: NatStatus
    outer: str
    """The IP address that it has shown to be its own: it has authenticated with what we sent there."""
    addresses: tuple[str, ...] = ()
    """Its virtual addresses, given by us."""
    can_be_redirected: bool = False
    """It would go to another gateway if we asked it to (RFC 5685)."""
    claimed: Identity | None = None
    """What it called itself in IDi, when it called us."""
    entry: bytes = b""
    """The mark of the entry of the peer authorization database by which it came in."""


class Connection:
    """An authenticated peer. `dialled`: we called it, and it is on us to keep the tunnel up."""

    def __init__(
        self,
        hub: Hub,
        number: int,
        policy: Policy,
        peer: Peer,
        path: Path,
        now: float,
        addresses: tuple[str, ...] = (),
    ) -> None:
        self.hub = hub
        self.number = number
        self.policy = policy
        self.peer = peer
        self.path = path
        self.mobike: Mobike | None = None
        """Set when both sides speak it."""
        self.addresses = addresses
        self.claims_nat = policy.encap is Encapsulation.ALWAYS
        """As who dialled: the peer is to find a NAT whether there is one or not."""
        self.children: dict[int, Child] = {}  # by inbound SPI
        self.wanted: tuple[ChildConfig, ...] = (policy.child,)
        """What who dialled keeps up, each with a child SA of its own."""
        self._restores, self._restored_at = 0, now
        self.has_all = False
        """The peer has said that it will not have more child SAs for the same traffic."""
        self.pause = FIRST_PAUSE
        """Before a child SA that one worker has lost is made anew."""
        self._unknown: list[Child] = []
        self.current: Established | None = None
        self.ticket: Ticket | None = None
        """What we may resume the session with, if it breaks off (RFC 5723)."""
        self.sas: set[bytes] = set()
        self._answered: list[bytes] = []
        self.reauth_at = NEVER
        """When we authenticate anew, as the one who dialled."""
        self.ends_at, self.last_word = NEVER, Farewell(Fault.LOCAL_REQUEST, "its time is up")
        """When it is closed, whichever its IKE SA is then, and why."""
        self.established_at = now
        self.last_inbound = now
        hub.enroll(self)

    @property
    def dialled(self) -> bool:
        return isinstance(self.policy, ConnectionConfig)

    @property
    def alive(self) -> bool:
        """Not brought down yet. To be asked after whatever may have done that."""
        return self.hub.connections.get(self.number) is self

    def note(self, text: str) -> None:
        """One line for the log."""
        self.hub.emit(Diagnostic(self.number, text))

    # Where the peer is

    @property
    def ike_path(self) -> Path:
        """Where requests of ours go; `path` is where ESP goes."""
        return self.path if self.mobike is None else self.mobike.path

    @property
    def esp_path(self) -> Path:
        """Where ESP goes: as `path`, in UDP, or without ports."""
        in_udp = is_in_udp(self.policy.encap, self.peer.nat, plain_esp=self.hub.plain_esp)
        return self.path if in_udp else plain(self.path)

    def selectors(self, config: ChildConfig) -> tuple[Selectors, Selectors]:
        """Ours and the peer's of a child SA that we ask for. DYNAMIC is a virtual address, or the outer one
        where there is none.
        """
        if config.mode is Mode.TRANSPORT:
            # What this host sees, while the peer's NAT may rebind.
            return resolve(config.local, (self.path.local.ip,)), resolve(config.remote, (self.peer.outer,))
        local = resolve(config.local, self.addresses or (self.path.local.ip,))
        return local, resolve(config.remote, self.peer.addresses or (self.path.remote.ip,))

    def heard(self, path: Path, now: float) -> None:
        """A new authentic message arrived: the peer lives, and this is where (RFC 7296 section 2.23).

        A peer that speaks MOBIKE says so when it moves (RFC 4555 section 3.8).
        """
        self.last_inbound = max(self.last_inbound, now)
        if self.mobike is not None:
            return
        # Only who is behind a NAT turns up elsewhere, and who dialled from behind one knows where its peer
        # is. To follow nevertheless would let whoever can hold a message back lead us away.
        follows = self.peer.nat.remote and not (self.dialled and self.peer.nat.local)
        if path != self.path and follows:
            self.path = path
            self.hub.emit(PathChanged(self.number, self.esp_path))

    # Child SAs

    def allowed(self) -> Allowed:
        """What the peer may ask for: DYNAMIC is a virtual address, or the outer one where there is none."""
        config = self.policy.child
        local, remote = self.selectors(config)
        if not self.peer.addresses:
            remote = resolve(config.remote, (self.peer.outer,))
        return Allowed(config, local, remote, shared=self.hub.workers > 1, nat=self.peer.nat)

    def configured(self, asked: Configuration | None) -> list[Configuration]:
        """What goes into the answer to a configuration payload that comes later than IKE_AUTH."""
        handout = self.policy.handout if isinstance(self.policy, ListenerConfig) else Handout()
        return configuration.answer(asked, self.peer.addresses, handout)

    def has_room(self, *, rekey: bool) -> bool:
        """Whether the peer may have one more child SA; while it rekeys them it has some of them twice."""
        limits = self.policy.limits if isinstance(self.policy, ListenerConfig) else Limits()
        room = limits.children_per_connection + most_alike(self.hub.workers) - 1
        return len(self.children) < room * (4 if rekey else 1)

    @property
    def has_room_for_ike(self) -> bool:
        """Whether the peer may make one more IKE SA; those that it has replaced it should delete."""
        return len(self.sas) < MAX_IKE_SAS

    def keep_answer(self, spi: bytes) -> None:
        """This IKE SA is over, and is kept for a while to repeat its last answer; but not every one for ever
        so many rekeys.
        """
        self._answered.append(spi)
        if len(self._answered) > MAX_IKE_SAS:
            self.hub.discard(self._answered.pop(0))

    def peer_is_up_to_date(self) -> None:
        """The peer makes a new request, so it has our answer to the last one (RFC 7296 section 2.3)."""
        for child in self._unknown:
            child.unknown_until = 0.0
        self._unknown.clear()

    def may_be_unknown(self, child: Child, until: float) -> None:
        """We are about to answer with this child SA, and the answer may get lost."""
        child.unknown_until = until
        self._unknown.append(child)

    def alike(self, local: Selectors, remote: Selectors) -> list[Child]:
        """The child SAs for exactly this traffic, which are here to stay."""
        wanted = set(local), set(remote)
        here = (c for c in self.children.values() if not c.is_going)
        return [c for c in here if (set(c.local), set(c.remote)) == wanted]

    def served(self, local: Selectors, remote: Selectors) -> set[int]:
        """The workers that have a child SA for exactly this traffic."""
        return {self.hub.child_spis.worker_of(c.spi_in) for c in self.alike(local, remote)}

    def serves(self, config: ChildConfig) -> bool:
        """Whether a child SA for just this is here to stay, whatever it was narrowed to."""
        wanted = config.local, config.remote
        here = (c.config for c in self.children.values() if not c.is_going)
        return any((config.local, config.remote) == wanted for config in here)

    def missing(self) -> list[ChildConfig]:
        """What should have a child SA, and has none."""
        return [config for config in self.wanted if not self.serves(config)]

    def pause_before_restoring(self, now: float) -> float:
        """Longer and longer, since a peer may not have, or not for long, what others beside it can do."""
        if now - self._restored_at > LONGEST_PAUSE or not self.children:
            self._restores = 0
        self._restores, self._restored_at = self._restores + 1, now
        return min(self.policy.timers.rekey_retry * 2.0 ** (self._restores - 1), LONGEST_PAUSE)

    def gap(self) -> tuple[Child, int] | None:
        """A child SA that is one of several, and a worker without one for the same traffic; unless the peer
        has had enough.
        """
        for child in self.children.values():
            if child.shared and not (child.is_going or self.has_all):
                missing = set(range(self.hub.workers)) - self.served(child.local, child.remote)
                if missing:
                    return child, min(missing)
        return None

    def child_of_peer(self, spi: bytes) -> Child | None:
        """The child SA that the peer names by the SPI it receives on."""
        wanted = int.from_bytes(spi)
        return next((c for c in self.children.values() if c.spi_out == wanted), None)

    def install(
        self,
        new: NewChild,
        *,
        replaces: Child | None = None,
        standby: bool = False,
        behind: Child | None = None,
    ) -> None:
        """The child SA exists from now on; with `standby` the old one sends until the peer is ready. It also
        stands by where it is `behind` one of another connection, with the same peer.
        """
        child = new.child
        self.children[child.spi_in] = child
        if replaces is not None and replaces.spi_in not in self.children:
            replaces = None
        self.hub.log_keys(
            ChildKeyLog(self.path, child.spi_in, child.spi_out, child.suite, new.keys_in, new.keys_out)
        )
        self.hub.emit(
            ChildInstalled(
                self.number,
                child.spi_in,
                child.spi_out,
                child.suite,
                new.keys_in,
                new.keys_out,
                child.local,
                child.remote,
                self.esp_path,
                jittered(child.config.lifetime, self.hub.rng),
                replaces=former.spi_in if (former := replaces or behind) is not None else None,
                standby=behind is not None or (standby and replaces is not None),
                replay_window=child.config.replay_window,
                resource=self.hub.resource_of(child.spi_in),
                transport=child.transport,
            )
        )

    def retire(self, child: Child) -> None:
        """One SA too many after simultaneous rekeys: it still receives, and is about to be deleted."""
        child.retired = True
        self.hub.emit(ChildRemoved(self.number, child.spi_in, child.spi_out, RETIRED_LINGER))

    def remove(self, child: Child) -> None:
        """The child SA is over; if another carries its traffic, what is still on the way gets through."""
        if self.children.pop(child.spi_in, None) is None:
            return
        self.hub.child_spis.free(child.spi_in)
        if not child.retired:
            carried = child.successor is not None or (child.shared and self.alike(child.local, child.remote))
            linger = self.policy.timers.rekey_linger if carried else 0.0
            self.hub.emit(ChildRemoved(self.number, child.spi_in, child.spi_out, linger))

    def restore(self, now: float) -> None:
        """Child SAs may be missing now."""
        if self.alive and self.current is not None:
            self.current.restore(now)

    # The end

    def down(self, farewell: Farewell) -> None:
        """Ends everything at once, without a word to the peer."""
        if not self.alive:
            return
        if self.current is not None:
            self.current.abandon()
        for child in list(self.children.values()):
            child.successor, child.shared = None, False
            self.remove(child)
        for spi in self.sas:
            self.hub.discard(spi)
        self.sas.clear()
        self.hub.strike(self)
        if farewell.fault is Fault.TIMEOUT and self.ticket is not None:
            self._keep_ticket(self.ticket)
        self.hub.emit(farewell.event(self.number))

    def _keep_ticket(self, ticket: Ticket) -> None:
        """RFC 5723 section 6.2: not when either side has ended the session."""
        if isinstance(self.policy, ConnectionConfig):
            self.hub.wallet.keep(self.policy, self.path.remote.ip, ticket)
