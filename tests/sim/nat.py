"""NATs as they are met in the world (RFC 4787): they translate addresses and ports, and forget."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import cycle

from espudp.wire.address import UdpAddress
from tests.sim.link import UDP, Datagram, Link, Segment
from tests.sim.middlebox import Inner
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
    public: UdpAddress
    used: float
    destinations: set[UdpAddress] = field(default_factory=set)


class Nat:
    """One public address, a segment `inside`, and a table of mappings that time out when nothing goes out.

    It knows UDP alone, as most do (RFC 3715 section 2.2 j); kinds that know other protocols say what becomes
    of those in `_send_other` and `_receive_other`.
    """

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
        self.inside.gateway = Inner(self)
        self.public_ip = public_ip
        self.refused = 0
        self._world = world
        self._kind = kind
        self._timeout = timeout
        self._preserve_ports = preserve_ports
        self._next_port = _FIRST_PORT
        self._mappings: dict[tuple[UdpAddress, UdpAddress | None], _Mapping] = {}
        self._by_public: dict[UdpAddress, _Mapping] = {}
        self._outside = outside.attach(public_ip, self, Link(world, f"nat {public_ip}"))

    def rebind(self, public_ip: str | None = None) -> None:
        """Forget every mapping: what goes out next gets another port, and the new address if there is one."""
        self._mappings.clear()
        self._by_public.clear()
        self._preserve_ports = False
        if public_ip is not None:
            self._outside.segment.detach(self.public_ip)
            self._outside = self._outside.segment.attach(public_ip, self, self._outside.link)
            self.public_ip = public_ip

    def send(self, datagram: Datagram) -> None:
        """From inside, for the world."""
        if datagram.protocol != UDP:
            self._send_other(datagram)
            return
        key = (datagram.source, datagram.destination if self._kind is NatKind.SYMMETRIC else None)
        mapping = self._mappings.get(key)
        if mapping is None or self._expired(mapping):
            mapping = self._map(key)
        mapping.used = self._world.now
        mapping.destinations.add(datagram.destination)
        self._outside.send(datagram._replace(source=mapping.public))

    def receive(self, datagram: Datagram) -> None:
        """From outside, for one of the hosts inside, if it has asked for it."""
        if datagram.protocol != UDP:
            self._receive_other(datagram)
            return
        mapping = self._by_public.get(datagram.destination)
        if mapping is None or self._expired(mapping) or not self._lets_in(mapping, datagram.source):
            self.refused += 1
            return
        self.inside.forward(datagram._replace(destination=mapping.inside))

    def _send_other(self, _: Datagram) -> None:
        """A packet of another protocol than UDP, from inside."""
        self.refused += 1

    def _receive_other(self, _: Datagram) -> None:
        """A packet of another protocol than UDP, from outside."""
        self.refused += 1

    def mapping_of(self, inside: UdpAddress) -> UdpAddress | None:
        """The public side of a host's address, for a NAT with one mapping for all destinations."""
        mapping = self._mappings.get((inside, None))
        return None if mapping is None else mapping.public

    def _lets_in(self, mapping: _Mapping, source: UdpAddress) -> bool:
        return self._kind is NatKind.FULL_CONE or source in mapping.destinations

    def _expired(self, mapping: _Mapping) -> bool:
        return self._world.now - mapping.used > self._timeout

    def _map(self, key: tuple[UdpAddress, UdpAddress | None]) -> _Mapping:
        former = self._mappings.pop(key, None)
        if former is not None:
            del self._by_public[former.public]
        mapping = _Mapping(key[0], self._public_for(key[0]), self._world.now)
        self._mappings[key] = self._by_public[mapping.public] = mapping
        return mapping

    def _public_for(self, inside: UdpAddress) -> UdpAddress:
        """An address and port that nobody else has."""
        same = UdpAddress(self.public_ip, inside.port)
        if self._preserve_ports and same not in self._by_public:
            return same
        self._next_port += 1
        return UdpAddress(self.public_ip, self._next_port)


class CarrierNat(Nat):
    """A carrier's NAT (RFC 6888): what was silent for 30 s gets another port, at the next of its addresses.

    RFC 4787 REQ-5 asks for two minutes at least, and RFC 6888 REQ-2 for one address for each subscriber;
    mobile networks are known for keeping to neither.
    """

    def __init__(
        self, world: World, outside: Segment, public_ips: Sequence[str], *, timeout: float = 30.0
    ) -> None:
        super().__init__(world, outside, public_ips[0], kind=NatKind.SYMMETRIC, timeout=timeout)
        for ip in public_ips[1:]:
            outside.attach(ip, self, Link(world, f"nat {ip}"))
        self._addresses = cycle(public_ips)

    def _public_for(self, inside: UdpAddress) -> UdpAddress:
        return super()._public_for(inside)._replace(ip=next(self._addresses))


class StaticNat:
    """Basic NAT (RFC 3022 section 2.1), one public address for each private one and back, for all protocols.

    It leaves ports alone and lets everybody in, as cloud providers' public addresses do.
    """

    def __init__(self, world: World, outside: Segment, public_ips: dict[str, str]) -> None:
        """`public_ips` by private address."""
        self.inside = Segment(world, f"behind {', '.join(public_ips.values())}")
        self.inside.gateway = Inner(self)
        self.refused = 0
        self._public = dict(public_ips)
        self._private = {public: private for private, public in public_ips.items()}
        self._ports = {ip: outside.attach(ip, self, Link(world, f"nat {ip}")) for ip in self._private}

    def send(self, datagram: Datagram) -> None:
        public = self._public.get(datagram.source.ip)
        if public is None:
            self.refused += 1
            return
        self._ports[public].send(datagram._replace(source=datagram.source._replace(ip=public)))

    def receive(self, datagram: Datagram) -> None:
        private = self._private[datagram.destination.ip]
        self.inside.forward(datagram._replace(destination=datagram.destination._replace(ip=private)))
