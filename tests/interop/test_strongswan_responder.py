"""espudp connects to strongSwan, through a NAT."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.charon import Charon, charon
from tests.interop.lab import ROUTER_OUTSIDE, SERVER_ADDRESS, Lab, lab, wait_until
from tests.interop.peer import PSK, Espudp, espudp, start
from tests.interop.swan import ESP_NAMES, ESPUDP_ID, IKE_NAMES, MANY, REKEYED, SWAN_ID, check_rekeys, suite_of

pytestmark = [pytest.mark.strongswan, pytest.mark.namespaces, pytest.mark.tun]

BEHIND_SWAN, SUBNET = "10.78.0.1", "10.78.0.0/24"
POOL = "10.79.0.0/24"
IKE, ESP = "aes128gcm16-prfsha256-curve25519", "aes128gcm16"


@dataclass(frozen=True)
class Place:
    net: Lab
    swan: Charon

    def serve(self, *, ike: str = IKE, esp: str = ESP, **more: str) -> None:
        """What strongSwan accepts from now on."""
        child = {"local_ts": [SUBNET], "esp_proposals": [esp]}
        conn = {
            "local_addrs": [SERVER_ADDRESS],
            "proposals": [ike],
            "pools": ["addresses"],
            "local": {"auth": "psk", "id": SWAN_ID},
            "remote": {"auth": "psk", "id": ESPUDP_ID},
            "children": {"net": child},
            **more,
        }
        self.swan.load("gateway", conn)

    def arguments(
        self, *, ike: str = IKE, esp: str = ESP, subnet: str = SUBNET, workers: str = "1"
    ) -> list[str]:
        """`espudp` connects from behind the NAT."""
        ids = ["--id", ESPUDP_ID, "--remote-id", SWAN_ID]
        wanted = ["--subnet", subnet, "--ike-proposal", ike, "--esp-proposal", esp]
        return ["connect", SERVER_ADDRESS, *ids, *wanted, "--workers", workers]

    def connect(self, folder: Path, **changed: str) -> AbstractContextManager[Espudp]:
        return espudp(self.net.client, folder, *self.arguments(**changed))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with lab() as net:
        net.server.run("ip", "address", "add", f"{BEHIND_SWAN}/24", "dev", "lo")
        with charon(net.server, tmp_path_factory.mktemp("swan")) as swan:
            swan.load_psk(PSK, ESPUDP_ID, SWAN_ID)
            swan.vici.load_pool({"addresses": {"addrs": POOL, "dns": ["10.78.0.53"]}})
            yield Place(net, swan)


def check_traffic(place: Place, peer: Espudp) -> None:
    """Large and small packets, started from either side."""
    (address,) = (text.partition("/")[0] for text in peer.ask("status")["addresses"])
    assert place.net.client.ping(BEHIND_SWAN)
    assert place.net.client.ping(BEHIND_SWAN, octets=1300)
    assert place.net.server.ping(address, octets=700)


def check_gone(place: Place) -> None:
    wait_until(lambda: not place.swan.ike_sas(), "strongSwan to hear of the DELETE", seconds=3)


@pytest.mark.parametrize("esp", ESP_NAMES)
def test_every_esp_suite(place: Place, tmp_path: Path, esp: str) -> None:
    place.serve(esp=esp)
    with place.connect(tmp_path, esp=esp) as peer:
        peer.wait_for("Connected to")
        check_traffic(place, peer)
        (child,) = place.swan.child_sas()
        (inbound,), (outbound,) = peer.sas("in"), peer.sas("out")
        assert suite_of(child) == inbound["suite"] == esp
        assert (int(child["packets-in"]), int(child["packets-out"])) == (9, 9)
        assert (inbound["packets"], outbound["packets"]) == (9, 9)
        assert peer.tunnel()["drops"] == {}
    check_gone(place)


def test_several_workers_are_content_with_one_child_sa(place: Place, tmp_path: Path) -> None:
    """strongSwan 5.9 knows nothing of RFC 9611: it says no SA_RESOURCE_INFO, and is not asked for more."""
    place.serve()
    asked = place.swan.seen("parsed CREATE_CHILD_SA request")
    with place.connect(tmp_path, workers="3") as peer:
        peer.wait_for("Connected to")
        check_traffic(place, peer)
        (child,) = place.swan.child_sas()
        (inbound,), (outbound,) = peer.sas("in"), peer.sas("out")
        assert (int(child["packets-in"]), int(child["packets-out"])) == (9, 9)
        assert (inbound["packets"], outbound["packets"]) == (9, 9)
        assert place.swan.seen("parsed CREATE_CHILD_SA request") == asked
        worker = inbound["pair"] % 3
        with place.net.client.pinging(BEHIND_SWAN) as there:
            check_rekeys(peer, place.swan, ike="gateway", child="net")
            assert there.end() > MANY
        (inbound,) = peer.sas("in")
        assert inbound["pair"] % 3 == worker
        assert peer.tunnel()["drops"] == {}
    check_gone(place)


@pytest.mark.parametrize("ike", IKE_NAMES)
def test_every_ike_algorithm(place: Place, tmp_path: Path, ike: str) -> None:
    place.serve(ike=ike)
    with place.connect(tmp_path, ike=ike) as peer:
        peer.wait_for("Connected to")
        assert place.net.client.ping(BEHIND_SWAN)
        (sa,) = place.swan.ike_sas()
        assert (sa["remote-host"], sa["nat-remote"]) == (ROUTER_OUTSIDE, "yes")
    check_gone(place)


@pytest.mark.parametrize("esp", REKEYED)
def test_rekeys_of_both_kinds_by_each_side(place: Place, tmp_path: Path, esp: str) -> None:
    place.serve(esp=esp)
    with place.connect(tmp_path, esp=esp) as peer:
        peer.wait_for("Connected to")
        (address,) = (text.partition("/")[0] for text in peer.ask("status")["addresses"])
        client, server = place.net.client, place.net.server
        with client.pinging(BEHIND_SWAN) as there, server.pinging(address, octets=1000) as back:
            check_rekeys(peer, place.swan, ike="gateway", child="net")
            assert there.end() > MANY
            assert back.end() > MANY
    check_gone(place)


def test_the_group_guessed_wrong(place: Place, tmp_path: Path) -> None:
    place.serve(ike="aes256-sha256-modp3072")
    with place.connect(tmp_path, ike="aes256-sha256-curve25519-modp3072") as peer:
        peer.wait_for("Connected to")
        assert place.net.client.ping(BEHIND_SWAN)
    assert place.swan.seen("DH group CURVE_25519 unacceptable, requesting MODP_3072") == 1
    check_gone(place)


def test_each_side_asks_whether_the_other_lives(place: Place, tmp_path: Path) -> None:
    place.serve(dpd_delay="1s")
    with place.connect(tmp_path) as peer:
        peer.wait_for("Connected to")
        place.swan.wait_for("sending DPD request", times=place.swan.seen("sending DPD request") + 2)
        asked = place.swan.seen("parsed INFORMATIONAL request")
        peer.ask("check-alive")
        place.swan.wait_for("parsed INFORMATIONAL request", times=asked + 1)
        with place.swan.paused():
            peer.ask("check-alive")
            time.sleep(2)  # some retransmissions go unheard
        assert place.net.client.ping(BEHIND_SWAN)
        assert len(place.swan.ike_sas()) == 1
    check_gone(place)


def test_strongswan_deletes_and_espudp_comes_back(place: Place, tmp_path: Path) -> None:
    place.serve()
    with place.connect(tmp_path) as peer:
        peer.wait_for("Connected to")
        (old,) = place.swan.ike_sas()
        place.swan.terminate("gateway")
        wait_until(lambda: len(place.swan.child_sas()) == 1, "espudp to connect again")
        (new,) = place.swan.ike_sas()
        assert new["initiator-spi"] != old["initiator-spi"]
        assert place.net.client.ping(BEHIND_SWAN)
    check_gone(place)


def test_espudp_dies_and_comes_back(place: Place, tmp_path: Path) -> None:
    """It has forgotten its old IKE SA, and INITIAL_CONTACT has strongSwan forget it too."""
    place.serve(unique="replace")
    with place.connect(tmp_path) as peer:
        peer.wait_for("Connected to")
        peer.kill()
    assert len(place.swan.ike_sas()) == 1
    with place.connect(tmp_path) as peer:
        peer.wait_for("Connected to")
        wait_until(lambda: len(place.swan.ike_sas()) == 1, "strongSwan to drop the old IKE SA")
        assert place.net.client.ping(BEHIND_SWAN)
    check_gone(place)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ike": "aes128-sha256-modp2048"}, "accepts none of our IKE proposals"),
        ({"esp": "aes256-sha512"}, "accepts none of our ESP proposals"),
        ({"subnet": "10.200.0.0/24"}, "shares none of our subnets"),
        ({"psk": "another one"}, "Put the same PSK on both sides"),
    ],
)
def test_a_refusal_is_told_to_the_user(
    place: Place, tmp_path: Path, changed: dict[str, str], said: str
) -> None:
    place.serve()
    psk = changed.pop("psk", PSK)
    argv = place.arguments(**changed)
    with start(place.net.client, tmp_path, *argv, psk=psk) as process:
        assert process.wait() == 1
        assert said in process.output
        assert "Traceback" not in process.output
    check_gone(place)
