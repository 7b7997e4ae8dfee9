"""The client goes to another network, and strongSwan and espudp, whichever of them it is, keep their IKE SA.

client 192.168.77.2 ---- 192.168.77.1 router 203.0.113.1 ---- 203.0.113.2 server
       192.168.88.2 ---- 192.168.88.1        203.0.113.9
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.caller import GATEWAY, CallingSwan
from tests.interop.charon import Charon
from tests.interop.gateway import BEHIND_SWAN, Gateway
from tests.interop.lab import CLIENT_ADDRESS, ROUTER_OUTSIDE, SERVER_ADDRESS, Lab, _link, wait_until
from tests.interop.matrix import INITIATOR, RESPONDER
from tests.interop.peer import Espudp
from tests.interop.swan import spis

pytestmark = [pytest.mark.strongswan, pytest.mark.namespaces, pytest.mark.tun]

Saw = Callable[[str], None]

CAFE_ADDRESS, CAFE_OUTSIDE, SERVER_SECOND = "192.168.88.2", "203.0.113.9", "203.0.113.3"
HOME, CAFE = ("eth0", CLIENT_ADDRESS, "192.168.77.1"), ("eth1", CAFE_ADDRESS, "192.168.88.1")

NAT_OF_CAFE = """
table ip cafe {
  chain out {
    type nat hook postrouting priority 99
    ip saddr 192.168.88.0/24 oifname "outside" snat to 203.0.113.9
  }
}
"""


CUT = f"""
table ip cut {{
  chain forward {{ type filter hook forward priority 0; ip daddr {SERVER_ADDRESS} drop; }}
}}
"""


@contextmanager
def _cafe(net: Lab) -> Iterator[None]:
    """The client has one more uplink, of which nothing is up; everything is at home again in the end."""
    _link((net.client, "eth1", f"{CAFE_ADDRESS}/24"), (net.router, "inside2", "192.168.88.1/24"))
    net.client.run("ip", "address", "flush", "dev", "eth1")
    net.router.run("ip", "address", "add", f"{CAFE_OUTSIDE}/24", "dev", "outside")
    net.router.run("nft", "-f", "-", text=NAT_OF_CAFE)
    try:
        yield
    finally:
        net.client.run("ip", "link", "del", "eth1")
        net.router.run("ip", "address", "del", f"{CAFE_OUTSIDE}/24", "dev", "outside")
        net.router.run("nft", "delete", "table", "ip", "cafe")
        _arrive(net, *HOME)


def _arrive(net: Lab, device: str, address: str, gateway: str) -> None:
    net.client.run("ip", "address", "replace", f"{address}/24", "dev", device)
    net.client.run("ip", "route", "replace", "default", "via", gateway)


def _move(net: Lab, left: tuple[str, str, str], to: tuple[str, str, str]) -> None:
    net.client.run("ip", "address", "flush", "dev", left[0])
    time.sleep(0.3)
    _arrive(net, *to)


def _sees(swan: Charon, host: str) -> None:
    """strongSwan has its peer at another address now."""
    wait_until(lambda: [sa["remote-host"] for sa in swan.ike_sas()] == [host], f"the peer at {host}")


def _is_at(peer: Espudp, host: str) -> None:
    """espudp has its peer at another address now, as far as ESP goes."""

    def there() -> bool:
        (connection,) = peer.tunnel()["connections"]
        return f"-> {host}:" in connection["path"]

    wait_until(there, f"the peer at {host}")


def _goes_on(net: Lab, address: str) -> None:
    """Once strongSwan has done what it does: its userspace ESP cannot move SAs, and so rekeys them."""
    wait_until(lambda: net.client.ping(address), f"answers from {address}")


@pytest.mark.peer("strongSwan", INITIATOR)
@pytest.mark.cell("MOBIKE", variant="the client moves")
def test_espudp_moves(gateway: Gateway, tmp_path: Path, saw: Saw) -> None:
    net, swan = gateway.net, gateway.swan
    gateway.serve(mobike="yes")
    with _cafe(net), gateway.connected(tmp_path, "--verbose") as peer:
        assert net.client.ping(BEHIND_SWAN)
        before = spis(swan, "ike")
        _sees(swan, ROUTER_OUTSIDE)
        _move(net, HOME, CAFE)
        _sees(swan, CAFE_OUTSIDE)
        _goes_on(net, BEHIND_SWAN)
        _move(net, CAFE, HOME)
        _sees(swan, ROUTER_OUTSIDE)
        _goes_on(net, BEHIND_SWAN)
        gateway.check_traffic(peer)
        assert spis(swan, "ike") == before
        assert peer.tunnel()["drops"] == {}
    saw("to another NAT and back, the same IKE SA")


@pytest.mark.peer("strongSwan", INITIATOR)
@pytest.mark.cell("MOBIKE", variant="the server's other address")
def test_espudp_goes_to_the_other_address_of_strongswan(gateway: Gateway, tmp_path: Path, saw: Saw) -> None:
    """strongSwan told of it in IKE_AUTH; the one in use is cut off."""
    net, swan = gateway.net, gateway.swan
    net.server.run("ip", "address", "add", f"{SERVER_SECOND}/24", "dev", "eth0")
    try:
        gateway.serve(mobike="yes", local_addrs=["%any"])
        with gateway.connected(tmp_path, "--verbose", "--dpd", "2s") as peer:
            assert net.client.ping(BEHIND_SWAN)
            before = spis(swan, "ike")
            net.router.run("nft", "-f", "-", text=CUT)
            try:
                _is_at(peer, SERVER_SECOND)
                _goes_on(net, BEHIND_SWAN)
                gateway.check_traffic(peer)
                assert spis(swan, "ike") == before
            finally:
                net.router.run("nft", "delete", "table", "ip", "cut")
    finally:
        net.server.run("ip", "address", "del", f"{SERVER_SECOND}/24", "dev", "eth0")
    saw("told in IKE_AUTH, found by probing")


@pytest.mark.peer("strongSwan", RESPONDER)
@pytest.mark.cell("MOBIKE", variant="the client moves")
def test_strongswan_moves(calling: CallingSwan, tmp_path: Path, saw: Saw) -> None:
    net, swan = calling.net, calling.swan
    with (
        _cafe(net),
        calling.listening(tmp_path, "--verbose") as place,
        place.dialled(mobike="yes") as address,
    ):
        place.check_traffic(address)
        before = spis(swan, "ike")
        _is_at(place.peer, ROUTER_OUTSIDE)
        checks = swan.seen("N(COOKIE2)")
        _move(net, HOME, CAFE)
        _is_at(place.peer, CAFE_OUTSIDE)
        _goes_on(net, GATEWAY)
        _move(net, CAFE, HOME)
        _is_at(place.peer, ROUTER_OUTSIDE)
        _goes_on(net, GATEWAY)
        place.check_traffic(address)
        assert spis(swan, "ike") == before
        assert swan.seen("N(COOKIE2)") > checks
    saw("to another NAT and back, return routability checked")


@pytest.mark.peer("strongSwan", RESPONDER)
@pytest.mark.cell("MOBIKE", variant="switched off")
def test_strongswan_that_does_not_speak_it(calling: CallingSwan, tmp_path: Path) -> None:
    swan = calling.swan
    with calling.listening(tmp_path) as place, place.dialled(mobike="no") as address:
        place.check_traffic(address)
        assert "N(MOBIKE_SUP)" not in swan.log.rpartition("parsed IKE_AUTH response")[2].partition("\n")[0]
