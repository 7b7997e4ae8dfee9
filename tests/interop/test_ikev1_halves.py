"""The IKEv1 of libreswan in both roles, which needs the kernel's ESP, and that is only pretended."""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.interop.authority import of_kind
from tests.interop.ikev1 import MODES, PASSWORD, USER
from tests.interop.lab import CLIENT_ADDRESS, SERVER_ADDRESS, wait_until
from tests.interop.libreswan import pluto
from tests.interop.matrix import INITIATOR, RESPONDER
from tests.interop.peer import PSK, Espudp, secret_file
from tests.interop.swan import ESPUDP_ID, SWAN_ID
from tests.interop.test_ike_halves import (
    ADDRESS,
    BEHIND_CLIENT,
    SUBNET,
    Libreswan,
    calling,
    listening,
    network,
    numbers,
)

pytestmark = [pytest.mark.namespaces, pytest.mark.libreswan]

Saw = Callable[[str], None]

initiator = pytest.mark.peer("libreswan (IKEv1)", INITIATOR)
responder = pytest.mark.peer("libreswan (IKEv1)", RESPONDER)

SECRET = f'@{SWAN_ID} @{ESPUDP_ID} : PSK "{PSK}"'

# PFS with the group of phase 1 is its default
OURS = ("aes128-sha256-modp2048", "aes128-sha1-modp2048")
COMMON = f"""
    leftid=@{SWAN_ID}
    leftsubnet={{subnet}}
    right={{right}}
    rightid=@{ESPUDP_ID}
    ikev2=no
    ike=aes128-sha2_256;modp2048
    esp=aes128-sha1
    {{auth}}
    auto=add
"""
GATEWAY = (
    f"conn gateway\n    left={SERVER_ADDRESS}{COMMON.format(subnet=SUBNET, right='%any', auth='{auth}')}"
    f"    rightaddresspool={ADDRESS}-{ADDRESS}\n    leftmodecfgserver=yes\n    rightmodecfgclient=yes\n"
    "    modecfgpull=yes\n"
)
CLIENT = (
    f"conn client\n    left={CLIENT_ADDRESS}"
    f"{COMMON.format(subnet=BEHIND_CLIENT, right=SERVER_ADDRESS, auth='{auth}')}    rightsubnet={SUBNET}\n"
)
ESTABLISHED = "IPsec SA established"

BY_CERTIFICATE = "authby=rsasig\n    leftcert=rsa\n    leftsendcert=always\n    rightca=%same"


def by_psk(mode: str) -> str:
    return f"authby=secret\n    aggressive={'yes' if mode == 'aggressive' else 'no'}"


def check_rekeys(peer: Espudp) -> None:
    """Both phases, renewed by espudp. What is replaced lingers on."""
    for what in ("child", "ike", "child"):
        before = set(numbers(peer, what))
        peer.ask("rekey", what=what)
        wait_until(functools.partial(_has_another, peer, what, before), f"another {what} SA")


def _has_another(peer: Espudp, what: str, before: set[str]) -> bool:
    return bool(set(numbers(peer, what)) - before)


def told(peer: Espudp) -> str:
    return f"child SA with {peer.sas()[-1]['suite']}"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Libreswan]:
    folder = tmp_path_factory.mktemp("pluto") / "gateway"
    with network() as net, pluto(net.server, folder, {"rsa": of_kind("rsa")}) as running:
        yield Libreswan(net, running)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Libreswan]:
    folder = tmp_path_factory.mktemp("pluto") / "client"
    with network() as net, pluto(net.client, folder, {"rsa": of_kind("rsa")}) as running:
        yield Libreswan(net, running)


@initiator
@pytest.mark.cell("PSK")
@pytest.mark.parametrize("mode", MODES)
def test_espudp_connects(gateway: Libreswan, tmp_path: Path, saw: Saw, mode: str) -> None:
    gateway.pluto.load(GATEWAY.format(auth=by_psk(mode)), SECRET)
    with calling(gateway.net, tmp_path, *OURS, options=["--ikev1", mode]) as peer:
        gateway.pluto.wait_for(ESTABLISHED)
        assert peer.ask("status")["addresses"] == [f"{ADDRESS}/32"]
        check_rekeys(peer)
        saw(told(peer))


@initiator
@pytest.mark.cell("certificates")
def test_espudp_connects_by_certificate(gateway: Libreswan, tmp_path: Path, saw: Saw) -> None:
    gateway.pluto.load(GATEWAY.format(auth=BY_CERTIFICATE))
    ours = of_kind("rsa").arguments(tmp_path / "pki")
    with calling(gateway.net, tmp_path, *OURS, proof=ours, options=["--ikev1", "main"]) as peer:
        saw(told(peer))


@initiator
@pytest.mark.cell("XAUTH")
def test_espudp_logs_in(gateway: Libreswan, tmp_path: Path, saw: Saw) -> None:
    xauth = f"{by_psk('aggressive')}\n    leftxauthserver=yes\n    rightxauthclient=yes\n    xauthby=alwaysok"
    gateway.pluto.load(GATEWAY.format(auth=xauth), SECRET)
    login = ["--xauth-user", USER, "--xauth-password-file", str(secret_file(tmp_path / "password", PASSWORD))]
    with calling(gateway.net, tmp_path, *OURS, options=["--ikev1", "aggressive", *login]) as peer:
        assert peer.ask("status")["addresses"] == [f"{ADDRESS}/32"]
        saw(told(peer))


@responder
@pytest.mark.cell("PSK")
@pytest.mark.parametrize("mode", MODES)
def test_libreswan_connects(client: Libreswan, tmp_path: Path, saw: Saw, mode: str) -> None:
    client.pluto.load(CLIENT.format(auth=by_psk(mode)), SECRET)
    with listening(client.net, tmp_path, *OURS, options=["--ikev1", mode]) as peer:
        said = client.pluto.command("whack", "--initiate", "--name", "client")
        assert ESTABLISHED in said
        check_rekeys(peer)
        saw(told(peer))
        client.pluto.command("whack", "--terminate", "--name", "client")
        wait_until(lambda: not peer.tunnel()["connections"], "espudp to hear of the Delete")


@responder
@pytest.mark.cell("certificates")
def test_libreswan_connects_by_certificate(client: Libreswan, tmp_path: Path, saw: Saw) -> None:
    client.pluto.load(CLIENT.format(auth=BY_CERTIFICATE))
    ours = of_kind("rsa").arguments(tmp_path / "pki")
    with listening(client.net, tmp_path, *OURS, proof=ours, options=["--ikev1", "main"]) as peer:
        said = client.pluto.command("whack", "--initiate", "--name", "client")
        assert ESTABLISHED in said
        saw(told(peer))
        client.pluto.command("whack", "--terminate", "--name", "client")
        wait_until(lambda: not peer.tunnel()["connections"], "espudp to hear of the Delete")
