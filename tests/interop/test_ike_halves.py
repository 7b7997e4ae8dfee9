"""The IKE of libreswan and openiked, in both roles: they need the kernel's ESP, which is only pretended."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop.authority import Authority, of_kind
from tests.interop.lab import CLIENT_ADDRESS, SERVER_ADDRESS, Lab, lab, wait_until
from tests.interop.libreswan import Pluto, pluto
from tests.interop.matrix import INITIATOR, RESPONDER
from tests.interop.openiked import certified, iked
from tests.interop.peer import PSK, Espudp, espudp
from tests.interop.swan import ESPUDP_ID, SWAN_ID

pytestmark = pytest.mark.namespaces

Saw = Callable[[str], None]

SUBNET, POOL, ADDRESS = "10.78.0.0/24", "10.79.0.0/24", "10.79.0.7"
BEHIND_CLIENT = "10.80.0.0/24"


@contextmanager
def network() -> Iterator[Lab]:
    with lab() as net:
        net.server.run("ip", "address", "add", "10.78.0.1/24", "dev", "lo")
        yield net


@pytest.fixture(scope="module")
def net() -> Iterator[Lab]:
    with network() as net:
        yield net


def arguments(ike: str, esp: str) -> list[str]:
    return ["--ike-proposal", ike, "--esp-proposal", esp]


@contextmanager
def calling(
    net: Lab, folder: Path, *algorithms: str, proof: Sequence[str] = (), options: Sequence[str] = ()
) -> Iterator[Espudp]:
    """espudp has connected to the peer on the server, and has it forget everything at the end."""
    ids = ["--id", ESPUDP_ID, "--remote-id", SWAN_ID]
    wanted = [*ids, "--subnet", SUBNET, *arguments(*algorithms), *proof, *options]
    psk = None if proof else PSK
    with espudp(net.client, folder, "connect", SERVER_ADDRESS, *wanted, psk=psk) as peer:
        peer.wait_for("Connected to")
        yield peer


@contextmanager
def listening(
    net: Lab, folder: Path, *algorithms: str, proof: Sequence[str] = (), options: Sequence[str] = ()
) -> Iterator[Espudp]:
    """espudp listens on the server."""
    reach = ["--pool", POOL, "--subnet", SUBNET, "--peer-subnet", BEHIND_CLIENT]
    ours = ["--local-id", ESPUDP_ID, *reach, *arguments(*algorithms), *proof, *options]
    with espudp(net.server, folder, "listen", *ours, psk=None if proof else PSK) as peer:
        yield peer


def numbers(peer: Espudp, what: str) -> list[str]:
    """SPIs of the IKE SA, or of the child SA."""
    if what == "ike":
        return [connection["spi_i"] for connection in peer.tunnel()["connections"]]
    return [f"{sa['spi']:08x}" for sa in peer.sas()]


def check_rekeys(peer: Espudp) -> None:
    """Both kinds of rekeying, started by espudp."""
    for what in ("child", "ike", "child"):
        before = numbers(peer, what)
        peer.ask("rekey", what=what)

        def renewed(what: str = what, before: list[str] = before) -> bool:
            now = numbers(peer, what)
            return len(now) == 1 and now != before

        wait_until(renewed, f"another {what} SA")


def told(peer: Espudp) -> str:
    """The suite of the only child SA, as espudp has it."""
    (sa,) = peer.sas()
    return f"child SA with {sa['suite']}"


# libreswan

PLUTO_SECRET = f'@{SWAN_ID} @{ESPUDP_ID} : PSK "{PSK}"'

PLUTO_GATEWAY = f"""
conn gateway
    left={SERVER_ADDRESS}
    leftid=@{SWAN_ID}
    leftsubnet={SUBNET}
    right=%any
    rightid=@{ESPUDP_ID}
    rightaddresspool=10.79.0.7-10.79.0.7
    {{auth}}
    ike={{ike}}
    esp={{esp}}
    auto=add
"""

PLUTO_CLIENT = f"""
conn client
    left={CLIENT_ADDRESS}
    leftid=@{SWAN_ID}
    leftsubnet={BEHIND_CLIENT}
    right={SERVER_ADDRESS}
    rightid=@{ESPUDP_ID}
    rightsubnet={SUBNET}
    {{auth}}
    ike={{ike}}
    esp={{esp}}
    auto=add
