"""What is joined, what is not, and what a super-packet says of itself."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from espudp.offload import Rows, coalesce, rows_of, segment, superpackets
from espudp.offload.shape import Shape
from espudp.wire.vnet import (
    GSO_ECN,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    Frame,
    Offload,
    VnetHeader,
)
from tests.property.offload_traffic import (
    ACK,
    CWR,
    ECE,
    FIN,
    PSH,
    RST,
    SACK,
    SYN,
    TIMESTAMPS,
    UDP,
    URG,
    Fields,
    Flow,
    build,
    laid_out,
    with_sum_of_zero,
)
from tests.reference.inner_reference import ones_sum, put16, u16

EVERYTHING = Offload.CHECKSUM | Offload.TSO4 | Offload.TSO6 | Offload.USO4 | Offload.USO6
SIZE = 40

TCP4 = Flow(options=TIMESTAMPS, identification=500, sequence=9000)
TCP6 = Flow(version=6, options=TIMESTAMPS, sequence=2**32 - 50)
UDP4 = Flow(protocol=UDP, identification=500)
UDP6 = Flow(version=6, protocol=UDP)
ALL = {"TCP4": TCP4, "TCP6": TCP6, "UDP4": UDP4, "UDP6": UDP6}


def fields(flow: Flow, count: int, size: int = SIZE, last: int | None = None) -> list[Fields]:
    sizes = [size] * (count - 1) + [size if last is None else last]
    return [
        Fields(
            bytes((n * 5 + at * 3) % 256 for at in range(octets)),
            flow.identification + n,
            flow.sequence + n * size,
        )
        for n, octets in enumerate(sizes)
    ]


def train(flow: Flow, count: int, size: int = SIZE, last: int | None = None) -> list[bytes]:
    return [build(flow, one) for one in fields(flow, count, size, last)]


def joined(packets: list[bytes], takes: Offload = EVERYTHING) -> list[int]:
    """How many packets each of what comes out stands for; nothing may be lost or changed by it."""
    counts, seen = [], []
    for one in coalesce(laid_out(packets, 10), takes):
        found = list(segment(one)) if isinstance(one, Frame) else [bytes(one)]
        counts.append(len(found))
        seen += found
    assert seen == packets
    return counts


@pytest.mark.parametrize(
    ("flow", "gso_type", "start", "offset", "headers"),
    [
        (TCP4, GSO_TCPV4, 20, 16, 52),
        (TCP6, GSO_TCPV6, 40, 16, 72),
        (UDP4, GSO_UDP_L4, 20, 6, 28),
        (UDP6, GSO_UDP_L4, 40, 6, 48),
        (replace(TCP6, extensions=(0, 60)), GSO_TCPV6, 56, 16, 88),
    ],
)
def test_a_super_packet(flow: Flow, gso_type: int, start: int, offset: int, headers: int) -> None:
    (frame,) = coalesce(laid_out(train(flow, 5, last=7), 10), EVERYTHING)
    assert isinstance(frame, Frame)
    assert frame.header == VnetHeader(NEEDS_CSUM, gso_type, headers, SIZE, start, offset)
    assert len(frame.parts[0]) == headers
    packet = frame.packet
    assert len(packet) == headers + 4 * SIZE + 7
    if flow.version == 4:
        assert u16(packet, 2) == len(packet)
        assert ones_sum(packet[:20]) == 0xFFFF
    else:
        assert u16(packet, 4) == len(packet) - 40
    parsed = IP(packet) if flow.version == 4 else IPv6(packet)
    assert bytes(parsed.lastlayer()) == b"".join(one.payload for one in fields(flow, 5, last=7))
    if flow.protocol == UDP:
        assert u16(packet, start + 4) == len(packet) - start
    pseudo = flow.ends + (len(packet) - start).to_bytes(4, "big") + flow.protocol.to_bytes(4, "big")
    assert u16(packet, start + offset) == ones_sum(pseudo)


def test_no_room_for_a_second_one() -> None:
    assert joined(train(TCP4, 3, size=33_000)) == [1, 1, 1]
    assert joined(train(TCP4, 5, size=30_000)) == [2, 2, 1]


def test_a_pseudo_header_whose_sum_is_zero() -> None:
    """A field of 0 would mean that UDP has no checksum."""
    (frame,) = coalesce(laid_out(train(UDP4, 61, size=990, last=987), 10), EVERYTHING)
    assert isinstance(frame, Frame)
    assert u16(frame.packet, 26) == 0xFFFF


def test_the_payload_is_not_copied() -> None:
    rows = laid_out(train(TCP4, 3), 10)
    (frame,) = coalesce(rows, EVERYTHING)
    assert isinstance(frame, Frame)
    rows.matrix[1, 52] ^= 0xFF
    assert frame.parts[2][0] == rows.matrix[1, 52]


def test_plain_packets_are_not_copied() -> None:
    rows = laid_out(train(TCP4, 3), 10)
    found = coalesce(rows, Offload.NONE)
    rows.matrix[1, 52] ^= 0xFF
    assert found[1] == bytes(rows.matrix[1, :92])


@pytest.mark.parametrize("name", ALL)
def test_only_what_the_device_takes(name: str) -> None:
    kinds = {
        "TCP4": Offload.TSO4,
        "TCP6": Offload.TSO6,
        "UDP4": Offload.USO4,
        "UDP6": Offload.USO6,
    }
    packets = train(ALL[name], 4)
    assert joined(packets, kinds[name]) == [4]
    assert joined(packets, EVERYTHING & ~kinds[name]) == [1, 1, 1, 1]
    assert joined(packets, Offload.NONE) == [1, 1, 1, 1]


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("count", "size", "last"), [(2, 1, 1), (3, 41, 1), (45, 1348, 1347), (2, 700, 5)])
def test_sizes(name: str, count: int, size: int, last: int) -> None:
    assert joined(train(ALL[name], count, size, last)) == [count]


@pytest.mark.parametrize("name", ALL)
def test_one_packet_is_no_super_packet(name: str) -> None:
    assert joined(train(ALL[name], 1)) == [1]


def test_packets_without_data_stay_alone() -> None:
    assert joined(train(TCP4, 3, size=0)) == [1, 1, 1]
    assert joined(train(UDP4, 3, size=0)) == [1, 1, 1]
    assert joined(train(TCP4, 4, last=0)) == [3, 1]
    assert joined(train(UDP4, 4, last=0)) == [3, 1]


def test_at_most_what_an_ip_length_can_say() -> None:
    assert joined(train(TCP4, 60, size=1300)) == [50, 10]
    assert joined(train(TCP6, 60, size=1300)) == [50, 10]
    # 52 octets of headers and 65,483 of payload; then one more
    assert joined(train(TCP4, 51, size=1300, last=483)) == [51]
    assert joined(train(TCP4, 51, size=1300, last=484)) == [50, 1]
    assert joined(train(TCP4, 52, size=1300, last=483)) == [50, 2]
    assert joined(train(UDP4, 51, size=1300, last=507)) == [51]
    assert joined(train(UDP4, 51, size=1300, last=508)) == [50, 1]


def test_at_most_as_many_datagrams_as_a_kernel_takes() -> None:
    assert joined(train(UDP4, 70)) == [64, 6]
    assert joined(train(UDP6, 64)) == [64]
    assert joined(train(UDP4, 70, size=900)) == [64, 6]
    assert joined(train(TCP4, 70)) == [70]


def test_numbers_that_pass_through_zero() -> None:
    assert joined(train(replace(TCP4, identification=0xFFFE), 5)) == [5]
    assert joined(train(replace(TCP4, sequence=2**32 - 41), 5)) == [5]
    # Where the checksum of the IPv4 header passes through 0, and the last one's does
    around = u16(build(TCP4, fields(TCP4, 1)[0]), 10) + TCP4.identification
    for less in range(-3, 9):
        flow = replace(TCP4, identification=(around - less) % 0xFFFF)
        assert joined(train(flow, 6)) == [6]
        assert joined(train(flow, 6, last=SIZE - 2)) == [6]


# Where a packet does not go on


def at(place: int, change: Callable[[Fields], Fields]) -> Callable[[Flow], list[bytes]]:
    """A train of five, one of which is changed."""

    def made(flow: Flow) -> list[bytes]:
        packets = fields(flow, 5)
        packets[place] = change(packets[place])
        return [build(flow, one) for one in packets]

    return made


def flagged(flags: int) -> Callable[[Fields], Fields]:
    return lambda one: replace(one, flags=flags)


def change(**what: int) -> Callable[[Fields], Fields]:
    return lambda one: replace(one, **what)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (at(2, flagged(ACK | PSH)), [3, 2]),
        (at(2, flagged(ACK | FIN)), [3, 2]),
        (at(4, flagged(ACK | PSH | FIN)), [5]),
        (at(0, flagged(ACK | PSH)), [1, 4]),
        (at(0, flagged(ACK | CWR)), [5]),
        (at(2, flagged(ACK | CWR)), [2, 3]),
        (at(4, flagged(ACK | CWR)), [4, 1]),
        (at(2, flagged(ACK | ECE)), [2, 1, 2]),
        (at(2, flagged(ACK | URG)), [2, 1, 2]),
        (at(2, flagged(ACK | SYN)), [2, 1, 2]),
        (at(2, flagged(ACK | RST)), [2, 1, 2]),
        (at(2, flagged(0)), [2, 1, 2]),
        (at(0, flagged(ACK | SYN)), [1, 4]),
        (at(2, change(urgent=1)), [2, 1, 2]),
        (at(2, change(ack=8)), [2, 1, 2]),
        (at(2, change(window=501)), [2, 1, 2]),
        (at(2, change(sequence=9079)), [2, 1, 2]),
    ],
)
@pytest.mark.parametrize("name", ["TCP4", "TCP6"])
def test_what_tcp_says(name: str, changed: Callable[[Flow], list[bytes]], expected: list[int]) -> None:
    assert joined(changed(ALL[name])) == expected


@pytest.mark.parametrize("flags", [SYN, RST, URG | ACK, ACK | PSH, ACK | FIN, ACK | CWR | ECE | 0x40 | PSH])
def test_flags_that_never_join(flags: int) -> None:
    packets = [build(TCP4, replace(one, flags=flags)) for one in fields(TCP4, 4)]
    assert joined(packets) == [1, 1, 1, 1]


@pytest.mark.parametrize("flags", [0, ACK, ECE | ACK])
def test_flags_that_all_have(flags: int) -> None:
    packets = [build(TCP4, replace(one, flags=flags)) for one in fields(TCP4, 4)]
    assert joined(packets) == [4]


def test_the_super_packet_has_the_flags_of_both_ends() -> None:
    packets = fields(TCP4, 3)
    packets[0].flags, packets[2].flags = ACK | CWR, ACK | PSH | FIN
    (frame,) = coalesce(laid_out([build(TCP4, one) for one in packets], 10), EVERYTHING)
    assert isinstance(frame, Frame)
    assert frame.parts[0][33] == ACK | CWR | PSH | FIN
    assert frame.header.gso_type == GSO_TCPV4 | GSO_ECN


@pytest.mark.parametrize(
    "changed",
    [change(hops=63), change(tos=1), change(sum_fault=1), change(sum_fault=0x8000), change(label=6)],
)
@pytest.mark.parametrize("name", ALL)
def test_what_any_packet_says(name: str, changed: Callable[[Fields], Fields]) -> None:
    if changed(fields(TCP4, 1)[0]).label == 6 and ALL[name].version == 4:
        return
    for place, expected in ((0, [1, 4]), (2, [2, 1, 2]), (4, [4, 1])):
        assert joined(at(place, changed)(ALL[name])) == expected


@pytest.mark.parametrize(
    "changed",
    [
        change(identification=1),
        change(ip_sum_fault=1),
        change(ip_sum_fault=0x8000),
        change(fragment=0x2000),
        change(fragment=1),
        change(fragment=0x8000),
        change(length_fault=-1),
    ],
)
@pytest.mark.parametrize("name", ["TCP4", "UDP4"])
def test_what_ipv4_says(name: str, changed: Callable[[Fields], Fields]) -> None:
    for place, expected in ((0, [1, 4]), (2, [2, 1, 2]), (4, [4, 1])):
        assert joined(at(place, changed)(ALL[name])) == expected


@pytest.mark.parametrize("name", ["TCP6", "UDP4", "UDP6"])
def test_a_length_that_is_not_the_packets(name: str) -> None:
    for place, expected in ((0, [1, 4]), (2, [2, 1, 2]), (4, [4, 1])):
        assert joined(at(place, change(length_fault=1))(ALL[name])) == expected


def test_all_alike_and_wrong() -> None:
    for wrong in (
        change(sum_fault=1),
        change(fragment=0x2000),
        change(length_fault=-1),
        change(ip_sum_fault=4),
    ):
        for flow in (TCP4, UDP4):
            packets = [build(flow, wrong(one)) for one in fields(flow, 4)]
            assert joined(packets) == [1, 1, 1, 1]


@pytest.mark.parametrize("name", ["UDP4", "UDP6"])
def test_a_wrong_udp_length_that_is_summed_up_rightly(name: str) -> None:
    """No sum but the pseudo-header's speaks of the true length."""
    at = 20 if name == "UDP4" else 40
    packets = []
    for packet in train(ALL[name], 4):
        wrong, right_sum = put16(packet, at + 4, u16(packet, at + 4) + 7), u16(packet, at + 6) - 7
        packets.append(put16(wrong, at + 6, right_sum))
    assert joined(packets) == [1, 1, 1, 1]


