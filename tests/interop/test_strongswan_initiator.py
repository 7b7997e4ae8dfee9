"""strongSwan connects to espudp, through a NAT."""

import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from espudp import ChildConfig, ConnectionConfig, Identity, IkeProposal, TrafficSelector, Tunnel, UdpAddress
from espudp import Path as EspPath
from tests.interop.charon import Charon, charon
from tests.interop.lab import SERVER_ADDRESS, Lab, lab, wait_until
from tests.interop.peer import PSK, Espudp, espudp
from tests.interop.swan import (
    ESP_NAMES,
    ESPUDP_ID,
    IKE_NAMES,
    MANY,
    REKEYED,
    SWAN_ID,
    check_rekeys,
    spis,
    suite_of,
    wait_for_new_keys,
)

pytestmark = [pytest.mark.strongswan, pytest.mark.namespaces, pytest.mark.tun]

POOL, GATEWAY = "10.99.0.0/24", "10.99.0.1"
POOL6, GATEWAY6 = "fd00:99::/64", "fd00:99::1"
SUBNET, BEHIND = "10.78.0.0/24", "10.78.0.1"
IKE, ESP = "aes128gcm16-prfsha256-curve25519", "aes128gcm16"


@dataclass(frozen=True)
class Place:
    net: Lab
    swan: Charon
    peer: Espudp

    def dial(self, *, ike: str = IKE, esp: str = ESP, **more: str) -> list[str]:
        """Have strongSwan connect; returns the addresses that it was given."""
        children = {
            "net": {"remote_ts": [POOL, POOL6], "esp_proposals": [esp]},
            "lan": {"remote_ts": [SUBNET], "esp_proposals": [esp]},
        }
        conn = {
            "remote_addrs": [SERVER_ADDRESS],
            "proposals": [ike],
            "vips": ["0.0.0.0", "::"],
            "local": {"auth": "psk", "id": SWAN_ID},
            "remote": {"auth": "psk", "id": ESPUDP_ID},
            "children": children,
            **more,
        }
        self.swan.load("client", conn)
        self.swan.initiate("net")
        (sa,) = self.swan.ike_sas()
        return list(sa["local-vips"])

    @contextmanager
    def dialled(self, *, ike: str = IKE, esp: str = ESP, **more: str) -> Iterator[str]:
        """strongSwan connects, and deletes at the end of the block; gives the IPv4 address that it got."""
        addresses = self.dial(ike=ike, esp=esp, **more)
        try:
            yield addresses[0]
        finally:
            self.swan.terminate("client")
        wait_until(lambda: not self.peer.tunnel()["connections"], "espudp to close the connection")
        assert self.swan.ike_sas() == []
        assert self.peer.tunnel()["sas"] == []


@contextmanager
def standing(folder: Path, *more: str) -> Iterator[Place]:
    """espudp listens for every suite, and charon is ready to connect."""
    accepted = [word for ike in [IKE, *IKE_NAMES] for word in ("--ike-proposal", ike)]
    accepted += [word for esp in [*ESP_NAMES, *REKEYED] for word in ("--esp-proposal", esp)]
    reach = ["--pool", POOL, "--pool", POOL6, "--subnet", SUBNET]
    ours = [*reach, "--local-id", ESPUDP_ID, *accepted, *more]
    with lab() as net, charon(net.client, folder / "charon") as swan:
        net.server.run("ip", "address", "add", f"{BEHIND}/24", "dev", "lo")
        swan.load_psk(PSK, ESPUDP_ID, SWAN_ID)
        with espudp(net.server, folder / "espudp", "listen", *ours) as peer:
            yield Place(net, swan, peer)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with standing(tmp_path_factory.mktemp("swan")) as place:
        yield place


def check_traffic(place: Place, address: str) -> None:
    """Large and small packets, started from either side."""
    assert place.net.client.ping(GATEWAY)
    assert place.net.client.ping(GATEWAY, octets=1300)
    assert place.net.server.ping(address, octets=700)


@pytest.mark.parametrize("esp", ESP_NAMES)
def test_every_esp_suite(place: Place, esp: str) -> None:
    with place.dialled(esp=esp) as address:
        check_traffic(place, address)
        (child,) = place.swan.child_sas()
        (inbound,), (outbound,) = place.peer.sas("in"), place.peer.sas("out")
        assert suite_of(child) == inbound["suite"] == esp
        assert (int(child["packets-in"]), int(child["packets-out"])) == (9, 9)
        assert (inbound["packets"], outbound["packets"]) == (9, 9)
        assert inbound["drops"] == outbound["drops"] == {}


@pytest.mark.parametrize("ike", IKE_NAMES)
def test_every_ike_algorithm(place: Place, ike: str) -> None:
    with place.dialled(ike=ike):
        assert place.net.client.ping(GATEWAY)
        (sa,) = place.swan.ike_sas()
        assert (sa["nat-local"], sa["remote-port"]) == ("yes", "4500")


@pytest.mark.parametrize("esp", REKEYED)
def test_rekeys_of_both_kinds_by_each_side(place: Place, esp: str) -> None:
    client, server = place.net.client, place.net.server
    with (
        place.dialled(esp=esp) as address,
        client.pinging(GATEWAY) as there,
        server.pinging(address, octets=1000) as back,
    ):
        check_rekeys(place.peer, place.swan, ike="client", child="net")
        assert there.end() > MANY
        assert back.end() > MANY


