"""Several processes for one peer: the kernel's part, theirs, and what a user sees of it."""

import asyncio
import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from espudp.esp.events import Event, PeerMoved, SoftExpired
from espudp.esp.messages import Ask, Astray, Incoming, Outgoing
from espudp.host.inbox import Inbox, Outboxes, open_inboxes
from espudp.host.link import Limit, Link, Ready, Setup
from espudp.host.netns import Namespace, Port, connect
from espudp.host.steering import attach, detach, steer
from espudp.host.tun import TunDevice
from espudp.host.udp import UdpSocket
from espudp.host.worker import MOVES_SECONDS, Moves
from espudp.wire.address import Path as UdpPath
from espudp.wire.address import UdpAddress
from espudp.wire.train import Burst
from espudp.wire.vnet import GSO_TCPV4, NEEDS_CSUM, Frame, Offload, VnetHeader
from tests.host.support import Network, Peer, ping, state, transfer

PATH = UdpPath(UdpAddress("192.0.2.1", 4500), UdpAddress("2001:db8::9", 61000))
SECONDS = 30.0


# What a worker tells


def test_a_peer_that_never_stays_is_told_of_now_and_then() -> None:
    told: list[Event] = []

    async def flit() -> None:
        moves = Moves(told.append)
        for port in range(1000):
            for connection in (1, 2):
                there = PATH._replace(remote=UdpAddress("2001:db8::9", port))
                moves.tell(PeerMoved(connection, there))
        moves.tell(SoftExpired(1, 0x1000))
        assert len(told) == 2  # the first of them, and what cannot wait
        await asyncio.sleep(3 * MOVES_SECONDS)
        assert [event.path.remote.port for event in told if isinstance(event, PeerMoved)] == [0, 999, 999]
        moves.tell(PeerMoved(1, PATH))
        assert told[-1] == PeerMoved(1, PATH)

    asyncio.run(flit())


# What the kernel does


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("count", [2, 3, 64])
def test_datagrams_land_by_their_spi(ip: str, count: int) -> None:
    with ExitStack() as stack:
        first = UdpSocket(ip, 0)
        stack.callback(first.close)
        group = [first]
        for _ in range(1, count):
            group.append(first.sibling())
            stack.callback(group[-1].close)
        with socket.socket(fileno=os.dup(first.fileno())) as any_of_them:
            steer(any_of_them, count)
        sender = stack.enter_context(
            socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_DGRAM)
        )
        for spi in (0x100, 0x101, 0x102, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, *range(0x5000, 0x5000 + count)):
            assert _receivers(group, sender, struct.pack("!II", spi, 1) + bytes(60)) == [spi % count]
        ike, keepalive = bytes(4) + bytes(28), b"\xff"
        for datagram in (ike, keepalive, b"", b"\1\1\1"):
            assert _receivers(group, sender, datagram) == [0]


def _receivers(group: list[UdpSocket], sender: socket.socket, datagram: bytes) -> list[int]:
    sender.sendto(datagram, (group[0].ip, group[0].port))
    found = [(number, udp.receive(8)) for number, udp in enumerate(group)]
    assert [train.datagrams for _, trains in found for train in trains] == [[datagram]]
    return [number for number, trains in found if trains]


def test_a_shared_port_is_still_refused_to_others_and_by_others() -> None:
    with ExitStack() as stack:
        first = UdpSocket("127.0.0.1", 0)
        stack.callback(first.close)
        stack.callback(first.sibling().close)
        with pytest.raises(OSError, match="in use"):
            UdpSocket("127.0.0.1", first.port)


def test_a_socket_can_be_inherited() -> None:
    with ExitStack() as stack:
        first = UdpSocket("::1", 0)
        stack.callback(first.close)
        heir = UdpSocket(first.ip, first.port, inherited=os.dup(first.fileno()))
        stack.callback(heir.close)
        sender = stack.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        sender.sendto(b"for both", ("::1", heir.port))
        ((_, datagrams, _),) = heir.receive(8)
        assert datagrams == [b"for both"]
        assert first.receive(8) == []


