"""What comes in the clear although a child SA is for it: the kernel drops it, and nothing else."""

import errno
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

import pytest

from espudp.errors import HostError
from espudp.host import guard
from espudp.host.guard import Guard
from espudp.host.netconf import Flow
from espudp.host.netns import Namespace, Port, connect
from espudp.host.nftables import OwnTable
from espudp.wire.selectors import ALL_PORTS, OPAQUE, TrafficSelector
from tests.host.support import ping

pytestmark = pytest.mark.root

MARK = 0x2000_0000
HOST = {4: "192.0.2.1", 6: "2001:db8::1"}
PEER = {4: "192.0.2.7", 6: "2001:db8::7"}
OTHER = {4: "192.0.2.8", 6: "2001:db8::8"}
ANY, TCP, UDP, ICMP = 0, socket.IPPROTO_TCP, socket.IPPROTO_UDP, socket.IPPROTO_ICMP
VERSIONS = [4, 6]


@dataclass
class Pair:
    """A host, and on the same link its peer, who also has an address that is nobody's."""

    host: Namespace
    peer: Namespace

    def is_ready(self) -> bool:
        """Whether the kernel has done with the addresses of IPv6."""
        ends = (self.host, HOST), (self.peer, PEER), (self.peer, OTHER)
        try:
            for namespace, addresses in ends:
                with namespace.inside(), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
                    s.bind((addresses[6], 0))
        except OSError:
            return False
        return True

    def hears(self, version: int, port: int = 0, *, mark: int = 0, **speaker: int) -> bool:
        """Whether a UDP socket of the host gets what the peer sends in the clear; what nobody minds comes
        behind that.
        """
        with self.listens(version, port, mark) as hearer, self.listens(version, 0, mark=MARK) as last:
            self.say(version, hearer.getsockname()[1], **speaker)
            self.say(version, last.getsockname()[1])
            assert select.select([hearer, last], [], [], 5)[0]
            return hearer in select.select([hearer], [], [], 0.1)[0]

    def listens(self, version: int, port: int, mark: int) -> socket.socket:
        with self.host.inside():
            hearer = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        hearer.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        hearer.bind((HOST[version], port))
        return hearer

    def say(self, version: int, port: int, *, octets: int = 100, source: int = 0, other: int = 0) -> None:
        with self.peer.inside():
            speaker = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        with speaker:
            speaker.bind(((OTHER if other else PEER)[version], source))
            speaker.sendto(bytes(octets), (HOST[version], port))

    def accepts(self, port: int) -> bool:
        """Whether the peer can connect to the host by TCP, in the clear."""
        with self.host.inside():
            service = socket.create_server((HOST[4], port))
        with self.peer.inside():
            caller = socket.socket()
        with service, caller:
            caller.settimeout(0.5)
            try:
                caller.connect((HOST[4], port))
            except TimeoutError:
                return False
            return True


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Namespace() as host, Namespace() as peer:
        for namespace in (host, peer):
            namespace.set_sysctl("net/ipv6/conf/default/accept_dad", "0")
        connect(Port(host, "lan", f"{HOST[4]}/24"), Port(peer, "lan", f"{PEER[4]}/24"))
        host.add_address("lan", f"{HOST[6]}/64")
        for address in (f"{PEER[6]}/64", f"{OTHER[4]}/24", f"{OTHER[6]}/64"):
            peer.add_address("lan", address)
        made = Pair(host, peer)
        while not made.is_ready():
            time.sleep(0.01)
        yield made


@pytest.fixture
def guarding(pair: Pair) -> Iterator[Guard]:
    refusals: list[HostError] = []
    guard = Guard("esp0", MARK, refusals.append)
    with pair.host.inside():
        yield guard
    guard.close()
    assert refusals == []


def flow(
    version: int = 4,
    protocol: int = ANY,
    here: tuple[int, int] = ALL_PORTS,
    there: tuple[int, int] = ALL_PORTS,
) -> Flow:
    ours, theirs = ip_address(HOST[version]), ip_address(PEER[version])
    return Flow(
        TrafficSelector(ours, ours, protocol, *here), TrafficSelector(theirs, theirs, protocol, *there)
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_everything_of_the_peer_and_nothing_of_others(pair: Pair, guarding: Guard, version: int) -> None:
    assert pair.hears(version)
    guarding.protect([flow(version)])
    assert not pair.hears(version)
    assert not pair.hears(version, octets=3000)
    assert pair.hears(version, other=1)
    assert pair.hears(version, mark=MARK), "IKE and ESP in UDP"
    assert pair.hears(version, mark=MARK, octets=3000), "in fragments as well"
    assert not pair.hears(version, mark=MARK >> 1)
    guarding.protect([])
    assert pair.hears(version)


def test_protocols_and_ports(pair: Pair, guarding: Guard) -> None:
    guarding.protect([flow(4, UDP, (1701, 1701), (7, 9)), flow(4, TCP, (5000, 5009))])
    for port, source, passes in [
        (1701, 6, True),
        (1701, 7, False),
        (1701, 9, False),
        (1701, 10, True),
        (1702, 7, True),
    ]:
        assert pair.hears(4, port, source=source) == passes, (port, source)
    assert [pair.accepts(port) for port in (4999, 5000, 5009, 5010)] == [True, False, False, True]
    assert ping(pair.peer, HOST[4]) == 1


def test_what_the_filter_does_not_see_is_left_alone(pair: Pair, guarding: Guard) -> None:
    guarding.protect([flow(4, UDP, OPAQUE, OPAQUE), flow(4, ICMP, (0x0800, 0x0800), (0x0800, 0x0800))])
    assert pair.hears(4)
    assert ping(pair.peer, HOST[4]) == 1


def test_neighbours_find_each_other(pair: Pair, guarding: Guard) -> None:
    """As nobody has asked for anybody yet."""
    guarding.protect([flow(6)])
    assert pair.hears(6, other=1)
    assert pair.hears(6, mark=MARK)


@pytest.mark.parametrize("version", VERSIONS)
def test_a_port_that_is_closed_to_all(pair: Pair, guarding: Guard, version: int) -> None:
    guarding.close_port(1701)
    guarding.protect([flow(4, UDP, (1701, 1701))])
    for other in (0, 1):
        assert not pair.hears(version, 1701, other=other)
        assert pair.hears(version, 1702, other=other)
    assert pair.accepts(1701)


def test_flows_come_and_go(pair: Pair, guarding: Guard) -> None:
    one, other, third = (flow(4, UDP, (port, port)) for port in (1001, 1002, 1003))
    for wanted in ([one, other], [other, third], [one, third], []):
        guarding.protect(wanted)
        closed = [not pair.hears(4, port) for port in (1001, 1002, 1003)]
        assert closed == [f in wanted for f in (one, other, third)]


def test_it_ends_with_its_socket(pair: Pair) -> None:
    with pair.host.inside():
        first = OwnTable("espudp-esp0", priority=0)
        with pytest.raises(PermissionError):
            OwnTable("espudp-esp0", priority=0)
        first.close()
        OwnTable("espudp-esp0", priority=0).close()


def test_a_kernel_that_cannot_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> OwnTable:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(guard, "OwnTable", refuse)
    refusals: list[HostError] = []
    guarding = Guard("esp0", MARK, refusals.append)
    guarding.protect([])
    assert refusals == []
    guarding.protect([flow()])
    guarding.close_port(1701)
    guarding.protect([flow(), flow(6)])
    (error,) = refusals
    assert "in the clear is not dropped: nftables: Operation not supported." in str(error)
    assert "firewall" in error.remedy
    guarding.close()
