"""Whole tunnels against whoever holds the keys, or the TUN device: trains and super-packets of anything.

A tunnel that takes bursts and frames, and one that takes packet by packet, must agree on everything; so
nothing is repaired, joined or let through that would not be by itself, and no octet of anything else gets in.
"""

import struct
from collections.abc import Iterator
from random import Random

import pytest

from espudp.crypto.suites import EspSuite
from espudp.manual import ManualConfig
from espudp.tunnel import Tunnel
from espudp.wire import ip
from espudp.wire.address import Path, UdpAddress
from espudp.wire.selectors import TrafficSelector
from espudp.wire.train import Burst
from espudp.wire.vnet import GSO_ECN, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, NEEDS_CSUM, Frame, Offload, VnetHeader
from tests.property.offload_traffic import (
    ACK,
    CWR,
    ECE,
    FIN,
    PSH,
    SYN,
    TCP,
    TIMESTAMPS,
    UDP,
    Fields,
    Flow,
    build,
)
from tests.reference import offload_reference
from tests.unit.crypto.seeded import keys_for, seeded_rng
from tests.unit.crypto.vectors import DISTINCT_SUITES
from tests.unit.esp import reference as esp
from tests.unit.esp.peers import ELSEWHERE, LEFT_ADDRESS, LEFT_SPI, RIGHT_SPI, TO_LEFT, selectors

EVERYTHING = Offload.CHECKSUM | Offload.TSO4 | Offload.TSO6 | Offload.USO4 | Offload.USO6
THEIRS, OURS = selectors("10.0.0.1/32", "1:203::/32"), selectors("10.0.0.2/32", "1011::/16")
TCP_ONLY = tuple(TrafficSelector(one.first, one.last, ip.TCP, 1, 1) for one in THEIRS)
IKE_PORT = Path(UdpAddress(TO_LEFT.local.ip, 500), TO_LEFT.remote)
LARGE_MSS = bytes([2, 4, 0xFF, 0xFF])
ROUNDS = 200

some_seeds = pytest.mark.parametrize("seed", range(12))


def tunnel(suite: EspSuite, window: int, remote: tuple[TrafficSelector, ...]) -> Tunnel:
    """The right end of two SA pairs."""
    made = Tunnel(seeded_rng(1))
    for number in range(2):
        config = ManualConfig(
            suite=suite,
            spi_in=RIGHT_SPI + number,
            spi_out=LEFT_SPI + number,
            keys_in=keys_for(suite, 20 + number),
            keys_out=keys_for(suite, 40 + number),
            local=OURS,
            remote=remote,
            peer=None if number else LEFT_ADDRESS,
            replay_window=window,
            fresh_keys=True,
        )
        made.install_manual(config, TO_LEFT, 0.0)
    return made


def told(one: Tunnel, now: float) -> tuple[list[bytes], list[bytes], set[str], object]:
    """All that can be seen of it: packets, datagrams, events, counters."""
    packets: list[bytes] = []
    for packet in one.packets_to_deliver():
        packets += offload_reference.segment(packet) if isinstance(packet, Frame) else [bytes(packet)]
    wire = [datagram for train in one.datagrams_to_send(now) for datagram in train.datagrams]
    events: set[str] = set()
    while (event := one.next_event()) is not None:
        events.add(repr(event))
    return packets, wire, events, one.snapshot(now)


# Trains from the peer


def honest(rng: Random) -> list[bytes]:
    """A train as it should be."""
    flow = Flow(
        version=rng.choice([4, 6]),
        protocol=rng.choice([TCP, UDP]),
        options=rng.choice([b"", TIMESTAMPS, LARGE_MSS]),
        extensions=rng.choice([(), (), (), (60,)]),
        identification=rng.choice([0, 500, 65530]),
        sequence=rng.choice([1, 2**32 - 3000]),
    )
    count, size = rng.choice([1, 6, 7, 8, 20, 64]), rng.choice([1, 2, 40, 99, 100, 555, 1000])
    packets = []
    for number in range(count):
        last = number == count - 1
        octets = rng.randint(0, size) if last and rng.random() < 0.4 else size
        flags = ACK | (rng.choice([0, PSH, PSH | FIN]) if last else 0)
        place = flow.identification + number, flow.sequence + number * size
        packets.append(build(flow, Fields(rng.randbytes(octets), *place, flags=flags)))
    return packets


