"""Transport mode as libreswan negotiates it, in both versions and roles; its ESP is only pretended.

strongSwan's ESP in user space has tunnel mode alone. Behind a NAT libreswan has transport mode in IKEv1; in
IKEv2 it refuses the selectors with which RFC 7296 section 2.23.1 has the responder answer.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.interop import test_ike_halves, test_ikev1_halves
from tests.interop.lab import CLIENT_ADDRESS, SERVER_ADDRESS, Lab, lab, wait_until
from tests.interop.libreswan import Pluto, pluto
from tests.interop.matrix import INITIATOR, RESPONDER
from tests.interop.peer import Espudp, espudp
from tests.interop.swan import ESPUDP_ID, SWAN_ID
from tests.interop.test_ike_halves import PLUTO_SECRET, Libreswan

pytestmark = [pytest.mark.namespaces, pytest.mark.conntrack, pytest.mark.tun, pytest.mark.libreswan]

Saw = Callable[[str], None]

# L2TP's selectors: RFC 3193 section 4.
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


def versions(role: str) -> pytest.MarkDecorator:
    """Their cells in the matrix."""
    cell = pytest.mark.cell("transport mode")
    first = pytest.param(V1, id="behind a NAT", marks=[pytest.mark.peer("libreswan (IKEv1)", role), cell])
    second = pytest.param(V2, id="without UDP", marks=[pytest.mark.peer("libreswan (IKE)", role), cell])
    return pytest.mark.parametrize("version", [first, second])


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Libreswan]:
    with lab() as net, pluto(net.server, tmp_path_factory.mktemp("pluto") / "gateway", {}) as running:
        yield Libreswan(net, running)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Libreswan]:
    with lab() as net, pluto(net.client, tmp_path_factory.mktemp("pluto") / "client", {}) as running:
        yield Libreswan(net, running)


def told(peer: Espudp, version: Version) -> str:
    assert ("ESP without UDP" in peer.output) is (version.number == 2)
    return f"udp/1701, {peer.sas()[-1]['suite']}"


@versions(INITIATOR)
def test_espudp_connects(gateway: Libreswan, tmp_path: Path, saw: Saw, version: Version) -> None:
    net, pluto = gateway.net, gateway.pluto
    version.load(pluto, SERVER_ADDRESS, "%any")
    names = ["--id", ESPUDP_ID, "--remote-id", SWAN_ID]
    wanted = ["--transport", "--subnet", "udp/1701", "--local-subnet", "udp/1701"]
    typed = ["connect", SERVER_ADDRESS, *names, *wanted, *version.options]
    with version.place(net), espudp(net.client, tmp_path, *typed) as peer:
        peer.wait_for("transport mode, 203.0.113.2/32[udp/1701]")
        pluto.wait_for(version.said)
        assert version.number == 2 or f"NATOA={CLIENT_ADDRESS}" in pluto.log
        version.check_rekeys(peer)
        saw(told(peer, version))


@versions(RESPONDER)
def test_libreswan_connects(client: Libreswan, tmp_path: Path, saw: Saw, version: Version) -> None:
    net, pluto = client.net, client.pluto
    version.load(pluto, CLIENT_ADDRESS, SERVER_ADDRESS)
    reach = ["--transport", "--subnet", "udp/1701", "--peer-subnet", "udp", "--local-id", ESPUDP_ID]
    with version.place(net), espudp(net.server, tmp_path, "listen", *reach, *version.options) as peer:
        said = pluto.command("whack", "--initiate", "--name", "hosts")
        assert version.said in said
        assert version.number == 2 or "NAT-OA" in said
        version.check_rekeys(peer)
        saw(told(peer, version))
        pluto.command("whack", "--terminate", "--name", "hosts")
        wait_until(lambda: not peer.tunnel()["connections"], "espudp to hear of the Delete")