@pytest.mark.root
@pytest.mark.tun
def test_a_queue_takes_part_while_it_is_attached() -> None:
    with Namespace() as namespace, namespace.inside(), ExitStack() as stack:
        device = TunDevice("esp0", 1400, queues=True)
        stack.callback(device.close)
        further = device.open_queue()
        stack.callback(further.close)
        device.up()
        namespace.add_address("esp0", "10.9.0.1/24")

        def packets() -> list[int]:
            """Of forty flows, how many each of the two gets."""
            for _ in range(40):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                    sender.sendto(b"x", ("10.9.0.2", 9))
            return [len(queue.read_batch(64)) for queue in (device, further)]

        device.read_batch(64)
        assert min(packets()) > 0
        detach(further.fileno())
        assert packets() == [40, 0]
        attach(further.fileno())
        assert min(packets()) > 0


# What goes from worker to worker

LONG = [bytes(1400)] * 46
FRAME = Frame(VnetHeader(NEEDS_CSUM, GSO_TCPV4, 40, 1400, 20, 16), [b"head", memoryview(b"and the rest")])


@pytest.fixture
def boxes() -> Iterator[tuple[Inbox, Outboxes]]:
    pairs = open_inboxes(2)
    yield Inbox(pairs[1][0]), Outboxes({1: pairs[1][1]})
    for pair in pairs:
        for end in pair:
            end.close()


@pytest.mark.parametrize(
    ("astray", "arrives"),
    [
        (Outgoing(b"a packet"), [Outgoing(b"a packet")]),
        (Outgoing(bytearray(65535)), [Outgoing(bytes(65535))]),
        (Outgoing(FRAME), [Outgoing(Frame(FRAME.header, (b"headand the rest",)))]),
        (Incoming([b"1", b"22"], PATH, 3), [Incoming([b"1"], PATH, 3), Incoming([b"22"], PATH, 3)]),
        (Incoming([b"four", b"4"], PATH, 0), [Incoming([b"four", b"4"], PATH, 0)]),
        (Incoming(Burst(b"aaabbbc", 3), PATH, 1), [Incoming([b"aaa", b"bbb", b"c"], PATH, 1)]),
        (Incoming(Burst(bytes(65450), 1400), PATH, 1), [Incoming([*LONG, bytes(1050)], PATH, 1)]),
        (
            Incoming(Burst(b"aaabbb", 3, b"ccc"), PATH, 1),
            [Incoming([b"aaa", b"bbb"], PATH, 1), Incoming([b"ccc"], PATH, 1)],
        ),
    ],
)  # fmt: skip
def test_what_is_handed_over_arrives(
    boxes: tuple[Inbox, Outboxes], astray: Astray, arrives: list[Astray]
) -> None:
    inbox, outboxes = boxes
    assert outboxes.hand_over(1, astray)
    assert [_plain(item) for item in inbox.read()] == arrives
    assert list(inbox.read()) == []


def _plain(item: Astray) -> Astray:
    """Without borrowed memory."""
    if isinstance(item, Incoming):
        return Incoming(list(item.datagrams), item.path, item.tos)
    packet = item.packet
    return Outgoing(Frame(packet.header, (packet.packet,)) if isinstance(packet, Frame) else bytes(packet))


def test_an_inbox_that_nobody_reads_is_full_at_some_point(boxes: tuple[Inbox, Outboxes]) -> None:
    inbox, outboxes = boxes
    taken = 0
    while outboxes.hand_over(1, Outgoing(bytes(1400))):
        taken += 1
        assert taken < 100_000
    assert taken > 100
    assert len(list(inbox.read())) == 64
    assert outboxes.hand_over(1, Outgoing(b"again"))


def test_a_link_carries_objects_until_one_end_hangs_up() -> None:
    async def talk() -> list[Any]:
        ours, theirs = socket.socketpair()
        one, other = Link(ours), Link(theirs)
        setup = Setup(1, 2, (("::", 4500, 7),), 5, "esp0", 8, 6, True, Offload.TSO4, 9, {0: 10}, None)
        for message in (setup, Ask()):
            one.send(message)
        said = [await other.receive(), await other.receive()]
        one.hang_up()
        said.append(await other.receive())
        other.send(Ask())  # to nobody
        other.hang_up()
        assert setup.descriptors == (7, 8, 6, 9, 10)
        return [message == sent for message, sent in zip(said, (setup, Ask(), None), strict=True)]

    assert asyncio.run(talk()) == [True, True, True]


