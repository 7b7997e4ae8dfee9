"""UDP sockets on the loopback interface."""

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from espudp.crypto.rows import MAX_ROWS, MAX_SENT_OCTETS
from espudp.errors import HostError
from espudp.host.ipsocket import BUFFER_OCTETS, OuterSocket, SocketSet
from espudp.host.netns import Namespace, Port, connect
from espudp.host.udp import (
    GSO_OCTETS,
    GSO_SEGMENTS,
    NO_GRO,
    NO_GSO,
    UDP_GRO,
    UDP_SEGMENT,
    UdpSocket,
    open_calling,
    open_listening,
    outlook,
)
from espudp.wire.address import Path, UdpAddress
from espudp.wire.train import TOGETHER, Burst, Train

SO_NO_CHECK = 11
UDP_NO_CHECK6_TX = 101


@pytest.fixture
def pair() -> Iterator[SocketSet]:
    sockets = open_listening(None, [0], mark=0)
    yield sockets
    sockets.close()


def _receive(udp: OuterSocket, limit: int = 64) -> list[Train]:
    assert select.select([udp], [], [], 2)[0]
    return udp.receive(limit)


@pytest.mark.parametrize("local", ["127.0.0.1", "127.0.0.2", "127.1.2.3"])
def test_a_wildcard_socket_knows_and_keeps_the_address_that_it_was_called_by(local: str) -> None:
    udp = UdpSocket("0.0.0.0", 0)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
        caller.settimeout(2)
        caller.bind(("127.0.0.9", 0))
        caller.sendto(b"question", (local, udp.port))
        remote = UdpAddress(*caller.getsockname())
        ((path, datagrams, _),) = _receive(udp)
        assert (path, datagrams) == (Path(UdpAddress(local, udp.port), remote), [b"question"])
        assert udp.send(Train(path, [b"answer"])) == 1
        assert caller.recvfrom(100) == (b"answer", (local, udp.port))
    udp.close()


def test_both_ip_versions_on_one_port() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as caller:
        caller.settimeout(2)
        caller.bind(("::1", 0))
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as finder:
            finder.bind(("::", 0))
            port = finder.getsockname()[1]
        sockets = open_listening(None, [port], mark=0)
        assert [udp.version for udp in sockets.sockets] == [4, 6]
        caller.sendto(b"question", ("::1", port))
        ((path, datagrams, _),) = _receive(sockets.sockets[1])
        assert path.local == UdpAddress("::1", port)
        assert datagrams == [b"question"]
        chosen = sockets.for_path(path)
        assert chosen is sockets.sockets[1]
        assert chosen.send(Train(path, [b"answer"])) == 1
        assert caller.recvfrom(100)[0] == b"answer"
        sockets.close()


def test_consecutive_datagrams_of_a_path_come_as_one_train() -> None:
    udp = UdpSocket("127.0.0.1", 0)
    callers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for who, text in ((0, b"1"), (0, b"2"), (1, b"3"), (1, b""), (0, b"5"), (0, b"6")):
        callers[who].sendto(text, ("127.0.0.1", udp.port))
    trains = _receive(udp, 5)
    assert [train.datagrams for train in trains] == [[b"1", b"2"], [b"3", b""], [b"5"]]
    assert trains[0][0] is trains[2][0]
    assert [train.datagrams for train in _receive(udp)] == [[b"6"]]
    assert udp.receive(5) == []
    for caller in callers:
        caller.close()
    udp.close()


class Ends:
    """Two sockets, and the way from the first to the second."""

    def __init__(self, address: str = "127.0.0.1", other: str = "") -> None:
        self.told: list[str] = []
        self.here = UdpSocket(address, 0, on_limit=self.told.append)
        self.there = UdpSocket(other or address, 0, on_limit=self.told.append)
        self.path = Path(UdpAddress(address, self.here.port), UdpAddress(other or address, self.there.port))

    def __enter__(self) -> "Ends":
        return self

    def __exit__(self, *_: object) -> None:
        self.here.close()
        self.there.close()

    def carry(self, datagrams: list[bytes] | Burst, *, tos: int = 0) -> list[Train]:
        """Send all, receive all."""
        assert self.here.send(Train(self.path, datagrams, tos)) == len(datagrams)
        trains: list[Train] = []
        while sum(len(train.datagrams) for train in trains) < len(datagrams):
            trains += [
                Train(path, got.copy() if isinstance(got, Burst) else got, tos)
                for path, got, tos in _receive(self.there)
            ]
        return trains


