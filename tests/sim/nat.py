"""NATs as they are met in the world (RFC 4787): they translate addresses and ports, and forget."""

from dataclasses import dataclass, field
from enum import Enum

from espudp.wire.address import UdpAddress
from tests.sim.link import Datagram, Link, Segment
from tests.sim.world import World

_FIRST_PORT = 20_000


class NatKind(Enum):
    """How a NAT maps, and whom it lets in (RFC 4787 sections 4.1 and 5)."""

    FULL_CONE = "one mapping for all destinations, open to everybody"
    PORT_RESTRICTED = "one mapping for all destinations, open to those that were sent to"
    SYMMETRIC = "a mapping for each destination, open to that one"


@dataclass(slots=True)
class _Mapping:
    inside: UdpAddress
    port: int
    used: float
    destinations: set[UdpAddress] = field(default_factory=set)


class Nat:
    """One public address, a segment `inside`, and a table of mappings that time out when nothing goes out."""

    def __init__(
        self,
        world: World,
        outside: Segment,
        public_ip: str,
        *,
        kind: NatKind = NatKind.PORT_RESTRICTED,
        timeout: float = 120.0,
        preserve_ports: bool = False,
    ) -> None:
        self.inside = Segment(world, f"behind {public_ip}")
        self.inside.gateway = _Inner(self)
        self.public_ip = public_ip
        self.refused = 0
        self._world = world
        self._kind = kind
        self._timeout = timeout
        self._preserve_ports = preserve_ports
        self._next_port = _FIRST_PORT
        self._mappings: dict[tuple[UdpAddress, UdpAddress | None], _Mapping] = {}
        self._by_port: dict[int, _Mapping] = {}
        self._outside = outside.attach(public_ip, self, Link(world, f"nat {public_ip}"))

    def rebind(self, public_ip: str | None = None) -> None:
        """Forget every mapping: what goes out next gets another port, and the new address if there is one."""
        self._mappings.clear()
        self._by_port.clear()
        self._preserve_ports = False
        if public_ip is not None:
            self._outside.segment.detach(self.public_ip)
            self._outside = self._outside.segment.attach(public_ip, self, self._outside.link)
            self.public_ip = public_ip

    def send(self, datagram: Datagram) -> None:
        """From inside, for the world."""
        key = (datagram.source, datagram.destination if self._kind is NatKind.SYMMETRIC else None)
        mapping = self._mappings.get(key)
        if mapping is None or self._expired(mapping):
            mapping = self._map(key)
        mapping.used = self._world.now
        mapping.destinations.add(datagram.destination)
        self._outside.send(datagram._replace(source=UdpAddress(self.public_ip, mapping.port)))

    def receive(self, datagram: Datagram) -> None:
        """From outside, for one of the hosts inside, if it has asked for it."""
        mapping = self._by_port.get(datagram.destination.port)
        if mapping is None or self._expired(mapping) or not self._lets_in(mapping, datagram.source):
            self.refused += 1
            return
        self.inside.forward(datagram._replace(destination=mapping.inside))

    def mapping_of(self, inside: UdpAddress) -> UdpAddress | None:
        """The public side of a host's address, for a NAT with one mapping for all destinations."""
        mapping = self._mappings.get((inside, None))
        return None if mapping is None else UdpAddress(self.public_ip, mapping.port)

    def _lets_in(self, mapping: _Mapping, source: UdpAddress) -> bool:
        return self._kind is NatKind.FULL_CONE or source in mapping.destinations

    def _expired(self, mapping: _Mapping) -> bool:
        return self._world.now - mapping.used > self._timeout

    def _map(self, key: tuple[UdpAddress, UdpAddress | None]) -> _Mapping:
        former = self._mappings.pop(key, None)
        if former is not None:
            del self._by_port[former.port]
        mapping = _Mapping(key[0], self._port_for(key[0]), self._world.now)
        self._mappings[key] = self._by_port[mapping.port] = mapping
        return mapping

    def _port_for(self, inside: UdpAddress) -> int:
        if self._preserve_ports and inside.port not in self._by_port:
            return inside.port
        self._next_port += 1
        return self._next_port


@dataclass(slots=True)
class _Inner:
    """The NAT as the gateway of the segment behind it."""

    nat: Nat

    def receive(self, datagram: Datagram) -> None:
        self.nat.send(datagram)
