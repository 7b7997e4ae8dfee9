"""ESP without UDP, on the raw sockets of a real kernel."""

import errno
import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from random import Random

import pytest

from espudp.errors import HostError
from espudp.host import batched
from espudp.host.ipsocket import BUFFER_OCTETS, SocketSet
from espudp.host.netns import Namespace
from espudp.host.rawesp import RawEspSocket, open_raw
from espudp.wire.address import Path, UdpAddress
from espudp.wire.train import Burst, Train

pytestmark = pytest.mark.root

LOOPBACK = ["127.0.0.1", "::1"]


@pytest.fixture(autouse=True)
def namespace() -> Iterator[Namespace]:
    """Raw sockets see what any other test sends."""
    with Namespace() as made, made.inside():
        yield made


def esp(spi: int, octets: int = 60) -> bytes:
    return struct.pack("!II", spi, 1) + os.urandom(octets)


def path(local: str, remote: str) -> Path:
    return Path(UdpAddress(local, 0), UdpAddress(remote, 0))


def receive(raw: RawEspSocket, limit: int = 64) -> list[Train]:
    assert select.select([raw], [], [], 2)[0]
    return raw.receive(limit)


@pytest.mark.parametrize(
    ("wildcard", "here", "there"), [("0.0.0.0", "127.0.0.1", "127.0.0.9"), ("::", "::1", "::1")]
)
def test_packets_come_without_their_header_by_the_path_that_they_took(
    wildcard: str, here: str, there: str
) -> None:
    sender, receiver = RawEspSocket(here), RawEspSocket(there)
    everything = RawEspSocket(wildcard)
    packets = [esp(0x1000), esp(0x1001, 9), esp(0x1002, 1400)]
    assert sender.send(Train(path(here, there), packets, 0xBA)) == 3
    for raw in (receiver, everything):
        assert receive(raw) == [Train(path(there, here), packets, 0xBA)]
        assert raw.receive(64) == []
    first = receiver
    assert first.send(Train(path(there, here), [packets[0]])) == 1
    assert receive(sender)[-1] == Train(path(here, there), [packets[0]], 0)
    for raw in (sender, receiver, everything):
        raw.close()


@pytest.mark.parametrize("ip", LOOPBACK)
def test_a_traffic_class_begins_a_train_and_a_limit_ends_one(ip: str) -> None:
    raw = RawEspSocket(ip)
    packets = [esp(number) for number in range(0x100, 0x106)]
    for tos, some in ((0, packets[:2]), (3, packets[2:3]), (0, packets[3:])):
        assert raw.send(Train(path(ip, ip), some, tos)) == len(some)
    assert [(train.tos, train.datagrams) for train in receive(raw, 4)] == [
        (0, packets[:2]),
        (3, packets[2:3]),
        (0, packets[3:4]),
    ]
    (rest,) = raw.receive(64)
    assert list(rest.datagrams) == packets[4:]
    assert rest.path is raw.receive(64)[0].path if raw.send(Train(rest.path, packets[:1])) else False
    raw.close()


@pytest.mark.parametrize("ip", LOOPBACK)
def test_a_burst_leaves_packet_by_packet_and_a_large_one_in_fragments(ip: str) -> None:
    raw = RawEspSocket(ip)
    data = b"".join(esp(0x1000, 1000) for _ in range(3))
    assert raw.send(Train(path(ip, ip), Burst(data, 1008))) == 3
    assert [train.datagrams for train in receive(raw)] == [[data[:1008], data[1008:2016], data[2016:]]]
    large = esp(0x1000, 65_000)
    assert raw.send(Train(path(ip, ip), [large, bytes(70_000), large])) == 3
    assert [train.datagrams for train in receive(raw)] == [[large, large]]
    assert raw.errors == {errno.EMSGSIZE: 1}
    raw.close()


@pytest.mark.parametrize("ip", LOOPBACK)
@pytest.mark.parametrize("count", [2, 3, 64])
def test_each_worker_gets_what_is_its_own_and_no_other_does(ip: str, count: int) -> None:
    with ExitStack() as stack:
        sender = stack.enter_context(
            socket.socket(
                socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ESP
            )
        )
        first = RawEspSocket(ip)
        group = [first, *(first.sibling() for _ in range(1, count))]
        for number, raw in enumerate(group):
            stack.callback(raw.close)
            raw.keep_share(number, count)
        for spi in (0x100, 0x101, 0x102, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, *range(0x5000, 0x5000 + count)):
            packet = esp(spi)
            sender.sendto(packet, (ip, 0))
            got = [(number, raw.receive(8)) for number, raw in enumerate(group)]
            assert [(n, train.datagrams) for n, trains in got for train in trains] == [
                (spi % count, [packet])
            ]
        sender.sendto(b"\1\2\3", (ip, 0))
        assert not any(raw.receive(8) for raw in group)


