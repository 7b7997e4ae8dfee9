"""Super-packets cut up: scapy says what the segments are; and what no kernel hands out."""

import struct

import pytest
from scapy.layers.inet import IP, TCP, UDP, IPOption
from scapy.layers.inet6 import IPv6, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, PadN
from scapy.packet import Packet, Raw

from espudp.errors import WireError
from espudp.offload import segment, segment_all
from espudp.wire.train import TOGETHER
from espudp.wire.vnet import (
    DATA_VALID,
    GSO_ECN,
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    Frame,
    VnetHeader,
)
from tests.reference.inner_reference import ones_sum, put16

DATA = bytes(range(256)) * 9
TIMESTAMP = [("NOP", None), ("NOP", None), ("Timestamp", (1, 2))]
HEADERS: dict[str, Packet] = {
    "plain": IP(src="10.1.0.1", dst="10.2.0.2", id=7, flags="DF"),
    "options": IP(src="10.1.0.1", dst="10.2.0.2", id=7, options=[IPOption(b"\x94\x04\0\0")]),
    "id at its end": IP(src="10.1.0.1", dst="10.2.0.2", id=0xFFFE),
    "v6": IPv6(src="2001:db8::1", dst="2001:db8::2", tc=2, fl=99),
    "v6 with extensions": IPv6(src="2001:db8::1", dst="2001:db8::2")
    / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0\0\0\0")]),
    "v6 routed": IPv6(src="2001:db8::1", dst="2001:db8::2")
    / IPv6ExtHdrRouting(type=4, addresses=["2001:db8::9"], segleft=1),
}


def built(name: str, number: int, l4: Packet, data: bytes) -> bytes:
    header = HEADERS[name].copy()
    if isinstance(header, IP):
        header.id = (header.id + number) % 0x10000
    return bytes(header / l4 / Raw(data))


def super_packet(name: str, l4: Packet, data: bytes, size: int) -> Frame:
    """Made of the whole packet that scapy builds: the checksum minus the sum of all but the pseudo-header."""
    whole = built(name, 0, l4, data)
    octets = len(bytes(l4)) + len(data)
    at = len(whole) - octets
    offset = 16 if isinstance(l4, TCP) else 6
    field = at + offset
    (total,) = struct.unpack_from("!H", whole, field)
    blank = put16(whole, field, 0)
    seed = (0xFFFF - total) - ones_sum(blank[at:])
    kind = GSO_UDP_L4 if offset == 6 else GSO_TCPV4 if whole[0] >> 4 == 4 else GSO_TCPV6
    header = VnetHeader(NEEDS_CSUM, kind, len(whole) - len(data), size, at, offset)
    return Frame(header, [memoryview(put16(whole, field, seed % 0xFFFF))])


def tcp(number: int, size: int, flags: str, options: bool = True) -> TCP:
    sequence = (0xFFFFFD00 + number * size) % 2**32
    return TCP(
        sport=5, dport=6, seq=sequence, ack=77, flags=flags, window=9, options=TIMESTAMP if options else []
    )


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("size", [1, 333, 1348, 2303])
def test_tcp(name: str, size: int) -> None:
    data = DATA[:2304] if size > 1 else DATA[:70]
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    expected = [
        built(name, number, tcp(number, size, "PA" if number == len(pieces) - 1 else "A"), piece)
        for number, piece in enumerate(pieces)
    ]
    rows = segment(super_packet(name, tcp(0, size, "PA"), data, size))
    assert list(rows) == expected
    assert (rows.size, rows.last) == (len(expected[0]), len(expected[-1]))