def test_faults_that_cancel_each_other_out() -> None:
    """Half a sum too much in the IP header, as much too little in TCP."""
    packets = train(TCP4, 3)
    packets[1] = put16(put16(packets[1], 10, u16(packets[1], 10) + 1), 36, u16(packets[1], 36) - 1)
    assert joined(packets) == [1, 1, 1]


def test_identification_that_stands_still() -> None:
    packets = [build(TCP4, replace(one, identification=0)) for one in fields(TCP4, 3)]
    assert joined(packets) == [1, 1, 1]


def test_ipv4_options_stay_alone() -> None:
    assert joined(train(replace(TCP4, ip_options=bytes([148, 4, 0, 0])), 3)) == [1, 1, 1]


def test_extension_headers() -> None:
    assert joined(train(replace(TCP6, extensions=(0,)), 3)) == [3]
    assert joined(train(replace(UDP6, extensions=(60, 43)), 3)) == [3]
    packets = train(replace(TCP6, extensions=(60,)), 3)
    assert joined([packets[0], packets[1][:44] + b"\1" + packets[1][45:], packets[2]]) == [1, 1, 1]
    fragments = [packet[:6] + bytes([44]) + packet[7:] for packet in packets]
    assert joined(fragments) == [1, 1, 1]


def test_a_routing_header_with_the_way_still_to_go() -> None:
    """The sum is made with the last address of the list (RFC 8200 section 8.1): not ours to judge."""
    flow = replace(TCP6, extensions=(43,))
    packets = [put16(packet, 38, 0x1234) for packet in train(flow, 3)]
    assert joined(packets) == [1, 1, 1]


