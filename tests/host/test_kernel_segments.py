"""The kernel takes the super-packets that coalescing makes, and cuts them up exactly as we do."""

import select
from collections.abc import Iterator
from dataclasses import replace

import pytest

from espudp.host.netns import Namespace
from espudp.host.tun import TunDevice
from espudp.offload import coalesce, finished, segment
from espudp.wire.vnet import GSO_NONE, NEEDS_CSUM, Frame, Offload, VnetHeader
from tests.property.offload_traffic import (
    ACK,
    CWR,
    ECE,
    FIN,
    PSH,
    SACK,
    TCP,
    TIMESTAMPS,
    UDP,
    Fields,
    Flow,
    build,
    laid_out,
    with_sum_of_zero,
)
from tests.reference import offload_reference as reference
from tests.reference.inner_reference import ones_sum, put16, u16

pytestmark = [pytest.mark.root, pytest.mark.tun, pytest.mark.namespaces]

EVERYTHING = Offload.CHECKSUM | Offload.TSO4 | Offload.TSO6 | Offload.USO4 | Offload.USO6
MTU = 1500
HOPS = 64

FLOWS = {
    "TCP": Flow(options=TIMESTAMPS),
    "TCP with SACK, may be fragmented": Flow(options=TIMESTAMPS + SACK, dont_fragment=False),
    "TCP around the corner": Flow(identification=0xFFFD, sequence=0xFFFFFF00),
    "TCP over IPv6": Flow(version=6, options=TIMESTAMPS, tos=0xB9),
    "TCP behind extension headers": Flow(version=6, options=TIMESTAMPS, extensions=(0, 60)),
    "UDP": Flow(protocol=UDP),
    "UDP over IPv6": Flow(version=6, protocol=UDP),
}
FLAGS = [ACK, ACK | PSH | FIN, ACK | ECE | CWR, ACK | CWR | PSH]


class Router:
    """A namespace that forwards from one TUN device, which takes super-packets, to another."""

    def __init__(self, *, offload: bool) -> None:
        """`offload`: whether the second takes them, too. If not the kernel does the work."""
        self.into = TunDevice("in0", MTU)
        self.out = TunDevice("out0", MTU, offload=offload)

    def carry(self, packet: bytes | Frame, count: int, protocol: int) -> list[bytes | Frame]:
        """What comes out for one packet that goes in: `count` of them are waited for."""
        self.into.write_batch([packet])
        assert not self.into.write_errors
        found: list[bytes | Frame] = []
        while len(found) < count and select.select([self.out], [], [], 2)[0]:
            for one in self.out.read_batch(64):
                whole = one if isinstance(one, Frame) else bytes(one)
                parsed = reference.parse(whole.packet if isinstance(whole, Frame) else whole)
                if parsed is not None and parsed.protocol == protocol:
                    found.append(whole)
        return found


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    with Namespace() as made, made.inside():
        yield made


def router(namespace: Namespace, *, offload: bool) -> Router:
    made = Router(offload=offload)
    for device, four, six in (
        (made.into, "10.0.0.254/24", "1::fe/64"),
        (made.out, "10.0.1.254/24", "2::fe/64"),
    ):
        device.up()
        namespace.add_address(device.name, four)
        namespace.add_address(device.name, six)
    namespace.set_sysctl("net/ipv4/ip_forward", "1")
    namespace.set_sysctl("net/ipv6/conf/all/forwarding", "1")
    return made


class Near(Flow):
    """From the first device's network to the second's."""

    @property
    def ends(self) -> bytes:
        if self.version == 4:
            return bytes([10, 0, 0, 1, 10, 0, 1, 2])
        return bytes([0, 1, *bytes(13), 1]) + bytes([0, 2, *bytes(13), 2])


def near(flow: Flow) -> Near:
    return Near(**{name: getattr(flow, name) for name in Flow.__dataclass_fields__})


