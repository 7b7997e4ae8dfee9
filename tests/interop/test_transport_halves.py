"""Transport mode as strongSwan and libreswan negotiate it, in both versions and roles; their ESP is only
pretended: strongSwan's own, in user space, has tunnel mode alone.

Behind a NAT strongSwan has it in both versions, libreswan in IKEv1: in IKEv2 it refuses the selectors with
which RFC 7296 section 2.23.1 has the responder answer.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop import test_ike_halves, test_ikev1_halves
from tests.interop.charon import Charon, charon
from tests.interop.lab import CLIENT_ADDRESS, ROUTER_OUTSIDE, SERVER_ADDRESS, Lab, Namespace, lab, wait_until
from tests.interop.libreswan import Pluto, pluto
from tests.interop.matrix import INITIATOR, RESPONDER
from tests.interop.peer import PSK, Espudp, espudp
from tests.interop.swan import ESPUDP_ID, SWAN_ID
from tests.interop.test_ike_halves import PLUTO_SECRET, Libreswan

pytestmark = [pytest.mark.namespaces, pytest.mark.conntrack, pytest.mark.tun]

Saw = Callable[[str], None]

# L2TP's selectors: RFC 3193 section 4.
ESPUDP_CONNECTS = ("--transport", "--subnet", "udp/1701", "--local-subnet", "udp/1701")
ESPUDP_LISTENS = ("--transport", "--subnet", "udp/1701", "--peer-subnet", "udp")

CONN = f"""
conn hosts
    left={{here}}
    leftid=@{SWAN_ID}
    leftprotoport=udp/1701
    right={{there}}
    rightid=@{ESPUDP_ID}
    rightprotoport=udp/1701
    type=transport
    ikev2={{ikev2}}
    encapsulation=auto
    authby=secret
    ike=aes128-sha2_256;modp2048
    esp=aes128-sha1
    auto=add
