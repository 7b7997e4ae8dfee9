"""The small CA of `espudp pki`, whose certificates strongSwan has and judges, in both roles."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner
from vici.exception import CommandException

from espudp.cli.main import app
from tests.interop.caller import CallingSwan
from tests.interop.gateway import Gateway
from tests.interop.matrix import INITIATOR, RESPONDER
from tests.interop.swan import ESPUDP_ID, SWAN_ID

pytestmark = [pytest.mark.strongswan, pytest.mark.namespaces, pytest.mark.tun]

Saw = Callable[[str], None]


class Place:
    """A CA in a directory, that has issued a certificate to each side."""

    def __init__(self, folder: Path, key_type: str) -> None:
        self.folder = folder
        self.type("init", f"C=CH, O=Interop, CN=CA {key_type}", "--key-type", key_type)
        for name in (ESPUDP_ID, SWAN_ID):
            self.type("issue", name, "--key-type", key_type)

    def type(self, command: str, *words: str) -> None:
        result = CliRunner().invoke(app, ["pki", command, *words, "--dir", str(self.folder)])
        assert result.exit_code == 0, result.output

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()

    @property
    def arguments(self) -> list[str]:
        """Of espudp."""
        files = {
            "--cert": f"{ESPUDP_ID}.pem",
            "--key": f"{ESPUDP_ID}.key",
            "--ca": "ca.pem",
            "--crl": "crl.pem",
        }
        return [word for option, name in files.items() for word in (option, str(self.folder / name))]

    @property
    def swan(self) -> dict[str, Any]:
        """Of strongSwan."""
        return {
            "local": {"auth": "pubkey", "certs": [self.read(f"{SWAN_ID}.pem")], "id": SWAN_ID},
            "remote": {
                "auth": "pubkey",
                "cacerts": [self.read("ca.pem")],
                "id": ESPUDP_ID,
                "revocation": "strict",
            },
        }


@pytest.mark.peer("strongSwan", INITIATOR)
@pytest.mark.cell("espudp pki, CRL")
@pytest.mark.parametrize("key_type", ["p256", "ed25519", "rsa3072"])
def test_as_initiator(gateway: Gateway, tmp_path: Path, saw: Saw, key_type: str) -> None:
    place = Place(tmp_path / "pki", key_type)
    gateway.swan.load_key(place.read(f"{SWAN_ID}.key"))
    gateway.swan.load_crl(place.read("crl.pem"))
    gateway.serve(**place.swan)
    names = ["--id", ESPUDP_ID, "--remote-id", SWAN_ID]
    with gateway.connected(tmp_path, *place.arguments, identities=names, psk=None) as peer:
        gateway.check_traffic(peer)
        saw(gateway.swan.proofs())


@pytest.mark.peer("strongSwan", RESPONDER)
@pytest.mark.cell("espudp pki, CRL")
def test_as_responder_until_it_is_revoked(calling: CallingSwan, tmp_path: Path, saw: Saw) -> None:
    """And that without a new start: the CRL that espudp listens with has changed."""
    place = Place(tmp_path / "pki", "p256")
    calling.swan.load_key(place.read(f"{SWAN_ID}.key"))
    calling.swan.load_crl(place.read("crl.pem"))
    with calling.listening(tmp_path, *place.arguments, psk=None) as caller:
        with caller.dialled(**place.swan) as address:
            caller.check_traffic(address)
            saw(calling.swan.proofs())
        place.type("revoke", SWAN_ID)
        with pytest.raises(CommandException):
            caller.dial(**place.swan)
        caller.peer.wait_for("was revoked by")
