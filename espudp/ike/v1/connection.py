"""What lasts as long as a connection, while ISAKMP SAs come and go above its child SAs.

Phase 1 and phase 2 live apart in IKEv1: child SAs outlive the ISAKMP SA that they were made with, and where
there is none when one is needed, who dialled makes one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from espudp.ike.config import ChildConfig, ConnectionConfig, Limits, ListenerConfig
from espudp.ike.events import (
    ChildConfirmed,
    ChildInstalled,
    ChildRemoved,
    Diagnostic,
    IkeRekeyed,
    NatStatus,
    PathChanged,
)
from espudp.ike.farewell import Farewell
from espudp.ike.identity import Identity
from espudp.ike.keylog import ChildKeyLog
from espudp.ike.lifetimes import jittered
from espudp.ike.narrowing import EVERYTHING, narrow, resolve
from espudp.ike.v1 import informational
from espudp.ike.v1.child import Child, NewChild, Selectors, Traffic
from espudp.ike.v1.hub import Hub
from espudp.ike.v1.phase1 import Phase1, Policy
from espudp.ike.v1.upkeep import Upkeep
from espudp.wire.address import Path, UdpAddress
from espudp.wire.selectors import TrafficSelector
from espudp.wire.transport import Mode

if TYPE_CHECKING:
    from espudp.ike.v1.established import Established

# Our bound beside that of the configuration: while they are rekeyed, some child SAs are there several times.
_REKEY_FACTOR = 4


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom we talk to, as proved in phase 1 and by XAUTH."""

    identity: Identity
    nat: NatStatus
    outer: str
    """The IP address that it has shown to be its own: see `Phase1.outer`."""
    addresses: tuple[str, ...] = ()
    """Its virtual addresses, given by us."""
    entry: bytes = b""
    """The mark of the entry of the peer authorization database by which it came in."""


