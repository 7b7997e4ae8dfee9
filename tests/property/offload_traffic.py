"""TCP and UDP packets built from their fields, right or wrong on purpose."""

import struct
from dataclasses import dataclass, field, replace

import numpy as np

from espudp.offload import Rows
from tests.reference.inner_reference import ones_sum, put16, u16

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << bit for bit in range(8))
TCP, UDP = 6, 17
TIMESTAMPS = bytes([1, 1, 8, 10, 0, 0, 1, 2, 0, 0, 3, 4])
SACK = bytes([1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 9])
# A Pad1 and a PadN in a destination options header; a routing header of an unknown type with nothing left
PADDED = bytes([0, 1, 3, 0, 0, 0])
ROUTED = bytes([200, 0, 0, 0, 0, 0])


@dataclass(frozen=True)
class Flow:
    """Packets of one sender to one receiver that go on from one another."""

    version: int = 4
    protocol: int = TCP
    port: int = 1
    options: bytes = b""
    ip_options: bytes = b""
    extensions: tuple[int, ...] = ()
    """IPv6: the types of extension headers."""
    tos: int = 0
    identification: int = 0
    sequence: int = 0
    dont_fragment: bool = True

    @property
    def ends(self) -> bytes:
        return bytes([10, 0, 0, 1, 10, 0, 0, 2]) if self.version == 4 else bytes(range(32))

    @property
    def headers(self) -> int:
        l4 = 20 + len(self.options) if self.protocol == TCP else 8
        return (20 + len(self.ip_options) if self.version == 4 else 40 + 8 * len(self.extensions)) + l4


@dataclass
class Fields:
    """What a packet says apart from its flow."""

    payload: bytes
    identification: int
    sequence: int
    flags: int = ACK
    ack: int = 7
    window: int = 500
    urgent: int = 0
    hops: int = 64
    tos: int = 0
    fragment: int = 0
    label: int = 5
    sum_fault: int = 0
    ip_sum_fault: int = 0
    length_fault: int = 0
    seed_only: bool = False
    summed: int | None = field(default=None)
    """This is written where the checksum belongs."""


def build(flow: Flow, fields: Fields) -> bytes:
    l4 = _tcp(flow, fields) if flow.protocol == TCP else _udp(flow, fields)
    at = 16 if flow.protocol == TCP else 6
    pseudo = flow.ends + struct.pack("!II", len(l4), flow.protocol)
    total = ones_sum(pseudo) if fields.seed_only else 0xFFFF - ones_sum(pseudo + l4)
    if not total and flow.protocol == UDP:
        total = 0xFFFF
    l4 = put16(l4, at, (total if fields.summed is None else fields.summed) ^ fields.sum_fault)
    return _ip(flow, fields, len(l4)) + l4


def _tcp(flow: Flow, fields: Fields) -> bytes:
    offset = (20 + len(flow.options)) // 4 << 4
    sequence = fields.sequence % 2**32
    numbers = flow.port, 80, sequence, fields.ack, offset, fields.flags, fields.window, 0, fields.urgent
    return struct.pack("!HHIIBBHHH", *numbers) + flow.options + fields.payload


def _udp(flow: Flow, fields: Fields) -> bytes:
    octets = 8 + len(fields.payload) + fields.length_fault
    return struct.pack("!HHHH", flow.port, 53, octets, 0) + fields.payload


def _ip(flow: Flow, fields: Fields, octets: int) -> bytes:
    tos = flow.tos ^ fields.tos
    if flow.version == 6:
        chain = b""
        for number, kind in enumerate(flow.extensions):
            following = [*flow.extensions, flow.protocol][number + 1]
            chain += bytes([following, 0]) + (ROUTED if kind == 43 else PADDED)
        first = 6 << 28 | tos << 20 | fields.label
        following = [*flow.extensions, flow.protocol][0]
        octets += len(chain) + fields.length_fault
        return struct.pack("!IHBB", first, octets, following, fields.hops) + flow.ends + chain
    length = 20 + len(flow.ip_options) + octets + fields.length_fault
    fragment = fields.fragment | (0x4000 if flow.dont_fragment else 0)
    header = struct.pack(
        "!BBHHHBBH",
        *(0x45 + len(flow.ip_options) // 4, tos, length, fields.identification % 0x10000),
        *(fragment, fields.hops, flow.protocol, 0),
    )
    header += flow.ends + flow.ip_options
    return put16(header, 10, (0xFFFF - ones_sum(header)) ^ fields.ip_sum_fault)


def with_sum_of_zero(flow: Flow, fields: Fields) -> Fields:
    """The payload changed so that the checksum comes to 0, if it is long enough for that."""
    if len(fields.payload) < 4:
        return fields
    payload = b"\0\0" + fields.payload[2:]
    packet = build(flow, replace(fields, payload=payload))
    wanted = u16(packet, flow.headers - (4 if flow.protocol == TCP else 2) - len(flow.options))
    return replace(fields, payload=wanted.to_bytes(2, "big") + payload[2:])


def laid_out(packets: list[bytes], behind: int) -> Rows:
    """In rows that go on behind the packets with something else."""
    size = len(packets[0])
    matrix = np.full((len(packets), (size + behind + 3) // 4 * 4), 0xA5, np.uint8)
    for row, packet in zip(matrix, packets, strict=True):
        row[: len(packet)] = np.frombuffer(packet, np.uint8)
    return Rows(matrix, size, len(packets[-1]))