"""

PLUTO_ESTABLISHED = "responder established IKE SA; authenticated peer"
PLUTO_ENDED = "deleting state (STATE_V2_ESTABLISHED_IKE_SA)"

PLUTO_KEYS = {"rsa": "rsasig", "p256": "ecdsa", "p384": "ecdsa"}

# espudp's names, and libreswan's; PFS with the group of the IKE SA is its default
PLUTO_FIRST = (
    ("aes128gcm16-prfsha256-curve25519", "aes128gcm16-curve25519"),
    ("aes_gcm128-sha2_256-dh31", "aes_gcm128"),
)

PLUTO_SUITES = [
    pytest.param(*PLUTO_FIRST, id="aes128gcm16-prfsha256-curve25519"),
    pytest.param(
        ("aes256-sha512-modp2048", "aes256-sha256-modp2048"),
        ("aes256-sha2_512-dh14", "aes256-sha2_256"),
        id="aes256-sha512-modp2048",
    ),
]


@dataclass(frozen=True)
class Libreswan:
    """pluto on one side of a network of its own."""

    net: Lab
    pluto: Pluto


def certificates() -> dict[str, Authority]:
    return {kind: of_kind(kind) for kind in PLUTO_KEYS}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Libreswan]:
    folder = tmp_path_factory.mktemp("pluto") / "gateway"
    with network() as net, pluto(net.server, folder, certificates()) as running:
        yield Libreswan(net, running)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Libreswan]:
    folder = tmp_path_factory.mktemp("pluto") / "client"
    with network() as net, pluto(net.client, folder, certificates()) as running:
        yield Libreswan(net, running)


Suite = tuple[str, str]


@pytest.mark.libreswan
@pytest.mark.peer("libreswan (IKE)", INITIATOR)
@pytest.mark.cell("PSK")
@pytest.mark.parametrize(("ours", "theirs"), PLUTO_SUITES)
def test_espudp_connects_to_libreswan(
    gateway: Libreswan, tmp_path: Path, saw: Saw, ours: Suite, theirs: Suite
) -> None:
    (ike, esp), pluto = theirs, gateway.pluto
    pluto.load(PLUTO_GATEWAY.format(ike=ike, esp=esp, auth="authby=secret"), PLUTO_SECRET)
    before = pluto.log.count(PLUTO_ESTABLISHED)
    with calling(gateway.net, tmp_path, *ours) as peer:
        pluto.wait_for(PLUTO_ESTABLISHED, times=before + 1)
        assert peer.ask("status")["addresses"] == [f"{ADDRESS}/32"]
        check_rekeys(peer)
        saw(told(peer))
        ended = pluto.log.count(PLUTO_ENDED)
    pluto.wait_for(PLUTO_ENDED, times=ended + 1)


@pytest.mark.libreswan
@pytest.mark.peer("libreswan (IKE)", RESPONDER)
@pytest.mark.cell("PSK")
@pytest.mark.parametrize(("ours", "theirs"), PLUTO_SUITES)
def test_libreswan_connects_to_espudp(
    client: Libreswan, tmp_path: Path, saw: Saw, ours: Suite, theirs: Suite
) -> None:
    (ike, esp), pluto = theirs, client.pluto
    pluto.load(PLUTO_CLIENT.format(ike=ike, esp=esp, auth="authby=secret"), PLUTO_SECRET)
    with listening(client.net, tmp_path, *ours) as peer:
        said = pluto.command("whack", "--initiate", "--name", "client")
        assert "established Child SA" in said
        check_rekeys(peer)
        saw(told(peer))
        pluto.command("whack", "--terminate", "--name", "client")
        wait_until(lambda: not peer.tunnel()["connections"], "espudp to hear of the DELETE")


pluto_keys = pytest.mark.parametrize("kind", list(PLUTO_KEYS))


def by_certificate(kind: str) -> str:
    """Both prove themselves so, and are of the same authority."""
    return f"authby={PLUTO_KEYS[kind]}\n    leftcert={kind}\n    leftsendcert=always\n    rightca=%same"


@pytest.mark.libreswan
@pytest.mark.peer("libreswan (IKE)", INITIATOR)
@pytest.mark.cell("certificates")
@pluto_keys
def test_espudp_connects_to_libreswan_by_certificate(
    gateway: Libreswan, tmp_path: Path, saw: Saw, kind: str
) -> None:
    ours, (suite, (ike, esp)), pluto = of_kind(kind), PLUTO_FIRST, gateway.pluto
    pluto.load(PLUTO_GATEWAY.format(ike=ike, esp=esp, auth=by_certificate(kind)))
    before = pluto.log.count(PLUTO_ESTABLISHED)
    with calling(gateway.net, tmp_path, *suite, proof=ours.arguments(tmp_path / "pki")) as peer:
        pluto.wait_for(PLUTO_ESTABLISHED, times=before + 1)
        saw(told(peer))


@pytest.mark.libreswan
@pytest.mark.peer("libreswan (IKE)", RESPONDER)
@pytest.mark.cell("certificates")
@pluto_keys
def test_libreswan_connects_to_espudp_by_certificate(
    client: Libreswan, tmp_path: Path, saw: Saw, kind: str
) -> None:
    ours, (suite, (ike, esp)), pluto = of_kind(kind), PLUTO_FIRST, client.pluto
    pluto.load(PLUTO_CLIENT.format(ike=ike, esp=esp, auth=by_certificate(kind)))
    with listening(client.net, tmp_path, *suite, proof=ours.arguments(tmp_path / "pki")) as peer:
        said = pluto.command("whack", "--initiate", "--name", "client")
        assert "established Child SA" in said
        saw(told(peer))
        pluto.command("whack", "--terminate", "--name", "client")
        wait_until(lambda: not peer.tunnel()["connections"], "espudp to hear of the DELETE")


# openiked, whose Debian package has neither AES-GCM nor HMAC-SHA2-256 for the ESP of a Linux kernel

IKED_GATEWAY = f"""
ikev2 "gateway" passive esp from {SUBNET} to {ADDRESS}/32 local {SERVER_ADDRESS} peer any \\
    ikesa {{ike}} childsa {{esp}} \\
    srcid {SWAN_ID} dstid {ESPUDP_ID} {{auth}} config address {ADDRESS}
