"""Wires and what they do to datagrams, and the segments that they are plugged into."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from espudp.wire.address import UdpAddress
from tests.sim.world import World

# RFC 791, RFC 8200, RFC 768
_IP_OCTETS = {4: 20, 6: 40}
_UDP_OCTETS = 8

# IP protocols (RFC 768, RFC 4303, RFC 4302)
UDP, ESP, AH = 17, 50, 51


class Datagram(NamedTuple):
    """A UDP datagram on its way; or what another IP protocol carries, with both ports 0."""

    source: UdpAddress
    destination: UdpAddress
    payload: bytes
    tos: int = 0
    protocol: int = UDP

    @property
    def ip_octets(self) -> int:
        """Its size as an IP packet."""
        udp = _UDP_OCTETS if self.protocol == UDP else 0
        return _IP_OCTETS[6 if ":" in self.destination.ip else 4] + udp + len(self.payload)


class Node(Protocol):
    """Whatever has an address."""

    def receive(self, datagram: Datagram) -> None:
        """A datagram arrives."""


@dataclass(slots=True)
class Quality:
    """What a wire does. Shares are of 1, times in seconds; all may be changed while it is in use."""

    latency: float = 0.01
    jitter: float = 0.0
    """Each datagram takes up to this much longer, so later ones overtake it."""

    loss: float = 0.0
    spares: Callable[[Datagram], bool] | None = None
    """Datagrams that are never lost or damaged: so that a scenario can go for the others."""

    duplicate: float = 0.0
    corrupt: float = 0.0
    """One bit flips. No UDP checksum notices: RFC 3948 section 2.1 sends none."""

    remark: Callable[[int], int] | None = None
    """What routers make of the traffic class: other treatment, and the news of congestion."""

    mtu: int = 1500
    fragments: bool = True
    """Datagrams beyond the MTU go through in pieces, each of which may be lost; False: not at all."""


class Link:
    """A wire, the same in both directions. `counts` says what became of the datagrams."""

    def __init__(self, world: World, name: str, quality: Quality | None = None) -> None:
        self.quality = quality or Quality()
        self.counts: Counter[str] = Counter()
        self._world = world
        self._chance = world.chance(f"link {name}")

    def carry(self, datagram: Datagram, deliver: Callable[[Datagram], None]) -> None:
        """Bring a datagram to the other end: once, never, twice, late or damaged."""
        quality = self.quality
        if quality.spares is not None and quality.spares(datagram):
            quality = replace(quality, loss=0.0, corrupt=0.0)
        pieces = -(-datagram.ip_octets // quality.mtu)
        if pieces > 1 and not quality.fragments:
            self.counts["too big"] += 1
            return
        self.counts["sent"] += 1
        copies = 2 if self._happens(quality.duplicate) else 1
        for _ in range(copies):
            if any(self._happens(quality.loss) for _ in range(pieces)):
                self.counts["lost"] += 1
                continue
            self._deliver(self._damaged(datagram, quality.corrupt), deliver)

    def _deliver(self, datagram: Datagram, deliver: Callable[[Datagram], None]) -> None:
        if self.quality.remark is not None:
            datagram = datagram._replace(tos=self.quality.remark(datagram.tos))
        delay = self.quality.latency
        if self.quality.jitter:
            delay += self._chance.uniform(0.0, self.quality.jitter)
        self.counts["delivered"] += 1
        self._world.call_later(delay, lambda: deliver(datagram))

    def _damaged(self, datagram: Datagram, share: float) -> Datagram:
        if not datagram.payload or not self._happens(share):
            return datagram
        self.counts["corrupted"] += 1
        payload = bytearray(datagram.payload)
        bit = self._chance.randrange(len(payload) * 8)
        payload[bit // 8] ^= 1 << bit % 8
        return datagram._replace(payload=bytes(payload))

    def _happens(self, share: float) -> bool:
        return share > 0.0 and self._chance.random() < share


class Port:
    """Where a node is plugged into a segment."""

    def __init__(self, segment: "Segment", node: Node, link: Link) -> None:
        self.segment = segment
        self.node = node
        self.link = link

    def send(self, datagram: Datagram) -> None:
        """Send a datagram into the segment."""
        self.link.carry(datagram, self.segment.forward)


class Segment:
    """A network in which every address reaches every other one; the rest goes to the `gateway`."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.gateway: Node | None = None
        self.unroutable = 0
        self._ports: dict[str, Port] = {}

    def attach(self, ip: str, node: Node, link: Link) -> Port:
        """Plug a node in."""
        if ip in self._ports:
            raise ValueError(f"{ip} is taken in {self.name}")
        port = self._ports[ip] = Port(self, node, link)
        return port

    def detach(self, ip: str) -> None:
        """Pull the plug: datagrams to this address get lost."""
        del self._ports[ip]

    def forward(self, datagram: Datagram) -> None:
        """Hand a datagram that is in the segment to the one it is for."""
        port = self._ports.get(datagram.destination.ip)
        if port is not None:
            port.link.carry(datagram, port.node.receive)
        elif self.gateway is not None:
            self.gateway.receive(datagram)
        else:
            self.unroutable += 1