@pytest.mark.parametrize("name", HEADERS)
def test_udp(name: str) -> None:
    pieces = [DATA[:500], DATA[500:1000], DATA[1000:1001]]
    expected = [built(name, n, UDP(sport=1, dport=2), piece) for n, piece in enumerate(pieces)]
    assert list(segment(super_packet(name, UDP(sport=1, dport=2), DATA[:1001], 500))) == expected


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("PA", ["A", "A", "PA"]),
        ("FPA", ["A", "A", "FPA"]),
        ("CA", ["CA", "A", "A"]),
        ("CEPA", ["CEA", "EA", "EPA"]),
        ("UA", ["UA", "UA", "UA"]),
        ("NA", ["NA", "NA", "NA"]),
    ],
)
def test_which_segment_gets_which_flags(flags: str, expected: list[str]) -> None:
    frame = super_packet("plain", tcp(0, 100, flags), DATA[:300], 100)
    if "C" in flags:
        frame = frame._replace(header=frame.header._replace(gso_type=GSO_TCPV4 | GSO_ECN))
    assert list(segment(frame)) == [
        built("plain", n, tcp(n, 100, flag), DATA[n * 100 : n * 100 + 100]) for n, flag in enumerate(expected)
    ]


@pytest.mark.parametrize("name", ["plain", "options", "v6", "v6 with extensions"])
def test_without_a_sum_of_the_kernels_the_addresses_are_summed(name: str) -> None:
    whole = built(name, 0, tcp(0, 100, "A"), DATA[:250])
    kind = GSO_TCPV4 if whole[0] >> 4 == 4 else GSO_TCPV6
    frame = Frame(VnetHeader(DATA_VALID, kind, 0, 100), [whole])
    assert list(segment(frame)) == [
        built(name, n, tcp(n, 100, "A"), DATA[n * 100 : min(n * 100 + 100, 250)]) for n in range(3)
    ]


def test_one_segment_is_a_packet_that_lacks_its_checksum() -> None:
    for size in (250, 251, 9000):
        frame = super_packet("plain", tcp(0, 0, "CPA"), DATA[:250], size)
        assert list(segment(frame)) == [built("plain", 0, tcp(0, 0, "CPA"), DATA[:250])]
    frame = super_packet("v6", tcp(0, 0, "A"), b"", 5)
    assert list(segment(frame)) == [built("v6", 0, tcp(0, 0, "A"), b"")]


def test_what_was_cut_before_leaves_no_trace() -> None:
    frame = super_packet("plain", tcp(0, 101, "A"), DATA[:1000], 101)
    expected = list(segment(frame))
    for octet in (0, 0xFF):
        segment(frame).matrix[:] = octet
        assert list(segment(frame)) == expected
    segment(super_packet("v6", tcp(0, 90, "A", options=False), DATA[:1000], 90))
    assert list(segment(frame)) == expected


def test_more_segments_than_are_kept() -> None:
    frame = super_packet("plain", tcp(0, 3, "A"), DATA, 3)
    packets = list(segment(frame))
    assert len(packets) == 768
    assert packets[-1] == built("plain", 767, tcp(767, 3, "A"), DATA[-3:])


GOOD = super_packet("plain", tcp(0, 100, "A"), DATA[:300], 100)
GOOD6 = super_packet("v6 with extensions", tcp(0, 100, "A"), DATA[:300], 100)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gso_size": 0}, "without octets"),
        ({"gso_type": GSO_NONE}, "of type 0"),
        ({"gso_type": GSO_TCPV6}, "of type 4"),
        ({"gso_type": GSO_UDP_L4}, "of type 5"),
        ({"gso_type": 3}, "of type 3"),
        ({"gso_type": GSO_TCPV4 | 0x40}, "of type 65"),
        ({"csum_start": 24}, "starts at octet 24"),
        ({"csum_start": 4, "csum_offset": 32}, "starts at octet 4"),
        ({"csum_offset": 6}, "starts at octet 20"),
    ],
)
def test_a_header_that_does_not_fit_the_packet(change: dict[str, int], said: str) -> None:
    with pytest.raises(WireError, match=said):
        segment(GOOD._replace(header=GOOD.header._replace(**change)))


def changed(frame: Frame, at: int, octet: int) -> bytes:
    packet = bytearray(frame.packet)
    packet[at] = octet
    return bytes(packet)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\x45",
        GOOD.packet[:19],
        GOOD.packet[:39],
        GOOD.packet[:51],
        changed(GOOD, 0, 0x55),
        changed(GOOD, 0, 0x44),
        changed(GOOD, 0, 0x4F),
        changed(GOOD, 6, 0x20),
        changed(GOOD, 7, 1),
        changed(GOOD, 9, 1),
        changed(GOOD, 32, 0x40),
        changed(GOOD, 0, 0x60),
    ],
)
def test_a_packet_that_cannot_be_cut(packet: bytes) -> None:
    with pytest.raises(WireError, match="neither whole TCP nor whole UDP"):
        segment(Frame(GOOD.header, [packet]))