@pytest.mark.parametrize("options", [SACK, TIMESTAMPS + SACK, bytes([1] * 40)])
def test_options(options: bytes) -> None:
    flow = replace(TCP4, options=options)
    assert joined(train(flow, 3)) == [3]
    other = replace(flow, options=options[:-1] + b"\0")
    parts = fields(flow, 3)
    assert joined([build(flow, parts[0]), build(other, parts[1]), build(flow, parts[2])]) == [1, 1, 1]


def test_a_sum_of_zero_is_joined_as_it_is_written_by_us() -> None:
    for flow in (TCP4, TCP6, UDP4, UDP6):
        one, two, three = fields(flow, 3)
        two = with_sum_of_zero(flow, two)
        assert joined([build(flow, part) for part in (one, two, three)]) == [3]
        two.summed = 0xFFFF if flow.protocol != UDP else 0
        assert joined([build(flow, part) for part in (one, two, three)]) == [1, 1, 1]


@pytest.mark.parametrize(("place", "expected"), [(0, [1, 3]), (1, [1, 1, 2]), (2, [2, 1, 1]), (3, [3, 1])])
@pytest.mark.parametrize("last", [SIZE, SIZE - 3, SIZE - 13])
@pytest.mark.parametrize("name", ["TCP4", "UDP4"])
def test_a_header_sum_of_zero(name: str, last: int, place: int, expected: list[int]) -> None:
    packet = train(ALL[name], 4, last=last)[place]
    around = (u16(packet, 10) + u16(packet, 4) - place) % 0xFFFF
    packets = train(replace(ALL[name], identification=around), 4, last=last)
    assert packets[place][10:12] == b"\0\0"
    assert joined(packets) == [4]
    packets[place] = put16(packets[place], 10, 0xFFFF)
    assert joined(packets) == expected


