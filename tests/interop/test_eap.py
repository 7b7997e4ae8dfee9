"""Logging in with EAP: strongSwan as the gateway and as the client, FreeRADIUS behind espudp."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.interop import freeradius
from tests.interop.authority import Authority, key_pem, of_kind
from tests.interop.caller import CallingSwan
from tests.interop.gateway import Gateway
from tests.interop.lab import wait_until
from tests.interop.matrix import INITIATOR, RESPONDER
from tests.interop.peer import secret_file
from tests.interop.swan import ESPUDP_ID, SWAN_ID
from tests.interop.test_authentication import PEER_ID, certified, demanded

pytestmark = [pytest.mark.strongswan, pytest.mark.namespaces, pytest.mark.tun]

Saw = Callable[[str], None]

initiator = pytest.mark.peer("strongSwan", INITIATOR)
responder = pytest.mark.peer("strongSwan", RESPONDER)
eap = pytest.mark.cell("EAP")
methods = pytest.mark.parametrize("method", ["mschapv2", "md5", "gtc"])

# Else strongSwan asks PAM
GTC_BY_SECRETS = ("plugins {", "eap-gtc {", "backend = generic", "}", "}")

USER, PASSWORD = "alice", freeradius.PASSWORD


@pytest.fixture
def ours() -> Authority:
    return of_kind("p256")


def _login(folder: Path, ours: Authority, password: str = PASSWORD) -> list[str]:
    """What is typed to log in by password at a gateway with a certificate."""
    files = ours.arguments(folder / "pki")
    secret = secret_file(folder / "password", password)
    return [*files[files.index("--ca") :], "--eap-user", USER, "--eap-password-file", str(secret)]


def _users(folder: Path, ours: Authority) -> list[str]:
    """What is typed to let users log in by password."""
    files = ours.arguments(folder / "pki")
    secret = secret_file(folder / "users", f"{USER}:{PASSWORD}\n")
    return [*files[: files.index("--ca")], "--eap-users", str(secret)]


def _client(method: str = "", **more: Any) -> dict[str, Any]:
    """strongSwan logs in."""
    return {"auth": f"eap-{method}" if method else "eap", "eap_id": USER, "id": SWAN_ID, **more}


# espudp logs in


@eap
@initiator
@methods
def test_passwords_as_initiator(
    gateway: Gateway, tmp_path: Path, saw: Saw, ours: Authority, method: str
) -> None:
    gateway.swan.load_key(key_pem(ours.swan.key))
    gateway.swan.load_eap(USER, PASSWORD)
    gateway.serve(local=certified(ours), remote={"auth": f"eap-{method}", "eap_id": "%any"})
    arguments = _login(tmp_path, ours)
    with (
        gateway.swan.set_to(*GTC_BY_SECRETS),
        gateway.connected(tmp_path, *arguments, identities=PEER_ID, psk=None) as peer,
    ):
        gateway.check_traffic(peer)
        saw(f"EAP_{'MSCHAPV2' if method == 'mschapv2' else method.upper()}")
        (sa,) = gateway.swan.ike_sas()
        assert sa["remote-id"] == USER


@pytest.mark.cell("EAP", variant="wrong password")
@initiator
def test_a_wrong_password_as_initiator(gateway: Gateway, tmp_path: Path, saw: Saw, ours: Authority) -> None:
    gateway.swan.load_key(key_pem(ours.swan.key))
    gateway.swan.load_eap(USER, PASSWORD)
    gateway.serve(local=certified(ours), remote={"auth": "eap-mschapv2", "eap_id": "%any"})
    arguments = _login(tmp_path, ours, "guess")
    with gateway.connect(tmp_path, *arguments, identities=PEER_ID, psk=None) as peer:
        wait_until(lambda: not peer.process.running, "espudp to give up")
        peer.killed = True
        assert "wrong user name or password" in peer.output
        saw("refused")


@pytest.mark.cell("EAP", variant="TLS 1.2")
@initiator
def test_tls_as_initiator(gateway: Gateway, tmp_path: Path, saw: Saw, ours: Authority) -> None:
    gateway.swan.load_key(key_pem(ours.swan.key))
    gateway.serve(local=certified(ours), remote=demanded(ours) | {"auth": "eap-tls", "eap_id": "%any"})
    arguments = [*ours.arguments(tmp_path / "pki"), "--eap-user", ESPUDP_ID]
    with gateway.connected(tmp_path, *arguments, identities=PEER_ID, psk=None) as peer:
        gateway.check_traffic(peer)
        saw("EAP_TLS")


@pytest.mark.cell("EAP", variant="TLS, nothing else")
@initiator
def test_tls_alone_as_initiator(gateway: Gateway, tmp_path: Path, saw: Saw, ours: Authority) -> None:
    """RFC 5998."""
    gateway.swan.load_key(key_pem(ours.swan.key))
    local = certified(ours) | {"auth": "eap-tls"}
    gateway.serve(local=local, remote=demanded(ours) | {"auth": "eap-tls", "eap_id": "%any"})
    arguments = [*ours.arguments(tmp_path / "pki"), "--eap-user", ESPUDP_ID, "--eap-only"]
    with gateway.connected(tmp_path, *arguments, identities=PEER_ID, psk=None) as peer:
        gateway.check_traffic(peer)
        saw("without AUTH of the gateway (RFC 5998)")


# strongSwan logs in


def _dialled(place: Any, ours: Authority, local: dict[str, Any]) -> AbstractContextManager[str]:
    dialled: AbstractContextManager[str] = place.dialled(local=local, remote=demanded(ours))
    return dialled


@eap
@responder
@methods
def test_passwords_as_responder(
    calling: CallingSwan, tmp_path: Path, saw: Saw, ours: Authority, method: str
) -> None:
    calling.swan.load_eap(USER, PASSWORD)
    arguments = [*_users(tmp_path, ours), "--eap-method", method]
    with (
        calling.listening(tmp_path, *arguments, psk=None) as place,
        _dialled(place, ours, _client()) as address,
    ):
        place.check_traffic(address)
        assert f"{USER} (" in place.peer.output
        saw(f"EAP_{'MSCHAPV2' if method == 'mschapv2' else method.upper()}")


@pytest.mark.cell("EAP", variant="choice of method")
@responder
def test_methods_as_responder(calling: CallingSwan, tmp_path: Path, saw: Saw, ours: Authority) -> None:
    """espudp asks for MSCHAPv2 first, and strongSwan means to speak GTC only."""
    calling.swan.load_eap(USER, PASSWORD)
    with (
        calling.listening(tmp_path, *_users(tmp_path, ours), psk=None) as place,
        _dialled(place, ours, _client("gtc")) as address,
    ):
        place.check_traffic(address)
        saw("Nak, then EAP_GTC")


@pytest.mark.cell("EAP", variant="wrong password")
@responder
def test_a_wrong_password_as_responder(
    calling: CallingSwan, tmp_path: Path, saw: Saw, ours: Authority
) -> None:
    calling.swan.load_eap(USER, "guess")
    with calling.listening(tmp_path, *_users(tmp_path, ours), psk=None) as place:
        with pytest.raises(Exception, match="establishing"), _dialled(place, ours, _client()):
            pass
        assert place.peer.tunnel()["connections"] == []
        saw("refused")
    calling.swan.load_eap(USER, PASSWORD)


@pytest.mark.cell("EAP", variant="TLS 1.2")
@responder
def test_tls_as_responder(calling: CallingSwan, tmp_path: Path, saw: Saw, ours: Authority) -> None:
    calling.swan.load_key(key_pem(ours.swan.key))
    local = certified(ours) | {"auth": "eap-tls", "eap_id": SWAN_ID}
    arguments = [*ours.arguments(tmp_path / "pki"), "--eap-method", "tls"]
    with (
        calling.listening(tmp_path, *arguments, psk=None) as place,
        _dialled(place, ours, local) as address,
    ):
        place.check_traffic(address)
        assert f"{SWAN_ID} (" in place.peer.output
        saw("EAP_TLS")


@pytest.mark.cell("EAP by RADIUS")
@responder
@pytest.mark.freeradius
@pytest.mark.parametrize("method", ["mschapv2", "md5"])
def test_radius_as_responder(
    calling: CallingSwan, tmp_path: Path, saw: Saw, ours: Authority, method: str
) -> None:
    calling.swan.load_eap(USER, PASSWORD)
    files = ours.arguments(tmp_path / "pki")
    secret = secret_file(tmp_path / "secret", freeradius.SECRET.decode())
    (tmp_path / "radius").mkdir()
    server = freeradius.freeradius(
        tmp_path / "radius", method, ours.espudp, ours.root, space=calling.net.server
    )
    with server as radius:
        asked = ["--radius", f"127.0.0.1:{radius.port}", "--radius-secret-file", str(secret)]
        with (
            calling.listening(tmp_path, *files[: files.index("--ca")], *asked, psk=None) as place,
            _dialled(place, ours, _client()) as address,
        ):
            place.check_traffic(address)
            assert f"{USER} (" in place.peer.output
        saw(f"FreeRADIUS by EAP_{'MSCHAPV2' if method == 'mschapv2' else method.upper()}")