class Connection:
    """An authenticated peer. `dialled`: we called it, and it is on us to keep the tunnel up."""

    def __init__(self, hub: Hub, number: int, phase1: Phase1, peer: Peer, now: float) -> None:
        self.hub = hub
        self.number = number
        self.policy: Policy = phase1.policy
        self.phase1 = phase1
        """How the latest one ended."""
        self.peer = peer
        self.path = phase1.path
        """Where IKE goes."""
        self.addresses: tuple[str, ...] = ()
        """Our virtual ones."""
        self.split: Selectors = ()
        """What of the peer's side is to go through the tunnel, as the peer says; nothing: all of it."""
        self.has_told_split = False
        """Whether the peer knows from us what of our side is to go through the tunnel."""
        self.children: dict[int, Child] = {}  # by inbound SPI
        self.current: Established | None = None
        """None: there is no ISAKMP SA at the moment."""
        self.established_at = now
        self.last_inbound = now
        self.upkeep = Upkeep(self, now)
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

    # Phase 1

    def use(self, established: "Established", now: float) -> None:
        """This ISAKMP SA is the one that our exchanges go by from now on."""
        former, self.current = self.current, established
        established.connection = self
        is_new, self.phase1 = established.phase1 is not self.phase1, established.phase1
        if is_new:
            self.hub.emit(IkeRekeyed(self.number, established.sa.suite.name))
        self.upkeep.phase_1_began(established, former, now)

    def lost(self, established: "Established", now: float) -> None:
        """An ISAKMP SA of this connection is gone; its child SAs are not."""
        if self.current is not established:
            return
        self.current = None
        other = self.upkeep.isakmp.spare() if self.children else None
        if other is not None:
            self.use(other, now)
        else:
            self.upkeep.phase_1_ended(now)

    # Where the peer is

    @property
    def esp_path(self) -> Path:
        """Where ESP goes; ports 0 without UDP."""
        if self.phase1.encapsulates:
            return self.path
        return Path(UdpAddress(self.path.local.ip, 0), UdpAddress(self.path.remote.ip, 0))

    def heard(self, path: Path, now: float) -> None:
        """A new authentic message arrived: the peer lives, and this is where.

        RFC 3947 section 7: only who is not behind a NAT follows a peer that is.
        """
        self.last_inbound = max(self.last_inbound, now)
        follows = self.peer.nat.remote and not (self.dialled and self.peer.nat.local)
        if path != self.path and follows:
            self.path = path
            self.hub.emit(PathChanged(self.number, self.esp_path))

    # Child SAs

    @property
    def hosts(self) -> tuple[str, str]:
        """Our address and the peer's in transport mode. Programs go on with them wherever the peer goes: what
        it sends from elsewhere shows nothing of who is there (RFC 3947 section 7).
        """
        return self.path.local.ip, self.peer.outer

    def resolved(self, config: ChildConfig) -> tuple[Selectors, Selectors]:
        """Our selectors and the peer's. DYNAMIC is a virtual address, or the outer one where there is none,
        and in transport mode always the outer one.
        """
        ours, theirs = self.addresses, self.peer.addresses
        if config.mode is Mode.TRANSPORT:
            ours, theirs = (), ()
        here, there = self.hosts
        return resolve(config.local, ours or (here,)), resolve(config.remote, theirs or (there,))

    def has_room(self, *, rekey: bool) -> bool:
        """Whether the peer may have one more child SA; while it rekeys them it has some of them twice."""
        limits = self.policy.limits if isinstance(self.policy, ListenerConfig) else Limits()
        return len(self.children) < limits.children_per_connection * (_REKEY_FACTOR if rekey else 1)

    def alike(self, traffic: Traffic) -> list[Child]:
        """The child SAs for this traffic, which are here to stay, oldest first."""
        return [c for c in self.children.values() if c.traffic == traffic and not c.is_going]

    def same_flow(self, traffic: Traffic) -> Child | None:
        """The child SA in transport mode for these protocols and ports, wherever the peer was then."""
        flow = traffic.at(self.path)
        here = (c for c in self.children.values() if c.traffic.transport and not c.is_going)
        return next((c for c in here if c.traffic.at(self.path) == flow), None)

    def child_of_peer(self, spi: bytes) -> Child | None:
        """The child SA that the peer names by the SPI it receives on."""
        wanted = int.from_bytes(spi)
        return next((c for c in self.children.values() if c.spi_out == wanted), None)

    def install(
        self, new: NewChild, now: float, *, replaces: Iterable[Child] = (), standby: bool = False
    ) -> None:
        """The child SA exists from now on; with `standby` nothing is sent on it before it is confirmed."""
        child, former = new.child, [c for c in replaces if c.spi_in in self.children]
        self.children[child.spi_in] = child
        self.hub.common.log_keys(
            ChildKeyLog(self.esp_path, child.spi_in, child.spi_out, child.suite, new.keys_in, new.keys_out)
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
                jittered(child.life.limit(child.config.lifetime), self.hub.rng),
                replaces=former[-1].spi_in if former else None,
                standby=standby,
                replay_window=child.config.replay_window,
                resource=self.hub.common.resource_of(child.spi_in),
                transport=child.transport,
            )
        )
        self.upkeep.child_made(now)

    def confirm(self, child: Child) -> None:
        """The peer has it."""
        child.confirmed = True
        if self.children.get(child.spi_in) is child:
            self.hub.emit(ChildConfirmed(self.number, child.spi_in))

    def child_used(self, spi_in: int) -> None:
        """The peer sends on it, so it has it, whatever became of its last message."""
        child = self.children.get(spi_in)
        if child is not None:
            child.confirmed = True

    def remove(self, child: Child, now: float) -> None:
        """The child SA is over; if another carries its traffic, what is still on the way gets through."""
        if self.children.pop(child.spi_in, None) is None:
            return
        self.hub.child_spis.free(child.spi_in)
        carried = child.successor is not None or self.alike(child.traffic)
        linger = self.policy.timers.rekey_linger if carried and self.alive else 0.0
        self.hub.emit(ChildRemoved(self.number, child.spi_in, child.spi_out, linger))
        self.upkeep.child_gone(now)

    def carried(self, side: TrafficSelector) -> Selectors:
        """Of the peer's side, what the tunnel carries: as Cisco's clients do, who ask for everything and
        send what the gateway has named.
        """
        if not self.split:
            return (side,)
        common = (both for part in self.split if (both := side.intersect(part)) is not None)
        return tuple(dict.fromkeys(common)) or (side,)

    def served(self, side: TrafficSelector, config: ChildConfig) -> Selectors:
        """Of our side, what the tunnel carries: all that is asked for, if it is ours, or of everything, which
        Cisco's clients ask for, what they were told of; nothing, if neither is the case.
        """
        ours = self.resolved(config)[0]
        if any(selector.contains(side) for selector in ours):
            return (side,)
        if self.has_told_split and side in EVERYTHING.values():
            return narrow((side,), ours) or ()
        return ()

    # Time

    @property
    def deadline(self) -> float | None:
        return self.upkeep.deadline

    def handle_timer(self, now: float) -> None:
        self.upkeep.handle_timer(now)
        if self.alive:
            self.hub.reschedule(self)

    # Commands

    def rekey(self, now: float) -> None:
        """Replaces the ISAKMP SA."""
        self.upkeep.renew(now)

    def rekey_child(self, spi_in: int, now: float) -> None:
        """Replaces a child SA, unless it is being replaced or deleted already."""
        child = self.children.get(spi_in)
        if child is not None:
            self.upkeep.rekey_child(child, now)

    def create_child(self, config: ChildConfig, now: float) -> None:
        """One child SA for each pair of selectors."""
        self.upkeep.create_children(config, now)

    def delete_child(self, spi_in: int, now: float) -> None:
        """At both ends."""
        child = self.children.get(spi_in)
        if child is not None:
            self.upkeep.delete_children([child], now)
            self.upkeep.restore(now)

    def check_alive(self, now: float) -> None:
        """Asks the peer whether it is there."""
        self.upkeep.check_alive(now)

    def renewal_failed(self, farewell: Farewell, now: float) -> None:
        """No new ISAKMP SA came of it."""
        self.upkeep.renewal_failed(farewell, now)

    # The end

    def close(self, farewell: Farewell, now: float) -> None:
        """Deletes everything at both ends. There is no answer to that."""
        if not self.alive:
            return
        if self.current is not None:
            informational.say_deleted(self.current, self.children.values())
        self.upkeep.isakmp.retire_all(now)
        self.down(farewell)

    def down(self, farewell: Farewell) -> None:
        """Ends everything at once, without a word to the peer."""
        if not self.alive:
            return
        self.hub.strike(self)
        for child in list(self.children.values()):
            self.remove(child, self.last_inbound)
        self.current = None
        self.upkeep.abandon(self.last_inbound)
        self.hub.emit(farewell.event(self.number))