"""

IKED_CLIENT = f"""
ikev2 "client" active esp from {BEHIND_CLIENT} to {SUBNET} local {CLIENT_ADDRESS} peer {SERVER_ADDRESS} \\
    ikesa {{ike}} childsa {{esp}} \\
    srcid {SWAN_ID} dstid {ESPUDP_ID} {{auth}}
"""

IKED_PSK = f'psk "{PSK}"'


IKED_FIRST = (
    ("aes128gcm16-prfsha256-curve25519", "aes256-sha384"),
    ("enc aes-128-gcm prf hmac-sha2-256 group curve25519", "auth hmac-sha2-384 enc aes-256"),
)

IKED_SUITES = [
    pytest.param(*IKED_FIRST, id="aes128gcm16-prfsha256-curve25519"),
    pytest.param(
        ("aes256-sha384-prfsha384-ecp384", "aes128-sha1"),
        ("auth hmac-sha2-384 enc aes-256 prf hmac-sha2-384 group ecp384", "auth hmac-sha1 enc aes-128"),
        id="aes256-sha384-ecp384",
    ),
]


@pytest.mark.openiked
@pytest.mark.peer("openiked (IKE)", INITIATOR)
@pytest.mark.cell("PSK")
@pytest.mark.parametrize(("ours", "theirs"), IKED_SUITES)
def test_espudp_connects_to_openiked(net: Lab, tmp_path: Path, saw: Saw, ours: Suite, theirs: Suite) -> None:
    ike, esp = theirs
    with iked(net.server, tmp_path / "iked", IKED_GATEWAY.format(ike=ike, esp=esp, auth=IKED_PSK)) as gateway:
        with calling(net, tmp_path, *ours) as peer:
            gateway.wait_for(f"established peer 203.0.113.1:4500[FQDN/{ESPUDP_ID}]")
            assert peer.ask("status")["addresses"] == [f"{ADDRESS}/32"]
            check_rekeys(peer)
            saw(told(peer))
        gateway.wait_for("sa_free: received delete")


@pytest.mark.openiked
@pytest.mark.peer("openiked (IKE)", RESPONDER)
@pytest.mark.cell("PSK")
@pytest.mark.parametrize(("ours", "theirs"), IKED_SUITES)
def test_openiked_connects_to_espudp(net: Lab, tmp_path: Path, saw: Saw, ours: Suite, theirs: Suite) -> None:
    ike, esp = theirs
    policy = IKED_CLIENT.format(ike=ike, esp=esp, auth=IKED_PSK)
    with listening(net, tmp_path, *ours) as peer, iked(net.client, tmp_path / "iked", policy) as client:
        client.wait_for(f"established peer {SERVER_ADDRESS}:4500[FQDN/{ESPUDP_ID}]")
        check_rekeys(peer)
        saw(told(peer))
        client.forget(ESPUDP_ID)
        wait_until(lambda: not peer.tunnel()["connections"], "espudp to hear of the DELETE")


iked_keys = pytest.mark.parametrize("kind", ["rsa", "p256", "p384"])


@pytest.mark.openiked
@pytest.mark.peer("openiked (IKE)", INITIATOR)
@pytest.mark.cell("certificates")
@iked_keys
def test_espudp_connects_to_openiked_by_certificate(net: Lab, tmp_path: Path, saw: Saw, kind: str) -> None:
    ours, (suite, (ike, esp)) = of_kind(kind), IKED_FIRST
    certified(tmp_path / "iked", ours)
    policy = IKED_GATEWAY.format(ike=ike, esp=esp, auth="")
    with iked(net.server, tmp_path / "iked", policy) as gateway:
        with calling(net, tmp_path, *suite, proof=ours.arguments(tmp_path / "pki")) as peer:
            gateway.wait_for(f"established peer 203.0.113.1:4500[FQDN/{ESPUDP_ID}]")
            saw(told(peer))
        gateway.wait_for("sa_free: received delete")


@pytest.mark.openiked
@pytest.mark.peer("openiked (IKE)", RESPONDER)
@pytest.mark.cell("certificates")
@iked_keys
def test_openiked_connects_to_espudp_by_certificate(net: Lab, tmp_path: Path, saw: Saw, kind: str) -> None:
    ours, (suite, (ike, esp)) = of_kind(kind), IKED_FIRST
    certified(tmp_path / "iked", ours)
    policy = IKED_CLIENT.format(ike=ike, esp=esp, auth="")
    with (
        listening(net, tmp_path, *suite, proof=ours.arguments(tmp_path / "pki")) as peer,
        iked(net.client, tmp_path / "iked", policy) as client,
    ):
        client.wait_for(f"established peer {SERVER_ADDRESS}:4500[FQDN/{ESPUDP_ID}]")
        saw(told(peer))
