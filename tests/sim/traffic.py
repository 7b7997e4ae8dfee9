"""A stream of numbered packets through a tunnel, and the counter at its end that misses none."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Address, ip_address
from itertools import count
from typing import Protocol

from tests.sim.world import Timer, World

_MAGIC = b"FLOW"
_NUMBERS = struct.Struct("!4sIQ")  # magic, flow, packet
_UDP_PORT = 7777
_UDP_OCTETS = 8
_UDP = 17
_flows = count(1)


class Station(Protocol):
    """An end of a tunnel, as those who send through it see it."""

    on_packet: list[Callable[[bytes], None]]

    def send_packets(self, packets: list[bytes]) -> None:
        """Route packets into the tunnel."""


def _checksum(data: bytes) -> int:
    # RFC 1071.
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


@cache
def _packed(address: str) -> bytes:
    return ip_address(address).packed


def udp_packet(source: str, destination: str, payload: bytes) -> bytes:
    """An IP packet with a UDP datagram in it, checksums right; `payload` has an even number of octets."""
    sender, receiver = _packed(source), _packed(destination)
    length = _UDP_OCTETS + len(payload)
    pseudo = sender + receiver + struct.pack("!IBBBB", length, 0, 0, 0, _UDP)
    bare = struct.pack("!HHHH", _UDP_PORT, _UDP_PORT, length, 0) + payload
    udp = bare[:6] + struct.pack("!H", _checksum(pseudo + bare) or 0xFFFF) + payload
    if len(sender) == 16:
        return struct.pack("!IHBB", 6 << 28, length, _UDP, 64) + sender + receiver + udp
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 0, 0, 64, _UDP, 0) + sender + receiver
    return header[:10] + struct.pack("!H", _checksum(header)) + header[12:] + udp


@dataclass(slots=True)
class Tally:
    """What became of the packets of a flow."""

    sent: int = 0
    received: int = 0
    duplicated: int = 0
    reordered: int = 0
    damaged: int = 0
    missing: set[int] = field(default_factory=set)

    @property
    def lost(self) -> int:
        """Those that have not arrived so far."""
        return len(self.missing)

    @property
    def perfect(self) -> bool:
        """All of them, once each, in order."""
        return self.sent == self.received and not (
            self.lost or self.duplicated or self.reordered or self.damaged
        )


class Flow:
    """Packets from one inner address to another, `burst` of them every `interval` seconds until stopped.

    `tally` is exact at any time: what is still on its way counts as missing.
    """

    def __init__(
        self,
        world: World,
        sender: Station,
        receiver: Station,
        source: str,
        destination: str,
        *,
        interval: float = 0.1,
        burst: int = 1,
        octets: int = 32,
    ) -> None:
        self.tally = Tally()
        self.gaps: list[float] = []
        self._world = world
        self._sender = sender
        self._addresses = source, destination
        self._interval = interval
        self._burst = burst
        self._filler = bytes(octets - _NUMBERS.size)
        self._number = next(_flows)
        self._highest = -1
        self._timer: Timer | None = None
        receiver.on_packet.append(self._arrived)

    def start(self) -> None:
        """Begin to send, now, if it does not yet."""
        if self._timer is None:
            self._timer = self._world.call_later(0.0, self._send)

    def stop(self) -> None:
        """Send no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _send(self) -> None:
        packets = [self._packet(self.tally.sent + n) for n in range(self._burst)]
        self.tally.missing.update(range(self.tally.sent, self.tally.sent + self._burst))
        self.tally.sent += self._burst
        self._sender.send_packets(packets)
        self._timer = self._world.call_later(self._interval, self._send)

    def _packet(self, number: int) -> bytes:
        return udp_packet(*self._addresses, self._payload(number))

    def _payload(self, number: int) -> bytes:
        return _NUMBERS.pack(_MAGIC, self._number, number) + self._filler

    def _intact(self, packet: bytes, number: int) -> bool:
        """Whether this is what was sent."""
        return packet == self._packet(number)

    def _arrived(self, packet: bytes) -> None:
        at = packet.find(_MAGIC)
        if at < 0 or len(packet) < at + _NUMBERS.size:
            return
        _, flow, number = _NUMBERS.unpack_from(packet, at)
        if flow != self._number:
            return
        if not self._intact(packet, number):
            self.tally.damaged += 1
        elif number not in self.tally.missing:
            self.tally.duplicated += 1
        else:
            self.tally.missing.discard(number)
            self.tally.received += 1
            self.tally.reordered += number < self._highest
            self._highest = max(self._highest, number)


class HostFlow(Flow):
    """Between two IPv4 hosts themselves, in transport mode: each may see the other at an address of its own.

    What arrives must have its checksum for the addresses that it has then. `seen_at` is where the receiver
    sees the sender.
    """

    def __init__(
        self,
        world: World,
        sender: Station,
        receiver: Station,
        addresses: tuple[str, str],
        *,
        interval: float = 0.1,
        answers: "HostFlow | None" = None,
    ) -> None:
        """`addresses` as the sender sees them; `answers`: it goes to where that flow is seen to come from."""
        super().__init__(world, sender, receiver, *addresses, interval=interval)
        self.seen_at = ""
        self._answers = answers

    def _send(self) -> None:
        if self._answers is not None:
            self._addresses = self._addresses[0], self._answers.seen_at
        if self._addresses[1]:
            super()._send()
        else:
            self._timer = self._world.call_later(self._interval, self._send)

    def _intact(self, packet: bytes, number: int) -> bool:
        source, destination = (str(IPv4Address(packet[at : at + 4])) for at in (12, 16))
        self.seen_at = source
        return packet[20:] == udp_packet(source, destination, self._payload(number))[20:]
