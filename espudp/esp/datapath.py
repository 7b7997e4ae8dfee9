"""The life of a packet: out of the TUN device into ESP, and back (RFC 4303, RFC 4301 section 5).

Both ways work on batches (`outbound.py`, `inbound.py`). A batch has the same effect as its packets one
after another, octet for octet. What cannot go on is counted by reason and otherwise forgotten. Nothing of a
datagram is believed, and no state changed by it, before its ICV is verified.
"""

from collections import Counter
from collections.abc import Sequence

from espudp.crypto.random import Rng
from espudp.esp.children import Children
from espudp.esp.drops import Drop
from espudp.esp.elsewhere import CatchUp, Elsewhere, HandOver
from espudp.esp.events import Event, EventQueue, HardExpired, PeerMoved, PeerReady, SoftExpired, UnknownSpi
from espudp.esp.inbound import Inbound
from espudp.esp.outbound import Outbound
from espudp.esp.sa import ChildKeys
from espudp.esp.snapshot import SaSnapshot
from espudp.wire.address import Path
from espudp.wire.buffer import Buffer
from espudp.wire.train import Burst, Train
from espudp.wire.vnet import Frame, Offload

__all__ = [
    "DataPath", "Drop", "Event", "HardExpired", "PeerMoved", "PeerReady", "SaSnapshot", "SoftExpired",
    "Train", "UnknownSpi",
]  # fmt: skip


class DataPath:
    """The ESP of any number of connections. Times are seconds on one monotonic clock."""

    def __init__(self, rng: Rng, *, dscp: int | None = None) -> None:
        """`dscp`: of all datagrams; None: that of the packet inside. Raises ConfigError if it cannot be."""
        self.drops: Counter[Drop] = Counter()
        self.events = EventQueue()
        """What `next_event` takes from."""
        self._children = Children(rng, self.events)
        self._outbound = Outbound(self._children, self.drops, dscp)
        self.replies = self._outbound.replies
        """What `take_replies` takes from."""
        self._heard: dict[int, float] = {}
        self._inbound = Inbound(self._children, self.drops, self.events, self._heard)

    def share(
        self, worker: int, workers: int, hand_over: HandOver, catch_up: CatchUp | None = None
    ) -> Elsewhere:
        """From now on this is one of several data paths, each of which has some of the SAs."""
        spd, hosts = self._children.spd, self._children.hosts
        elsewhere = Elsewhere(worker, workers, spd, hosts, self.drops, hand_over, catch_up)
        self._outbound.elsewhere = self._inbound.elsewhere = elsewhere
        return elsewhere

    # Commands

    def install(self, child: ChildKeys, now: float, *, standby: bool = False) -> None:
        """Put a child SA to work: at once inbound, and outbound unless it is to wait.

        With `standby`, packets go on leaving through the child SA that this one `replaces` until the peer is
        seen to use the new one or the old one ends (RFC 7296 section 2.8): no packet meets an SA that
        the peer does not have yet. Where such a child SA is gone there is nothing to wait for; where none
        is named, nothing leaves before the peer is seen to use the new one, or `confirm`.

        Raises ConfigError for an SPI or a replay window that cannot be, CryptoError for keys that do not
        fit the suite; then nothing has changed.
        """
        self._children.install(child, now, standby=standby)

    def confirm(self, spi_in: int) -> None:
        """The peer has the child SA: it need not stand by any longer."""
        self._children.confirm(spi_in)

    def remove(self, spi_in: int, now: float, *, linger: float = 0.0) -> None:
        """Stop sending through a child SA, named by its inbound SPI; go on receiving for `linger` seconds."""
        self._children.remove(spi_in, now, linger=linger)

    def remove_connection(self, connection: int, now: float) -> None:
        """Forget all child SAs of a connection."""
        self._children.remove_connection(connection)
        self._heard.pop(connection, None)

    def move(self, connection: int, path: Path) -> None:
        """Send to another address from now on."""
        self._children.move(connection, path)

    def set_inner_mtu(self, connection: int, mtu: int) -> None:
        """The largest inner packet that fits the path to the peer, in octets."""
        self._children.set_inner_mtu(connection, mtu)

    def set_offloads(self, offloads: Offload) -> None:
        """The frames that `open` may hand out; none at first."""
        self._inbound.offloads = offloads

    # Out: TUN -> segments -> selectors -> size -> seal -> datagrams

    def seal(self, packets: Sequence[Buffer | Frame], now: float) -> list[Train]:
        """ESP datagrams for packets from the TUN device, in order: each train over one path, with one TOS.

        Bursts among them hold until the next call.
        """
        return self._outbound.seal(packets, now)

    # In: datagrams -> SPI -> replay window -> ICV -> padding -> selectors -> ECN -> super-packets -> TUN

    def open(
        self, datagrams: Sequence[Buffer] | Burst, path: Path, now: float, tos: int = 0
    ) -> list[Buffer | Frame]:
        """The packets for the TUN device out of ESP datagrams, from the SPI on, that came over `path`.

        `tos` is the outer header's traffic class octet. Frames hold until the next call, and so do packets
        once there are offloads.
        """
        return self._inbound.open(datagrams, path, now, tos)

    def open_burst(self, burst: Burst, path: Path, now: float, tos: int = 0) -> list[Buffer | Frame] | None:
        """As `open` for a burst that is as most are: authentic, in order, for one SA.

        None for any other, which may hold anything, and nothing has changed.
        """
        return self._inbound.open_burst(burst, path, now, tos)

    # Drains and time

    def take_replies(self) -> list[bytes]:
        """ICMP messages for the TUN device."""
        return self._outbound.take_replies()

    def take_heard(self) -> list[tuple[int, float]]:
        """Connections that have sent something authentic since the last call, each with when it last did."""
        heard = list(self._heard.items())
        self._heard.clear()
        return heard

    def next_event(self) -> Event | None:
        """What the rest should know or act on; None when there is nothing."""
        return self.events.pop()

    def poll_timer(self) -> float | None:
        """When `handle_timer` wants to be called next."""
        return self._children.poll_timer()

    def handle_timer(self, now: float) -> None:
        """End the lifetimes that are over."""
        self._children.handle_timer(now)

    # Looking in

    def snapshot(self, now: float) -> list[SaSnapshot]:
        """Every SA, for people."""
        return self._children.snapshot(now)
