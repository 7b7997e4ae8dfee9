"""Several super-packets and bursts at once against the plain reference, which sees each by itself."""

from dataclasses import dataclass, replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from espudp.crypto.suites import EspSuite
from espudp.esp.sa import Lifetime
from espudp.offload import coalesce, segment, segment_all
from espudp.wire.train import TOGETHER
from espudp.wire.vnet import GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, Frame, Offload
from tests.property.both_paths import (
    AUTHENTIC,
    OFFLOADS,
    OUTSIDE,
    Arrival,
    Both,
    Fate,
    Send,
    Sender,
    arrive,
    base_keys,
    check_ivs,
    delivered,
    seal,
    take_back,
)
from tests.property.inner_traffic import THERE, Hosts, TcpItem, UdpItem
from tests.property.inner_traffic import Flow as InnerFlow
from tests.property.offload_traffic import ACK, CWR, ECE, FIN, PSH, RST, SYN, TCP, URG, Flow, laid_out
from tests.property.test_offload import EVERYTHING, FLAGS, FLOWS, NUMBERS, ODD_STEPS, Step, Super, Train
from tests.reference import offload_reference as reference
from tests.unit.esp import reference as esp
from tests.unit.esp.peers import CBC, GCM, GCM_ESN, RIGHT_SPI, mirrored

some_suites = pytest.mark.parametrize("suite", [GCM, GCM_ESN, CBC], ids=lambda suite: suite.name)
thorough = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

KINDS = {(4, 6): GSO_TCPV4, (6, 6): GSO_TCPV6, (4, 17): GSO_UDP_L4, (6, 17): GSO_UDP_L4}

# Super-packets that are cut together


@st.composite
def alike(draw: st.DrawFn) -> list[Frame]:
    """Of one length with one header; who they are from, their numbers and their flags may be any."""
    first = draw(FLOWS)
    gso_size, count = draw(st.integers(1, 300)), draw(st.integers(2, 70))
    ecn = draw(st.sampled_from([0, 0, CWR]))
    frames = []
    for _ in range(draw(st.integers(2, TOGETHER))):
        flow = replace(
            first,
            port=draw(st.integers(1, 0xFFFF)),
            identification=draw(st.integers(0, 0xFFFF) | st.integers(0xFFC0, 0xFFFF)),
            sequence=draw(NUMBERS),
        )
        flags = draw(FLAGS) & ~CWR | (ecn if flow.protocol == TCP else 0)
        big = Super(flow, gso_size * count, gso_size, flags, draw(st.sampled_from([0, 9])), True, [])
        frames.append(Frame(big.frame.header, [b"".join(big.frame.parts)]))
    return frames


@given(alike())
@settings(max_examples=200, deadline=None)
def test_cut_together_they_are_what_each_is_by_itself(frames: list[Frame]) -> None:
    expected = [packet for frame in frames for packet in reference.segment(frame)]
    rows = segment_all(frames)
    if rows is None:
        assert len(expected) > 64 * len(frames)
        return
    assert list(rows) == expected
    rows.matrix[:] = 0xFF
    assert list(segment_all(frames) or ()) == expected


@given(alike(), st.data())
@settings(max_examples=200, deadline=None)
def test_one_that_is_different_is_cut_right_or_not_together(frames: list[Frame], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(frames) - 1))
    (packet,) = frames[place].parts
    at = data.draw(st.integers(0, min(79, len(packet) - 1)))
    changed = bytearray(packet)
    changed[at] ^= data.draw(st.integers(1, 255))
    frames[place] = Frame(frames[place].header, [bytes(changed)])
    rows = segment_all(frames)
    if rows is not None:
        assert list(rows) == [packet for frame in frames for packet in segment(frame)]


# Packets that are joined together

# Most trains are as they should be; of some all packets are out of the ordinary in one way.
WRONG = [Step(fault=what, salt=0x8000) for what in ("ip sum", "sum", "urgent", "none", "length")]
WRONG += [Step(flags=ACK | flag) for flag in (URG, RST, SYN)]
USUAL = st.sampled_from([Step()] * 6 + WRONG)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda step: step.fault or f"flags {step.flags:#x}")
@pytest.mark.parametrize("where", [(0,), (1,), (2,), (0, 1, 2)])
def test_bursts_that_are_wrong_all_through_stay_what_they_are(wrong: Step, where: tuple[int, ...]) -> None:
    for version, protocol in KINDS:
        packets: list[bytes] = []
        for number in range(3):
            flow = Flow(version, protocol, number + 1, identification=100)
            steps = [wrong if number in where else Step()] * 8
            packets += Train([flow], steps, 140, 140).packets()
        assert delivered(coalesce(laid_out(packets, 3), EVERYTHING, 8), EVERYTHING) == packets


