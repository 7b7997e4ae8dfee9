"""What the offloads of the TUN device carry: TCP and UDP of two hosts, with us as the cable between them."""

import errno
import fcntl
import os
import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest
import pytun
from pyroute2 import IPRoute
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6

from espudp.host import tun
from espudp.host.netlink import DeviceAddress, Netlink
from espudp.host.netns import Namespace, Port, connect
from espudp.host.tun import TunDevice, TunQueue
from espudp.offload import finished, segment
from espudp.wire.buffer import Buffer
from espudp.wire.train import TOGETHER
from espudp.wire.vnet import (
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    Frame,
    Offload,
    VnetHeader,
)

pytestmark = [pytest.mark.root, pytest.mark.tun]

MTU = 1400
SECONDS = 20.0
EVERYTHING = Offload.CHECKSUM | Offload.TSO4 | Offload.TSO6 | Offload.USO4 | Offload.USO6
# linux/udp.h
UDP_SEGMENT = 103

Packet = Buffer | Frame
Change = Callable[[Iterable[Packet]], Sequence[Packet]]


@dataclass
class Host:
    """A namespace with one TUN device, .1 or .2 of both networks."""

    namespace: Namespace
    tun: TunDevice
    number: int
    told: list[str] = field(default_factory=list)

    @classmethod
    def make(cls, namespace: Namespace, number: int) -> "Host":
        told: list[str] = []
        with namespace.inside():
            device = TunDevice("esp%d", MTU, on_limit=told.append)
            device.up()
            index = socket.if_nametoindex(device.name)
            netlink = Netlink()
            for address in (f"10.7.0.{number}/24", f"2001:db8:7::{number}/64"):
                netlink.add_address(DeviceAddress(index, address, prefix_route=True))
            # An IPv6 address is heard at only some time after.
            while netlink.next_hop(ip_address(f"2001:db8:7::{number}")).device == index:
                time.sleep(0.01)
            netlink.close()
        return cls(namespace, device, number, told)

    def address(self, version: int) -> str:
        return f"10.7.0.{self.number}" if version == 4 else f"2001:db8:7::{self.number}"

    def socket(self, version: int, kind: socket.SocketKind) -> socket.socket:
        family = socket.AF_INET if version == 4 else socket.AF_INET6
        with self.namespace.inside():
            made = socket.socket(family, kind)
        made.bind((self.address(version), 0))
        made.setblocking(False)
        return made


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    with Namespace() as left, Namespace() as right:
        made = Host.make(left, 1), Host.make(right, 2)
        yield made
        for host in made:
            host.tun.close()


def as_they_are(packets: Iterable[Packet]) -> list[Packet]:
    return list(packets)


def cut(packets: Iterable[Packet]) -> list[Buffer]:
    """Without any work left to do."""
    whole: list[Buffer] = []
    for packet in packets:
        if not isinstance(packet, Frame):
            whole.append(packet)
        elif packet.header.gso_type:
            whole += segment(packet)
        else:
            whole.append(finished(packet))
    return whole


@dataclass
class Cable:
    """Carries packets between two hosts, and remembers the super-packets' headers, and sizes."""

    ends: tuple[Host, Host]
    change: Change = as_they_are
    seen: list[VnetHeader] = field(default_factory=list)
    octets: list[int] = field(default_factory=list)
    most: int = 0  # packets in one batch

    def carry(self) -> None:
        for here, there in (self.ends, self.ends[::-1]):
            packets = here.tun.read_batch(64)
            self.most = max(self.most, len(packets))
            for packet in packets:
                if isinstance(packet, Frame) and packet.header.gso_type:
                    self.seen.append(packet.header)
                    self.octets.append(len(packet.packet))
            there.tun.write_batch(self.change(packets))

    def until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + SECONDS
        while not done():
            assert time.monotonic() < deadline, "the cable lost something"
            self.carry()


def ready(one: socket.socket) -> bool:
    return bool(select.select([one], [], [], 0)[0])


def stream(
    cable: Cable,
    version: int,
    octets: int,
    sender: socket.socket | None = None,
    when_connected: Callable[[], None] = lambda: None,
) -> None:
    """TCP from the left host, or one behind it, to the right one: what arrives is what was sent."""
    left, right = cable.ends
    data = os.urandom(octets)
    with (
        right.socket(version, socket.SOCK_STREAM) as listener,
        sender or left.socket(version, socket.SOCK_STREAM) as out,
    ):
        listener.listen()
        out.connect_ex(listener.getsockname()[:2])
        cable.until(lambda: ready(listener))
        receiver, _ = listener.accept()
        with receiver:
            when_connected()
            flow = Flow(out, receiver, memoryview(data))
            cable.until(lambda: flow.move() == octets)
    assert flow.received == data