def bent(rng: Random, packets: list[bytes]) -> list[bytes]:
    """An octet changed in the headers of some or all, and perhaps the checksums repaired."""
    chosen = rng.randrange(len(packets))
    which = rng.choice([range(64), range(64), range(chosen, chosen + 1), range(chosen, 64)])
    l4 = 20 if packets[0][0] >> 4 == 4 else 40
    # Anywhere, or the IPv4 checksum, the length of UDP, the flags of TCP
    place = rng.choice([rng.randrange(64), 10, 11, l4 + 5, l4 + 13])
    change = rng.choice([1, 2, 2, 4, 0x10, 0x80, rng.randrange(256)])
    trusting, repair = rng.random() < 0.5, rng.random() < 0.6
    found = []
    for at, packet in enumerate(packets):
        changed = bytearray(packet)
        if at in which and place < len(packet):
            changed[place] ^= change
        found.append(repaired(changed, trusting) if repair else bytes(changed))
    return found


def repaired(packet: bytearray, trusting: bool) -> bytes:
    """With right checksums, as far as the headers can be read; `trusting`: by the length that IP says."""
    if packet[0] >> 4 == 4:
        l4, protocol, end = (packet[0] & 15) * 4, packet[9], packet[2] << 8 | packet[3]
        if 20 <= l4 <= len(packet):
            packet[10:12] = bytes(2)
            packet[10:12] = ip.checksum(packet[:l4]).to_bytes(2, "big")
    else:
        l4, protocol, end = 40, packet[6], 40 + (packet[4] << 8 | packet[5])
    end = min(end, len(packet)) if trusting else len(packet)
    field = l4 + (16 if protocol == TCP else 6)
    if protocol in (TCP, UDP) and field + 2 <= end:
        packet[field : field + 2] = bytes(2)
        addresses = packet[12:20] if packet[0] >> 4 == 4 else packet[8:40]
        summed = addresses + struct.pack("!II", end - l4, protocol) + packet[l4:end]
        packet[field : field + 2] = ip.checksum(summed).to_bytes(2, "big")
    return bytes(packet)


def wrapped(rng: Random, suite: EspSuite, packets: list[bytes]) -> list[bytes]:
    """Plaintexts: padded as little as can be, or all to one size, or wrongly."""
    block = suite.encr.block_octets
    spare = rng.choice([0, 0, 0, 16, 240])
    one_size = rng.random() < 0.5
    header = rng.choice([0] * 12 + [4, 41, 59, 6]) or (4 if packets[0][0] >> 4 == 4 else 41)
    found = []
    for packet in packets:
        octets = (len(packets[0]) if one_size else len(packet)) + spare + 2
        room = octets + -octets % block - len(packet) - 2
        padding = min(room, 255)
        tail = bytes(room - padding) + bytes(range(1, padding + 1)) + bytes([padding, header])
        found.append(packet + tail)
    if rng.random() < 0.2:
        chosen, place = rng.randrange(len(found)), rng.choice([-1, -2, -3])
        changed = bytearray(found[chosen])
        changed[place] = rng.choice([0, 4, 41, 59, 255])
        found[chosen] = bytes(changed)
    return found


def disturbed(rng: Random, wire: list[bytes], former: list[bytes]) -> list[bytes]:
    """What anybody on the way can do."""
    if rng.random() < 0.6:
        return wire
    found, chosen, other = list(wire), rng.randrange(len(wire)), rng.randrange(len(wire))
    datagram = found[chosen]
    match rng.randrange(7):
        case 0:
            place = rng.randrange(len(datagram))
            found[chosen] = datagram[:place] + bytes([datagram[place] ^ 1]) + datagram[place + 1 :]
        case 1:
            found[chosen] = found[other]
        case 2:
            found[chosen], found[other] = found[other], datagram
        case 3:
            found[chosen] = rng.choice(former or [datagram])
        case 4:  # IKE, reserved, unknown, of the other SA
            spi = rng.choice([0, 5, RIGHT_SPI ^ 0x100, RIGHT_SPI + 1])
            found[chosen] = spi.to_bytes(4, "big") + datagram[4:]
        case 5:
            found[-1] = found[-1][: rng.randint(1, len(found[-1]))]
        case _:
            found.append(rng.choice([b"\xff", bytes(4), rng.randbytes(rng.randint(1, len(datagram)))]))
    return found


def gathered(wire: list[bytes]) -> Iterator[list[bytes]]:
    """As UDP_GRO puts them together: of one size, the last perhaps shorter."""
    group: list[bytes] = []
    for datagram in wire:
        if group and (
            len(group) == 64
            or not len(group[-1]) == len(group[0]) >= len(datagram)
            or len(group[0]) * (len(group) + 1) > 65507
        ):
            yield group
            group = []
        group.append(datagram)
    yield group