def _burst(count: int, size: int, last: int) -> Burst:
    """Every datagram different."""
    data = b"".join(struct.pack("!I", number).ljust(size, b"%d" % (number % 10)) for number in range(count))
    return Burst(data[: size * (count - 1) + last], size)


def _all(trains: Iterable[Train]) -> list[bytes]:
    return [datagram for train in trains for datagram in train.datagrams]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize(
    ("count", "size", "last"), [(2, 100, 100), (45, 1400, 1), (64, 60, 7), (2, 20_000, 9)]
)
def test_a_burst_arrives_as_a_burst(address: str, count: int, size: int, last: int) -> None:
    burst = _burst(count, size, last)
    with Ends(address) as ends:
        (train,) = ends.carry(burst)
        assert isinstance(train.datagrams, Burst)
        assert (train.datagrams.size, train.datagrams.data) == (size, burst.data)
        assert list(train.datagrams) == list(burst)
        assert train.path == Path(ends.path.remote, ends.path.local)
        (again,) = ends.carry(burst)
        assert again.path is train.path
        assert ends.told == []


def test_what_is_sealed_together_is_one_send() -> None:
    assert (MAX_ROWS, MAX_SENT_OCTETS) == (GSO_SEGMENTS, GSO_OCTETS)


def test_more_than_one_call_takes_leaves_in_several() -> None:
    with Ends() as ends:
        for burst, counts in (
            (_burst(150, 100, 50), [64, 64, 22]),
            (_burst(60, 1472, 1472), [GSO_OCTETS // 1472, 60 - GSO_OCTETS // 1472]),
            (_burst(3, 40_000, 1), [3]),  # singly, and received together
        ):
            trains = ends.carry(burst)
            assert _all(trains) == list(burst)
            assert [len(piece) for train in trains for piece in _pieces(train)] == counts


def test_datagrams_of_one_size_leave_together_whatever_holds_them() -> None:
    with Ends() as ends:
        alike = [b"a" * 50, b"b" * 50, b"c" * 49]
        (train,) = ends.carry(alike)
        assert isinstance(train.datagrams, Burst)
        assert list(train.datagrams) == alike
        for others in ([b"a" * 49, b"b" * 50], [b"a" * 9, b"b" * 8, b"c" * 9], [b"", b""], [b"lonely"]):
            trains = ends.carry(others)
            assert [train.datagrams for train in trains] == [others]
        ends.carry(Burst(b"lonely", 6))


def _pieces(train: Train) -> list[Sequence[bytes]]:
    """What came with one call each."""
    burst = train.datagrams
    return [Burst(piece, burst.size) for piece in burst.pieces] if isinstance(burst, Burst) else [burst]


def test_bursts_of_one_flow_are_pieces_of_one() -> None:
    with Ends() as ends:
        full, short = _burst(4, 100, 100), _burst(4, 100, 30)
        for datagrams in (full, full, short, full):
            ends.here.send(Train(ends.path, datagrams))
        first, last = _receive(ends.there), _receive(ends.there)
        assert [[list(piece) for piece in _pieces(train)] for train in first] == [
            [list(full)] * 2 + [list(short)]
        ]
        assert [[list(piece) for piece in _pieces(train)] for train in last] == [[list(full)]]


def test_a_fork_receives_into_memory_of_its_own() -> None:
    with Ends() as ends:
        first, other = _burst(4, 100, 100), _burst(4, 90, 90)
        ends.here.send(Train(ends.path, first))
        (train,) = _receive(ends.there)
        child = os.fork()
        if not child:
            ends.here.send(Train(ends.path, other))
            os._exit(_all(_receive(ends.there)) != list(other))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert list(train.datagrams) == list(first)


def test_not_more_pieces_than_are_worked_on_together() -> None:
    with Ends() as ends:
        full = _burst(4, 100, 100)
        for _ in range(TOGETHER + 1):
            ends.here.send(Train(ends.path, full))
        assert [len(_pieces(train)) for train in _receive(ends.there)] == [TOGETHER]
        assert [len(_pieces(train)) for train in _receive(ends.there)] == [1]


def test_a_burst_ends_before_a_longer_one_another_size_and_another_class() -> None:
    with Ends() as ends:
        burst = _burst(4, 100, 100)
        for other in (_burst(5, 100, 100), _burst(8, 50, 50)):
            ends.here.send(Train(ends.path, burst))
            ends.here.send(Train(ends.path, other))
            assert [list(train.datagrams) for train in _receive(ends.there)] == [list(burst), list(other)]
        for tos in (0, 2):
            ends.here.send(Train(ends.path, burst, tos))
        assert [(train.tos, len(train.datagrams)) for train in _receive(ends.there)] == [(0, 4), (2, 4)]


def test_who_waits_for_one_thing_gets_no_more() -> None:
    with Ends() as ends:
        burst = _burst(4, 100, 100)
        for _ in range(2):
            ends.here.send(Train(ends.path, burst))
        for _ in range(2):
            (train,) = ends.there.receive(1)
            assert list(train.datagrams) == list(burst)


def test_a_burst_of_several_pieces_is_several_sends() -> None:
    with Ends() as ends:
        piece = bytes(_burst(4, 100, 100).data)
        burst = Burst(piece, 100, piece, piece[:330])
        (train,) = ends.carry(burst)
        assert [len(got) for got in _pieces(train)] == [4, 4, 4]
        assert list(train.datagrams) == list(burst)


def test_singles_in_front_of_a_burst_come_first() -> None:
    with Ends() as ends:
        burst = _burst(3, 10, 10)
        for datagrams in ([b"1"], [b"2"], burst, [b"3"]):
            ends.here.send(Train(ends.path, datagrams))
        got = _receive(ends.there)
        assert [list(train.datagrams) for train in got] == [[b"1", b"2"], list(burst), [b"3"]]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_traffic_class_goes_and_comes(address: str) -> None:
    """RFC 6040: all eight bits, ECN included; and datagrams of different ones are kept apart."""
    with Ends(address) as ends:
        for tos in (0, 1, 3, 0xB8, 0xFF):
            for datagrams in ([b"one"], _burst(5, 100, 100)):
                (train,) = ends.carry(datagrams, tos=tos)
                assert (train.tos, list(train.datagrams)) == (tos, list(datagrams))
        for tos in (0, 0, 2, 0):
            ends.here.send(Train(ends.path, [b"%d" % tos], tos))
        got = _receive(ends.there)
        assert [(train.tos, train.datagrams) for train in got] == [
            (0, [b"0", b"0"]),
            (2, [b"2"]),
            (0, [b"0"]),
        ]


class _OldKernel(socket.socket):
    """Refuses what `refused` holds: options of UDP when they are set, UDP_SEGMENT with `code` when used."""

    refused: frozenset[int] = frozenset()
    code = 0
    segmented = 0
    room = 1_000_000

    def setsockopt(self, level: int, option: int, *value: Any) -> None:
        if level == socket.IPPROTO_UDP and option in self.refused:
            raise OSError(errno.ENOPROTOOPT, "Protocol not available")
        super().setsockopt(level, option, *value)

    def sendmsg(self, buffers: Any, ancillary: Any = (), flags: int = 0, address: Any = None) -> int:
        if any(kind == UDP_SEGMENT for _, kind, _ in ancillary):
            type(self).segmented += 1
            if self.code:
                raise OSError(self.code, "refused")
        if self.room <= 0:
            raise BlockingIOError
        type(self).room -= 1
        return super().sendmsg(buffers, ancillary, flags, address)


@pytest.fixture
def old_kernel(monkeypatch: pytest.MonkeyPatch) -> type[_OldKernel]:
    class Kernel(_OldKernel):
        pass

    monkeypatch.setattr(socket, "socket", Kernel)
    return Kernel


def test_without_udp_gro_datagrams_come_singly(old_kernel: type[_OldKernel]) -> None:
    old_kernel.refused = frozenset({UDP_GRO})
    with Ends() as ends:
        ends.told.clear()
        burst = _burst(20, 100, 30)
        trains = ends.carry(burst)
        assert _all(trains) == list(burst)
        assert not any(isinstance(train.datagrams, Burst) for train in trains)
    told: list[str] = []
    UdpSocket("127.0.0.1", 0, on_limit=told.append).close()
    assert told == [NO_GRO]


def test_without_udp_segment_datagrams_leave_singly(old_kernel: type[_OldKernel]) -> None:
    """A kernel that does not know it would ignore it, and send the burst as one datagram."""
    old_kernel.refused = frozenset({UDP_SEGMENT})
    with Ends() as ends:
        assert ends.told == [NO_GSO, NO_GSO]  # one for each socket
        burst = _burst(20, 100, 30)
        assert _all(ends.carry(burst)) == list(burst)
        assert old_kernel.segmented == 0


@pytest.mark.parametrize("code", [errno.EIO, errno.EINVAL])
def test_udp_segment_refused_at_the_first_send_is_given_up(old_kernel: type[_OldKernel], code: int) -> None:
    """EIO: the way out wants to see each datagram (udp_send_skb). EINVAL, and its datagrams do fit."""
    old_kernel.code = code
    with Ends() as ends:
        burst = _burst(20, 100, 30)
        for _ in range(3):
            assert _all(ends.carry(burst)) == list(burst)
        assert ends.told == [NO_GSO]
        assert old_kernel.segmented == 1
        assert not ends.here.errors


def test_what_is_refused_for_another_reason_does_not_end_segmentation(old_kernel: type[_OldKernel]) -> None:
    with Ends() as ends:
        nowhere = Path(ends.path.local, UdpAddress("127.0.0.1", 0))
        assert ends.here.send(Train(nowhere, _burst(4, 100, 100))) == 4
        assert ends.here.errors == {errno.EINVAL: 4}
        old_kernel.code = errno.EPERM
        assert ends.here.send(Train(ends.path, _burst(5, 100, 100))) == 5
        assert ends.here.errors == {errno.EINVAL: 4, errno.EPERM: 5}
        old_kernel.code = 0
        assert isinstance(ends.carry(_burst(4, 100, 100))[0].datagrams, Burst)
        assert ends.told == []


@pytest.mark.parametrize(("room", "done"), [(0, 0), (1, 64), (2, 128), (3, 150)])
def test_a_full_buffer_takes_whole_calls(old_kernel: type[_OldKernel], room: int, done: int) -> None:
    with Ends() as ends:
        old_kernel.room = room
        burst = _burst(150, 100, 50)
        assert ends.here.send(Train(ends.path, burst)) == done
        old_kernel.room = 100
        assert ends.here.send(Train(ends.path, burst[done:])) == 150 - done
        got: list[bytes] = []
        while len(got) < 150:
            got += _all(_receive(ends.there))
        assert got == list(burst)
        assert not ends.here.errors


def _open(address: str, told: list[str]) -> UdpSocket:
    """An IPv6 address may be used only some time after its link has come up."""
    deadline = time.monotonic() + 5
    while True:
        try:
            return UdpSocket(address, 0, on_limit=told.append)
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.02)


@pytest.mark.root
@pytest.mark.parametrize("code", [0, errno.EINVAL, errno.EMSGSIZE])
@pytest.mark.parametrize(("here", "there"), [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")])
def test_datagrams_over_the_mtu_are_fragmented_and_segmentation_goes_on(
    old_kernel: type[_OldKernel], here: str, there: str, code: int
) -> None:
    """The kernel calls it EMSGSIZE now, and called it EINVAL before."""
    with Namespace() as left, Namespace() as right:
        prefix = "/64" if ":" in here else "/24"
        for namespace in (left, right):
            namespace.set_sysctl("net/ipv6/conf/default/accept_dad", "0")
        connect(Port(left, "wan", here + prefix), Port(right, "wan", there + prefix))
        told: list[str] = []
        with left.inside():
            sender = _open(here, told)
        with right.inside():
            receiver = _open(there, told)
        path = Path(UdpAddress(here, sender.port), UdpAddress(there, receiver.port))
        while not select.select([receiver], [], [], 0.2)[0]:  # until the neighbours have found each other
            sender.send(Train(path, [b"hello"]))
        receiver.receive(64)
        old_kernel.code = code
        got: list[bytes] = []
        with left.inside():
            assert sender.send(Train(path, _burst(10, 2000, 1800))) == 10
        while len(got) < 10:
            got += _all(_receive(receiver))
        assert got == list(_burst(10, 2000, 1800))
        old_kernel.code = 0
        assert sender.send(Train(path, _burst(10, 1400, 1400))) == 10
        (train,) = _receive(receiver)
        assert isinstance(train.datagrams, Burst)
        assert told == []
        assert not sender.errors
        sender.close()
        receiver.close()


def test_datagrams_without_checksum_are_accepted(pair: SocketSet) -> None:
    """RFC 3948 section 2.1: the checksum SHOULD be zero, and receivers MUST NOT depend on it."""
    for udp, address, level, option in (
        (pair.sockets[0], "127.0.0.1", socket.SOL_SOCKET, SO_NO_CHECK),
        (pair.sockets[1], "::1", socket.IPPROTO_UDP, UDP_NO_CHECK6_TX),
    ):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as caller:
            caller.setsockopt(level, option, 1)
            caller.sendto(b"unsummed", (address, udp.port))
            assert _receive(udp)[0][1] == [b"unsummed"]


@pytest.mark.root
def test_mark_and_buffers() -> None:
    udp = UdpSocket("127.0.0.1", 0, mark=77)
    copy = socket.socket(fileno=udp.fileno())
    assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == 77
    assert copy.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= BUFFER_OCTETS
    copy.detach()
    udp.close()


@pytest.mark.root
def test_refused_datagrams_are_counted_and_the_next_ones_sent() -> None:
    with Namespace() as empty, empty.inside():
        udp = UdpSocket("0.0.0.0", 0)
        local = UdpAddress("127.0.0.1", udp.port)
        assert udp.send(Train(Path(local, UdpAddress("192.0.2.1", 500)), [b"a", b"b"])) == 2
        assert udp.send(Train(Path(local, UdpAddress("127.0.0.1", 0)), [b"c"])) == 1
        assert udp.send(Train(Path(local, local), [b"too big" * 10_000, b"fits"])) == 2
        assert [train.datagrams for train in _receive(udp)] == [[b"fits"]]
        assert udp.errors == {errno.ENETUNREACH: 2, errno.EINVAL: 1, errno.EMSGSIZE: 1}
        udp.close()


def test_a_closed_port_at_the_peer_does_not_disturb(pair: SocketSet) -> None:
    udp = pair.sockets[0]
    nobody = Path(UdpAddress("127.0.0.1", udp.port), UdpAddress("127.0.0.1", 1))
    for _ in range(5):
        assert udp.send(Train(nobody, [b"anybody?"])) == 1
    assert udp.receive(5) == []
    assert not udp.errors


def test_a_port_in_use_is_named(pair: SocketSet) -> None:
    port = pair.sockets[0].port
    with pytest.raises(HostError, match=f"UDP port {port} is in use on 0.0.0.0") as caught:
        open_listening(None, [port], mark=0)
    assert f"sport = :{port}" in caught.value.remedy


def test_an_address_of_others() -> None:
    with pytest.raises(HostError, match="Cannot assign requested address") as caught:
        open_listening("192.0.2.1", [0], mark=0)
    assert "address of this host" in caught.value.remedy


def test_an_initiator_takes_other_ports_where_the_usual_ones_are_taken(pair: SocketSet) -> None:
    taken = pair.sockets[0].port
    calling = open_calling("127.0.0.1", taken, taken, mark=0)
    natt, plain = calling.natt[4].port, calling.plain[4].port
    assert len({taken, natt, plain}) == 3
    calling.all.close()
    calling = open_calling("127.0.0.1", natt, None, mark=0)
    assert (calling.natt[4].port, calling.plain) == (natt, {})
    calling.all.close()


def test_a_path_without_a_socket(pair: SocketSet) -> None:
    assert pair.for_path(Path(UdpAddress("127.0.0.1", 1), UdpAddress("127.0.0.1", 2))) is None


def test_outlook_says_address_and_mtu() -> None:
    with open("/sys/class/net/lo/mtu") as file:
        mtu = int(file.read())
    # An IPv4 packet ends at 65,535 octets, whatever the interface says.
    assert outlook("127.0.0.5") == outlook("127.0.0.5", bind="127.0.0.1")
    assert outlook("127.0.0.5").local_ip == "127.0.0.1"
    assert outlook("127.0.0.5").mtu == min(mtu, 65535)
    assert outlook("::1").local_ip == "::1"


@pytest.mark.root
def test_no_way_to_the_peer() -> None:
    with Namespace() as empty, empty.inside(), pytest.raises(HostError, match=r"no way to 192\.0\.2\.1"):
        outlook("192.0.2.1")
