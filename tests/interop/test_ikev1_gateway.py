"""espudp connects to strongSwan with IKEv1, through a NAT."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.interop.authority import Authority, authority, key_pem, of_kind
from tests.interop.gateway import BEHIND_SWAN, DNS, Gateway
from tests.interop.ikev1 import (
    AGGRESSIVE_PSK,
    ESP,
    ESP_NAMES,
    IKE,
    IKE_NAMES,
    MODES,
    PASSWORD,
    PEER,
    REKEYED,
    USER,
    check_rekeys,
    check_signature,
    check_suite,
    version_1,
)
from tests.interop.lab import ROUTER_OUTSIDE, wait_until
from tests.interop.matrix import INITIATOR
from tests.interop.peer import PSK, Espudp, secret_file, start
from tests.interop.swan import ESPUDP_ID, MANY, esp_algorithms, ike_algorithms
from tests.interop.test_authentication import OWN_ID, PEER_ID, certified, demanded

pytestmark = [
    pytest.mark.strongswan,
    pytest.mark.namespaces,
    pytest.mark.tun,
    pytest.mark.peer(PEER, INITIATOR),
]

Saw = Callable[[str], None]

modes = pytest.mark.parametrize("mode", MODES)


@contextmanager
def connected(
    gateway: Gateway,
    folder: Path,
    *options: str,
    mode: str = "main",
    ike: str = IKE,
    esp: str = ESP,
    psk: str | None = PSK,
    identities: tuple[str, ...] = (*OWN_ID, *PEER_ID),
    **more: Any,
) -> Iterator[Espudp]:
    """strongSwan serves one connection of IKEv1, and espudp has connected to it. The last message of quick
    mode is ours: what follows it at once finds no SA yet where strongSwan is slow.
    """
    gateway.serve(ike=ike, esp=esp, **version_1(mode, **more))
    with (
        gateway.swan.set_to(AGGRESSIVE_PSK),
        gateway.connected(
            folder, "--ikev1", mode, *options, ike=ike, esp=esp, psk=psk, identities=identities
        ) as peer,
    ):
        wait_until(lambda: bool(gateway.swan.child_sas()), "strongSwan to have the child SA")
        yield peer


@pytest.mark.cell("pre-shared key")
@modes
def test_psk(gateway: Gateway, tmp_path: Path, saw: Saw, mode: str) -> None:
    with connected(gateway, tmp_path, mode=mode) as peer:
        gateway.check_traffic(peer)
        check_suite(gateway.swan, peer, ESP)
        (sa,) = gateway.swan.ike_sas()
        assert (sa["version"], sa["remote-host"], sa["nat-remote"]) == ("1", ROUTER_OUTSIDE, "yes")
        assert (sa["remote-id"], sa["remote-port"] != "500") == (ESPUDP_ID, True)
        saw(ike_algorithms(sa))


@pytest.mark.cell("IKE algorithms")
@pytest.mark.parametrize("ike", IKE_NAMES)
def test_every_ike_algorithm(gateway: Gateway, tmp_path: Path, saw: Saw, ike: str) -> None:
    with connected(gateway, tmp_path, ike=ike):
        assert gateway.net.client.ping(BEHIND_SWAN)
        (sa,) = gateway.swan.ike_sas()
        saw(ike_algorithms(sa))


@pytest.mark.cell("ESP suites")
@pytest.mark.parametrize("esp", ESP_NAMES)
def test_esp_suites(gateway: Gateway, tmp_path: Path, saw: Saw, esp: str) -> None:
    with connected(gateway, tmp_path, esp=esp) as peer:
        gateway.check_traffic(peer)
        check_suite(gateway.swan, peer, esp)
        assert all(sa["drops"] == {} for sa in peer.tunnel()["sas"])
        (child,) = gateway.swan.child_sas()
        saw(esp_algorithms(child))


@pytest.mark.cell("certificates (RSA)")
@modes
def test_certificates(gateway: Gateway, tmp_path: Path, saw: Saw, mode: str) -> None:
    ours = of_kind("rsa")
    gateway.swan.load_key(key_pem(ours.swan.key))
    both: dict[str, Any] = {"local": certified(ours), "remote": demanded(ours)}
    files = ours.arguments(tmp_path / "pki")
    with connected(gateway, tmp_path, *files, mode=mode, psk=None, **both) as peer:
        gateway.check_traffic(peer)
        check_signature(gateway.swan, ESPUDP_ID)
        saw("RSA signatures of RFC 2409 on both sides")


@pytest.mark.cell("messages in fragments")
@modes
def test_fragments(gateway: Gateway, tmp_path: Path, saw: Saw, mode: str) -> None:
    """A chain of certificates that no datagram of 1280 octets holds."""
    ours: Authority = authority("rsa", between=2)
    gateway.swan.load_key(key_pem(ours.swan.key))
    both: dict[str, Any] = {"local": certified(ours), "remote": demanded(ours), "fragmentation": "yes"}
    files, swan = ours.arguments(tmp_path / "pki"), gateway.swan
    heard, sent = swan.seen("received fragment #"), swan.seen("splitting IKE message")
    with connected(gateway, tmp_path, *files, mode=mode, psk=None, **both):
        assert gateway.net.client.ping(BEHIND_SWAN)
    assert swan.seen("received fragment #") > heard
    assert swan.seen("splitting IKE message") > sent
    saw("sent and put together by each side")


def login(folder: Path, password: str = PASSWORD) -> list[str]:
    secret = secret_file(folder / "password", password)
    return ["--xauth-user", USER, "--xauth-password-file", str(secret)]


XAUTH: dict[str, Any] = {"remote-xauth": {"auth": "xauth", "round": "2"}}


@pytest.mark.cell("XAUTH")
@modes
def test_xauth(gateway: Gateway, tmp_path: Path, saw: Saw, mode: str) -> None:
    gateway.swan.load_eap(USER, PASSWORD)
    with connected(gateway, tmp_path, *login(tmp_path), mode=mode, **XAUTH) as peer:
        gateway.check_traffic(peer)
        (sa,) = gateway.swan.ike_sas()
        assert sa["remote-xauth-id"] == USER
        saw(f"behind a pre-shared key, as {sa['remote-xauth-id']}")


@pytest.mark.cell("XAUTH", variant="behind certificates")
def test_xauth_behind_certificates(gateway: Gateway, tmp_path: Path, saw: Saw) -> None:
    ours = of_kind("rsa")
    gateway.swan.load_key(key_pem(ours.swan.key))
    gateway.swan.load_eap(USER, PASSWORD)
    both: dict[str, Any] = {"local": certified(ours), "remote": demanded(ours), **XAUTH}
    options = [*ours.arguments(tmp_path / "pki"), *login(tmp_path)]
    with connected(gateway, tmp_path, *options, psk=None, **both) as peer:
        gateway.check_traffic(peer)
        check_signature(gateway.swan, ESPUDP_ID)
        (sa,) = gateway.swan.ike_sas()
        saw(f"RSA on both sides, and as {sa['remote-xauth-id']}")


@pytest.mark.cell("XAUTH", variant="hybrid")
def test_hybrid(gateway: Gateway, tmp_path: Path, saw: Saw) -> None:
    """strongSwan proves itself by certificate, and we by password alone."""
    ours = of_kind("rsa")
    gateway.swan.load_key(key_pem(ours.swan.key))
    gateway.swan.load_eap(USER, PASSWORD)
    files = ours.arguments(tmp_path / "pki")
    options = [*files[files.index("--ca") :], *login(tmp_path)]
    both: dict[str, Any] = {"local": certified(ours), "remote": {"auth": "xauth"}}
    with connected(gateway, tmp_path, *options, psk=None, **both) as peer:
        gateway.check_traffic(peer)
        saw("hybrid authentication")


@pytest.mark.cell("mode config")
@pytest.mark.parametrize("way", ["pull", "push"])
def test_mode_config(gateway: Gateway, tmp_path: Path, saw: Saw, way: str) -> None:
    """The client asks, or the gateway tells without being asked."""
    pull = "yes" if way == "pull" else "no"
    with connected(gateway, tmp_path, "--mode-config", way, pull=pull) as peer:
        gateway.check_traffic(peer)
        assert peer.ask("status")["dns"] == [DNS]
        saw("address and DNS")


@pytest.mark.cell("rekeys of both phases, by each side")
@pytest.mark.parametrize(("mode", "esp"), REKEYED)
def test_rekeys_of_both_phases_by_each_side(
    gateway: Gateway, tmp_path: Path, saw: Saw, mode: str, esp: str
) -> None:
    with connected(gateway, tmp_path, mode=mode, esp=esp) as peer:
        (address,) = (text.partition("/")[0] for text in peer.ask("status")["addresses"])
        client, server = gateway.net.client, gateway.net.server
        with client.pinging(BEHIND_SWAN) as there, server.pinging(address, octets=1000) as back:
            check_rekeys(peer, gateway.swan)
            assert there.end() > MANY
            assert back.end() > MANY
        (child,) = gateway.swan.child_sas()
        saw(f"6 rekeys, no ping lost, {esp_algorithms(child)}")


@pytest.mark.cell("dead peer detection")
def test_each_side_asks_whether_the_other_lives(gateway: Gateway, tmp_path: Path, saw: Saw) -> None:
    swan = gateway.swan
    with connected(gateway, tmp_path, dpd_delay="1s") as peer:
        swan.wait_for("sending DPD request", times=swan.seen("sending DPD request") + 2)
        asked = swan.seen("[ HASH N(DPD) ]")
        peer.ask("check-alive")
        swan.wait_for("[ HASH N(DPD) ]", times=asked + 1)
        with swan.paused():
            peer.ask("check-alive")
            time.sleep(2)  # some repetitions go unheard
        assert gateway.net.client.ping(BEHIND_SWAN)
        assert len(swan.ike_sas()) == 1
    saw("asked and answered by each side")


@pytest.mark.cell("Delete")
def test_strongswan_deletes_and_espudp_comes_back(gateway: Gateway, tmp_path: Path, saw: Saw) -> None:
    with connected(gateway, tmp_path):
        (old,) = gateway.swan.ike_sas()
        gateway.swan.terminate("gateway")
        wait_until(lambda: len(gateway.swan.child_sas()) == 1, "espudp to connect again")
        (new,) = gateway.swan.ike_sas()
        assert new["initiator-spi"] != old["initiator-spi"]
        assert gateway.net.client.ping(BEHIND_SWAN)
    saw("heard, the initiator comes back")


@pytest.mark.cell("INITIAL-CONTACT")
def test_espudp_dies_and_comes_back(gateway: Gateway, tmp_path: Path, saw: Saw) -> None:
    gateway.serve(ike=IKE, esp=ESP, **version_1(unique="replace"))
    with gateway.connect(tmp_path, "--ikev1", "main", ike=IKE, esp=ESP) as peer:
        peer.wait_for("Connected to")
        peer.kill()
    assert len(gateway.swan.ike_sas()) == 1
    with connected(gateway, tmp_path, unique="replace"):
        wait_until(lambda: len(gateway.swan.ike_sas()) == 1, "strongSwan to drop the old ISAKMP SA")
        assert gateway.net.client.ping(BEHIND_SWAN)
    saw("the SAs from before a crash are gone")


@pytest.mark.cell("refusals that are told")
@pytest.mark.parametrize(
    ("changed", "said"),
    [
        pytest.param(
            {"ike": "aes128-sha1-modp1024"}, "accepts none of our IKE proposals", id="IKE proposals"
        ),
        pytest.param({"esp": "aes256-sha512"}, "accepts none of our ESP proposals", id="ESP proposals"),
        pytest.param({"psk": "another one"}, "Put the same PSK on both sides", id="PSK"),
        pytest.param({"password": "another one"}, "password", id="XAUTH password"),
    ],
)
def test_a_refusal_is_told_to_the_user(
    gateway: Gateway, tmp_path: Path, saw: Saw, changed: dict[str, str], said: str
) -> None:
    changed = dict(changed)
    psk, password = changed.pop("psk", PSK), changed.pop("password", None)
    options: list[str] = []
    more: dict[str, Any] = {}
    if password is not None:
        gateway.swan.load_eap(USER, PASSWORD)
        options, more = login(tmp_path, password), XAUTH
    gateway.serve(ike=IKE, esp=ESP, **version_1(**more))
    argv = gateway.arguments("--ikev1", "main", *options, **{"ike": IKE, "esp": ESP, **changed})
    with start(gateway.net.client, tmp_path, *argv, psk=psk) as process:
        assert process.wait(seconds=40) == 1
        assert said in process.output
        assert "Traceback" not in process.output
    gateway.check_gone()
    saw(f"told: {said}")
