"""The part of a data path that runs in another process than IKE: an ESP machine that takes orders.

A host drives it as it drives a `Tunnel`. It needs nothing of IKE: its keys come with the commands.
"""

from collections.abc import Callable, Sequence

from espudp.crypto.random import Rng
from espudp.errors import EspudpError
from espudp.esp import messages
from espudp.esp.datapath import DataPath
from espudp.esp.elsewhere import CatchUp, HandOver
from espudp.esp.events import Event, HardExpired
from espudp.wire.address import Path
from espudp.wire.buffer import Buffer
from espudp.wire.train import Train
from espudp.wire.vnet import Frame, Offload, owned

# How often the front is told which peers are alive. Dead peer detection counts in more seconds than that.
HEARD_SECONDS = 1.0


class Worker:
    """The SAs of one worker that is not the first, between its sockets and its TUN queue."""

    def __init__(
        self,
        rng: Rng,
        worker: int,
        workers: int,
        *,
        report: Callable[[messages.Report], None],
        hand_over: HandOver,
        catch_up: CatchUp | None = None,
        dscp: int | None = None,
    ) -> None:
        """`catch_up`: None if what the front says is always obeyed before anything else comes."""
        self._esp = DataPath(rng, dscp=dscp)
        self._elsewhere = self._esp.share(worker, workers, hand_over, catch_up)
        self._report = report
        self._heard_due = 0.0
        self._heard_something = False
        self._trains: list[Train] = []
        self._packets: list[Buffer | Frame] = []

    def set_offloads(self, offloads: Offload) -> None:
        """As `Tunnel.set_offloads`."""
        self._esp.set_offloads(offloads)

    # What the front says

    def obey(self, command: messages.Command, now: float) -> None:
        """Do it; what follows from it is reported."""
        match command:
            case messages.Install():
                self._install(command)
            case messages.Confirm(spi_in):
                self._esp.confirm(spi_in)
            case messages.Remove(spi_in, when, linger):
                self._esp.remove(spi_in, when, linger=linger)
            case messages.RemoveConnection(connection, when):
                self._esp.remove_connection(connection, when)
            case messages.Move(connection, path):
                self._esp.move(connection, path)
            case messages.SetInnerMtu(connection, mtu):
                self._esp.set_inner_mtu(connection, mtu)
            case messages.Announce():
                self._elsewhere.know(command)
            case messages.Withdraw(spi_in):
                self._elsewhere.forget(spi_in)
            case messages.Ask():
                self._report(self.status(now))

    def _install(self, command: messages.Install) -> None:
        child = command.child
        try:
            self._esp.install(child, command.now, standby=command.standby)
        except EspudpError:
            # The peer must not send what we cannot open.
            self._report(HardExpired(child.connection, child.spi_in))

    def status(self, now: float) -> messages.Status:
        """Every SA and drop."""
        return messages.Status(self._esp.snapshot(now), self._esp.drops.copy(), self._elsewhere.handed_over)

    # What came in

    def receive_datagrams(self, datagrams: Sequence[Buffer], path: Path, now: float, tos: int = 0) -> None:
        """UDP payloads that arrived over one path, in order. IKE among them goes to the front."""
        if self._packets:  # not drained yet, and in memory that is about to be written again
            self._packets = owned(self._packets)
        self._packets += self._esp.open(datagrams, path, now, tos)
        self._note_heard(now)

    def receive_packets(self, packets: Sequence[Buffer | Frame], now: float) -> None:
        """IP packets that the host routed into the TUN device."""
        if self._trains:
            self._trains = [train.copy() for train in self._trains]
        self._trains += self._esp.seal(packets, now)
        self._packets += self._esp.take_replies()

    def take_over(self, astray: messages.Astray, now: float) -> None:
        """What another worker met, and is ours."""
        with self._elsewhere.closed():
            match astray:
                case messages.Outgoing(packet):
                    self.receive_packets([packet], now)
                case messages.Incoming(datagrams, path, tos):
                    self.receive_datagrams(datagrams, path, now, tos)

    # Time

    def _note_heard(self, now: float) -> None:
        if not self._heard_something:
            self._heard_something = True
            self._heard_due = max(self._heard_due, now)

    def poll_timer(self) -> float | None:
        """When `handle_timer` wants to be called next."""
        timer = self._esp.poll_timer()
        if not self._heard_something:
            return timer
        return self._heard_due if timer is None else min(timer, self._heard_due)

    def handle_timer(self, now: float) -> None:
        """End lifetimes; tell who is alive."""
        self._esp.handle_timer(now)
        if self._heard_something and now >= self._heard_due:
            self._heard_something = False
            self._heard_due = now + HEARD_SECONDS
            if heard := self._esp.take_heard():
                self._report(messages.Heard(heard))

    # Drains

    def datagrams_to_send(self, now: float) -> list[Train]:
        """Trains of UDP payloads, each for one path and in order."""
        trains, self._trains = self._trains, []
        return trains

    def packets_to_deliver(self) -> list[Buffer | Frame]:
        """Packets for the TUN device."""
        packets, self._packets = self._packets, []
        return packets

    def next_event(self) -> Event | None:
        """What the front should know."""
        return self._esp.next_event()