def test_what_is_said_can_be_taken_without_a_turn_of_the_loop() -> None:
    async def talk() -> None:
        ours, theirs = socket.socketpair()
        one, other = Link(ours), Link(theirs)
        assert other.take() is None
        one.send(Ready())
        one.send(Limit("x"))
        assert [other.take(), other.take(), other.take()] == [Ready(), Limit("x"), None]
        assert not other.is_down
        one.send(Ready())
        one.hang_up()
        assert [other.take(), other.take()] == [Ready(), None]
        assert other.is_down
        other.hang_up()

    asyncio.run(talk())


def test_what_finds_no_room_in_the_kernel_arrives_in_order() -> None:
    async def talk() -> None:
        ours, theirs = socket.socketpair()
        one, other = Link(ours), Link(theirs)
        said = [Limit(str(number) * 10_000) for number in range(200)]
        for message in said:
            one.send(message)
        assert [await other.receive() for _ in said] == said
        one.hang_up()
        assert await other.receive() is None
        other.hang_up()

    asyncio.run(talk())


# Peers as processes


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    with Network.make(tmp_path) as made:
        yield made


def sharing(count: int) -> dict[str, Any]:
    return {"host_options": {"workers": count}}


def until(what: Any, seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def carried_by(peer: Peer) -> list[int]:
    """Packets that each worker has carried, both ways."""
    return [sum(worker["packets"].values()) for worker in peer.ask("status")["workers"]]


def pairs(peer: Peer) -> list[int]:
    return [worker["pairs"] for worker in peer.ask("status")["workers"]]


def pids(peer: Peer, count: int) -> list[int]:
    """Of its processes, when so many have come up."""
    found: list[int] = []

    def are_up() -> bool:
        workers = peer.ask("status")["workers"]
        found[:] = [worker["pid"] for worker in workers if not worker["silent"]]
        return len(found) == count

    until(are_up)
    return found


def active(peer: Peer) -> set[int]:
    return {sa["spi"] for sa in peer.ask("status")["tunnel"]["sas"] if sa["state"] == "active"}


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


both = pytest.mark.parametrize(("here", "there"), [(2, 2), (1, 2), (2, 1), (3, 2)])


@pytest.mark.root
@pytest.mark.tun
@both
def test_peers_with_workers_carry_traffic_both_ways(network: Network, here: int, there: int) -> None:
    before = state(network.client), state(network.server)
    server, client = network.listen(**sharing(there)), network.connect(**sharing(here))
    both_have = min(here, there)
    until(lambda: sum(pairs(server)) == sum(pairs(client)) >= both_have)
    assert ping(network.client, "10.99.0.1", tries=5) == 5
    assert ping(network.server, "10.99.0.2", octets=3000, tries=2) == 2
    data = os.urandom(1 << 20)
    for _ in range(4):  # flows, which the kernel spreads
        assert transfer(network.client, network.server, "10.99.0.1", data) == data
        assert transfer(network.server, network.client, "10.99.0.2", data) == data
    for peer, count in ((client, here), (server, there)):
        status = peer.ask("status")
        assert [worker["worker"] for worker in status["workers"]] == list(range(count))
        assert len({worker["pid"] for worker in status["workers"]}) == count
        assert status["tunnel"]["drops"] == {}
        assert status["send_errors"] == status["tun_errors"] == status["send_drops"] == {}
    assert (client.stop(), server.stop()) == (0, 0)
    assert (state(network.client), state(network.server)) == before
    assert [*client.runtime.iterdir(), *server.runtime.iterdir()] == []


@pytest.mark.root
@pytest.mark.tun
def test_flows_to_one_peer_use_the_child_sas_of_both_workers(network: Network) -> None:
    server, client = network.listen(**sharing(2)), network.connect(**sharing(2))
    until(lambda: pairs(server) == pairs(client) == [1, 1])

    def both_carry() -> bool:
        assert transfer(network.client, network.server, "10.99.0.1", bytes(100_000)) == bytes(100_000)
        return min(*carried_by(client), *carried_by(server)) > 50

    until(both_carry, 20)  # a flow is as likely to be the one's as the other's
    assert sum(worker["handed_over"] for worker in client.ask("status")["workers"]) == 0


@pytest.mark.root
@pytest.mark.tun
def test_no_flow_is_reordered(network: Network) -> None:
    server, client = network.listen(**sharing(4)), network.connect(**sharing(4))
    until(lambda: pairs(server) == pairs(client) == [1, 1, 1, 1])
    data = bytes(4 << 20)
    with ThreadPoolExecutor() as pool:
        there = network.client, network.server, "10.99.0.1"
        back = network.server, network.client, "10.99.0.2"
        flows = [pool.submit(transfer, *ends, data) for ends in 4 * (there, back)]
        assert all(flow.result() == data for flow in flows)
    assert sum(carried > 100 for carried in carried_by(server)) > 1
    assert out_of_order(network.client) == out_of_order(network.server) == 0


def out_of_order(namespace: Namespace) -> int:
    """TCP segments that came before others of their flow that were sent before them."""
    with namespace.inside():
        names, values = Path("/proc/thread-self/net/netstat").read_text().splitlines()[:2]
    return int(dict(zip(names.split(), values.split(), strict=True))["TCPOFOQueue"])


@pytest.mark.root
@pytest.mark.tun
@both
def test_rekeys_lose_no_packet(network: Network, here: int, there: int) -> None:
    server, client = network.listen(**sharing(there)), network.connect(**sharing(here))
    until(lambda: sum(pairs(server)) == sum(pairs(client)) >= min(here, there))
    for peer in (client, server):
        for what in ("child", "ike"):
            client.ask("check-alive")  # so that the server knows at once that the client has all child SAs
            before = {sa["spi"] for sa in client.ask("status")["tunnel"]["sas"]}
            assert peer.ask("rekey", what=what) == {"connections": [1]}
            assert ping(network.client, "10.99.0.1", tries=20) == 20
            if what == "child":
                until(lambda: active(client) and not active(client) & before)  # noqa: B023
    assert client.ask("check-alive") == {"connections": [1]}


@pytest.mark.root
@pytest.mark.tun
def test_clients_are_spread_over_the_workers(network: Network) -> None:
    server = network.listen(**sharing(2))
    first = network.connect()
    with Namespace() as elsewhere:
        connect(Port(elsewhere, "wan", "192.168.78.2/24"), Port(network.router, "r2", "192.168.78.1/24"))
        elsewhere.add_default_route("192.168.78.1")
        second = Peer.start(
            network, elsewhere, "second", {"mode": "connect", "host": "203.0.113.7", "identity": "@second"}
        )
        second.wait_for("Connected to")
        until(lambda: pairs(server) == [1, 1])
        assert ping(network.client, "10.99.0.1", tries=3) == 3
        assert ping(elsewhere, "10.99.0.1", tries=3) == 3
        assert ping(elsewhere, "10.99.0.2", tries=3) == 3  # from client to client, from worker to worker
        assert min(carried_by(server)) >= 6
        assert server.ask("status")["tunnel"]["drops"] == {}
        assert (second.stop(), first.stop(), server.stop()) == (0, 0, 0)


@pytest.mark.root
@pytest.mark.tun
@pytest.mark.parametrize("victim", ["client", "server"])
def test_a_worker_that_dies_is_replaced_and_its_keys_made_anew(network: Network, victim: str) -> None:
    server, client = (
        network.listen(**sharing(2), worker_life=0.0),
        network.connect(**sharing(2), worker_life=0.0),
    )
    until(lambda: pairs(server) == pairs(client) == [1, 1])
    client.ask("check-alive")  # so that the server knows at once that the client has the newest child SA
    peer = {"client": client, "server": server}[victim]
    workers = peer.ask("status")["workers"]
    lost = {sa["spi"] for sa in peer.ask("status")["tunnel"]["sas"] if sa["pair"] % 2 == 1}
    os.kill(workers[1]["pid"], signal.SIGKILL)
    peer.wait_for("warning: Worker 1 ended with code -9; its keys are made anew. | Please report it.")
    until(lambda: len(active(server)) == len(active(client)) == 4 and not active(peer) & lost)
    assert pids(peer, 2)[1] != workers[1]["pid"]
    for _ in range(4):
        assert transfer(network.client, network.server, "10.99.0.1", bytes(100_000)) == bytes(100_000)
    assert (client.stop(), server.stop()) == (0, 0)


@pytest.mark.root
@pytest.mark.tun
def test_a_worker_that_does_not_answer_is_shown_as_silent(network: Network) -> None:
    server = network.listen(**sharing(2))
    pid = pids(server, 2)[1]
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: not is_scheduled(pid))
        workers = server.ask("status")["workers"]
        assert [(worker["pid"], worker["silent"]) for worker in workers] == [
            (server.process.pid, False),
            (pid, True),
        ]
    finally:
        os.kill(pid, signal.SIGCONT)
    assert pids(server, 2)[1] == pid
    assert server.stop() == 0


