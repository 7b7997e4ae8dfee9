"""strongSwan with the algorithms that other products have by themselves, and espudp with their preset."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop.caller import CallingSwan
from tests.interop.gateway import PSK_ARGUMENTS, SUBNET, Gateway
from tests.interop.lab import SERVER_ADDRESS
from tests.interop.matrix import INITIATOR, RESPONDER
from tests.interop.peer import espudp
from tests.interop.swan import esp_algorithms, ike_algorithms, spis, wait_for_new_keys

pytestmark = [pytest.mark.strongswan, pytest.mark.namespaces, pytest.mark.tun]

Saw = Callable[[str], None]

# product, IKE, ESP; with its group for the rekey, which IKE_AUTH leaves out
GATEWAYS = [
    ("strongswan", "default", "default"),
    ("fortigate", "aes256-sha256-modp2048", "aes256-sha256-modp2048"),
    ("cisco", "aes256-sha512-ecp384", "aes128-sha1"),
    ("mikrotik", "aes128-sha1-modp2048", "aes256-sha1-modp2048"),
    ("gcp", "aes256gcm16-prfsha512-modp4096", "aes256gcm16-modp4096"),
]
CLIENTS = [
    ("strongswan", "default", "default"),
    ("ios", "aes256-sha256-modp2048", "aes256-sha256-modp2048"),
    ("macos", "aes256-sha256-modp2048", "aes256-sha256"),
    ("android", "aes256gcm16-prfsha256-curve25519", "aes256gcm16"),
    ("windows", "aes256-sha256-modp2048", "aes256-sha1"),
]


@pytest.mark.peer("strongSwan", INITIATOR)
@pytest.mark.cell("presets")
@pytest.mark.parametrize(("product", "ike", "esp"), GATEWAYS)
def test_gateways(gateway: Gateway, tmp_path: Path, saw: Saw, product: str, ike: str, esp: str) -> None:
    gateway.serve(ike=ike, esp=esp)
    words = [SERVER_ADDRESS, *PSK_ARGUMENTS, "--subnet", SUBNET, "--preset", product]
    with espudp(gateway.net.client, tmp_path, "connect", *words) as peer:
        peer.wait_for("Connected to")
        gateway.check_traffic(peer)
        before = spis(gateway.swan, "child")
        peer.ask("rekey", what="child")
        wait_for_new_keys(peer, gateway.swan, "child", before)
        gateway.check_traffic(peer)
        (sa,), (child,) = gateway.swan.ike_sas(), gateway.swan.child_sas()
        saw(f"{product}: {ike_algorithms(sa)}, {esp_algorithms(child)}")
    gateway.check_gone()


@pytest.mark.peer("strongSwan", RESPONDER)
@pytest.mark.cell("presets")
@pytest.mark.parametrize(("product", "ike", "esp"), CLIENTS)
def test_clients(calling: CallingSwan, tmp_path: Path, saw: Saw, product: str, ike: str, esp: str) -> None:
    with (
        calling.listening(tmp_path, "--preset", product) as place,
        place.dialled(ike=ike, esp=esp) as address,
    ):
        place.check_traffic(address)
        before = spis(calling.swan, "child")
        calling.swan.rekey("child", "net")
        wait_for_new_keys(place.peer, calling.swan, "child", before)
        place.check_traffic(address)
        (sa,), (child,) = calling.swan.ike_sas(), calling.swan.child_sas()
        saw(f"{product}: {ike_algorithms(sa)}, {esp_algorithms(child)}")