@st.composite
def bursts(draw: st.DrawFn) -> tuple[list[bytes], int]:
    """Packets of several trains of one size one behind the other, and how many each has but the last."""
    flow = draw(FLOWS)
    each, size = draw(st.integers(2, 20)), flow.headers + draw(st.integers(1, 200))
    packets: list[bytes] = []
    common = draw(USUAL)
    for _ in range(draw(st.integers(2, TOGETHER))):
        usual = draw(st.one_of(st.just(common), st.just(common), USUAL))
        steps = [usual] * each
        steps[0] = replace(usual, flags=usual.flags | draw(st.sampled_from([0, 0, ECE, CWR, SYN])))
        steps[-1] = replace(usual, flags=usual.flags | draw(st.sampled_from([0, 0, PSH, FIN | PSH, URG])))
        if not draw(st.integers(0, 3)):
            steps[draw(st.integers(0, each - 1))] = draw(ODD_STEPS)
        packets += Train([flow], steps, size, size).packets()
        numbers = flow.identification + each, flow.sequence + each * (size - flow.headers)
        if draw(st.booleans()):  # another one, and not what goes on
            numbers = draw(st.integers(0, 0xFFFF) | st.integers(0xFFE0, 0xFFFF)), draw(NUMBERS)
            flow = replace(flow, port=draw(st.integers(1, 2)))
        flow = replace(flow, identification=numbers[0] % 0x10000, sequence=numbers[1] % 2**32)
    whole = [packet for packet in packets if len(packet) == size]
    last = draw(st.integers(flow.headers, size))
    short = Train([flow], [Step()], size, last).packets()
    return (whole + short if draw(st.booleans()) else whole), each


@given(bursts(), st.sampled_from([EVERYTHING, EVERYTHING, Offload.TSO4, Offload.USO6]), st.integers(0, 30))
@settings(max_examples=300, deadline=None)
def test_joined_by_bursts_and_cut_again_nothing_has_changed(
    burst: tuple[list[bytes], int], takes: Offload, behind: int
) -> None:
    packets, each = burst
    rows = laid_out(packets, behind)
    before = rows.matrix.tobytes()
    joined = coalesce(rows, takes, each)
    assert delivered(joined, takes) == packets
    assert rows.matrix.tobytes() == before
    # Burst by burst, or as if nobody had said how many came together.
    chunks = [packets[at : at + each] for at in range(0, len(packets), each)]
    by_bursts = [one for chunk in chunks for one in reference.coalesce(chunk, takes)]
    found = [one.packet if isinstance(one, Frame) else bytes(one) for one in joined]
    assert found in (flat(by_bursts), flat(reference.coalesce(packets, takes)))


def flat(packets: list[bytes | Frame]) -> list[bytes]:
    return [one.packet if isinstance(one, Frame) else one for one in packets]


@given(FLOWS, st.integers(2, 20), st.integers(2, TOGETHER), st.integers(0, 20))
@settings(max_examples=100, deadline=None)
def test_bursts_that_do_nothing_odd_are_joined_each_to_one(
    flow: Flow, each: int, count: int, missing: int
) -> None:
    flow = replace(flow, ip_options=b"", extensions=(), tos=0)
    size = flow.headers + 100
    packets: list[bytes] = []
    for _ in range(count):
        packets += Train([flow], [Step()] * each, size, size).packets()
        flow = replace(flow, sequence=(flow.sequence + 100 * each) % 2**32, port=flow.port + 1)
    packets[-1:] = Train([flow], [Step()], size, size - 1).packets() if missing == 20 else packets[-1:]
    packets = packets[: len(packets) - min(missing % 20, each - 2)]
    joined = coalesce(laid_out(packets, 3), EVERYTHING, each)
    assert delivered(joined, EVERYTHING) == packets
    if missing != 20:
        kinds = [one.header.gso_type if isinstance(one, Frame) else None for one in joined]
        assert kinds == [KINDS[flow.version, flow.protocol]] * count


# All the way

FLAGS_INSIDE = st.sampled_from([ACK, ACK, ACK | PSH, ACK | FIN | PSH, ACK | ECE, ACK | CWR, SYN])
# The second network has an SA of its own.
INNER_FLOWS = st.builds(
    InnerFlow,
    st.just(4),
    st.integers(0, 2),
    st.sampled_from([0, 0, 0, 2, 0xB8]),
    dst=st.sampled_from([b"", THERE]),
) | st.builds(InnerFlow, st.sampled_from([4, 6]), st.integers(0, 2))


