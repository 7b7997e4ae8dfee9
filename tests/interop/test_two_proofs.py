"""A client that proves itself twice, by certificate and by EAP (RFC 4739), with strongSwan in both roles."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.interop.authority import Authority, key_pem, of_kind
from tests.interop.caller import CallingSwan
from tests.interop.gateway import Gateway
from tests.interop.lab import wait_until
from tests.interop.matrix import INITIATOR, RESPONDER
from tests.interop.peer import secret_file
from tests.interop.test_authentication import PEER_ID, certified, demanded

pytestmark = [pytest.mark.strongswan, pytest.mark.namespaces, pytest.mark.tun]

Saw = Callable[[str], None]

USER, PASSWORD = "alice", "secret"
LOGIN = {"auth": "eap-mschapv2", "eap_id": USER}


@pytest.fixture
def ours() -> Authority:
    return of_kind("p256")


def _login(folder: Path, password: str = PASSWORD) -> list[str]:
    secret = secret_file(folder / "password", password)
    return ["--eap-user", USER, "--eap-password-file", str(secret), "--both-proofs"]


@pytest.mark.cell("two proofs (RFC 4739)")
@pytest.mark.peer("strongSwan", INITIATOR)
def test_two_proofs_as_initiator(gateway: Gateway, tmp_path: Path, saw: Saw, ours: Authority) -> None:
    gateway.swan.load_key(key_pem(ours.swan.key))
    gateway.swan.load_eap(USER, PASSWORD)
    rounds: dict[str, Any] = {"remote": demanded(ours) | {"round": 1}, "remote-login": LOGIN | {"round": 2}}
    gateway.serve(local=certified(ours), **rounds)
    arguments = [*ours.arguments(tmp_path / "pki"), *_login(tmp_path)]
    with gateway.connected(tmp_path, *arguments, identities=PEER_ID, psk=None) as peer:
        gateway.check_traffic(peer)
        saw("certificate, then EAP")


@pytest.mark.cell("two proofs (RFC 4739)", variant="the second is wrong")
@pytest.mark.peer("strongSwan", INITIATOR)
def test_the_second_proof_counts(gateway: Gateway, tmp_path: Path, saw: Saw, ours: Authority) -> None:
    gateway.swan.load_key(key_pem(ours.swan.key))
    gateway.swan.load_eap(USER, PASSWORD)
    rounds: dict[str, Any] = {"remote": demanded(ours) | {"round": 1}, "remote-login": LOGIN | {"round": 2}}
    gateway.serve(local=certified(ours), **rounds)
    arguments = [*ours.arguments(tmp_path / "pki"), *_login(tmp_path, "guess")]
    with gateway.connect(tmp_path, *arguments, identities=PEER_ID, psk=None) as peer:
        wait_until(lambda: not peer.process.running, "espudp to give up")
        peer.killed = True
        assert "wrong user name or password" in peer.output
        saw("refused")


@pytest.mark.cell("two proofs (RFC 4739)")
@pytest.mark.peer("strongSwan", RESPONDER)
def test_two_proofs_as_responder(calling: CallingSwan, tmp_path: Path, saw: Saw, ours: Authority) -> None:
    calling.swan.load_key(key_pem(ours.swan.key))
    calling.swan.load_eap(USER, PASSWORD)
    users = secret_file(tmp_path / "users", f"{USER}:{PASSWORD}\n")
    arguments = [*ours.arguments(tmp_path / "pki"), "--eap-users", str(users), "--both-proofs"]
    rounds: dict[str, Any] = {"local": certified(ours) | {"round": 1}, "local-login": LOGIN | {"round": 2}}
    with (
        calling.listening(tmp_path, *arguments, psk=None) as place,
        place.dialled(remote=demanded(ours), **rounds) as address,
    ):
        place.check_traffic(address)
        saw("certificate, then EAP")