@dataclass
class Flow:
    """Both ends of a TCP connection, never waiting."""

    sender: socket.socket
    receiver: socket.socket
    rest: memoryview
    received: bytearray = field(default_factory=bytearray)

    def move(self) -> int:
        """As much as goes; how much has arrived so far."""
        with suppress(BlockingIOError):
            self.rest = self.rest[self.sender.send(self.rest) :]
        while ready(self.receiver):
            self.received += self.receiver.recv(1 << 20)
        return len(self.received)


def datagrams(cable: Cable, version: int, data: bytes, size: int) -> list[bytes]:
    """UDP from the left host to the right one, given to the kernel in one go; what arrives."""
    left, right = cable.ends
    with right.socket(version, socket.SOCK_DGRAM) as receiver, left.socket(version, socket.SOCK_DGRAM) as out:
        out.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size)
        out.sendto(data, receiver.getsockname()[:2])
        arrived: list[bytes] = []

        def done() -> bool:
            while ready(receiver):
                arrived.append(receiver.recv(1 << 16))
            return sum(map(len, arrived)) >= len(data)

        cable.until(done)
    return arrived


def test_everything_is_offered(hosts: tuple[Host, Host]) -> None:
    """By the kernels that these tests run on."""
    for host in hosts:
        assert host.tun.offloads == EVERYTHING
        assert host.told == []


@pytest.mark.parametrize("change", [as_they_are, cut])
@pytest.mark.parametrize(("version", "kind"), [(4, GSO_TCPV4), (6, GSO_TCPV6)])
def test_tcp_in_super_packets(hosts: tuple[Host, Host], version: int, kind: int, change: Change) -> None:
    """Handed on as they came, and cut up: the kernel takes neither if a checksum is wrong."""
    cable = Cable(hosts, change)
    stream(cable, version, 3_000_000)
    assert {header.gso_type for header in cable.seen} == {kind}
    assert {header.gso_size for header in cable.seen} <= {MTU - 52, MTU - 72}
    assert max(cable.octets) > 40_000
    assert all(host.tun.write_errors == {} for host in hosts)
    assert all(host.told == [] for host in hosts)


@pytest.mark.parametrize("change", [as_they_are, cut])
@pytest.mark.parametrize("version", [4, 6])
def test_udp_in_super_packets(hosts: tuple[Host, Host], version: int, change: Change) -> None:
    cable = Cable(hosts, change)
    data = os.urandom(20 * 1000 + 77)
    arrived = datagrams(cable, version, data, 1000)
    assert [len(datagram) for datagram in arrived] == [1000] * 20 + [77]
    assert b"".join(arrived) == data
    assert [(header.gso_type, header.gso_size) for header in cable.seen] == [(GSO_UDP_L4, 1000)]


@pytest.mark.parametrize("version", [4, 6])
def test_checksums_are_left_to_us(hosts: tuple[Host, Host], version: int) -> None:
    left, right = hosts
    with left.socket(version, socket.SOCK_DGRAM) as out:
        for octets in (0, 1, 100, 1301):
            out.sendto(os.urandom(octets), (right.address(version), 9))
    frames = left.tun.read_batch(64)
    assert len(frames) == 4
    headers = []
    for frame in frames:
        assert isinstance(frame, Frame)
        assert frame.header.flags & NEEDS_CSUM
        right_one = bytes(finished(frame))
        judged = (IP if version == 4 else IPv6)(right_one)
        del judged["UDP"].chksum
        assert bytes(judged) == right_one
        headers.append(frame.header)
    assert all(header is headers[0] for header in headers), "one header for all that are alike"


def test_as_many_super_packets_as_are_worked_on_together(hosts: tuple[Host, Host]) -> None:
    left, right = hosts
    with left.socket(4, socket.SOCK_DGRAM) as out:
        out.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1300)
        for _ in range(TOGETHER + 1):
            out.sendto(bytes(1300 * 45), (right.address(4), 9))
        assert [len(left.tun.read_batch(64)) for _ in range(3)] == [TOGETHER, 1, 0]
        for _ in range(2):
            out.sendto(bytes(1300 * 45), (right.address(4), 9))
        assert [len(left.tun.read_batch(1)) for _ in range(3)] == [1, 1, 0]
        out.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 0)
        for _ in range(100):
            out.sendto(bytes(1300), (right.address(4), 9))
    assert [len(left.tun.read_batch(64)) for _ in range(3)] == [64, 36, 0]


# Limits of the link


def link(host: Host, attribute: str) -> int:
    with host.namespace.inside(), IPRoute() as ip:
        (found,) = ip.get_links(ifname=host.tun.name)
    return int(found.get_attr(attribute))


