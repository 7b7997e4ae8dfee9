"""AH, and transport mode as it was before NAT traversal: packets of the scenario's own, keyed by hand.

They show where an address that a NAT changes does its harm (RFC 3715 section 2.1 a and b).
"""

import hmac
import struct
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Protocol

from espudp.wire.address import UdpAddress
from espudp.wire.ip import checksum
from tests.scenario.lab import SERVER_IP
from tests.sim.link import AH, ESP, UDP, Datagram, Link, Segment
from tests.sim.middlebox import Middlebox
from tests.sim.world import World

KEY = b"a key that both ends have"
ICV_OCTETS = 16  # RFC 4868
PACKETS = 8


class Envelope(Protocol):
    """How a segment of UDP goes from host to host."""

    protocol: int

    def seal(self, source: str, destination: str, spi: int, number: int) -> bytes:
        """What follows the IP header of a packet with such a number in it."""

    def open(self, source: str, destination: str, octets: bytes) -> int | None:
        """The number; None where the receiver refuses the packet that has come with these addresses."""


def _addresses(source: str, destination: str) -> bytes:
    return ip_address(source).packed + ip_address(destination).packed


def _icv(data: bytes) -> bytes:
    return hmac.digest(KEY, data, "sha256")[:ICV_OCTETS]


class AuthenticationHeader:
    """RFC 4302: the ICV is over the IP header's addresses as well, so it fits those of the sender alone."""

    protocol = AH
    _header = struct.Struct("!BBHII")  # next header, length in words less 2, reserved, SPI, sequence number

    def seal(self, source: str, destination: str, spi: int, number: int) -> bytes:
        words = (self._header.size + ICV_OCTETS) // 4
        header, segment = self._header.pack(UDP, words - 2, 0, spi, number), number.to_bytes(4)
        return header + _icv(_addresses(source, destination) + header + bytes(ICV_OCTETS) + segment) + segment

    def open(self, source: str, destination: str, octets: bytes) -> int | None:
        front, end = self._header.size, self._header.size + ICV_OCTETS
        covered = octets[:front] + bytes(ICV_OCTETS) + octets[end:]
        good = hmac.compare_digest(octets[front:end], _icv(_addresses(source, destination) + covered))
        return int.from_bytes(octets[end:]) if good else None


class TransportMode:
    """RFC 2406: the ICV leaves the addresses out, but the checksum of UDP inside is over them.

    Without NAT-OA (RFC 3947 section 5.2) the receiver cannot know the sender's. ESP without encryption
    (RFC 2410), to keep it short.
    """

    protocol = ESP
    _header = struct.Struct("!II")
    _trailer = b"\1\2\2" + bytes([UDP])  # padding, its length, next header
    _udp = struct.Struct("!HHHH")

    def seal(self, source: str, destination: str, spi: int, number: int) -> bytes:
        covered = (
            self._header.pack(spi, number) + self._segment(source, destination, number) + self._trailer[1:]
        )
        return covered + _icv(covered)

    def open(self, source: str, destination: str, octets: bytes) -> int | None:
        covered, icv = octets[:-ICV_OCTETS], octets[-ICV_OCTETS:]
        if not hmac.compare_digest(icv, _icv(covered)):
            return None
        segment = covered[self._header.size : -len(self._trailer[1:])]
        number = int.from_bytes(segment[self._udp.size :])
        return number if segment == self._segment(source, destination, number) else None

    def _segment(self, source: str, destination: str, number: int) -> bytes:
        length = self._udp.size + 4
        pseudo = _addresses(source, destination) + struct.pack("!HH", UDP, length)
        data = number.to_bytes(4)
        value = checksum(pseudo + self._udp.pack(7, 7, length, 0) + data)
        return self._udp.pack(7, 7, length, value or 0xFFFF) + data


class _Station:
    """Sends numbered packets, and knows which it has taken from whom."""

    def __init__(self, world: World, segment: Segment, ip: str, envelope: Envelope) -> None:
        self.ip = ip
        self.taken: list[int] = []
        self.refused = 0
        self.answers: Callable[[int, str], None] | None = None
        self._envelope = envelope
        self._port = segment.attach(ip, self, Link(world, ip))

    def send(self, to: str, spi: int, number: int) -> None:
        octets = self._envelope.seal(self.ip, to, spi, number)
        source, destination = UdpAddress(self.ip, 0), UdpAddress(to, 0)
        self._port.send(Datagram(source, destination, octets, protocol=self._envelope.protocol))

    def receive(self, datagram: Datagram) -> None:
        number = self._envelope.open(datagram.source.ip, datagram.destination.ip, datagram.payload)
        if number is None:
            self.refused += 1
            return
        self.taken.append(number)
        if self.answers is not None:
            self.answers(number, datagram.source.ip)


def exchanged(
    envelope: Envelope,
    make_box: Callable[[World, Segment], Middlebox | None],
    addresses: Sequence[str],
) -> str:
    """Each client sends packets to a server, which answers each; what goes wrong, or "" if nothing does."""
    world = World()
    net = Segment(world, "internet")
    box = make_box(world, net)
    server = _Station(world, net, SERVER_IP, envelope)
    # The answer to packet n goes with the SPI of the one whose number it is, wherever it came from.
    server.answers = lambda number, source: server.send(source, 1000 + number // PACKETS, number)
    inside = net if box is None else box.inside
    clients = [_Station(world, inside, ip, envelope) for ip in addresses]
    for packet in range(PACKETS):
        for index, client in enumerate(clients):
            client.send(SERVER_IP, 1 + index, index * PACKETS + packet)
        world.run(1.0)
    if server.refused or any(client.refused for client in clients):
        return "what arrives is refused"
    wanted = [[index * PACKETS + packet for packet in range(PACKETS)] for index in range(len(clients))]
    return "" if [client.taken for client in clients] == wanted else "not everybody has the answers"
