"""Hosts that only remember what they got: enough to see what a middlebox does."""

from espudp.wire.address import UdpAddress
from tests.sim.link import ESP, UDP, Datagram, Link, Port, Segment
from tests.sim.middlebox import Middlebox
from tests.sim.world import World

SERVER, OTHER = UdpAddress("203.0.113.1", 4500), UdpAddress("203.0.113.2", 4500)
PUBLIC = "198.51.100.1"


class Box:
    """A host that remembers what it got."""

    def __init__(self, world: World, segment: Segment, address: UdpAddress) -> None:
        self.address = address
        self.world = world
        self.got: list[Datagram] = []
        self._port: Port = segment.attach(address.ip, self, Link(world, address.ip))

    def receive(self, datagram: Datagram) -> None:
        self.got.append(datagram)

    def send(self, to: UdpAddress, payload: bytes = b"x") -> None:
        """UDP, from its port; a second passes."""
        self._port.send(Datagram(self.address, to, payload))
        self.world.run(1.0)

    def send_ip(self, to: UdpAddress, payload: bytes, protocol: int = ESP) -> None:
        """Another protocol; a second passes."""
        source, destination = self.address._replace(port=0), to._replace(port=0)
        self._port.send(Datagram(source, destination, payload, protocol=protocol))
        self.world.run(1.0)

    def send_ike(self, to: UdpAddress, payload: bytes) -> None:
        """From port 500 to port 500; a second passes."""
        self._port.send(Datagram(self.address._replace(port=500), to._replace(port=500), payload))
        self.world.run(1.0)

    def payloads(self, protocol: int = UDP) -> list[bytes]:
        """Of one protocol."""
        return [datagram.payload for datagram in self.got if datagram.protocol == protocol]


class Pair:
    """Two hosts `inside` a middlebox, two outside."""

    def __init__(self, world: World, net: Segment, box: Middlebox, network: str = "10.0.0") -> None:
        self.world = world
        self.box = box
        self.server, self.other = (Box(world, net, address) for address in (SERVER, OTHER))
        self.one, self.two = (Box(world, box.inside, UdpAddress(f"{network}.{n}", 4500)) for n in (1, 2))
