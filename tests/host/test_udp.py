"""UDP sockets on the loopback interface."""

import errno
import select
import socket
from collections.abc import Iterator

import pytest

from espudp.errors import HostError
from espudp.host.netns import Namespace
from espudp.host.udp import (
    BUFFER_OCTETS,
    SocketSet,
    UdpSocket,
    open_calling,
    open_listening,
    outlook,
)
from espudp.wire.address import Path, UdpAddress
from espudp.wire.train import Train

SO_NO_CHECK = 11
UDP_NO_CHECK6_TX = 101


@pytest.fixture
def pair() -> Iterator[SocketSet]:
    sockets = open_listening(None, [0], mark=0)
    yield sockets
    sockets.close()


def _receive(udp: UdpSocket, limit: int = 64) -> list[Train]:
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
