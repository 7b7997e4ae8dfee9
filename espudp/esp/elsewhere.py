"""Traffic that belongs to another worker, and how it gets there.

Each worker owns whole SAs, by their inbound SPI; nothing is shared. The kernel brings most traffic to its
owner at once: datagrams by their SPI, packets of a flow where those of the other direction were written. The
rest meets a worker that has no SA for it, and is handed over, once.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from espudp.esp.drops import Drop
from espudp.esp.messages import Announce, Astray, Incoming, Outgoing
from espudp.esp.reassembly import Hosts
from espudp.esp.spd import ForeignSa, Spd
from espudp.timing import TokenBucket
from espudp.wire import ip, natt
from espudp.wire.address import Path
from espudp.wire.buffer import Buffer
from espudp.wire.vnet import Frame

# Where IKE is.
FRONT = 0

# Our choice: how often traffic without an SA makes us look whether the front has said something.
CATCH_UP_BURST = 64
CATCH_UPS_PER_SECOND = 1000.0

HandOver = Callable[[int, Astray], bool]
"""Takes a copy to another worker; False: its queue is full."""

CatchUp = Callable[[float], bool]
"""At this time, obeys what the front has said and is not obeyed yet; whether that was anything."""


def owner_of(spi: int, workers: int) -> int:
    """Which worker owns the SA with this inbound SPI. SPI 0, which marks IKE, belongs to the front."""
    return spi % workers


class Elsewhere:
    """What one worker knows of the others."""

    def __init__(
        self,
        worker: int,
        workers: int,
        spd: Spd,
        hosts: Hosts,
        drops: Counter[Drop],
        hand_over: HandOver,
        catch_up: CatchUp | None,
    ) -> None:
        """`catch_up`: None for the front, which has nobody to obey."""
        self.worker = worker
        self.workers = workers
        self._spd = spd
        self._hosts = hosts
        self._drops = drops
        self._hand_over = hand_over
        self._catch_up = catch_up
        self._catch_up_rate = TokenBucket(CATCH_UP_BURST, CATCH_UPS_PER_SECOND)
        self._known: dict[int, ForeignSa] = {}
        self._closed = False
        self.handed_over = 0
        """Packets and datagrams; a super-packet is one."""

    def know(self, said: Announce) -> None:
        """Another worker owns a child SA, and takes the packets that it is for."""
        self.forget(said.spi_in)
        sa = ForeignSa(said.connection, said.owner, said.local, said.remote, said.hosts)
        self._known[said.spi_in] = sa
        self._spd.add(sa)
        if sa.hosts:
            self._hosts.add(sa.hosts)

    def forget(self, spi_in: int) -> None:
        """It does not any more."""
        if (sa := self._known.pop(spi_in, None)) is not None:
            self._spd.remove(sa)
            if sa.hosts:
                self._hosts.discard(sa.hosts)

    def catch_up(self, now: float) -> bool:
        """For traffic that no SA is known for; whether it is worth while to look again.

        What makes the peer send, the front says to us before the peer hears of it, but traffic and commands
        come by different ways. A flood for no SA at all must not make us ask for each of its packets.
        """
        return self._catch_up is not None and self._catch_up_rate.take(now) and self._catch_up(now)

    @contextmanager
    def closed(self) -> Iterator[None]:
        """What was handed over to us is not handed on: two workers may each take the other for the owner."""
        self._closed = True
        try:
            yield
        finally:
            self._closed = False

    def take_packets(self, packet: Buffer, handed: Sequence[Buffer | Frame]) -> bool:
        """A packet for which no SA is here; whether another worker has one, who gets `handed`: the packet,
        the frame that it begins, or the fragments that it is made of. The packet's header is whole.
        """
        if self._closed or not self._known:
            return False
        owner = self._spd.owner(ip.addresses_of(packet), packet)
        if owner is None:
            return False
        for one in handed:
            self._give(owner, Outgoing(one), 1)
        return True

    def take_datagrams(self, datagrams: Sequence[Buffer], path: Path, tos: int) -> bool:
        """Datagrams of one SPI that is not known here; whether they are another worker's.

        GRO joins datagrams of one UDP flow before a socket is chosen: those of several SAs come together.
        """
        first = datagrams[0]
        if self._closed or len(first) < natt.MIN_ESP_OCTETS:
            return False
        owner = owner_of(natt.spi_of(first), self.workers)
        if owner == self.worker:
            return False
        self._give(owner, Incoming(datagrams, path, tos), len(datagrams))
        return True

    def _give(self, owner: int, astray: Astray, count: int) -> None:
        if self._hand_over(owner, astray):
            self.handed_over += count
        else:
            self._drops[Drop.HAND_OVER] += count