def is_scheduled(pid: int) -> bool:
    """Whether the process is neither stopped nor gone."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "TZ"


@pytest.mark.root
@pytest.mark.tun
def test_what_comes_before_the_command_that_it_follows_from_is_not_lost(network: Network) -> None:
    """A worker finds datagrams for a new SA, packets to send through it, and the SA itself, all at once."""
    server = network.listen(**sharing(2))
    pid = pids(server, 2)[1]
    os.kill(pid, signal.SIGSTOP)
    try:
        client = network.connect(**sharing(2))
        until(lambda: pairs(client) == [1, 1])
        with ThreadPoolExecutor() as pool:
            ends = network.client, network.server, "10.99.0.1"
            flows = [pool.submit(transfer, *ends, bytes(100_000)) for _ in range(8)]
            time.sleep(0.5)
            os.kill(pid, signal.SIGCONT)
            assert all(flow.result() == bytes(100_000) for flow in flows)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert min(carried_by(server)) > 50
    assert server.ask("status")["tunnel"]["drops"] == {}
    assert (client.stop(), server.stop()) == (0, 0)


@pytest.mark.root
@pytest.mark.tun
def test_a_worker_that_dies_at_once_ends_the_session(network: Network) -> None:
    before = state(network.server)
    server = network.listen(**sharing(2))
    os.kill(pids(server, 2)[1], signal.SIGKILL)
    assert server.end() == 1
    assert "error: Worker 1 ended with code -9. | Start again with --workers 1." in server.output
    assert state(network.server) == before


@pytest.mark.root
@pytest.mark.tun
def test_workers_that_cannot_be_started_leave_nothing_behind(network: Network) -> None:
    before = state(network.server)
    options = {"mode": "listen", "missing": "interpreter", **sharing(2)}
    server = Peer.start(network, network.server, "server", options)
    assert server.end() == 1
    said = "error: Worker 1 could not be started: No such file or directory."
    assert f"{said} | Start again with fewer --workers." in server.output
    assert state(network.server) == before
    assert list(server.runtime.iterdir()) == []


@pytest.mark.root
@pytest.mark.tun
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_the_first(network: Network, number: signal.Signals) -> None:
    server = network.listen(**sharing(3))
    processes = pids(server, 3)
    assert processes[0] == server.process.pid
    for pid in processes[1:]:
        os.kill(pid, signal.SIGTERM)  # to all, as a service manager does: the first one decides
        os.kill(pid, signal.SIGINT)
    assert ping(network.server, "10.99.0.1") == 1
    assert all(map(is_running, processes))
    server.process.send_signal(number)
    server.process.wait(SECONDS)
    until(lambda: not any(map(is_running, processes)))
    until(lambda: "esp0" not in state(network.server)["links"])


@pytest.mark.root
@pytest.mark.tun
@pytest.mark.parametrize("missing", ["steering", "queues"])
def test_a_kernel_that_lacks_something_leaves_the_work_to_one_process(network: Network, missing: str) -> None:
    server = network.listen(**sharing(2), missing=missing)
    line = {
        "steering": "The work stays with one process:",
        "queues": "one queue only: the work stays with one process",
    }
    assert server.output.count(line[missing]) == 1
    client = network.connect(**sharing(2))
    assert ping(network.client, "10.99.0.1", tries=3) == 3
    assert len(server.ask("status")["workers"]) == 1
    assert (client.stop(), server.stop()) == (0, 0)


@pytest.mark.root
@pytest.mark.tun
def test_as_many_workers_as_cores(network: Network) -> None:
    pids(network.listen(**sharing(0)), min(len(os.sched_getaffinity(0)), 64))
