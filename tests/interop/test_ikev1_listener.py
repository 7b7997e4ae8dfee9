"""strongSwan connects to espudp with IKEv1, through a NAT."""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.interop.caller import BEHIND, GATEWAY, Caller, CallingSwan
from tests.interop.ikev1 import (
    ACCEPTED,
    AGGRESSIVE_PSK,
    ESP,
    ESP_NAMES,
    IKE_NAMES,
    MODES,
    PEER,
    REKEYED,
    REKEYS,
    check_rekeys,
    check_suite,
    dialled,
)
from tests.interop.matrix import RESPONDER
from tests.interop.swan import MANY, esp_algorithms, ike_algorithms

pytestmark = [
    pytest.mark.strongswan,
    pytest.mark.namespaces,
    pytest.mark.tun,
    pytest.mark.peer(PEER, RESPONDER),
]

Saw = Callable[[str], None]

modes = pytest.mark.parametrize("mode", MODES)


@pytest.fixture(scope="module")
def place(calling: CallingSwan, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    with calling.listening(tmp_path_factory.mktemp("espudp"), *ACCEPTED) as place:
        yield place


@pytest.mark.cell("pre-shared key")
@modes
def test_psk(place: Caller, saw: Saw, mode: str) -> None:
    with dialled(place, mode) as address:
        place.check_traffic(address)
        check_suite(place.swan, place.peer, ESP)
        (sa,) = place.swan.ike_sas()
        assert (sa["version"], sa["nat-local"], sa["remote-port"]) == ("1", "yes", "4500")
        saw(ike_algorithms(sa))


@pytest.mark.cell("IKE algorithms")
@pytest.mark.parametrize("ike", IKE_NAMES)
def test_every_ike_algorithm(place: Caller, saw: Saw, ike: str) -> None:
    with dialled(place, ike=ike):
        assert place.net.client.ping(GATEWAY)
        (sa,) = place.swan.ike_sas()
        saw(ike_algorithms(sa))


@pytest.mark.cell("ESP suites")
@pytest.mark.parametrize("esp", ESP_NAMES)
def test_esp_suites(place: Caller, saw: Saw, esp: str) -> None:
    with dialled(place, esp=esp) as address:
        place.check_traffic(address)
        check_suite(place.swan, place.peer, esp)
        (child,) = place.swan.child_sas()
        saw(esp_algorithms(child))


@pytest.mark.cell("IKEv2 at the same listener")
def test_both_versions_at_one_listener(place: Caller, saw: Saw) -> None:
    with dialled(place):
        assert place.net.client.ping(GATEWAY)
    with place.dialled(esp=ESP):
        assert place.net.client.ping(GATEWAY)
        (sa,) = place.swan.ike_sas()
        assert sa["version"] == "2"
    saw("told apart by the version in the header")


@pytest.mark.cell("several child SAs")
def test_a_second_child_sa(place: Caller, saw: Saw) -> None:
    with dialled(place):
        assert not place.net.client.ping(BEHIND, count=1)
        place.swan.initiate("lan")
        assert place.net.client.ping(BEHIND)
        assert place.net.client.ping(GATEWAY)
        assert len(place.peer.sas()) == 2
        place.swan.terminate("lan", what="child")
        assert place.net.client.ping(GATEWAY)
        saw("a second quick mode, and a Delete, the first remains")


@pytest.mark.cell("rekeys of both phases, by each side")
@pytest.mark.parametrize(("mode", "esp"), REKEYED)
def test_rekeys_of_both_phases_by_each_side(place: Caller, saw: Saw, mode: str, esp: str) -> None:
    client, server = place.net.client, place.net.server
    with (
        place.swan.set_to(AGGRESSIVE_PSK),
        dialled(place, mode, esp=esp) as address,
        client.pinging(GATEWAY) as there,
        server.pinging(address, octets=1000) as back,
    ):
        check_rekeys(place.peer, place.swan, [*REKEYS, *REKEYS[:2]])
        assert there.end() > MANY
        assert back.end() > MANY
        (child,) = place.swan.child_sas()
        saw(f"8 rekeys, no ping lost, {esp_algorithms(child)}")


@pytest.mark.cell("dead peer detection")
def test_each_side_asks_whether_the_other_lives(place: Caller, saw: Saw) -> None:
    with dialled(place, dpd_delay="1s"):
        place.swan.wait_for("sending DPD request", times=place.swan.seen("sending DPD request") + 2)
        asked = place.swan.seen("[ HASH N(DPD) ]")
        place.peer.ask("check-alive")
        place.swan.wait_for("[ HASH N(DPD) ]", times=asked + 1)
        with place.swan.paused():
            place.peer.ask("check-alive")
            time.sleep(2)  # some repetitions go unheard
        assert place.net.client.ping(GATEWAY)
        assert len(place.swan.ike_sas()) == 1
    saw("asked and answered by each side")