@some_seeds
def test_trains_of_a_hostile_peer(seed: int) -> None:
    rng = Random(seed)
    suite = DISTINCT_SUITES[seed % len(DISTINCT_SUITES)]
    setting = suite, rng.choice([32, 1024]), rng.choice([THEIRS, THEIRS, TCP_ONLY])
    together, singly = tunnel(*setting), tunnel(*setting)
    together.set_offloads(rng.choice([EVERYTHING, EVERYTHING, Offload.CHECKSUM | Offload.TSO4]))
    sequences, former = [0, 0], [b""]
    for step in range(ROUNDS):
        packets = honest(rng)
        for _ in range(rng.choice([0, 1, 1, 1, 2])):
            packets = bent(rng, packets)
        number, wire = rng.randrange(2), []
        for plaintext in wrapped(rng, suite, packets):
            sequences[number] += rng.choice([1] * 30 + [2, 50])
            iv, spi = rng.randbytes(suite.encr.iv_octets), RIGHT_SPI + number
            keys = keys_for(suite, 20 + number)
            wire.append(esp.seal(suite, keys, spi, sequences[number], iv, plaintext))
        wire = disturbed(rng, wire, former)
        former = wire
        path = rng.choice([*[TO_LEFT] * 8, ELSEWHERE, IKE_PORT])
        tos = rng.choice([0, 0, 0, 0, 1, 2, 3, 0xB8])
        for group in gathered(wire):
            together.receive_datagrams(Burst(b"".join(group), len(group[0])), path, step, tos)
            for datagram in group:
                singly.receive_datagrams([datagram], path, step, tos)
            assert told(together, step) == told(singly, step)
    assert any(sa.packets for sa in together.snapshot(ROUNDS).sas)


# Frames from the TUN device


def super_packet(rng: Random) -> tuple[Frame, list[bytes]]:
    """One that a kernel may hand over, or one that is wrong somewhere; and the packets that it stands for."""
    flow = Flow(
        version=rng.choice([4, 6]),
        protocol=rng.choice([TCP, UDP]),
        options=rng.choice([b"", TIMESTAMPS]),
        tos=rng.choice([0, 2, 0xB8]),
    )
    size = rng.choice([1, 7, 8, 100, 555, 1300, 1460, 3000])
    octets = min(size * rng.choice([0, 1, 2, 6, 44, 45, 64, 65]) + rng.choice([0, 1, size // 2]), 60_000)
    flags = rng.choice([ACK, ACK | PSH, ACK | PSH | FIN, ACK | CWR | ECE, ACK | SYN])
    made = bytearray(build(flow, Fields(rng.randbytes(octets), 65_500, 2**32 - 900, flags, seed_only=True)))
    # Of ours, to them
    if flow.version == 4:
        made[12:20] = made[16:20] + made[12:16]
    else:
        made[8:40] = made[24:40] + made[8:24]
    l4, offset = (20 if flow.version == 4 else 40), (16 if flow.protocol == TCP else 6)
    kind = GSO_UDP_L4 if flow.protocol == UDP else GSO_TCPV4 if flow.version == 4 else GSO_TCPV6
    if flow.protocol == TCP and flags & CWR:
        kind |= GSO_ECN
    header = VnetHeader(NEEDS_CSUM, kind, rng.choice([0, l4, flow.headers]), size, l4, offset)
    right = Frame(header, [bytes(made)])
    if rng.random() < 0.6:
        return right, offload_reference.segment(right)
    wrong = rng.choice(
        [
            {"gso_size": 0},
            {"gso_type": rng.choice([2, 3, 6, 0x80, 255])},
            {"csum_start": rng.choice([0, l4 + 4, 0xFFFF])},
            {"csum_offset": rng.choice([0, 22 - offset, 0xFFFF])},
            {},
        ]
    )
    packet = bytes(made) if wrong else bytes(made[: rng.randrange(len(made))])
    return Frame(header._replace(**wrong), [packet]), []


@some_seeds
def test_frames_of_anybody(seed: int) -> None:
    rng = Random(seed)
    suite = DISTINCT_SUITES[seed % len(DISTINCT_SUITES)]
    together, singly = (tunnel(suite, 1024, THEIRS) for _ in range(2))
    numbers: set[tuple[bytes, bytes]] = set()
    count = 0
    for step in range(ROUNDS):
        made = [super_packet(rng) for _ in range(rng.choice([1, 1, 2, 3]))]
        together.receive_packets([frame for frame, _ in made], step)
        singly.receive_packets([packet for _, packets in made for packet in packets], step)
        answers, wire, _, _ = told(together, step)
        assert (answers, wire) == told(singly, step)[:2]
        numbers |= {(datagram[:8], esp.iv_of(suite, datagram)) for datagram in wire}
        count += len(wire)
    assert len(numbers) == len({iv for _, iv in numbers}) == count > 0
