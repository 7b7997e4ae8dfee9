"""The network configuration, against a real kernel in a namespace of its own."""

import contextlib
import errno
import ipaddress
import os
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from espudp.errors import HostError
from espudp.host import netlink
from espudp.host.changes import Change, Sysctl, read_sysctl, write_sysctl
from espudp.host.netconf import Flow, NetConf, Network
from espudp.host.netlink import DeviceAddress, Netlink, Route, Rule, kernel_version
from espudp.host.netns import Namespace, Port, connect
from espudp.host.tun import TunDevice
from espudp.wire.selectors import TrafficSelector
from tests.host.support import state

pytestmark = [pytest.mark.root, pytest.mark.tun]

MARK = 0x2000_0000
FORWARD = "net/ipv4/ip_forward"


@dataclass
class Host:
    """A host with the LAN 10.0.0.0/24 and 2001:db8::/64, the default routes there, and a TUN device."""

    namespace: Namespace
    tun: TunDevice
    netlink: Netlink
    runtime: Path

    def way(self, destination: str, *, marked: bool = False) -> tuple[str, str | None]:
        """The device a packet would leave by, and the source address it would have."""
        hop = self.netlink.next_hop(ipaddress.ip_address(destination), MARK if marked else 0)
        return socket.if_indextoname(hop.device), hop.source

    def has(self, address: str) -> bool:
        """Whether it is the host's own, which the kernel sees to in its own time with IPv6."""
        deadline = time.monotonic() + 5
        while self.way(address)[0] != "lo" and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.way(address)[0] == "lo"

    def route(self, conf: NetConf, *networks: str, sources: tuple[str, ...] = ()) -> None:
        wanted: list[Network] = [ipaddress.ip_network(network) for network in networks]
        conf.set_routes(self.tun.name, wanted, mark=MARK, sources=sources)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Namespace() as namespace, Namespace() as beyond, namespace.inside():
        for space in (namespace, beyond):
            space.set_sysctl("net/ipv6/conf/default/accept_dad", "0")
        connect(Port(namespace, "lan", "10.0.0.5/24"), Port(beyond, "lan", "10.0.0.1/24"))
        namespace.add_address("lan", "2001:db8::5/64")
        namespace.add_default_route("10.0.0.1")
        namespace.add_default_route("2001:db8::1")
        tun = TunDevice("esp%d", 1400)
        tun.up()
        netlink = Netlink()
        yield Host(namespace, tun, netlink, tmp_path)
        netlink.close()
        tun.close()


def _kill(conf: NetConf) -> None:
    conf._journal.release()
    conf._netlink.close()


def test_everything_goes_into_the_tunnel_but_outer_packets_and_the_lan(host: Host) -> None:
    before = state(host.namespace)
    conf = NetConf(host.runtime, "esp0")
    conf.set_addresses(host.tun.name, ["10.99.0.2/32", "2001:db8:99::2/128"])
    host.route(conf, "0.0.0.0/0", "::/0", sources=("10.99.0.2", "2001:db8:99::2"))
    for outside, lan, vip in (
        ("198.51.100.1", "10.0.0.77", "10.99.0.2"),
        ("2001:db8:5::1", "2001:db8::77", "2001:db8:99::2"),
    ):
        assert host.way(outside) == ("esp0", vip)
        assert host.way(outside, marked=True)[0] == "lan"
        assert host.way(lan)[0] == "lan"
        assert host.way(lan, marked=True)[0] == "lan"
        assert host.has(vip)
    conf.close()
    assert state(host.namespace) == before
    assert list(host.runtime.iterdir()) == []


def test_the_longest_prefix_wins_between_ours_and_the_hosts(host: Host) -> None:
    conf = NetConf(host.runtime, "esp0")
    host.route(conf, "10.0.0.0/8", "10.0.0.0/24", "0.0.0.0/0")
    assert host.way("10.0.0.77")[0] == "esp0"  # exactly the LAN's prefix: the tunnel has it
    assert host.way("10.0.0.77", marked=True)[0] == "lan"
    host.route(conf, "10.0.0.0/8")
    assert host.way("10.0.0.77")[0] == "lan"
    assert host.way("10.1.0.1")[0] == "esp0"
    assert host.way("192.0.2.1")[0] == "lan"
    host.route(conf, "10.0.0.64/26")
    assert host.way("10.0.0.77")[0] == "esp0"
    assert host.way("10.0.0.7")[0] == "lan"
    conf.close()


