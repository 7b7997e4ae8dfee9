"""The header that a TUN device opened with IFF_VNET_HDR puts in front of each packet.

It is struct virtio_net_hdr (virtio 1.2 section 5.1.6, linux/virtio_net.h), and says what is left to be done
for a packet: to fill in a checksum, to cut it into segments. `Frame` is a packet with such work left.
"""

import struct
from collections.abc import Iterable, Sequence
from enum import Flag, auto
from typing import NamedTuple

from espudp.wire.buffer import Buffer

VNET_OCTETS = 10
NEEDS_CSUM = 0x01
DATA_VALID = 0x02

GSO_NONE = 0
GSO_TCPV4 = 1
GSO_TCPV6 = 4
GSO_UDP_L4 = 5
GSO_ECN = 0x80
"""Set beside the type: the TCP carries CWR, which only the first segment keeps (RFC 3168 section 6.1.2)."""

# In the byte order of the machine, as long as TUNSETVNETLE and TUNSETVNETBE are not used.
_LAYOUT = struct.Struct("=BBHHHH")


class VnetHeader(NamedTuple):
    """Offsets and sizes are octets of the packet, counted from its IP header."""

    flags: int = 0
    gso_type: int = GSO_NONE
    hdr_len: int = 0
    """IP and TCP or UDP headers. Of what others fill in it is only a hint."""
    gso_size: int = 0
    """Payload of each segment but the last."""
    csum_start: int = 0
    """With NEEDS_CSUM: where the sum begins; the pseudo-header's sum stands in the checksum field."""
    csum_offset: int = 0
    """With NEEDS_CSUM: the checksum field, counted from `csum_start`."""

    def pack(self) -> bytes:
        """The ten octets in front of the packet."""
        return _LAYOUT.pack(*self)

    @classmethod
    def unpack(cls, octets: Buffer) -> "VnetHeader":
        """From the first ten of `octets`, which must be there."""
        return cls(*_LAYOUT.unpack_from(octets))


PLAIN = VnetHeader()
"""A packet with nothing left to do."""


class Frame(NamedTuple):
    """An IP packet with work left to do: a checksum to complete, or a super-packet to cut into segments.

    `parts` one behind the other are the packet. They are borrowed, as the pieces of a burst are.
    """

    header: VnetHeader
    parts: Sequence[Buffer]

    @property
    def packet(self) -> bytes:
        """All of it, copied."""
        return b"".join(self.parts)

    def copy(self) -> "Frame":
        """One that owns its memory, to be kept."""
        return Frame(self.header, (self.packet,))


def owned(packets: Iterable[Buffer | Frame]) -> list[Buffer | Frame]:
    """The same packets in memory of their own, to be kept when what lent it goes on."""
    return [packet.copy() if isinstance(packet, Frame) else bytes(packet) for packet in packets]


class Offload(Flag):
    """Which frames a receiver takes; it takes plain packets always."""

    NONE = 0
    CHECKSUM = auto()
    TSO4 = auto()
    TSO6 = auto()
    USO4 = auto()
    USO6 = auto()