"""


@dataclass(frozen=True)
class Version:
    """Of IKE: its number, our options, what libreswan says in the end, and how keys are renewed."""

    number: int
    options: tuple[str, ...]
    said: str
    check_rekeys: Callable[[Espudp], None]

    def load(self, pluto: Pluto, here: str, there: str) -> None:
        ikev2 = "insist" if self.number == 2 else "no"
        pluto.load(CONN.format(here=here, there=there, ikev2=ikev2), PLUTO_SECRET)

    def place(self, net: Lab) -> AbstractContextManager[None]:
        return net.without_nat() if self.number == 2 else nullcontext()


# PFS with the group of the IKE SA is libreswan's default.
SUITES = ("--ike-proposal", "aes128-sha256-modp2048", "--esp-proposal", "aes128-sha1-modp2048")
MAIN = ("--ikev1", "main")

V1 = Version(1, (*SUITES, *MAIN), "IPsec SA established transport mode", test_ikev1_halves.check_rekeys)
V2 = Version(2, SUITES, "established Child SA", test_ike_halves.check_rekeys)


BEHIND, WITHOUT = "behind a NAT", "without a NAT"


def versions(role: str, **peers: tuple[str, str]) -> pytest.MarkDecorator:
    """IKEv1 and IKEv2, and what the matrix calls the peer and the variant."""
    return pytest.mark.parametrize(
        "version",
        [
            pytest.param(
                version,
                id=f"IKEv{version.number}",
                marks=[pytest.mark.peer(name, role), pytest.mark.cell("transport mode", variant=variant)],
            )
            for version, (name, variant) in zip((V1, V2), (peers["first"], peers["second"]), strict=True)
        ],
    )


LIBRESWAN = {"first": ("libreswan (IKEv1)", BEHIND), "second": ("libreswan (IKE)", WITHOUT)}
STRONGSWAN = {"first": ("strongSwan, IKEv1", BEHIND), "second": ("strongSwan", BEHIND)}


def told(peer: Espudp) -> str:
    return f"udp/1701, {peer.sas()[-1]['suite']}"


def connecting(net: Lab, folder: Path, version: Version) -> AbstractContextManager[Espudp]:
    names = ["--id", ESPUDP_ID, "--remote-id", SWAN_ID]
    typed = ["connect", SERVER_ADDRESS, *names, *ESPUDP_CONNECTS, *version.options]
    return espudp(net.client, folder, *typed)


def listening(net: Lab, folder: Path, version: Version) -> AbstractContextManager[Espudp]:
    typed = ["listen", "--local-id", ESPUDP_ID, *ESPUDP_LISTENS, *version.options]
    return espudp(net.server, folder, *typed)


# libreswan


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Libreswan]:
    with lab() as net, pluto(net.server, tmp_path_factory.mktemp("pluto") / "gateway", {}) as running:
        yield Libreswan(net, running)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Libreswan]:
    with lab() as net, pluto(net.client, tmp_path_factory.mktemp("pluto") / "client", {}) as running:
        yield Libreswan(net, running)


@pytest.mark.libreswan
@versions(INITIATOR, **LIBRESWAN)
def test_espudp_connects_to_libreswan(gateway: Libreswan, tmp_path: Path, saw: Saw, version: Version) -> None:
    net, pluto = gateway.net, gateway.pluto
    version.load(pluto, SERVER_ADDRESS, "%any")
    with version.place(net), connecting(net, tmp_path, version) as peer:
        peer.wait_for(f"transport mode, {SERVER_ADDRESS}/32[udp/1701]")
        pluto.wait_for(version.said)
        assert version.number == 2 or f"NATOA={CLIENT_ADDRESS}" in pluto.log
        assert ("ESP without UDP" in peer.output) is (version.number == 2)
        version.check_rekeys(peer)
        saw(told(peer))


@pytest.mark.libreswan
@versions(RESPONDER, **LIBRESWAN)
def test_libreswan_connects(client: Libreswan, tmp_path: Path, saw: Saw, version: Version) -> None:
    net, pluto = client.net, client.pluto
    version.load(pluto, CLIENT_ADDRESS, SERVER_ADDRESS)
    with version.place(net), listening(net, tmp_path, version) as peer:
        said = pluto.command("whack", "--initiate", "--name", "hosts")
        assert version.said in said
        assert version.number == 2 or "NAT-OA" in said
        peer.wait_for("ESP without UDP" if version.number == 2 else "NAT: the peer")
        version.check_rekeys(peer)
        saw(told(peer))
        pluto.command("whack", "--terminate", "--name", "hosts")
        wait_until(lambda: not peer.tunnel()["connections"], "espudp to hear of the Delete")


# strongSwan

# Port 1701 by the name that it had before L2TP: /etc/services
L2TP = "udp/l2f"


@dataclass(frozen=True)
class Swan:
    """charon on one side of a network of its own."""

    net: Lab
    charon: Charon

    def load(self, version: Version, **ends: list[str]) -> None:
        child = {
            "mode": "transport",
            "esp_proposals": ["aes128-sha1-modp2048"],
            "local_ts": ["dynamic[udp/1701]"],
            "remote_ts": ["dynamic[udp/1701]"],
        }
        conn = {
            "version": str(version.number),
            "encap": "no",
            "proposals": ["aes128-sha256-modp2048"],
            "local": {"auth": "psk", "id": SWAN_ID},
            "remote": {"auth": "psk", "id": ESPUDP_ID},
            "children": {"hosts": child},
            **ends,
        }
        self.charon.load("hosts", conn)

    def selectors(self) -> tuple[list[str], list[str]]:
        """Of its child SA, as strongSwan has them: its own, and ours."""
        (child,) = self.charon.child_sas()
        assert (child["mode"], child["encap"]) == ("TRANSPORT", "yes")
        return child["local-ts"], child["remote-ts"]


@contextmanager
def negotiating(net: Lab, space: Namespace, folder: Path) -> Iterator[Swan]:
    with charon(space, folder, negotiates_only=True) as running:
        running.load_psk(PSK, ESPUDP_ID, SWAN_ID)
        yield Swan(net, running)


@pytest.fixture(scope="module")
def swan_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swan]:
    with lab() as net, negotiating(net, net.server, tmp_path_factory.mktemp("swan")) as swan:
        yield swan


@pytest.fixture(scope="module")
def swan_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swan]:
    with lab() as net, negotiating(net, net.client, tmp_path_factory.mktemp("swan")) as swan:
        yield swan


@pytest.mark.strongswan
@pytest.mark.cc
@versions(INITIATOR, **STRONGSWAN)
def test_espudp_connects_to_strongswan(
    swan_gateway: Swan, tmp_path: Path, saw: Saw, version: Version
) -> None:
    swan_gateway.load(version, local_addrs=[SERVER_ADDRESS])
    with connecting(swan_gateway.net, tmp_path, version) as peer:
        peer.wait_for(f"transport mode, {SERVER_ADDRESS}/32[udp/1701]")
        wait_until(lambda: bool(swan_gateway.charon.child_sas()), "strongSwan to have the child SA")
        ours, theirs = f"{ROUTER_OUTSIDE}/32[{L2TP}]", f"{SERVER_ADDRESS}/32[{L2TP}]"
        assert swan_gateway.selectors() == ([theirs], [ours])
        version.check_rekeys(peer)
        saw(told(peer))


@pytest.mark.strongswan
@pytest.mark.cc
@versions(RESPONDER, **STRONGSWAN)
def test_strongswan_connects(swan_client: Swan, tmp_path: Path, saw: Saw, version: Version) -> None:
    swan_client.load(version, remote_addrs=[SERVER_ADDRESS])
    with listening(swan_client.net, tmp_path, version) as peer:
        swan_client.charon.initiate("hosts")
        ours, theirs = f"{SERVER_ADDRESS}/32[{L2TP}]", f"{CLIENT_ADDRESS}/32[{L2TP}]"
        assert swan_client.selectors() == ([theirs], [ours])
        version.check_rekeys(peer)
        saw(told(peer))
        swan_client.charon.terminate("hosts")
        wait_until(lambda: not peer.tunnel()["connections"], "espudp to hear of the Delete")