def one_more_hop(packet: bytes) -> bytes:
    """As it was before the router counted its hops down."""
    if packet[0] >> 4 == 6:
        return packet[:7] + bytes([packet[7] + 1]) + packet[8:]
    packet = put16(packet[:8] + bytes([packet[8] + 1]) + packet[9:], 10, 0)
    return put16(packet, 10, 0xFFFF - ones_sum(packet[:20]))


def before(frame: Frame) -> Frame:
    return Frame(frame.header, [one_more_hop(frame.packet)])


def train(flow: Flow, count: int, size: int, last: int, flags: int) -> list[bytes]:
    """What a sender's kernel makes of one write."""
    made = []
    for number in range(count):
        kept = flags & ~(0 if number == count - 1 else PSH | FIN) & ~(CWR if number else 0)
        octets = last if number == count - 1 else size
        payload = bytes((n * 7 + number) % 256 for n in range(octets))
        fields = Fields(payload, flow.identification + number, flow.sequence + number * size, kept, hops=HOPS)
        made.append(build(flow, fields))
    return made


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("name", FLOWS)
def test_the_kernel_cuts_what_we_joined(namespace: Namespace, name: str, flags: int) -> None:
    flow = near(FLOWS[name])
    between = router(namespace, offload=False)
    for count, size, last in ((2, 1, 1), (5, 333, 7), (45, 1348, 1348), (64, 900, 899)):
        packets = train(flow, count, size, last, flags)
        (frame,) = coalesce(laid_out(packets, 18), EVERYTHING)
        assert isinstance(frame, Frame)
        assert between.carry(before(frame), count, flow.protocol) == packets
        assert list(segment(frame)) == packets


@pytest.mark.parametrize("name", FLOWS)
def test_sums_of_zero_are_written_as_the_kernel_does(namespace: Namespace, name: str) -> None:
    flow = near(FLOWS[name])
    between = router(namespace, offload=False)
    packets = []
    for number in range(3):
        fields = Fields(bytes(40), flow.identification + number, flow.sequence + number * 40, hops=HOPS)
        packets.append(build(flow, with_sum_of_zero(flow, fields)))
    at = flow.headers - (2 if flow.protocol == UDP else 4 + len(flow.options))
    assert {u16(packet, at) for packet in packets} == {0xFFFF if flow.protocol == UDP else 0}
    (frame,) = coalesce(laid_out(packets, 18), EVERYTHING)
    assert isinstance(frame, Frame)
    assert between.carry(before(frame), 3, flow.protocol) == packets


@pytest.mark.parametrize("name", FLOWS)
def test_we_cut_what_the_kernel_hands_over(namespace: Namespace, name: str) -> None:
    flow = near(FLOWS[name])
    between = router(namespace, offload=True)
    packets = train(flow, 40, 1001, 77, ACK | PSH)
    (frame,) = coalesce(laid_out(packets, 18), EVERYTHING)
    assert isinstance(frame, Frame)
    (handed,) = between.carry(before(frame), 1, flow.protocol)
    assert isinstance(handed, Frame)
    assert handed.header.gso_type == frame.header.gso_type
    assert list(segment(handed)) == packets


@pytest.mark.parametrize("name", FLOWS)
def test_the_kernel_completes_checksums_as_we_do(namespace: Namespace, name: str) -> None:
    flow = near(FLOWS[name])
    between = router(namespace, offload=False)
    for octets in (0, 1, 52, 1001):
        fields = Fields(bytes(range(256)) * 4, 5, 6, hops=HOPS)
        packet = build(flow, replace(fields, payload=fields.payload[:octets], seed_only=True))
        at = flow.headers - (8 if flow.protocol == UDP else 20 + len(flow.options))
        frame = Frame(VnetHeader(NEEDS_CSUM, GSO_NONE, 0, 0, at, 16 if flow.protocol == TCP else 6), [packet])
        assert between.carry(before(frame), 1, flow.protocol) == [bytes(finished(frame))]
