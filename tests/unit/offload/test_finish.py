"""Packets that lack their checksum, one by one and many of one length: scapy says what it is."""

import struct

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.packet import Packet, Raw

from espudp.errors import WireError
from espudp.offload import finish, finished
from espudp.wire.vnet import GSO_NONE, GSO_TCPV4, NEEDS_CSUM, Frame, VnetHeader
from tests.reference.inner_reference import ones_sum, put16

IPV4 = IP(src="10.1.0.1", dst="10.2.0.2", id=7)
IPV6 = IPv6(src="2001:db8::1", dst="2001:db8::2")
ACKS = TCP(sport=5, dport=6, seq=99, ack=77, flags="A", options=[("NOP", None), ("Timestamp", (1, 2))])
OFFSETS = {TCP: 16, UDP: 6, ICMPv6EchoRequest: 2}


def unfinished(header: Packet, l4: Packet, data: bytes) -> tuple[Frame, bytes]:
    """The frame that a kernel hands over, and the packet that it stands for."""
    whole = bytes(header / l4 / Raw(data))
    at = len(whole) - len(bytes(l4)) - len(data)
    offset = OFFSETS[type(l4)]
    (total,) = struct.unpack_from("!H", whole, at + offset)
    seed = 0xFFFF - total - ones_sum(put16(whole, at + offset, 0)[at:])
    return (
        Frame(VnetHeader(NEEDS_CSUM, GSO_NONE, 0, 0, at, offset), [put16(whole, at + offset, seed % 0xFFFF)]),
        whole,
    )


@pytest.mark.parametrize("header", [IPV4, IPV6], ids=["v4", "v6"])
@pytest.mark.parametrize("l4", [ACKS, UDP(sport=1, dport=2), ICMPv6EchoRequest(id=1)], ids=lambda l4: l4.name)
@pytest.mark.parametrize("octets", [0, 1, 2, 3, 64, 1301])
def test_known_answers(header: Packet, l4: Packet, octets: int) -> None:
    if isinstance(l4, ICMPv6EchoRequest) and header is IPV4:
        header = IPV6
    frame, whole = unfinished(header, l4, bytes(n * 7 % 256 for n in range(octets)))
    assert bytes(finished(frame)) == whole
    assert list(finish([frame])) == [whole]


@pytest.mark.parametrize("octets", [0, 1, 2, 3, 64])
@pytest.mark.parametrize("count", [2, 64, 70])
def test_many_at_once(count: int, octets: int) -> None:
    made = [unfinished(IPV4, UDP(sport=n + 1, dport=2), bytes([n]) * octets) for n in range(count)]
    assert list(finish([frame for frame, _ in made])) == [whole for _, whole in made]


@pytest.mark.parametrize("count", [1, 3])
def test_a_sum_of_zero(count: int) -> None:
    """UDP writes it as 0xFFFF, for 0 means that there is no checksum (RFC 768)."""
    for l4, expected in ((UDP(sport=1, dport=2), b"\xff\xff"), (ACKS, b"\0\0")):
        offset = OFFSETS[type(l4)]
        _, whole = unfinished(IPV4, l4, b"\0\0after")
        frame, _ = unfinished(IPV4, l4, whole[20 + offset : 22 + offset] + b"after")
        for packet in [bytes(finished(frame)), *finish([frame] * count)]:
            assert packet[20 + offset : 22 + offset] == expected


def test_nothing_but_zeros() -> None:
    """RFC 1071: the complement of a sum of 0, which no packet with a pseudo-header has, is 0xFFFF."""
    frame = Frame(VnetHeader(NEEDS_CSUM, GSO_NONE, 0, 0, 20, 16), [bytes(60)])
    expected = bytes(36) + b"\xff\xff" + bytes(22)
    assert [bytes(finished(frame)), *finish([frame, frame])] == [expected] * 3


def test_nothing_is_left_to_do() -> None:
    packet = bytes(IPV4 / UDP() / Raw(b"x"))
    frame = Frame(VnetHeader(), [packet])
    assert finished(frame) == packet
    assert list(finish([frame, frame])) == [packet, packet]


def test_what_is_handed_over_stays_as_it_is() -> None:
    frame, _ = unfinished(IPV4, ACKS, b"data")
    before = frame.packet
    finished(frame)
    finish([frame])
    finish([frame, frame])
    assert frame.packet == before


def test_parts_are_taken_together() -> None:
    frame, whole = unfinished(IPV4, ACKS, b"data")
    packet = frame.packet
    split = frame._replace(parts=[packet[:9], memoryview(packet)[9:]])
    assert finished(split) == whole
    assert list(finish([split, frame])) == [whole, whole]


@pytest.mark.parametrize(
    ("start", "offset"), [(20, 40), (59, 0), (60, 0), (0xFFFF, 0xFFFF), (56, 4), (21, 38)]
)
def test_a_checksum_beyond_the_packet(start: int, offset: int) -> None:
    frame = Frame(VnetHeader(NEEDS_CSUM, GSO_NONE, 0, 0, start, offset), [bytes(60)])
    with pytest.raises(WireError, match="of 60"):
        finished(frame)
    for count in (1, 2):
        with pytest.raises(WireError, match="of 60"):
            finish([frame] * count)


def test_a_super_packet_is_none() -> None:
    frame = Frame(VnetHeader(NEEDS_CSUM, GSO_TCPV4, 0, 10, 20, 16), [bytes(60)])
    with pytest.raises(WireError, match="super-packet"):
        finished(frame)
    with pytest.raises(WireError, match="super-packet"):
        finish([frame, frame])


def test_packets_of_different_lengths() -> None:
    frames = [unfinished(IPV4, ACKS, bytes(octets))[0] for octets in (4, 8)]
    with pytest.raises(WireError, match="different lengths"):
        finish(frames)
