"""espudp connects to strongSwan, through a NAT."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.gateway import BEHIND_SWAN, Gateway
from tests.interop.lab import ROUTER_OUTSIDE, wait_until
from tests.interop.matrix import INITIATOR
from tests.interop.peer import PSK, start
from tests.interop.swan import (
    ESP_NAMES,
    IKE_NAMES,
    MANY,
    REKEYED,
    check_rekeys,
    esp_algorithms,
    ike_algorithms,
    spis,
    suite_of,
    wait_for_new_keys,
)

pytestmark = [
    pytest.mark.strongswan,
    pytest.mark.namespaces,
    pytest.mark.tun,
    pytest.mark.peer("strongSwan", INITIATOR),
]

Saw = Callable[[str], None]


@pytest.mark.cell("ESP suites")
@pytest.mark.parametrize("esp", ESP_NAMES)
def test_every_esp_suite(gateway: Gateway, tmp_path: Path, saw: Saw, esp: str) -> None:
    gateway.serve(esp=esp)
    with gateway.connected(tmp_path, esp=esp) as peer:
        gateway.check_traffic(peer)
        (child,) = gateway.swan.child_sas()
        (inbound,), (outbound,) = peer.sas("in"), peer.sas("out")
        assert suite_of(child) == inbound["suite"] == esp
        assert (int(child["packets-in"]), int(child["packets-out"])) == (9, 9)
        assert (inbound["packets"], outbound["packets"]) == (9, 9)
        assert peer.tunnel()["drops"] == {}
        saw(f"{esp_algorithms(child)}, {child['bytes-in']} octets in, {child['bytes-out']} out")


@pytest.mark.cell("three workers")
def test_several_workers_are_content_with_one_child_sa(gateway: Gateway, tmp_path: Path, saw: Saw) -> None:
    """strongSwan 5.9 knows nothing of RFC 9611: it says no SA_RESOURCE_INFO, and is not asked for more."""
    gateway.serve()
    asked = gateway.swan.seen("parsed CREATE_CHILD_SA request")
    with gateway.connected(tmp_path, "--workers", "3") as peer:
        gateway.check_traffic(peer)
        (child,) = gateway.swan.child_sas()
        (inbound,), (outbound,) = peer.sas("in"), peer.sas("out")
        assert (int(child["packets-in"]), int(child["packets-out"])) == (9, 9)
        assert (inbound["packets"], outbound["packets"]) == (9, 9)
        assert gateway.swan.seen("parsed CREATE_CHILD_SA request") == asked
        worker = inbound["pair"] % 3
        with gateway.net.client.pinging(BEHIND_SWAN) as there:
            check_rekeys(peer, gateway.swan, ike="gateway", child="net")
            assert there.end() > MANY
        (inbound,) = peer.sas("in")
        assert inbound["pair"] % 3 == worker
        assert peer.tunnel()["drops"] == {}
        saw("content with one child SA")


@pytest.mark.cell("IKE algorithms")
@pytest.mark.parametrize("ike", IKE_NAMES)
def test_every_ike_algorithm(gateway: Gateway, tmp_path: Path, saw: Saw, ike: str) -> None:
    gateway.serve(ike=ike)
    with gateway.connected(tmp_path, ike=ike):
        assert gateway.net.client.ping(BEHIND_SWAN)
        (sa,) = gateway.swan.ike_sas()
        assert (sa["remote-host"], sa["nat-remote"]) == (ROUTER_OUTSIDE, "yes")
        saw(ike_algorithms(sa))


@pytest.mark.cell("rekeys of both kinds, by each side")
@pytest.mark.parametrize("esp", REKEYED)
def test_rekeys_of_both_kinds_by_each_side(gateway: Gateway, tmp_path: Path, saw: Saw, esp: str) -> None:
    gateway.serve(esp=esp)
    with gateway.connected(tmp_path, esp=esp) as peer:
        (address,) = (text.partition("/")[0] for text in peer.ask("status")["addresses"])
        client, server = gateway.net.client, gateway.net.server
        with client.pinging(BEHIND_SWAN) as there, server.pinging(address, octets=1000) as back:
            check_rekeys(peer, gateway.swan, ike="gateway", child="net")
            assert there.end() > MANY
            assert back.end() > MANY
        (child,) = gateway.swan.child_sas()
        saw(f"6 rekeys, no ping lost, {esp_algorithms(child)}")


@pytest.mark.cell("rekeys of both sides at once")
@pytest.mark.parametrize(
    ("what", "name"), [pytest.param("child", "net", id="child"), pytest.param("ike", "gateway", id="ike")]
)
def test_both_rekey_at_once(gateway: Gateway, tmp_path: Path, saw: Saw, what: str, name: str) -> None:
    """RFC 7296 sections 2.8.1 and 2.8.2: both ask, and then hear each other's retransmissions."""
    gateway.serve()
    collision = f"{what.upper()}_REKEY collision"
    with gateway.connected(tmp_path) as peer, gateway.net.client.pinging(BEHIND_SWAN) as there:
        before, collisions = spis(gateway.swan, what), gateway.swan.seen(collision)
        with gateway.net.without_ike():
            peer.ask("rekey", what=what)
            gateway.swan.rekey(what, name)
            time.sleep(0.1)
        wait_for_new_keys(peer, gateway.swan, what, before)
        assert gateway.swan.seen(collision) > collisions
        assert there.end() > MANY
        saw("no ping lost")


