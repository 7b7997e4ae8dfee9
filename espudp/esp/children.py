"""How child SAs come, take over from one another, grow old and go."""

from espudp.crypto.random import Rng
from espudp.errors import ConfigError
from espudp.esp.events import EventQueue, HardExpired, SoftExpired
from espudp.esp.reassembly import Hosts
from espudp.esp.sa import Child, ChildKeys, Peer, State
from espudp.esp.sad import Sad, is_spi
from espudp.esp.snapshot import SaSnapshot, snapshot
from espudp.esp.spd import Spd
from espudp.timing import Timers
from espudp.wire.address import Path


class Children:
    """All child SAs, and what finds them: `sad` for datagrams, `spd` for packets."""

    def __init__(self, rng: Rng, events: EventQueue) -> None:
        self.sad = Sad()
        self.spd = Spd()
        self._rng = rng
        self._events = events
        self._peers: dict[int, Peer] = {}
        self._timers: Timers[Child] = Timers()
        self.hosts = Hosts()

    def install(self, keys: ChildKeys, now: float, *, standby: bool) -> None:
        """See `DataPath.install`. If it raises, nothing has changed."""
        if not is_spi(keys.spi_out):
            raise ConfigError(
                f"{keys.spi_out:#x} is no SPI",
                field="spi",
                remedy="Choose one from 0x100 to 0xffffffff; those below are reserved.",
            )
        peer = self._peers.get(keys.connection) or Peer(keys.connection, keys.path)
        child = Child(keys, peer, now, self._rng)
        self.sad.add(child.inbound)
        if child.transport is not None:
            self.hosts.add(child.transport.hosts)
        self._peers[keys.connection] = peer
        peer.children[keys.spi_in] = child
        peer.path = keys.path
        peer.follow = keys.follow_peer
        replaced = None if keys.replaces is None else self._find(keys.replaces)
        if standby and replaced is not None and replaced.state in (State.ACTIVE, State.STANDBY):
            replaced.successors.append(child)
        elif not standby or keys.replaces is not None:
            self.activate(child)
        self._timers.set(child, child.due)

    def activate(self, child: Child) -> None:
        """Send through the outbound SA from now on.

        Those that were sending stay behind it, in case it goes first: of two that replace the same one at
        the same time, either may (RFC 7296 section 2.8.1). What has replaced it in turn stays in front, if
        the peer was known to have that one first: messages overtake each other.
        """
        if child.state is State.STANDBY:
            child.state = State.ACTIVE
            self._put_first(child)

    def _put_first(self, child: Child) -> None:
        self.spd.add(child.outbound)
        for successor in child.successors:
            if successor.state is State.ACTIVE:
                self._put_first(successor)

    def confirm(self, spi_in: int) -> None:
        """See `DataPath.confirm`."""
        child = self._find(spi_in)
        if child is not None:
            self.activate(child)

    def remove(self, spi_in: int, now: float, *, linger: float) -> None:
        """See `DataPath.remove`."""
        child = self._find(spi_in)
        if child is None:
            return
        if linger <= 0 or child.state is State.EXPIRED:
            self._forget(child)
            return
        child.state = State.LINGERING
        child.ends_at = min(child.ends_at, now + linger)
        self._stop_sending(child)
        self._timers.set(child, child.due)

    def remove_connection(self, connection: int) -> None:
        """All its SAs, at once."""
        peer = self._peers.get(connection)
        for child in list(peer.children.values()) if peer is not None else ():
            self._forget(child)

    def move(self, connection: int, path: Path) -> None:
        if (peer := self._peers.get(connection)) is not None:
            peer.path = path

    def set_inner_mtu(self, connection: int, mtu: int) -> None:
        if (peer := self._peers.get(connection)) is not None:
            for child in peer.children.values():
                child.inner_mtu = mtu

    def wear(self, child: Child, now: float) -> None:
        """Act on the limits that the child SA has reached, and tell of each once."""
        if child.state not in (State.ACTIVE, State.STANDBY):
            return
        connection, spi_in = child.peer.connection, child.inbound.spi
        if now >= child.ends_at or child.spent:
            child.state = State.EXPIRED
            self._stop_sending(child)
            self._events.tell(HardExpired(connection, spi_in))
        elif (now >= child.soft_at or child.worn) and not child.soft_told:
            child.soft_told = True
            self._events.tell(SoftExpired(connection, spi_in))
        else:
            return
        self._timers.set(child, child.due)

    def _stop_sending(self, child: Child) -> None:
        """Whatever waited for the child SA's end takes over, so that no packet is without an SA."""
        self.spd.remove(child.outbound)
        successors, child.successors = child.successors, []
        for successor in successors:
            if self._find(successor.inbound.spi) is successor:
                self.activate(successor)

    def _forget(self, child: Child) -> None:
        self._stop_sending(child)
        self.sad.remove(child.inbound)
        if child.transport is not None:
            self.hosts.discard(child.transport.hosts)
        self._timers.discard(child)
        peer = child.peer
        peer.children.pop(child.inbound.spi, None)
        if not peer.children:
            self._peers.pop(peer.connection, None)

    def _find(self, spi_in: int) -> Child | None:
        if not is_spi(spi_in):
            return None
        sa = self.sad.find(spi_in)
        return None if sa is None else sa.child

    def poll_timer(self) -> float | None:
        return self._timers.poll()

    def handle_timer(self, now: float) -> None:
        for child in self._timers.take_due(now):
            if child.state is State.LINGERING:
                self._forget(child)
            else:
                self.wear(child, now)

    def snapshot(self, now: float) -> list[SaSnapshot]:
        return [
            shot
            for peer in self._peers.values()
            for child in peer.children.values()
            for shot in snapshot(child, now, outbound=child.state is not State.LINGERING)
        ]
