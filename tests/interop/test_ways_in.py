"""Several identities and proofs at one listener, to which strongSwan connects."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import vici

from tests.interop.authority import key_pem, of_kind, pem
from tests.interop.caller import GATEWAY, CallingSwan
from tests.interop.matrix import RESPONDER
from tests.interop.peer import PSK, secret_file
from tests.interop.swan import ESPUDP_ID
from tests.interop.test_authentication import certified, demanded

pytestmark = [pytest.mark.strongswan, pytest.mark.namespaces, pytest.mark.tun]

Saw = Callable[[str], None]

responder = pytest.mark.peer("strongSwan", RESPONDER)

OFFICE_ID, OFFICE_PSK = "branch@office.example", "a key for the office alone"

WAYS = """
[office]
peers = ["*@office.example"]
id = "office.espudp.example"
psk-file = "office.psk"

[staff]
peers = ["swan.example"]
cert = "pki/cert.pem"
key = "pki/key.pem"
ca = ["pki/ca.pem"]
"""


@responder
@pytest.mark.cell("several ways in at one listener")
def test_ways_in(calling: CallingSwan, tmp_path: Path, saw: Saw) -> None:
    ours, office = of_kind("p256"), "office.espudp.example"
    ours.arguments(tmp_path / "pki")
    secret_file(tmp_path / "office.psk", OFFICE_PSK)
    (tmp_path / "ways.toml").write_text(WAYS)
    calling.swan.load_key(key_pem(ours.swan.key))
    key = {"id": "office", "type": "ike", "data": OFFICE_PSK, "owners": [OFFICE_ID, office]}
    calling.swan.vici.load_shared(key)
    by_key = {"local": {"auth": "psk", "id": OFFICE_ID}, "remote": {"auth": "psk", "id": office}}
    ways: dict[str, dict[str, Any]] = {
        "pre-shared key": by_key,
        "ECDSA_WITH_SHA256_DER": {"local": certified(ours), "remote": demanded(ours)},
    }
    with calling.listening(tmp_path, "--connections", str(tmp_path / "ways.toml"), psk=None) as place:
        for method, way in ways.items():
            with place.dialled(**way):
                assert calling.net.client.ping(GATEWAY)
                assert calling.swan.proofs() == f"espudp by {method}, strongSwan by {method}"
        with pytest.raises(vici.exception.CommandException):
            place.dial()  # with the key of other tests, under the name of the staff
        assert not place.peer.tunnel()["connections"]
    saw("by PSK as one, by certificate as another, none of them as the other")


@responder
@pytest.mark.cell("PSK of one side, certificate of the other")
def test_mixed_as_responder(calling: CallingSwan, tmp_path: Path, saw: Saw) -> None:
    """The gateway shows a certificate, and its clients know a key."""
    ours = of_kind("p256")
    ours.arguments(tmp_path / "pki")
    files = {"--cert": "cert.pem", "--key": "key.pem"}
    own = [word for option, name in files.items() for word in (option, str(tmp_path / "pki" / name))]
    remote = {"auth": "pubkey", "cacerts": [pem(ours.root)], "id": ESPUDP_ID}
    with calling.listening(tmp_path, *own, psk=PSK) as place, place.dialled(remote=remote):
        saw(calling.swan.proofs())
        assert calling.swan.proofs() == "espudp by ECDSA_WITH_SHA256_DER, strongSwan by pre-shared key"