@pytest.mark.cell("INVALID_KE_PAYLOAD")
def test_the_group_guessed_wrong(gateway: Gateway, tmp_path: Path, saw: Saw) -> None:
    gateway.serve(ike="aes256-sha256-modp3072")
    said = "DH group CURVE_25519 unacceptable, requesting MODP_3072"
    before = gateway.swan.seen(said)
    with gateway.connected(tmp_path, ike="aes256-sha256-curve25519-modp3072"):
        assert gateway.net.client.ping(BEHIND_SWAN)
    assert gateway.swan.seen(said) == before + 1
    saw("the group guessed wrong, and the one asked for")


@pytest.mark.cell("dead peer detection")
def test_each_side_asks_whether_the_other_lives(gateway: Gateway, tmp_path: Path, saw: Saw) -> None:
    gateway.serve(dpd_delay="1s")
    swan = gateway.swan
    with gateway.connected(tmp_path) as peer:
        swan.wait_for("sending DPD request", times=swan.seen("sending DPD request") + 2)
        asked = swan.seen("parsed INFORMATIONAL request")
        peer.ask("check-alive")
        swan.wait_for("parsed INFORMATIONAL request", times=asked + 1)
        with swan.paused():
            peer.ask("check-alive")
            time.sleep(2)  # some retransmissions go unheard
        assert gateway.net.client.ping(BEHIND_SWAN)
        assert len(swan.ike_sas()) == 1
    saw("asked and answered by each side")


@pytest.mark.cell("DELETE")
def test_strongswan_deletes_and_espudp_comes_back(gateway: Gateway, tmp_path: Path, saw: Saw) -> None:
    gateway.serve()
    with gateway.connected(tmp_path):
        (old,) = gateway.swan.ike_sas()
        gateway.swan.terminate("gateway")
        wait_until(lambda: len(gateway.swan.child_sas()) == 1, "espudp to connect again")
        (new,) = gateway.swan.ike_sas()
        assert new["initiator-spi"] != old["initiator-spi"]
        assert gateway.net.client.ping(BEHIND_SWAN)
    saw("heard and answered, the initiator comes back")


@pytest.mark.cell("INITIAL_CONTACT")
def test_espudp_dies_and_comes_back(gateway: Gateway, tmp_path: Path, saw: Saw) -> None:
    """It has forgotten its old IKE SA, and INITIAL_CONTACT has strongSwan forget it too."""
    gateway.serve(unique="replace")
    with gateway.connect(tmp_path) as peer:
        peer.wait_for("Connected to")
        peer.kill()
    assert len(gateway.swan.ike_sas()) == 1
    with gateway.connected(tmp_path):
        wait_until(lambda: len(gateway.swan.ike_sas()) == 1, "strongSwan to drop the old IKE SA")
        assert gateway.net.client.ping(BEHIND_SWAN)
    saw("the SAs from before a crash are gone")


@pytest.mark.cell("refusals that are told")
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param(
            {"ike": "aes128-sha256-modp2048"}, "accepts none of our IKE proposals", id="IKE proposals"
        ),
        pytest.param({"esp": "aes256-sha512"}, "accepts none of our ESP proposals", id="ESP proposals"),
        pytest.param({"subnet": "10.200.0.0/24"}, "shares none of our subnets", id="traffic selectors"),
        pytest.param({"psk": "another one"}, "Put the same PSK on both sides", id="PSK"),
    ],
)
def test_a_refusal_is_told_to_the_user(
    gateway: Gateway, tmp_path: Path, saw: Saw, changed: dict[str, str], said: str
) -> None:
    gateway.serve()
    changed = dict(changed)
    psk = changed.pop("psk", PSK)
    argv = gateway.arguments(**changed)
    with start(gateway.net.client, tmp_path, *argv, psk=psk) as process:
        assert process.wait() == 1
        assert said in process.output
        assert "Traceback" not in process.output
    gateway.check_gone()
    saw(f"told: {said}")