def test_udp_without_a_checksum_stays_alone() -> None:
    packets = [build(UDP4, replace(one, summed=0)) for one in fields(UDP4, 4)]
    assert joined(packets) == [1, 1, 1, 1]


def test_flows_that_take_turns() -> None:
    one, two = train(TCP4, 4), train(replace(TCP4, port=9), 4)
    assert joined([one[0], two[0], one[1], two[1]]) == [1, 1, 1, 1]
    assert joined([*one[:2], *two[:2], *one[2:], *two[2:]]) == [2, 2, 2, 2]


def test_flows_one_after_the_other() -> None:
    ack = replace(UDP4, identification=3)
    longer = SIZE + 52 - 28
    assert joined(train(TCP4, 3) + train(ack, 3, size=longer) + train(TCP6, 2, size=SIZE - 20)) == [3, 3, 2]


def test_what_is_never_joined_before_what_is() -> None:
    udp = train(UDP4, 3, size=SIZE + 24)
    icmp = udp[0][:9] + b"\1" + udp[0][10:]
    assert joined([icmp, *udp]) == [1, 3]
    assert joined([*train(TCP4, 2), *udp], Offload.USO4) == [1, 1, 3]
    # An acknowledgment without data that is as long as segments with data
    ack = train(replace(TCP4, options=bytes([1] * 40)), 1, size=0)
    data = train(replace(TCP4, options=TIMESTAMPS), 3, size=28)
    assert joined([*ack, *data]) == [1, 3]


