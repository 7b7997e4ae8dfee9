"""Batches of packets against the plain reference, octet for octet: cut, completed, joined."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espudp.errors import WireError
from espudp.offload import Rows, coalesce, finish, finished, rows_of, segment
from espudp.wire.vnet import (
    GSO_ECN,
    GSO_NONE,
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
    TCP,
    TIMESTAMPS,
    UDP,
    URG,
    Fields,
    Flow,
    build,
    laid_out,
    with_sum_of_zero,
)
from tests.reference import offload_reference as reference
from tests.reference.inner_reference import put16, u16

EVERYTHING = Offload.CHECKSUM | Offload.TSO4 | Offload.TSO6 | Offload.USO4 | Offload.USO6

# Trains of packets

NUMBERS = st.one_of(st.integers(0, 0xFFFFFFFF), st.integers(-900, 900).map(lambda n: n % 2**32))
FLOWS = st.builds(
    Flow,
    version=st.sampled_from([4, 6]),
    protocol=st.sampled_from([TCP, TCP, UDP]),
    port=st.integers(1, 2),
    options=st.sampled_from(
        [b"", TIMESTAMPS, TIMESTAMPS, TIMESTAMPS + SACK, bytes([1] * 4), bytes([1] * 40)]
    ),
    ip_options=st.sampled_from([b"", b"", b"", bytes([148, 4, 0, 0])]),
    extensions=st.sampled_from([(), (), (), (0,), (60,), (0, 43), (43, 60)]),
    tos=st.sampled_from([0, 0, 1, 0xB8]),
    identification=st.one_of(st.integers(0, 0xFFFF), st.integers(0xFFF8, 0xFFFF)),
    sequence=NUMBERS,
    dont_fragment=st.booleans(),
)
FLAGS = st.sampled_from([ACK] * 8 + [ACK | ECE, ACK | PSH, ACK | FIN, ACK | CWR, ACK | CWR | PSH, ACK | URG])
FLAGS |= st.sampled_from([SYN, SYN | ACK, RST, 0, 0xFF])
FAULTS = st.sampled_from(
    [
        *("sum", "ip sum", "length", "hops", "tos", "identification", "sequence", "ack", "window", "urgent"),
        *("fragment", "label", "zero", "zero, written otherwise", "none", "octet", "options", "ip zero"),
    ]
)


@dataclass(frozen=True)
class Step:
    """One packet of a train."""

    flow: int = 0
    flags: int = ACK
    fault: str = ""
    salt: int = 0


ODD_STEPS = st.one_of(
    st.builds(Step, st.integers(0, 2), FLAGS),
    st.builds(Step, st.integers(0, 2), st.just(ACK), FAULTS, st.integers(0, 255)),
)
# Mostly packets that go on, with a few that do not; or nothing but odd ones
STEPS = st.one_of(
    st.tuples(st.integers(1, 30), st.dictionaries(st.integers(0, 29), ODD_STEPS, max_size=4)).map(
        lambda drawn: [drawn[1].get(number, Step()) for number in range(drawn[0])]
    ),
    st.lists(ODD_STEPS, min_size=1, max_size=12),
)


@dataclass(frozen=True)
class Train:
    """Packets of `size` octets, the last `last` octets long."""

    flows: list[Flow]
    steps: list[Step]
    size: int
    last: int
    shuffled: int = 0

    def packets(self) -> list[bytes]:
        flows = {n: flow for n, flow in enumerate(self.flows)}
        made: list[bytes] = []
        for number, step in enumerate(self.steps):
            flow = flows[step.flow % len(flows)]
            octets = self.last if number == len(self.steps) - 1 else self.size
            payload = bytes((n * 7 + number * 13 + step.salt) % 256 for n in range(octets - flow.headers))
            fields = Fields(payload, flow.identification, flow.sequence, step.flags)
            made.append(self._packet(flow, fields, step))
            following = flow.identification + 1, flow.sequence + len(payload)
            flows[step.flow % len(flows)] = replace(
                flow, identification=following[0] % 0x10000, sequence=following[1] % 2**32
            )
        body = made[:-1]
        if self.shuffled:
            Random(self.shuffled).shuffle(body)
        return body + made[-1:]

    def _packet(self, flow: Flow, fields: Fields, step: Step) -> bytes:
        salt = step.salt or 1
        match step.fault:
            case "sum":
                fields.sum_fault = salt
            case "ip sum":
                fields.ip_sum_fault = salt
            case "length":
                fields.length_fault = salt % 3 - 1
            case "hops":
                fields.hops ^= salt
            case "tos":
                fields.tos = salt
            case "identification":
                fields.identification += salt
            case "sequence":
                fields.sequence += salt
            case "ack":
                fields.ack += salt
            case "window":
                fields.window += salt
            case "urgent":
                fields.urgent = salt
            case "fragment":
                fields.fragment = [0x2000, 1, 0x8000, 0x2001][salt % 4]
            case "label":
                fields.label += salt
            case "zero":
                fields = with_sum_of_zero(flow, fields)
            case "zero, written otherwise":
                fields = with_sum_of_zero(flow, fields)
                fields.summed = 0xFFFF if flow.protocol == TCP else 0
            case "none":
                fields.summed = 0
            case "options":
                flow = replace(flow, options=flow.options[:-1] + bytes([salt]) if flow.options else b"")
        packet = build(flow, fields)
        if step.fault == "octet":
            at = salt * 977 % len(packet)
            packet = packet[:at] + bytes([packet[at] ^ salt]) + packet[at + 1 :]
        if step.fault == "ip zero" and flow.version == 4 and not flow.ip_options:
            # The identification at which the header's checksum is 0; then that 0 in its other form.
            number = (u16(packet, 4) + u16(packet, 10)) % 0xFFFF
            packet = put16(put16(packet, 4, number), 10, 0xFFFF if salt % 2 else 0)
        return packet


@st.composite
def trains(draw: st.DrawFn) -> Train:
    flows = draw(st.lists(FLOWS, min_size=1, max_size=3))
    headers = max(flow.headers for flow in flows)
    size = headers + draw(st.integers(1, 200))
    last = draw(st.one_of(st.just(size), st.integers(headers, size)))
    steps = draw(STEPS)
    return Train(flows, steps, size, last, draw(st.sampled_from([0, 0, 0, 1, 2])))


TAKES = st.one_of(
    *[st.just(EVERYTHING)] * 5,
    st.lists(st.sampled_from(list(Offload))).map(lambda some: Offload(sum(o.value for o in set(some)))),
)


@given(trains(), TAKES, st.integers(0, 30))
@settings(max_examples=400, deadline=None)
def test_what_is_joined_is_what_the_reference_joins(train: Train, takes: Offload, behind: int) -> None:
    packets = train.packets()
    rows = laid_out(packets, behind)
    before = rows.matrix.tobytes()
    joined = coalesce(rows, takes)
    expected = reference.coalesce(packets, takes)
    assert [type(one) is Frame for one in joined] == [type(one) is Frame for one in expected]
    for found, wanted in zip(joined, expected, strict=True):
        if isinstance(found, Frame) and isinstance(wanted, Frame):
            assert found.header == wanted.header
            assert found.packet == wanted.packet
        else:
            assert bytes(found) == wanted  # type: ignore[arg-type]
    assert rows.matrix.tobytes() == before


@given(trains(), st.integers(0, 30))
@settings(max_examples=200, deadline=None)
def test_joined_and_cut_again_nothing_has_changed(train: Train, behind: int) -> None:
    packets = train.packets()
    found: list[bytes] = []
    for one in coalesce(laid_out(packets, behind), EVERYTHING):
        found += segment(one) if isinstance(one, Frame) else [bytes(one)]
    assert found == packets


@given(trains(), st.integers(1, 20))
@settings(max_examples=100, deadline=None)
def test_flows_that_do_nothing_odd_are_joined_whole(train: Train, count: int) -> None:
    plain = [replace(flow, ip_options=b"", extensions=()) for flow in train.flows[:1]]
    size = max(train.size, plain[0].headers + 2)
    packets = Train(plain, [Step()] * (count + 1), size, size - 1).packets()
    (joined,) = coalesce(laid_out(packets, 3), EVERYTHING)
    assert isinstance(joined, Frame)
    assert list(segment(joined)) == packets


# Super-packets


@dataclass(frozen=True)
class Super:
    """A write of `octets` in segments of `gso_size`."""

    flow: Flow
    octets: int
    gso_size: int
    flags: int
    urgent: int
    partial: bool
    cuts: list[int]

    @property
    def frame(self) -> Frame:
        payload = bytes((n * 11 + n // 256) % 256 for n in range(self.octets))
        fields = Fields(payload, self.flow.identification, self.flow.sequence, self.flags)
        fields.urgent, fields.seed_only = self.urgent, self.partial
        packet = build(self.flow, fields)
        kind = {(4, TCP): GSO_TCPV4, (6, TCP): GSO_TCPV6}.get(
            (self.flow.version, self.flow.protocol), GSO_UDP_L4
        )
        if kind != GSO_UDP_L4 and self.flags & CWR:
            kind |= GSO_ECN
        headers = self.flow.headers
        at = headers - len(self.flow.options) - 20 if self.flow.protocol == TCP else headers - 8
        vnet = VnetHeader(0, kind, headers, self.gso_size)
        if self.partial:
            vnet = VnetHeader(NEEDS_CSUM, kind, headers, self.gso_size, at, 16 if kind != GSO_UDP_L4 else 6)
        ends = sorted({0, len(packet), *(cut % len(packet) for cut in self.cuts)})
        parts = [memoryview(packet)[a:b] for a, b in pairwise(ends)]
        return Frame(vnet, parts)


SUPERS = st.builds(
    Super,
    FLOWS,
    octets=st.one_of(st.integers(0, 300), st.integers(0, 6000)),
    gso_size=st.one_of(st.integers(1, 40), st.integers(40, 1500)),
    flags=st.one_of(FLAGS, st.integers(0, 255)),
    urgent=st.sampled_from([0, 0, 9]),
    partial=st.sampled_from([True, True, True, False]),
    cuts=st.sampled_from([[], [], [], [33], [5, 60, 99]]),
)


@given(SUPERS)
@settings(max_examples=400, deadline=None)
def test_segments_are_those_of_the_reference(big: Super) -> None:
    big = replace(big, octets=min(big.octets, big.gso_size * 200))
    rows = segment(big.frame)
    expected = reference.segment(big.frame)
    assert list(rows) == expected
    assert rows.last == len(expected[-1])
    # The memory is used again: what stood there before leaves no trace.
    rows.matrix[:] = 0xFF
    assert list(segment(big.frame)) == expected


@given(
    st.integers(1, 9),
    st.integers(0, 120),
    st.integers(0, 60),
    st.integers(0, 20),
    st.sampled_from([NEEDS_CSUM, NEEDS_CSUM, 0]),
    st.sampled_from([0, 0, 255]),
    st.randoms(use_true_random=False),
)
@settings(max_examples=300, deadline=None)
def test_completed_checksums_are_those_of_the_reference(
    count: int, octets: int, start: int, offset: int, flags: int, zeros: int, chance: Random
) -> None:
    header = VnetHeader(flags, GSO_NONE, 0, 0, start, offset)
    packets = [bytes(zeros or chance.randrange(256) for _ in range(octets)) for _ in range(count)]
    frames = [
        Frame(header, [packet[:7], packet[7:]] if chance.random() < 0.3 else [packet]) for packet in packets
    ]
    if flags and start + offset + 2 > octets:
        with pytest.raises(WireError):
            finish(frames)
        with pytest.raises(WireError):
            finished(frames[0])
        return
    expected = [reference.complete(frame) for frame in frames]
    assert list(finish(frames)) == expected
    assert [bytes(finished(frame)) for frame in frames] == expected


def damaged(big: Super, length: int, at: int, octets: bytes) -> bytes:
    packet = big.frame.packet[: length or None]
    return packet[:at] + octets + packet[at + len(octets) :]


@given(
    st.builds(
        VnetHeader,
        st.integers(0, 3),
        st.sampled_from([0, 1, 4, 5, 0x81, 0x84, 3, 0x85, 255]),
        st.integers(0, 0xFFFF),
        st.integers(0, 0xFFFF) | st.integers(0, 50),
        st.integers(0, 0xFFFF) | st.sampled_from([20, 40]),
        st.integers(0, 0xFFFF) | st.sampled_from([6, 16]),
    ),
    st.one_of(
        st.binary(max_size=200),
        st.builds(damaged, SUPERS, st.integers(0, 120), st.integers(0, 99), st.binary(max_size=3)),
    ),
)
@settings(max_examples=500, deadline=None)
def test_whatever_is_handed_over_is_packets_or_a_wire_error(header: VnetHeader, packet: bytes) -> None:
    frame = Frame(header, [packet])
    attempts: list[Callable[[], Rows]] = [lambda: segment(frame), lambda: finish([frame, frame])]
    for attempt in attempts:
        with suppress(WireError):
            assert all(len(one) <= len(packet) for one in attempt())
    if packet:
        joined = coalesce(rows_of([packet] * 3), EVERYTHING)
        cut = [list(segment(one)) if isinstance(one, Frame) else [bytes(one)] for one in joined]
        assert [*chain.from_iterable(cut)] == [packet] * 3
