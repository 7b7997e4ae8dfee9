"""Ways in at listeners of IKEv1, to which strongSwan connects."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import vici

from tests.interop.authority import Authority, authority, key_pem, of_kind
from tests.interop.caller import GATEWAY, CallingSwan
from tests.interop.gateway import DNS
from tests.interop.ikev1 import (
    ACCEPTED,
    MODES,
    PASSWORD,
    PEER,
    USER,
    check_signature,
    dialled,
)
from tests.interop.matrix import RESPONDER
from tests.interop.peer import secret_file
from tests.interop.swan import ESPUDP_ID, SWAN_ID
from tests.interop.test_authentication import certified, demanded

pytestmark = [
    pytest.mark.strongswan,
    pytest.mark.namespaces,
    pytest.mark.tun,
    pytest.mark.peer(PEER, RESPONDER),
]

Saw = Callable[[str], None]

modes = pytest.mark.parametrize("mode", MODES)


@pytest.mark.cell("certificates (RSA)")
@modes
def test_certificates(calling: CallingSwan, tmp_path: Path, saw: Saw, mode: str) -> None:
    ours = of_kind("rsa")
    calling.swan.load_key(key_pem(ours.swan.key))
    both: dict[str, Any] = {"local": certified(ours), "remote": demanded(ours)}
    arguments = [*ACCEPTED, *ours.arguments(tmp_path / "pki")]
    with (
        calling.listening(tmp_path, *arguments, psk=None) as place,
        dialled(place, mode, **both) as address,
    ):
        place.check_traffic(address)
        check_signature(calling.swan, ESPUDP_ID)
        saw("RSA signatures of RFC 2409 on both sides")


@pytest.mark.cell("messages in fragments")
@modes
def test_fragments(calling: CallingSwan, tmp_path: Path, saw: Saw, mode: str) -> None:
    ours: Authority = authority("rsa", between=2)
    calling.swan.load_key(key_pem(ours.swan.key))
    both: dict[str, Any] = {"local": certified(ours), "remote": demanded(ours), "fragmentation": "yes"}
    arguments, swan = [*ACCEPTED, *ours.arguments(tmp_path / "pki")], calling.swan
    heard, sent = swan.seen("received fragment #"), swan.seen("splitting IKE message")
    with calling.listening(tmp_path, *arguments, psk=None) as place, dialled(place, mode, **both):
        assert place.net.client.ping(GATEWAY)
    assert swan.seen("received fragment #") > heard
    assert swan.seen("splitting IKE message") > sent
    saw("sent and put together by each side")


def users(folder: Path) -> list[str]:
    return ["--xauth-users", str(secret_file(folder / "users", f"{USER}:{PASSWORD}\n"))]


XAUTH: dict[str, Any] = {"local-xauth": {"auth": "xauth", "xauth_id": USER, "round": "2"}}


@pytest.mark.cell("XAUTH")
@modes
def test_xauth(calling: CallingSwan, tmp_path: Path, saw: Saw, mode: str) -> None:
    calling.swan.load_eap(USER, PASSWORD)
    with calling.listening(tmp_path, *ACCEPTED, *users(tmp_path)) as place:
        with dialled(place, mode, **XAUTH) as address:
            place.check_traffic(address)
            saw("behind a pre-shared key")
        calling.swan.load_eap(USER, "another one")
        with pytest.raises(vici.exception.CommandException), dialled(place, mode, **XAUTH):
            pass
        assert not place.peer.tunnel()["connections"]


@pytest.mark.cell("XAUTH", variant="behind certificates")
def test_xauth_behind_certificates(calling: CallingSwan, tmp_path: Path, saw: Saw) -> None:
    ours = of_kind("rsa")
    calling.swan.load_key(key_pem(ours.swan.key))
    calling.swan.load_eap(USER, PASSWORD)
    both: dict[str, Any] = {"local": certified(ours), "remote": demanded(ours), **XAUTH}
    arguments = [*ACCEPTED, *ours.arguments(tmp_path / "pki"), *users(tmp_path)]
    with (
        calling.listening(tmp_path, *arguments, psk=None) as place,
        dialled(place, **both) as address,
    ):
        place.check_traffic(address)
        check_signature(calling.swan, ESPUDP_ID)
        saw("RSA on both sides, and a password")


@pytest.mark.cell("XAUTH", variant="hybrid")
def test_hybrid(calling: CallingSwan, tmp_path: Path, saw: Saw) -> None:
    ours = of_kind("rsa")
    calling.swan.load_eap(USER, PASSWORD)
    files = ours.arguments(tmp_path / "pki")
    arguments = [*ACCEPTED, *files[: files.index("--ca")], *users(tmp_path)]
    client = {"auth": "xauth", "xauth_id": USER, "id": SWAN_ID}
    with (
        calling.listening(tmp_path, *arguments, psk=None) as place,
        dialled(place, local=client, remote=demanded(ours)) as address,
    ):
        place.check_traffic(address)
        saw("hybrid authentication")


@pytest.mark.cell("mode config")
@pytest.mark.parametrize("way", ["pull", "push"])
def test_mode_config(calling: CallingSwan, tmp_path: Path, saw: Saw, way: str) -> None:
    pull, told = "yes" if way == "pull" else "no", f"installing DNS server {DNS}"
    before = calling.swan.seen(told)
    with (
        calling.listening(tmp_path, *ACCEPTED, "--mode-config", way, "--dns", DNS) as place,
        dialled(place, pull=pull) as address,
    ):
        place.check_traffic(address)
        assert calling.swan.seen(told) > before
        saw("address and DNS")
