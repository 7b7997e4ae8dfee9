"""A data path of which parts run in other workers: what IKE sees of them all.

The front is worker 0. It owns SAs itself, as every worker does, and passes commands for those of the others
on; what the others report becomes events and snapshots here.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager

from espudp.crypto.random import Rng
from espudp.esp import messages
from espudp.esp.datapath import DataPath
from espudp.esp.drops import Drop
from espudp.esp.elsewhere import FRONT, HandOver, owner_of
from espudp.esp.events import Event, HardExpired, PeerMoved, PeerReady, SoftExpired, UnknownSpi
from espudp.esp.sa import ChildKeys
from espudp.esp.snapshot import SaSnapshot
from espudp.wire.address import Path

Tell = Callable[[int, messages.Command], None]
"""Brings a command to a worker, after all that it was told before; to the front's host only `Steer`."""


class Front(DataPath):
    """The ESP of any number of connections, spread over `workers`, of which this is the first."""

    def __init__(
        self, rng: Rng, workers: int, *, tell: Tell, hand_over: HandOver, dscp: int | None = None
    ) -> None:
        super().__init__(rng, dscp=dscp)
        self.workers = workers
        self._others = self.share(FRONT, workers, hand_over)
        self._tell = tell
        self._announced: dict[int, messages.Announce] = {}
        self._pairs: defaultdict[int, set[int]] = defaultdict(set)  # connection -> inbound SPIs
        self._spread: set[int] = set()  # connections with child SAs for the same traffic at several workers
        self._statuses: dict[int, messages.Status] = {}

    # Commands

    def install(self, child: ChildKeys, now: float, *, standby: bool = False) -> None:
        """As `DataPath.install`. What is wrong with a child SA of another worker's ends it a moment later."""
        owner = owner_of(child.spi_in, self.workers)
        if owner == FRONT:
            super().install(child, now, standby=standby)
        else:
            self._tell(owner, messages.Install(child, now, standby))
        hosts = b"" if child.transport is None else child.transport.hosts
        said = messages.Announce(child.spi_in, child.connection, owner, child.local, child.remote, hosts)
        self._announced[child.spi_in] = said
        self._pairs[child.connection].add(child.spi_in)
        self._tell_all(said, but=owner)
        if owner != FRONT:
            self._others.know(said)
        self._see_spread(child.connection)

    def confirm(self, spi_in: int) -> None:
        owner = owner_of(spi_in, self.workers)
        if owner == FRONT:
            super().confirm(spi_in)
        else:
            self._tell(owner, messages.Confirm(spi_in))

    def remove(self, spi_in: int, now: float, *, linger: float = 0.0) -> None:
        owner = owner_of(spi_in, self.workers)
        if owner == FRONT:
            super().remove(spi_in, now, linger=linger)
        else:
            self._tell(owner, messages.Remove(spi_in, now, linger))
        self._withdraw(spi_in)

    def remove_connection(self, connection: int, now: float) -> None:
        super().remove_connection(connection, now)
        self._tell_all(messages.RemoveConnection(connection, now))
        for spi_in in list(self._pairs.get(connection, ())):
            self._withdraw(spi_in)

    def move(self, connection: int, path: Path) -> None:
        super().move(connection, path)
        self._tell_all(messages.Move(connection, path))

    def set_inner_mtu(self, connection: int, mtu: int) -> None:
        super().set_inner_mtu(connection, mtu)
        self._tell_all(messages.SetInnerMtu(connection, mtu))

    def _withdraw(self, spi_in: int) -> None:
        said = self._announced.pop(spi_in, None)
        if said is None:
            return
        pairs = self._pairs[said.connection]
        pairs.discard(spi_in)
        if not pairs:
            del self._pairs[said.connection]
        self._others.forget(spi_in)
        self._tell_all(messages.Withdraw(spi_in), but=said.owner)
        self._see_spread(said.connection)

    def _see_spread(self, connection: int) -> None:
        """Whether a connection's traffic may be any worker's decides about the rule for all traffic."""
        owners: defaultdict[object, set[int]] = defaultdict(set)
        for spi_in in self._pairs.get(connection, ()):
            said = self._announced[spi_in]
            owners[said.local, said.remote].add(said.owner)
        before = bool(self._spread)
        if any(len(some) > 1 for some in owners.values()):
            self._spread.add(connection)
        else:
            self._spread.discard(connection)
        if bool(self._spread) != before:
            steer = messages.Steer(by_return=before)
            self._tell(FRONT, steer)
            self._tell_all(steer)

    def _tell_all(self, command: messages.Command, but: int = FRONT) -> None:
        for worker in range(1, self.workers):
            if worker != but:
                self._tell(worker, command)

    # What the others say

    def receive(self, worker: int, report: messages.Report, now: float) -> None:
        """Events come out of `next_event`, all else where it is asked for."""
        match report:
            case messages.Heard(connections):
                for connection, heard in connections:
                    self._heard[connection] = max(heard, self._heard.get(connection, heard))
            case messages.Status():
                self._take_status(worker, report)
            case PeerMoved(connection, path):
                self.events.moved(connection, path)
            case SoftExpired() | HardExpired() | PeerReady():
                self.events.tell(report)
            case UnknownSpi(spi, path):
                self.events.unknown_spi(spi, path, now)

    def _take_status(self, worker: int, status: messages.Status) -> None:
        former = self._statuses.get(worker)
        known: Counter[Drop] = Counter() if former is None else former.drops
        self.drops.update(status.drops - known)
        self._statuses[worker] = status

    def lose(self, worker: int) -> None:
        """A worker is gone, and one without SAs is in its place: those that it had are to be made anew."""
        self._statuses.pop(worker, None)
        self._tell(worker, messages.Steer(by_return=not self._spread))
        for said in list(self._announced.values()):
            if said.owner == worker:
                self.events.tell(SoftExpired(said.connection, said.spi_in))
            else:
                self._tell(worker, said)

    def ask(self) -> None:
        """For what `snapshot` shows of the others; they answer with a `Status`."""
        self._tell_all(messages.Ask())

    def closed(self) -> AbstractContextManager[None]:
        """While what was handed over to us is at work."""
        return self._others.closed()

    def handed_over(self, worker: int) -> int:
        """Packets and datagrams that a worker has given to others; a super-packet is one."""
        if worker == FRONT:
            return self._others.handed_over
        status = self._statuses.get(worker)
        return 0 if status is None else status.handed_over

    # Drains

    def next_event(self) -> Event | None:
        event = super().next_event()
        if isinstance(event, PeerMoved):  # which one worker found out
            self.move(event.connection, event.path)
        return event

    def snapshot(self, now: float) -> list[SaSnapshot]:
        """Every SA; those of the others as they were when they last answered."""
        return [*super().snapshot(now), *(sa for status in self._statuses.values() for sa in status.sas)]