def test_super_packets_are_no_larger_than_they_should_be(hosts: tuple[Host, Host]) -> None:
    left, _ = hosts
    with left.namespace.inside():
        left.tun.limit_segments(20)
    assert link(left, "IFLA_GSO_MAX_SEGS") == 20
    cable = Cable(hosts)
    stream(cable, 4, 2_000_000)
    assert max(cable.octets) == 20 * (MTU - 52) + 52


def test_super_packets_from_elsewhere_are_not_cut_up_for_long(hosts: tuple[Host, Host]) -> None:
    """The kernel cuts up what was made without regard to the limit, which does more harm than it helps."""
    left, right = hosts
    with left.namespace.inside():
        left.tun.limit_segments(20)
    with Namespace() as behind:
        connect(Port(behind, "lan", "10.8.0.2/24"), Port(left.namespace, "lan", "10.8.0.1/24"))
        behind.add_default_route("10.8.0.1")
        left.namespace.set_sysctl("net/ipv4/ip_forward", "1")
        with right.namespace.inside(), IPRoute() as ip:
            ip.route("add", dst="10.8.0.0/24", gateway="10.7.0.1")
        with behind.inside():
            out = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        out.setblocking(False)
        cable = Cable(hosts)
        with left.namespace.inside():
            stream(cable, 4, 3_000_000, out)
    assert link(left, "IFLA_GSO_MAX_SEGS") == tun.GSO_MAX_SEGS
    assert max(cable.octets) > 20 * MTU
    with left.namespace.inside():
        left.tun.limit_segments(30)
    assert link(left, "IFLA_GSO_MAX_SEGS") == tun.GSO_MAX_SEGS


def test_a_host_sticks_to_its_own_limit(hosts: tuple[Host, Host]) -> None:
    """Even if it sends segments singly, as for a connection from before the limit."""
    left, _ = hosts
    cable = Cable(hosts)
    with left.namespace.inside():
        stream(cable, 4, 2_000_000, when_connected=lambda: left.tun.limit_segments(10))
    assert cable.most >= tun.CUT_SEGMENTS
    assert link(left, "IFLA_GSO_MAX_SEGS") == 10


def test_bursts_find_room(hosts: tuple[Host, Host]) -> None:
    left, right = hosts
    assert link(left, "IFLA_TXQLEN") == tun.QUEUE_PACKETS
    with left.socket(4, socket.SOCK_DGRAM) as out:
        for _ in range(2000):
            out.sendto(bytes(64), (right.address(4), 9))
    read = 0
    while packets := left.tun.read_batch(64):
        read += len(packets)
    assert read == 2000


# Older kernels


def refuse(monkeypatch: pytest.MonkeyPatch, request: int, *features: int) -> None:
    """Have the kernel not know some of an ioctl's features."""

    def ioctl(fd: int, asked: int, value: int | bytes = 0) -> int | bytes:
        if asked == request and (
            not features or (isinstance(value, int) and any(value & f for f in features))
        ):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return fcntl.ioctl(fd, asked, value)

    monkeypatch.setattr(tun, "ioctl", ioctl)


@pytest.mark.parametrize(
    ("missing", "left", "told"),
    [
        ((tun.TUN_F_USO4,), Offload.CHECKSUM | Offload.TSO4 | Offload.TSO6, ["UDP"]),
        ((tun.TUN_F_USO4, tun.TUN_F_TSO4), Offload.NONE, ["UDP", "TCP"]),
        ((), Offload.NONE, ["UDP", "TCP"]),
    ],
    ids=["no USO", "no TSO", "no TUNSETOFFLOAD"],
)
def test_one_step_and_one_line_at_a_time(
    monkeypatch: pytest.MonkeyPatch, missing: tuple[int, ...], left: Offload, told: list[str]
) -> None:
    refuse(monkeypatch, tun.TUNSETOFFLOAD, *missing)
    works_without(left, told)


def test_a_kernel_that_refuses_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_flag(monkeypatch, pytun.IFF_VNET_HDR)
    works_without(Offload.NONE, ["Everything"])