@pytest.mark.parametrize(
    "packet",
    [
        GOOD6.packet[:39],
        GOOD6.packet[:47],
        GOOD6.packet[:60],
        changed(GOOD6, 6, 44),
        changed(GOOD6, 6, 59),
        changed(GOOD6, 40, 44),
        changed(GOOD6, 41, 255),
    ],
)
def test_an_ipv6_packet_that_cannot_be_cut(packet: bytes) -> None:
    with pytest.raises(WireError):
        segment(Frame(GOOD6.header, [packet]))


def test_a_super_packet_that_is_too_long() -> None:
    with pytest.raises(WireError, match="65536 octets"):
        segment(Frame(GOOD.header, [GOOD.packet + bytes(65536 - len(GOOD.packet))]))


def test_parts_are_taken_together() -> None:
    packet = GOOD.packet
    assert list(segment(Frame(GOOD.header, [packet[:52], packet[52:70], packet[70:]]))) == list(segment(GOOD))


# Several super-packets at once


def alike(name: str, count: int, flags: str = "A", octets: int = 3 * 500, first: int = 0) -> list[Frame]:
    """Super-packets of one flow that follow one another, of segments of 500 octets."""
    return [
        super_packet(name, tcp(first + n, octets, flags), DATA[n : n + octets], 500) for n in range(count)
    ]


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("flags", ["A", "PA", "FPA", "CA", "CEPA"])
@pytest.mark.parametrize("count", [1, 2, TOGETHER])
def test_together_they_are_cut_as_by_themselves(name: str, flags: str, count: int) -> None:
    frames = alike(name, count, flags)
    expected = [packet for frame in frames for packet in segment(frame)]
    rows = segment_all(frames)
    assert rows is not None
    assert (list(rows), rows.size, rows.last) == (expected, len(expected[0]), len(expected[0]))


@pytest.mark.parametrize("name", HEADERS)
def test_datagrams_are_cut_together(name: str) -> None:
    frames = [super_packet(name, UDP(sport=1, dport=2), DATA[n : n + 1000], 250) for n in range(3)]
    rows = segment_all(frames)
    assert rows is not None
    assert list(rows) == [packet for frame in frames for packet in segment(frame)]


def test_identifications_that_pass_through_zero_together() -> None:
    """Of one super-packet among those that are cut together, or of each of them."""
    frames = alike("plain", 3)
    for wrapping in ([1], [0, 1, 2]):
        turned = list(frames)
        for place in wrapping:
            packet = bytearray(frames[place].parts[0])
            packet[4:6] = b"\xff\xfe"
            packet[10:12] = bytes(2)
            packet[10:12] = (-int.from_bytes(packet[:20]) % 0xFFFF).to_bytes(2)
            turned[place] = Frame(frames[place].header, [bytes(packet)])
        rows = segment_all(turned)
        assert rows is not None
        assert list(rows) == [packet for frame in turned for packet in segment(frame)]


def test_those_that_are_cut_one_by_one() -> None:
    frame = alike("plain", 1)[0]
    (packet,) = frame.parts
    for header, octets in (
        (frame.header, bytes(packet)[:-1]),  # the last segment is short
        (frame.header._replace(gso_size=1500), packet),  # one segment
        (frame.header._replace(gso_size=0), packet),
        (frame.header._replace(gso_size=10), packet),  # more segments than are kept
        (frame.header._replace(flags=0), packet),
        (frame.header._replace(gso_type=GSO_UDP_L4), packet),
        (frame.header, b""),
    ):
        assert segment_all([Frame(header, [octets])] * 2) is None
    other = super_packet("plain", tcp(0, 1500, "A", options=False), DATA[: 1500 + 12], 500)
    assert segment_all([frame, Frame(frame.header, other.parts)]) is None
