"""strongSwan connects to espudp, through a NAT."""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.interop.caller import BEHIND, GATEWAY, GATEWAY6, Caller, CallingSwan
from tests.interop.matrix import RESPONDER
from tests.interop.swan import (
    ESP_NAMES,
    IKE,
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
    pytest.mark.peer("strongSwan", RESPONDER),
]

Saw = Callable[[str], None]


# Every suite, and those with a group of their own.
ACCEPTED = [word for ike in [IKE, *IKE_NAMES] for word in ("--ike-proposal", ike)]
ACCEPTED += [word for esp in [*ESP_NAMES, *REKEYED] for word in ("--esp-proposal", esp)]


@pytest.fixture(scope="module")
def place(calling: CallingSwan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    with calling.listening(tmp_path_factory.mktemp("espudp"), *ACCEPTED) as place:
        yield place


@pytest.mark.cell("ESP suites")
@pytest.mark.parametrize("esp", ESP_NAMES)
def test_every_esp_suite(place: Caller, saw: Saw, esp: str) -> None:
    with place.dialled(esp=esp) as address:
        place.check_traffic(address)
        (child,) = place.swan.child_sas()
        (inbound,), (outbound,) = place.peer.sas("in"), place.peer.sas("out")
        assert suite_of(child) == inbound["suite"] == esp
        assert (int(child["packets-in"]), int(child["packets-out"])) == (9, 9)
        assert (inbound["packets"], outbound["packets"]) == (9, 9)
        assert inbound["drops"] == outbound["drops"] == {}
        saw(f"{esp_algorithms(child)}, {child['bytes-in']} octets in, {child['bytes-out']} out")


@pytest.mark.cell("IKE algorithms")
@pytest.mark.parametrize("ike", IKE_NAMES)
def test_every_ike_algorithm(place: Caller, saw: Saw, ike: str) -> None:
    with place.dialled(ike=ike):
        assert place.net.client.ping(GATEWAY)
        (sa,) = place.swan.ike_sas()
        assert (sa["nat-local"], sa["remote-port"]) == ("yes", "4500")
        saw(ike_algorithms(sa))


@pytest.mark.cell("rekeys of both kinds, by each side")
@pytest.mark.parametrize("esp", REKEYED)
def test_rekeys_of_both_kinds_by_each_side(place: Caller, saw: Saw, esp: str) -> None:
    client, server = place.net.client, place.net.server
    with (
        place.dialled(esp=esp) as address,
        client.pinging(GATEWAY) as there,
        server.pinging(address, octets=1000) as back,
    ):
        check_rekeys(place.peer, place.swan, ike="client", child="net")
        assert there.end() > MANY
        assert back.end() > MANY
        (child,) = place.swan.child_sas()
        saw(f"6 rekeys, no ping lost, {esp_algorithms(child)}")


@pytest.mark.cell("rekeys of both sides at once")
@pytest.mark.parametrize("esp", REKEYED[:2])
@pytest.mark.parametrize(
    ("what", "name"), [pytest.param("child", "net", id="child"), pytest.param("ike", "client", id="ike")]
)
def test_both_rekey_at_once(place: Caller, saw: Saw, what: str, name: str, esp: str) -> None:
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
        saw("no ping lost")


@pytest.mark.cell("several child SAs")
def test_a_second_child_sa(place: Caller, saw: Saw) -> None:
    with place.dialled():
        assert not place.net.client.ping(BEHIND, count=1)
        place.swan.initiate("lan")
        assert place.net.client.ping(BEHIND)
        assert place.net.client.ping(GATEWAY)
        assert len(place.peer.sas()) == 2
        place.swan.terminate("lan", what="child")
        assert len(place.peer.sas()) == 1
        assert place.net.client.ping(GATEWAY)
        saw("a second one made and deleted, the first remains")


@pytest.mark.cell("IPv6 inside")
def test_ipv6_inside(place: Caller, saw: Saw) -> None:
    addresses = place.dial()
    assert place.net.client.ping(GATEWAY6, octets=1000)
    assert place.net.server.ping(addresses[1])
    place.swan.terminate("client")
    saw("addresses of both families")


@pytest.mark.cell("INVALID_KE_PAYLOAD")
def test_the_group_guessed_wrong(place: Caller, saw: Saw) -> None:
    before = place.swan.seen("parsed IKE_SA_INIT response 0 [ N(INVAL_KE) ]")
    with place.dialled(ike="aes128-sha1-prfsha1-curve25519-modp2048"):
        assert place.net.client.ping(GATEWAY)
    assert place.swan.seen("parsed IKE_SA_INIT response 0 [ N(INVAL_KE) ]") == before + 1
    saw("the group guessed wrong, and the one asked for")


@pytest.mark.cell("dead peer detection")
def test_each_side_asks_whether_the_other_lives(place: Caller, saw: Saw) -> None:
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
    saw("asked and answered by each side")