def test_a_kernel_that_overlooks_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flags that a kernel does not know it may ignore; then there is no header to be read."""
    real = pytun.TunTapDevice
    monkeypatch.setattr(
        pytun, "TunTapDevice", lambda name, flags: real(name=name, flags=flags & ~pytun.IFF_VNET_HDR)
    )
    works_without(Offload.NONE, ["Everything"])


def works_without(offloads: Offload, told: list[str]) -> None:
    """What is left is `offloads`, each loss was told in one line, and everything gets across."""
    with Namespace() as one, Namespace() as two:
        hosts = Host.make(one, 1), Host.make(two, 2)
        for host in hosts:
            assert host.tun.offloads == offloads
            assert [line.split()[0] for line in host.told] == told
            with host.namespace.inside():
                host.tun.limit_segments(44)
        for version in (4, 6):
            cable = Cable(hosts)
            stream(cable, version, 300_000)
            assert bool(cable.seen) == (Offload.TSO4 in offloads)
            data = os.urandom(5050)
            assert b"".join(datagrams(Cable(hosts), version, data, 1000)) == data
        for host in hosts:
            assert host.tun.write_errors == {}
            assert len(host.told) == len(told)
            host.tun.close()


def refuse_flag(monkeypatch: pytest.MonkeyPatch, flag: int) -> None:
    real = pytun.TunTapDevice

    def make(name: str, flags: int) -> pytun.TunTapDevice:
        if flags & flag:
            raise pytun.Error(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(name=name, flags=flags)

    monkeypatch.setattr(pytun, "TunTapDevice", make)


@pytest.mark.parametrize(
    ("version", "refused", "kind"),
    [
        (4, GSO_TCPV4, Offload.TSO4),
        (6, GSO_TCPV6, Offload.TSO6),
        (4, GSO_UDP_L4, Offload.USO4),
        (6, GSO_UDP_L4, Offload.USO6),
    ],
)
def test_frames_that_the_kernel_refuses_go_singly_from_then_on(
    hosts: tuple[Host, Host], monkeypatch: pytest.MonkeyPatch, version: int, refused: int, kind: Offload
) -> None:
    def writev(fd: int, parts: list[Buffer]) -> int:
        if VnetHeader.unpack(parts[0]).gso_type == refused:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(fd, parts)

    real = os.writev
    monkeypatch.setattr(os, "writev", writev)
    cable = Cable(hosts)
    if refused == GSO_UDP_L4:
        for _ in range(2):
            data = os.urandom(5050)
            assert b"".join(datagrams(cable, version, data, 1000)) == data
    else:
        stream(cable, version, 500_000)
    assert len(cable.seen) > 1
    _, right = hosts
    assert right.tun.offloads == EVERYTHING & ~kind
    assert [line for line in right.told if str(kind.name) in line] == right.told
    assert len(right.told) == 1
    assert right.tun.write_errors == {}


def test_one_odd_frame_changes_nothing(hosts: tuple[Host, Host]) -> None:
    """The kernel wants the TCP checksum where TCP has it, and has taken such frames before."""
    _, right = hosts
    cable = Cable(hosts)
    stream(cable, 4, 500_000)
    header, octets = cable.seen[0], bytes(5000)
    right.tun.write_batch([Frame(header._replace(csum_offset=6), [octets])])
    assert right.tun.write_errors == {errno.EINVAL: 1}
    assert right.tun.offloads == EVERYTHING
    assert right.told == []


def test_a_link_that_is_down_takes_no_frame_and_no_blame(hosts: tuple[Host, Host]) -> None:
    left, right = hosts
    with right.namespace.inside():
        down = TunDevice("esp%d", MTU, on_limit=right.told.append)
    with left.socket(4, socket.SOCK_DGRAM) as out:
        out.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
        out.sendto(bytes(5000), (right.address(4), 9))
    down.write_batch(left.tun.read_batch(1))
    assert down.write_errors == {errno.EIO: 1}
    assert down.offloads == EVERYTHING
    down.close()


# Several queues


def test_queues_share_the_flows_of_one_device() -> None:
    with Namespace() as namespace, namespace.inside():
        device = TunDevice("esp%d", MTU, queues=True)
        second = device.open_queue()
        adopted = TunQueue(
            second.name, os.dup(second.fileno()), header=second.header, offloads=second.offloads
        )
        second.close()
        device.up()
        netlink = Netlink()
        index = socket.if_nametoindex(device.name)
        netlink.add_address(DeviceAddress(index, "10.7.0.1/24", prefix_route=True))
        netlink.close()
        for number in range(64):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
                for _ in range(3):
                    out.sendto(bytes([number]), ("10.7.0.2", 9))
        by_queue = [[bytes(p)[-1] for p in cut(queue.read_batch(1 << 10))] for queue in (device, adopted)]
        assert device.has_queues
        assert adopted.offloads == EVERYTHING
        assert sorted(by_queue[0] + by_queue[1]) == sorted([*range(64)] * 3)
        assert by_queue[0]
        assert by_queue[1]
        assert not set(by_queue[0]) & set(by_queue[1]), "a flow keeps to its queue"
        adopted.close()
        device.close()


def test_a_kernel_with_one_queue_only(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_flag(monkeypatch, pytun.IFF_MULTI_QUEUE)
    told: list[str] = []
    with Namespace() as namespace, namespace.inside():
        device = TunDevice("esp%d", MTU, queues=True, on_limit=told.append)
        assert not device.has_queues
        assert device.offloads == EVERYTHING
        assert len(told) == 1
        assert "one process" in told[0]
        device.close()