@st.composite
def alike_items(draw: st.DrawFn) -> list[TcpItem | UdpItem]:
    """Writes of one length: what one wake-up finds of a few busy flows."""
    flows = draw(st.lists(INNER_FLOWS, min_size=1, max_size=2))
    size, count = draw(st.sampled_from([1300, 1000, 536, 40])), draw(st.integers(2, 44))
    count = min(count, 60_000 // size)
    udp = draw(st.integers(0, 3)) == 0
    items: list[TcpItem | UdpItem] = []
    for _ in range(draw(st.integers(1, 2 * TOGETHER + 1))):
        flow = draw(st.sampled_from(flows))
        if udp:
            items.append(UdpItem(flow, count, size, form="super"))
        else:
            octets = size * count - draw(st.sampled_from([0, 0, 0, 0, 1, 30]))
            items.append(TcpItem(flow, octets, size, draw(FLAGS_INSIDE), form="super"))
    return items


LIFETIMES = st.sampled_from(
    [
        *([Lifetime()] * 3),
        Lifetime(soft_packets=50, hard_packets=150),
        Lifetime(hard_packets=90),
        Lifetime(soft_bytes=60_000, hard_bytes=150_000),
    ]
)
STARTS = st.sampled_from([0, 2**31 - 4, 2**32 - 200, 2**32 - 30])
BATCHES = st.lists(alike_items(), min_size=1, max_size=3)


@some_suites
@thorough
@given(STARTS, LIFETIMES, BATCHES)
def test_sealing(
    suite: EspSuite, start: int, lifetime: Lifetime, batches: list[list[TcpItem | UdpItem]]
) -> None:
    both, hosts = Both(base_keys(suite, start, lifetime, False)), Hosts()
    suites = {RIGHT_SPI: suite, RIGHT_SPI + 1: GCM}
    ivs: dict[int, list[tuple[int, bytes]]] = {}
    for items in batches:
        for datagram, want in seal(both, suites, [hosts.make(item) for item in items]):
            ivs.setdefault(want.spi, []).append((want.sequence, esp.iv_of(suites[want.spi], datagram)))
        both.check()
    for spi, used in ivs.items():
        check_ivs(suites[spi], used)


FATES = st.lists(
    st.builds(Fate, st.integers(0, 400), st.sampled_from(AUTHENTIC + OUTSIDE), st.integers(0, 1500)),
    max_size=3,
)


@dataclass
class Received:
    """Datagrams of one size over one path, as four receives with UDP_GRO bring them."""

    first: Arrival
    each: int
    datagrams: list[bytes]

    def takes(self, one: Arrival) -> bool:
        size = len(self.first.datagram)
        return (
            (one.path, one.tos) == (self.first.path, self.first.tos)
            and len(one.datagram) <= size == len(self.datagrams[-1])
            and len(self.datagrams) < TOGETHER * self.each
        )


def received(arriving: list[Arrival], chance: Random) -> list[Received]:
    found: list[Received] = []
    for one in arriving:
        if found and found[-1].takes(one):
            found[-1].datagrams.append(one.datagram)
        else:
            most = min(64, 65507 // len(one.datagram))
            found.append(Received(one, chance.choice([most, most, chance.randint(1, most)]), [one.datagram]))
    return found


@some_suites
@thorough
@given(
    STARTS,
    LIFETIMES,
    st.sampled_from([1024, 64, 32, 0]),
    st.sampled_from(OFFLOADS),
    st.lists(st.tuples(alike_items(), FATES), min_size=1, max_size=3),
    st.integers(0, 99),
)
def test_opening(
    suite: EspSuite,
    start: int,
    lifetime: Lifetime,
    window: int,
    offload: Offload,
    sends: list[tuple[list[TcpItem | UdpItem], list[Fate]]],
    seed: int,
) -> None:
    """More datagrams at once than the replay window has room for, some forged, replayed or odd inside."""
    ours = base_keys(suite, start, Lifetime(), False)
    window = window or (64 if suite.esn else 0)
    both = Both([mirrored(child, lifetime=lifetime, replay_window=window) for child in ours])
    both.fast.set_offloads(offload)
    sender, chance = Sender(ours, suite), Random(seed)
    for items, fates in sends:
        for one in received(sender.send(Send(tuple(items), tuple(fates))), chance):
            train, memory = arrive(one.datagrams, together=True, each=one.each)
            path, tos = one.first.path, one.first.tos
            found = delivered(both.fast.open(train, path, both.now, tos), offload)
            take_back(memory)
            opened = [both.plain.open(datagram, path, both.now, tos) for datagram in one.datagrams]
            assert found == [packet for packet in opened if packet is not None]
        both.check()
