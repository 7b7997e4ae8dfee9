"""A laptop goes from one network to another while something is being transferred through the tunnel.

                192.168.77.0/24  router (NAT)     203.0.113.0/24
laptop  wan .2 ------------------ r0 .1  r1 .1 ------------------ .7 wan   server
        lan .2 ------------------ r0 .1  r1 .1 ------------------ .7 wan2
                192.168.88.0/24  other (NAT, or not)  203.0.114.0/24
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import IPRoute

from espudp.host.netns import Namespace, Port, connect
from tests.host.download import SERVER_INSIDE, Download
from tests.host.support import Network, Peer, ping, state

pytestmark = [pytest.mark.namespaces, pytest.mark.tun]

WAN, LAN = "192.168.77.2", "192.168.88.2"


@dataclass
class Travel:
    """A network with a second way from the client to the server."""

    network: Network
    other: Namespace

    @classmethod
    @contextmanager
    def make(cls, runtime: Path, *, nat: bool = True, ipv6: bool = False) -> "Iterator[Travel]":
        with Network.make(runtime) as network, Namespace() as other:
            connect(Port(network.client, "lan", "192.168.99.2/30"), Port(other, "r0", "192.168.88.1/24"))
            connect(Port(network.server, "wan2", "203.0.114.7/24"), Port(other, "r1", "203.0.114.1/24"))
            other.set_sysctl("net/ipv4/ip_forward", "1")
            with other.inside(), IPRoute() as ip:
                ip.route("add", dst="203.0.113.7/32", gateway="203.0.114.7")
            if nat:
                other.masquerade("r1")
            else:
                with network.server.inside(), IPRoute() as ip:
                    ip.route("add", dst="192.168.88.0/24", gateway="203.0.114.1")
            travel = cls(network, other)
            travel._address("del", "lan", "192.168.99.2/30")
            if not ipv6:
                travel._address("del", "wan", "2001:db8:77::2/64")
            yield travel

    def leave(self, device: str = "wan") -> None:
        """The network that the laptop is in is gone."""
        self._address("del", device, f"{WAN if device == 'wan' else LAN}/24")

    def arrive(self, device: str = "lan", *, metric: int | None = None) -> None:
        """There is a network: an address, and a moment later a way into the world."""
        ip, gateway = (WAN, "192.168.77.1") if device == "wan" else (LAN, "192.168.88.1")
        self._address("add", device, f"{ip}/24")
        with self.network.client.inside(), IPRoute() as netlink:
            index = netlink.link_lookup(ifname=device)[0]
            more = {} if metric is None else {"priority": metric}
            netlink.route("add", dst="0.0.0.0/0", gateway=gateway, oif=index, **more)

    def _address(self, what: str, device: str, address: str) -> None:
        with self.network.client.inside(), IPRoute() as netlink:
            netlink.addr(what, index=netlink.link_lookup(ifname=device)[0], address=address)


@contextmanager
def _download(travel: Travel) -> Iterator[Download]:
    download = Download(travel.network.server, travel.network.client)
    try:
        download.goes_on()
        yield download
    finally:
        download.end()


def _up(travel: Travel, **options: Any) -> tuple[Peer, Peer]:
    server = travel.network.listen(**options)
    client = travel.network.connect(**options)
    client.forget()
    server.forget()
    return server, client


def _still_the_same(*peers: Peer) -> None:
    for peer in peers:
        (connection,) = peer.ask("status")["tunnel"]["connections"]
        assert connection["connection"] == 1
        assert "lost" not in peer.output
        assert "gone" not in peer.output


def test_a_laptop_moves_to_another_network(tmp_path: Path) -> None:
    with Travel.make(tmp_path) as travel:
        server, client = _up(travel)
        with _download(travel) as download:
            travel.leave()
            time.sleep(0.5)
            travel.arrive()
            download.goes_on()
            assert LAN in client.wait_for("The path is")
            assert "-> 203.0.114.1:" in server.wait_for("The path is")
            # And home again, without a pause.
            client.forget()
            travel.arrive("wan", metric=1)
            travel.leave("lan")
            download.goes_on()
            assert WAN in client.wait_for("The path is")
        _still_the_same(server, client)
        assert client.stop() == server.stop() == 0


def test_a_laptop_is_plugged_in_while_it_stays_in_the_air(tmp_path: Path) -> None:
    """The kernel prefers another network now; nothing is lost, since the old one still works."""
    with Travel.make(tmp_path) as travel:
        server, client = _up(travel)
        with _download(travel) as download:
            # The default route that is there has metric 0, before which there is none.
            with travel.network.client.inside(), IPRoute() as netlink:
                netlink.route("del", dst="0.0.0.0/0", gateway="192.168.77.1")
            travel.arrive("lan", metric=100)
            download.goes_on()
            assert LAN in client.wait_for("The path is")
        _still_the_same(server, client)
        assert client.stop() == server.stop() == 0


def test_out_of_a_nat_and_back(tmp_path: Path) -> None:
    with Travel.make(tmp_path, nat=False) as travel:
        server, client = _up(travel)
        travel.leave()
        travel.arrive()
        assert ping(travel.network.client, SERVER_INSIDE, tries=3)
        client.wait_for("NAT: none")
        assert f"-> {LAN}:4500" in server.wait_for("NAT: none")
        client.forget()
        server.forget()
        travel.arrive("wan", metric=1)
        travel.leave("lan")
        client.wait_for("NAT: this side")
        server.wait_for("NAT: the peer")
        assert ping(travel.network.client, SERVER_INSIDE, tries=3) == 3
        _still_the_same(server, client)
        assert client.stop() == server.stop() == 0


def test_a_cable_is_pulled_and_plugged_in_elsewhere(tmp_path: Path) -> None:
    """The address stays on a device without a carrier, and leads nowhere."""
    with Travel.make(tmp_path) as travel:
        # As network managers have it, which take the routes away.
        travel.network.client.set_sysctl("net/ipv4/conf/wan/ignore_routes_with_linkdown", "1")
        server, client = _up(travel)
        with _download(travel) as download:
            with travel.network.router.inside(), IPRoute() as netlink:
                netlink.link("set", index=netlink.link_lookup(ifname="r0")[0], state="down")
            time.sleep(1.0)
            travel.arrive("lan", metric=100)
            download.goes_on()
        _still_the_same(server, client)
        assert client.stop() == server.stop() == 0


def test_the_way_that_is_left_is_ipv6(tmp_path: Path) -> None:
    with Travel.make(tmp_path, ipv6=True) as travel:
        server, client = _up(travel)
        with _download(travel) as download:
            travel.leave()
            download.goes_on()
            assert "-> [2001:db8:113::7]:4500" in client.wait_for("The path is")
        _still_the_same(server, client)
        assert client.stop() == server.stop() == 0


def test_the_server_gets_one_more_address(tmp_path: Path) -> None:
    """It is told to the client, which goes there when the one in use falls silent."""
    timers = {"dpd_interval": 1.0}
    with Travel.make(tmp_path) as travel:
        network = travel.network
        network.server.add_address("wan", "203.0.113.8/24")
        server, client = _up(travel, timers=timers)
        with network.server.inside(), IPRoute() as netlink:
            index = netlink.link_lookup(ifname="wan")[0]
            netlink.addr("del", index=index, address="203.0.113.7/24")
            netlink.addr("replace", index=index, address="203.0.113.8/24")
            netlink.route("replace", dst="0.0.0.0/0", gateway="203.0.113.1")
        assert "203.0.113.8" in client.wait_for("The path is")
        assert ping(network.client, SERVER_INSIDE, tries=3) == 3
        _still_the_same(server, client)
        assert client.stop() == server.stop() == 0


def test_in_transport_mode_the_rules_follow_the_address(tmp_path: Path) -> None:
    """Which is a connection anew: the addresses are what the SAs are for."""
    with Travel.make(tmp_path, nat=False) as travel:
        network = travel.network
        before = state(network.server)
        server, client = _up(travel, transport=[["0"], ["0"]])
        travel.leave()
        travel.arrive()
        client.wait_for(f"our address {WAN} is gone")
        assert "transport mode, 203.0.113.7/32" in client.wait_for("Connected to")
        server.wait_for(f"({LAN}:4500) is connected")
        assert server.ask("status")["routes"] == [f"{LAN}/32"]
        assert ping(network.client, "203.0.113.7", tries=3) == 3
        assert ping(network.server, LAN, tries=3) == 3
        assert client.stop() == server.stop() == 0
        assert state(network.server) == before