def test_the_header_of_ipv4_may_have_options() -> None:
    raw = RawEspSocket("127.0.0.1")
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ESP) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"\x94\x04\0\0")  # RFC 2113: router alert
        packet = esp(0x1000)
        sender.sendto(packet, ("127.0.0.1", 0))
    assert receive(raw) == [Train(path("127.0.0.1", "127.0.0.1"), [packet])]
    raw.close()


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x45",
        bytes(28),
        bytes.fromhex("6500001c00000000403200007f0000017f000001") + bytes(8),
        bytes.fromhex("4400001c00000000403200007f0000017f000001") + bytes(8),
        bytes.fromhex("4f00001c00000000403200007f0000017f000001") + bytes(8),
        bytes.fromhex("4500001d00000000403200007f0000017f000001") + bytes(8),
        bytes.fromhex("4500001c00000000401100007f0000017f000001") + bytes(8),
    ],
)
def test_headers_that_cannot_be_are_counted(octets: bytes) -> None:
    """No kernel hands them out; so they come by another kind of socket."""
    theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with theirs:
        raw = RawEspSocket("127.0.0.1", inherited=ours.detach())
        good = bytes.fromhex("4500001c00000000403200007f0000017f000001") + esp(7, 0)
        for packet in (octets, good):
            theirs.send(packet)
        os.set_blocking(raw.fileno(), False)
        assert [train.datagrams for train in raw.receive(8)] == [[good[20:]]]
        assert raw.malformed == 1
        raw.close()


def test_mark_room_and_a_socket_that_is_inherited() -> None:
    raw = RawEspSocket("0.0.0.0", mark=77)
    copy = socket.socket(fileno=raw.fileno())
    assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == 77
    assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= BUFFER_OCTETS
    copy.detach()
    heir = RawEspSocket("0.0.0.0", mark=77, inherited=os.dup(raw.fileno()))
    packet = esp(9)
    assert heir.send(Train(path("127.0.0.1", "127.0.0.3"), [packet])) == 1
    assert receive(raw)[0].datagrams == [packet]
    for s in (raw, heir):
        s.close()


def test_what_is_refused_is_counted_and_the_next_one_sent() -> None:
    raw = RawEspSocket("0.0.0.0")
    assert raw.send(Train(path("127.0.0.1", "192.0.2.1"), [esp(1), esp(2)])) == 2
    assert raw.errors == {errno.ENETUNREACH: 2}
    assert raw.send(Train(path("127.0.0.1", "127.0.0.1"), [esp(3)])) == 1
    assert len(receive(raw)) == 1
    raw.close()


def test_a_full_buffer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    room = [2, 0]

    def call(*_: object) -> int:
        went = room.pop(0)
        if not went:
            raise BlockingIOError
        return went

    monkeypatch.setattr(batched, "_call", call)
    raw = RawEspSocket("127.0.0.1")
    assert raw.send(Train(path("127.0.0.1", "127.0.0.1"), [esp(n) for n in range(5)])) == 2
    data = b"".join(esp(n) for n in range(3))
    room[:] = [3, 1, 0]
    assert raw.send(Train(path("127.0.0.1", "127.0.0.1"), Burst(data, 68, data, data))) == 4
    assert not raw.errors
    raw.close()


@pytest.mark.parametrize("ip", LOOPBACK)
def test_packets_of_one_size_become_a_burst(ip: str) -> None:
    raw = RawEspSocket(ip)
    for octets in (1400, 1400, 100, 9000, 9000):
        for last in (octets, octets - 1, 1):
            packets = [esp(0x1000, octets) for _ in range(9)] + [esp(0x1000, octets)[: last + 8]]
            assert raw.send(Train(path(ip, ip), packets)) == 10
            (train,) = receive(raw)
            assert list(train.datagrams) == packets
        assert isinstance(train.datagrams, Burst)
    raw.close()


@pytest.mark.parametrize("ip", LOOPBACK)
def test_packets_of_all_sizes_in_any_order(ip: str) -> None:
    raw = RawEspSocket(ip)
    random = Random(ip)
    for _ in range(30):
        packets = [esp(0x1000, random.choice((0, 1, 60, 1392, 1392, 1400, 8000))) for _ in range(100)]
        assert raw.send(Train(path(ip, ip), packets)) == 100
        got: list[bytes] = []
        while len(got) < 100:
            for train in receive(raw):
                got += train.datagrams
        assert got == packets
    assert not raw.errors
    raw.close()


def test_both_versions_are_opened_and_found_by_their_paths() -> None:
    sockets = SocketSet(open_raw(None, mark=0))
    assert [s.version for s in sockets.sockets] == [4, 6]
    assert sockets.ports == []
    for local, remote, version in (("127.0.0.1", "127.0.0.2", 4), ("::1", "::1", 6)):
        found = sockets.for_path(path(local, remote))
        assert found is not None
        assert found.version == version
    sockets.close()
    (only,) = open_raw("::1", mark=0)
    assert only.version == 6
    only.close()


def test_without_the_privilege_a_person_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with pytest.raises(HostError, match="Cannot assign requested address"):
        open_raw("192.0.2.1", mark=0)
    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(HostError, match="without UDP: Operation not permitted") as caught:
        open_raw(None, mark=0)
    assert "CAP_NET_RAW" in caught.value.remedy