@pytest.mark.parametrize("esp", REKEYED[:2])
@pytest.mark.parametrize(("what", "name"), [("child", "net"), ("ike", "client")])
def test_both_rekey_at_once(place: Place, what: str, name: str, esp: str) -> None:
    """RFC 7296 sections 2.8.1 and 2.8.2: both ask, and then hear each other's retransmissions."""
    client, server = place.net.client, place.net.server
    with (
        place.dialled(esp=esp) as address,
        client.pinging(GATEWAY) as there,
        server.pinging(address) as back,
    ):
        before, collisions = spis(place.swan, what), place.swan.seen(f"{what.upper()}_REKEY collision")
        with place.net.without_ike():
            place.peer.ask("rekey", what=what)
            place.swan.rekey(what, name)
            time.sleep(0.1)
        wait_for_new_keys(place.peer, place.swan, what, before)
        assert place.swan.seen(f"{what.upper()}_REKEY collision") > collisions
        assert there.end() > MANY
        assert back.end() > MANY


def test_a_second_child_sa(place: Place) -> None:
    with place.dialled():
        assert not place.net.client.ping(BEHIND, count=1)
        place.swan.initiate("lan")
        assert place.net.client.ping(BEHIND)
        assert place.net.client.ping(GATEWAY)
        assert len(place.peer.sas()) == 2
        place.swan.terminate("lan", what="child")
        assert len(place.peer.sas()) == 1
        assert place.net.client.ping(GATEWAY)


def test_the_child_sas_of_several_workers(tmp_path: Path) -> None:
    """Two child SAs with different selectors, each at a worker of its own, before and after rekeys."""
    with standing(tmp_path, "--workers", "2") as place, place.dialled() as address:
        place.swan.initiate("lan")
        client, server = place.net.client, place.net.server
        assert {sa["pair"] % 2 for sa in place.peer.sas()} == {0, 1}
        with client.pinging(GATEWAY) as near, client.pinging(BEHIND) as far, server.pinging(address) as back:
            for name in ("net", "lan", "net", "lan"):
                renewed = partial(_renewed, place, spis(place.swan, "child"))
                place.swan.rekey("child", name)
                wait_until(renewed, f"new SPIs of {name}")
                time.sleep(0.1)
            assert min(near.end(), far.end(), back.end()) > MANY
        assert {sa["pair"] % 2 for sa in place.peer.sas()} == {0, 1}
        assert all(sa["drops"] == {} for sa in place.peer.tunnel()["sas"])


def _renewed(place: Place, before: set[str]) -> bool:
    """One of the two child SAs has been replaced, and the old one is gone."""
    now = spis(place.swan, "child")
    return len(now) == 4 and len(now & before) == 2 and len(place.peer.sas()) == 2


def test_ipv6_inside(place: Place) -> None:
    addresses = place.dial()
    assert place.net.client.ping(GATEWAY6, octets=1000)
    assert place.net.server.ping(addresses[1])
    place.swan.terminate("client")


def test_the_group_guessed_wrong(place: Place) -> None:
    before = place.swan.seen("parsed IKE_SA_INIT response 0 [ N(INVAL_KE) ]")
    with place.dialled(ike="aes128-sha1-prfsha1-curve25519-modp2048"):
        assert place.net.client.ping(GATEWAY)
    assert place.swan.seen("parsed IKE_SA_INIT response 0 [ N(INVAL_KE) ]") == before + 1


def test_each_side_asks_whether_the_other_lives(place: Place) -> None:
    with place.dialled(dpd_delay="1s"):
        place.swan.wait_for("sending DPD request", times=place.swan.seen("sending DPD request") + 2)
        asked = place.swan.seen("parsed INFORMATIONAL request")
        place.peer.ask("check-alive")
        place.swan.wait_for("parsed INFORMATIONAL request", times=asked + 1)
        with place.swan.paused():
            place.peer.ask("check-alive")
            time.sleep(2)  # some retransmissions go unheard
        assert place.net.client.ping(GATEWAY)
        assert len(place.swan.ike_sas()) == 1


FLOODER = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    for line in sys.stdin:
        s.sendto(bytes.fromhex(line), (sys.argv[1], 500))
"""


def test_cookies_under_a_flood(place: Place) -> None:
    """RFC 7296 section 2.6: past a number of half-open IKE SAs, strongSwan has to bring our cookie back."""
    client = Tunnel(random.Random(1).randbytes)
    wanted = ConnectionConfig(
        local_identity=Identity.parse("nobody.example"),
        psk=b"no matter",
        child=ChildConfig(remote=(TrafficSelector.from_network(POOL),)),
        ike_proposals=(IkeProposal.parse(IKE),),
    )
    somewhere = EspPath(UdpAddress("203.0.113.1", 500), UdpAddress(SERVER_ADDRESS, 500))
    client.connect(wanted, somewhere, None, 0.0)
    ((_, (request,), _),) = client.datagrams_to_send(0.0)
    flood = "\n".join((number.to_bytes(8) + request[8:]).hex() for number in range(1, 41))
    place.net.router.run(sys.executable, "-c", FLOODER, SERVER_ADDRESS, text=flood)

    asked = place.swan.seen("IKE_SA_INIT response 0 [ N(COOKIE) ]")
    with place.dialled():
        assert place.swan.seen("IKE_SA_INIT response 0 [ N(COOKIE) ]") == asked + 1
        assert place.net.client.ping(GATEWAY)


def test_espudp_ends_and_says_so(tmp_path: Path) -> None:
    """SIGTERM deletes the SAs at the peer."""
    with standing(tmp_path) as place:
        place.dial()
        assert place.net.client.ping(GATEWAY)
        assert place.peer.process.stop() == 0
        wait_until(lambda: not place.swan.ike_sas(), "strongSwan to hear of the DELETE", seconds=3)