def test_packets_out_of_order() -> None:
    one, two, three, four = train(TCP4, 4)
    assert joined([two, one, three, four]) == [1, 1, 2]
    assert joined([one, one, two]) == [1, 2]
    assert joined([four, three, two, one]) == [1, 1, 1, 1]


@pytest.mark.parametrize("packet", [b"x", bytes(20), bytes(40), b"\x45" + bytes(30), b"\x60" + bytes(60)])
def test_what_is_no_packet(packet: bytes) -> None:
    assert [
        bytes(one) for one in coalesce(rows_of([packet] * 3), EVERYTHING) if not isinstance(one, Frame)
    ] == [packet] * 3


@pytest.mark.parametrize("name", ALL)
def test_a_last_packet_that_is_cut_off(name: str) -> None:
    for count in (2, 3):
        for octets in range(1, 110):
            packets = train(ALL[name], count)
            packets[-1] = packets[-1][:octets]
            whole = octets >= len(packets[0])
            assert joined(packets) == ([count] if whole else [1, 1] if count == 2 else [2, 1])


def test_rows_stay_as_they_are() -> None:
    rows = laid_out(train(TCP4, 5, last=3), 10)
    before = rows.matrix.tobytes()
    coalesce(rows, EVERYTHING)
    assert rows.matrix.tobytes() == before


def test_a_last_packet_of_the_next_protocol_stays_alone() -> None:
    """What it lacks in length its header's checksum has more, up to a carry into the protocol beside it."""
    unnumbered = build(replace(TCP4, identification=0), Fields(bytes(500), 0, 0))
    flow = replace(TCP4, identification=(u16(unnumbered, 10) - 0xFFF0) % 0xFFFF)
    made = [build(flow, one) for one in fields(flow, 6, 500, 100)]
    assert u16(made[0], 10) == 0xFFF0
    last = put16(made[-1][:9] + bytes([7]) + made[-1][10:], 10, 0)
    made[-1] = put16(last, 10, 0xFFFF - ones_sum(last[:20]))
    super_packet, alone = coalesce(laid_out(made, 3), EVERYTHING)
    assert isinstance(super_packet, Frame)
    assert list(segment(super_packet)) == made[:-1]
    assert bytes(alone) == made[-1]  # type: ignore[arg-type]


def test_shapes_that_somebody_makes_up_are_not_all_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[object] = []
    look = superpackets._continuing

    def counted(rows: Rows, packets: list[memoryview], shape: Shape) -> bytes:
        looks.append(shape)
        return look(rows, packets, shape)

    monkeypatch.setattr(superpackets, "_continuing", counted)
    flows = [Flow(version=6, protocol=UDP, extensions=(60,) * count) for count in range(6)]
    flows += [Flow(version=6, options=bytes([1] * 4 * count)) for count in range(11)]
    flows += [Flow(version=6, options=bytes([1] * 4 * count), extensions=(60,)) for count in range(11)]
    made = [build(flow, Fields(bytes(300 - flow.headers), 0, 0)) for flow in flows]
    assert [bytes(one) for one in coalesce(laid_out(made, 0), EVERYTHING)] == made  # type: ignore[arg-type]
    assert len(looks) == len(set(looks)) == 16 < len(flows)