def test_an_outer_packet_never_enters_a_tunnel_through_the_rules_of_another_subnet(host: Host) -> None:
    conf = NetConf(host.runtime, "esp0")
    host.route(conf, "203.0.113.0/24", "198.51.100.0/24", "10.0.0.0/8")
    for destination in ("203.0.113.7", "198.51.100.7", "10.200.0.1"):
        assert host.way(destination)[0] == "esp0"
        assert host.way(destination, marked=True)[0] == "lan"
    conf.close()


def flow(local: str, remote: str, protocol: int, sports: tuple[int, int], dports: tuple[int, int]) -> Flow:
    ours, theirs = TrafficSelector.from_network(local), TrafficSelector.from_network(remote)
    return Flow(
        TrafficSelector(ours.first, ours.last, protocol, *sports),
        TrafficSelector(theirs.first, theirs.last, protocol, *dports),
    )


def say_something(address: str, kind: socket.SocketKind, sport: int, dport: int) -> str:
    """As a program does, which gets to know where from."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, kind) as program:
        program.setblocking(False)
        program.bind(("", sport))
        with contextlib.suppress(BlockingIOError):
            program.connect((address, dport))
        if kind == socket.SOCK_DGRAM:
            program.send(b"x")
        return str(program.getsockname()[0])


@pytest.mark.parametrize(
    ("ours", "peer", "other"),
    [("10.0.0.5", "198.51.100.7", "198.51.100.8"), ("2001:db8::5", "2001:db8:5::7", "2001:db8:5::8")],
)
def test_a_flow_goes_into_the_tunnel_and_nothing_else_does(
    host: Host, ours: str, peer: str, other: str
) -> None:
    before = state(host.namespace)
    conf = NetConf(host.runtime, "esp0")
    udp, tcp = socket.SOCK_DGRAM, socket.SOCK_STREAM
    wanted = [
        flow(ours, peer, socket.IPPROTO_UDP, (0, 65535), (1701, 1701)),
        flow(ours, peer, socket.IPPROTO_TCP, (4000, 4009), (0, 65535)),
    ]
    conf.set_flows("esp0", wanted, mark=MARK)

    def enters(kind: socket.SocketKind, sport: int, dport: int) -> bool:
        host.tun.read_batch(64)
        assert say_something(peer, kind, sport, dport) == ours
        return bool(host.tun.read_batch(64))

    assert enters(udp, 0, 1701)
    assert enters(udp, 1701, 1701)
    assert not enters(udp, 1701, 1702)
    assert not enters(tcp, 0, 1701)
    assert enters(tcp, 4000, 80)
    assert enters(tcp, 4009, 1701)
    assert not enters(tcp, 4010, 80)
    assert host.way(peer)[0] == "lan"
    conf.set_flows("esp0", [flow(ours, peer, 0, (0, 65535), (0, 65535))], mark=MARK)
    assert host.way(peer) == ("esp0", ours)
    assert host.way(peer, marked=True)[0] == "lan"
    assert host.way(other)[0] == "lan"
    conf.close()
    assert state(host.namespace) == before


@pytest.mark.parametrize(("ours", "peer"), [("10.0.0.5", "198.51.100.7"), ("2001:db8::5", "2001:db8:5::7")])
def test_a_port_from_which_nothing_goes_but_into_the_tunnel(host: Host, ours: str, peer: str) -> None:
    before = state(host.namespace)
    conf = NetConf(host.runtime, "esp0")
    conf.prohibit(socket.IPPROTO_UDP, 1701)
    for to in (peer, "192.0.2.1"):
        with pytest.raises(PermissionError):
            say_something(to, socket.SOCK_DGRAM, 1701, 1701)
    assert say_something(peer, socket.SOCK_DGRAM, 1702, 1701) == ours
    assert say_something(peer, socket.SOCK_STREAM, 1701, 1701) == ours
    udp = flow(ours, peer, socket.IPPROTO_UDP, (1701, 1701), (1, 9))
    conf.set_flows("esp0", [udp], mark=MARK)
    host.tun.read_batch(64)
    assert say_something(peer, socket.SOCK_DGRAM, 1701, 7) == ours
    assert host.tun.read_batch(64)
    with pytest.raises(PermissionError):
        say_something(peer, socket.SOCK_DGRAM, 1701, 10)
    conf.close()
    assert state(host.namespace) == before


def test_a_kernel_that_would_take_a_rule_for_one_about_everything(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(host.namespace)
    conf = NetConf(host.runtime, "esp0")
    monkeypatch.setattr(netlink, "kernel_version", lambda: (4, 16))
    with pytest.raises(HostError) as refusal:
        conf.prohibit(socket.IPPROTO_UDP, 1701)
    assert "4.17" in refusal.value.remedy
    conf.close()
    assert state(host.namespace) == before


@pytest.mark.parametrize(
    ("release", "version"), [("6.18.44-fc-v669", (6, 18)), ("4.9.0-19-amd64", (4, 9)), ("5.10-rc1", (5, 10))]
)
def test_the_version_of_the_kernel(
    monkeypatch: pytest.MonkeyPatch, release: str, version: tuple[int, int]
) -> None:
    uname = SimpleNamespace(release=release)
    monkeypatch.setattr(os, "uname", lambda: uname)
    assert kernel_version() == version


@pytest.mark.parametrize(
    ("ports", "said"),
    [
        ((0, 65535), None),
        ((65535, 0), None),
        ((1, 65535), None),
        ((65535, 65535), None),
        ((0, 0), None),
        ((0, 1023), "1:1023"),
        ((1024, 65534), "1024:65534"),
        ((1701, 1701), "1701:1701"),
    ],
)
def test_what_rules_cannot_say_of_ports_is_not_left_outside(ports: tuple[int, int], said: str | None) -> None:
    (rule,) = flow("192.0.2.1", "192.0.2.2", socket.IPPROTO_UDP, (0, 65535), ports).rules(1, MARK)
    assert (rule.sports, rule.dports) == (None, said)
    (rule,) = flow("192.0.2.1", "192.0.2.2", socket.IPPROTO_ICMP, (0, 65535), ports).rules(1, MARK)
    assert (rule.protocol, rule.sports, rule.dports) == (socket.IPPROTO_ICMP, None, None)


def datagram(source: str, destination: str, sport: int, dport: int, payload: bytes) -> bytes:
    udp = struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    header = struct.pack("!BBHHHBBH8s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, addresses)
    total: int = sum(struct.unpack("!10H", header))
    total = ~(total + (total >> 16)) & 0xFFFF
    return header[:10] + total.to_bytes(2, "big") + header[12:] + udp


@pytest.mark.parametrize(("everywhere", "after"), [(0, 0), (1, 2), (2, 0)])
def test_flows_come_in_under_reverse_path_filtering(host: Host, everywhere: int, after: int) -> None:
    write_sysctl("net/ipv4/conf/all/rp_filter", str(everywhere))
    before = state(host.namespace)
    conf = NetConf(host.runtime, "esp0")
    wanted = [flow("10.0.0.5", "198.51.100.7", socket.IPPROTO_UDP, (1701, 1701), (1, 9))]
    for _ in range(2):
        conf.set_flows("esp0", wanted, mark=MARK)
        assert read_sysctl("net/ipv4/conf/esp0/rp_filter") == str(after)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as program:
        program.settimeout(2)
        program.bind(("10.0.0.5", 1701))
        for port in (7, 999):  # of the flow, and of none, which the tunnel would not let through
            host.tun.write_batch([datagram("198.51.100.7", "10.0.0.5", port, 1701, b"hello")])
            assert program.recv(100) == b"hello"
    conf.set_flows("esp0", [], mark=MARK)
    assert state(host.namespace) == before
    conf.close()


def test_two_tunnels_on_one_host(host: Host) -> None:
    before = state(host.namespace)
    second = TunDevice("esp%d", 1400)
    second.up()
    one, two = NetConf(host.runtime, "esp0"), NetConf(host.runtime, "esp1")
    host.route(one, "0.0.0.0/0")
    networks: list[Network] = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("10.8.0.0/16")]
    two.set_routes("esp1", networks, mark=MARK)
    assert host.way("10.8.0.1")[0] == "esp1"
    assert host.way("192.0.2.1")[0] == "esp0"
    assert host.way("10.8.0.1", marked=True)[0] == "lan"
    one.close()
    assert host.way("192.0.2.1")[0] == "esp1"
    two.close()
    second.close()
    assert state(host.namespace) == before


def test_only_what_differs_is_touched(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = NetConf(host.runtime, "esp0")
    made: list[Change] = []
    record = conf._journal.record

    def watch(change: Change) -> None:
        made.append(change)
        record(change)

    monkeypatch.setattr(conf._journal, "record", watch)
    host.route(conf, "10.1.0.0/16", "10.2.0.0/16")
    assert len(made) == 6
    host.route(conf, "10.2.0.0/16", "10.1.0.0/16")
    assert len(made) == 6
    host.route(conf, "10.2.0.0/16", "10.3.0.0/16")
    assert len(made) == 9
    assert host.way("10.1.0.1")[0] == "lan"
    conf.close()


def test_what_a_killed_process_left_is_undone_at_the_next_start(host: Host) -> None:
    host.tun.close()
    before = state(host.namespace)
    host.tun = TunDevice("esp0", 1400)
    host.tun.up()
    conf = NetConf(host.runtime, "esp0")
    conf.set_addresses("esp0", ["10.99.0.2/24"], prefix_routes=True)
    host.route(conf, "0.0.0.0/0", "2001:db8:1::/48")
    write_sysctl("net/ipv4/conf/all/rp_filter", "1")
    conf.set_flows("esp0", [flow("10.0.0.5", "10.5.0.1", 17, (1701, 1701), (7, 9))], mark=MARK)
    write_sysctl("net/ipv4/conf/all/rp_filter", "0")
    conf.forward(ipv4=True, ipv6=True)
    host.tun.close()
    _kill(conf)
    assert state(host.namespace) != before
    again = NetConf(host.runtime, "esp0")
    assert "kernel setting net.ipv4.ip_forward = 1" in again.recovered
    assert "routing rule for 0.0.0.0/0" in again.recovered
    told = "routing rule for 10.5.0.1/32, IP protocol 17, local port 1701:1701, its port 7:9"
    assert told in again.recovered
    assert state(host.namespace) == before
    again.close()
    assert list(host.runtime.iterdir()) == []
    host.tun = TunDevice("esp0", 1400)


def test_a_kill_between_journal_and_change_is_harmless(host: Host) -> None:
    conf = NetConf(host.runtime, "esp0")
    index = socket.if_nametoindex("esp0")
    for change in (
        DeviceAddress(index, "10.99.0.2/24"),
        Route("10.5.0.0/16", index, 12345),
        Rule(20_000, 12345, "10.5.0.0/16", unless_mark=MARK),
        Rule(19_999, 12345, "10.5.0.1/32", unless_mark=MARK, protocol=17, sports="1:9", dports="7:7"),
        Sysctl(FORWARD, "1", "0"),
    ):
        conf._journal.record(change)
    before = state(host.namespace)
    _kill(conf)
    NetConf(host.runtime, "esp0").close()
    assert state(host.namespace) == before


def test_forwarding_is_restored_by_the_last_who_needs_it(host: Host) -> None:
    one, two = NetConf(host.runtime, "esp0"), NetConf(host.runtime, "esp1")
    one.forward(ipv4=True, ipv6=False)
    two.forward(ipv4=True, ipv6=False)
    one.close()
    assert read_sysctl(FORWARD) == "1"
    two.close()
    assert read_sysctl(FORWARD) == "0"


def test_forwarding_that_the_administrator_switched_on_stays(host: Host) -> None:
    write_sysctl(FORWARD, "1")
    conf = NetConf(host.runtime, "esp0")
    conf.forward(ipv4=True, ipv6=False)
    conf.close()
    assert read_sysctl(FORWARD) == "1"


def test_a_setting_that_somebody_changed_meanwhile_stays(host: Host) -> None:
    conf = NetConf(host.runtime, "esp0")
    conf.replace("rp_filter", [Sysctl("net/ipv4/conf/lan/rp_filter", "2", "1")])
    write_sysctl("net/ipv4/conf/lan/rp_filter", "0")
    conf.close()
    assert read_sysctl("net/ipv4/conf/lan/rp_filter") == "0"


def test_ipv6_forwarding_keeps_the_router_advertisements_of_a_host(host: Host) -> None:
    before = state(host.namespace)
    assert read_sysctl("net/ipv6/conf/lan/accept_ra") == "1"
    conf = NetConf(host.runtime, "esp0")
    conf.forward(ipv4=False, ipv6=True)
    assert read_sysctl("net/ipv6/conf/all/forwarding") == "1"
    assert read_sysctl("net/ipv6/conf/lan/accept_ra") == "2"
    conf.close()
    assert state(host.namespace) == before


@pytest.mark.parametrize(
    ("everywhere", "here", "after"), [(0, 0, 0), (1, 0, 2), (0, 1, 2), (0, 2, 2), (2, 1, 1)]
)
def test_only_strict_reverse_path_filtering_is_loosened(
    host: Host, everywhere: int, here: int, after: int
) -> None:
    name = "net/ipv4/conf/lan/rp_filter"
    write_sysctl("net/ipv4/conf/all/rp_filter", str(everywhere))
    write_sysctl(name, str(here))
    conf = NetConf(host.runtime, "esp0")
    host.route(conf, "0.0.0.0/0")
    conf.accept_outer("203.0.113.7", MARK)
    conf.accept_outer("203.0.113.7", MARK)
    assert read_sysctl(name) == str(after)
    conf.close()
    assert read_sysctl(name) == str(here)


def test_peers_by_two_devices(host: Host) -> None:
    """Who comes by the second does not end what the first needs, nor does who cannot be reached."""
    names = [f"net/ipv4/conf/{device}/rp_filter" for device in ("lan", "other")]
    with Namespace() as beyond:
        connect(Port(host.namespace, "other", "10.1.0.5/24"), Port(beyond, "other", "10.1.0.1/24"))
        for name in names:
            write_sysctl(name, "1")
        conf = NetConf(host.runtime, "esp0")
        host.route(conf, "0.0.0.0/0", "::/0")
        for peer in ("203.0.113.7", "10.1.0.1", "2001:db8:113::7"):
            conf.accept_outer(peer, MARK)
        assert [read_sysctl(name) for name in names] == ["2", "2"]
        conf.close()
        assert [read_sysctl(name) for name in names] == ["1", "1"]


def test_to_a_stand_in_goes_what_is_in_the_flow_or_nothing(host: Host) -> None:
    before = state(host.namespace)
    conf = NetConf(host.runtime, "esp0")
    ours, peer = "10.0.0.5", "198.18.0.1"
    one = flow(ours, peer, socket.IPPROTO_UDP, (1701, 1701), (1, 9))
    stand_ins = [ipaddress.ip_network("198.18.0.0/15")]
    conf.set_flows("esp0", [one], mark=MARK, stand_ins=stand_ins)
    host.tun.read_batch(64)
    assert say_something(peer, socket.SOCK_DGRAM, 1701, 7) == ours
    assert host.tun.read_batch(64)
    with pytest.raises(PermissionError):
        say_something(peer, socket.SOCK_DGRAM, 1702, 7)
    assert say_something("198.18.0.2", socket.SOCK_DGRAM, 1702, 7) == ours
    conf.set_flows("esp0", [], mark=MARK)
    assert state(host.namespace) == before
    conf.close()


def test_a_refused_change_is_said_and_not_journalled(host: Host) -> None:
    conf = NetConf(host.runtime, "esp0")
    with pytest.raises(HostError, match=r"The route to 10\.1\.0\.0/16 could not be made"):
        conf.replace("routes", [Route("10.1.0.0/16", 9999, 1000)])
    conf.close()
    assert list(host.runtime.iterdir()) == []


def test_a_kernel_without_policy_routing(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    conf = NetConf(host.runtime, "esp0")
    with monkeypatch.context() as patch:
        patch.setattr(Netlink, "add_rule", refuse)
        with pytest.raises(HostError, match=r"rule for 10\.1\.0\.0/16") as caught:
            host.route(conf, "10.1.0.0/16")
    assert "CONFIG_IP_MULTIPLE_TABLES" in caught.value.remedy
    conf.close()


def test_what_resists_is_said_and_the_rest_undone(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(host.namespace)
    conf = NetConf(host.runtime, "esp0")
    host.route(conf, "10.1.0.0/16")
    conf.forward(ipv4=True, ipv6=False)

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    with monkeypatch.context() as patch:
        patch.setattr(Netlink, "delete_route", refuse)
        with pytest.raises(HostError, match="could not be undone: Operation not permitted"):
            conf.close()
    assert read_sysctl(FORWARD) == "0"
    NetConf(host.runtime, "esp0").close()
    assert state(host.namespace) == before


def test_own_addresses(host: Host) -> None:
    conf = NetConf(host.runtime, "esp0")
    assert sorted(conf.own_addresses()) == ["10.0.0.5", "2001:db8::5"]
    conf.close()


def test_no_route_at_all(host: Host) -> None:
    with Namespace() as empty, empty.inside():
        netlink = Netlink()
        with pytest.raises(OSError, match="unreachable"):
            netlink.next_hop(ipaddress.ip_address("192.0.2.1"))
        netlink.close()


def test_more_changes_than_a_watch_holds_are_no_error(host: Host) -> None:
    """After which an event loop would not look at it any more."""
    watch = netlink.Watch()
    with socket.socket(fileno=os.dup(watch.fileno())) as its_socket:
        its_socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    poll = select.poll()
    poll.register(watch.fileno(), select.POLLIN)
    for burst in range(2):
        for number in range(20):
            host.namespace.add_address("lan", f"10.0.{1 + burst}.{1 + number}/24")
        assert poll.poll(0) == [(watch.fileno(), select.POLLIN)]
        watch.take()
    watch.close()
