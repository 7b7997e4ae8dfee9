"""vpnc connects to espudp through a NAT: aggressive mode, XAUTH, mode config, ESP in UDP."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.authority import of_kind
from tests.interop.caller import BEHIND, POOL, SUBNET
from tests.interop.lab import ROUTER_OUTSIDE, Lab, lab, wait_until
from tests.interop.matrix import RESPONDER
from tests.interop.peer import PSK, Espudp, espudp, secret_file
from tests.interop.vpnc import Vpnc, vpnc
from tests.interop.xl2tpd import transfer

pytestmark = [
    pytest.mark.vpnc,
    pytest.mark.namespaces,
    pytest.mark.tun,
    pytest.mark.peer("vpnc", RESPONDER),
]

Saw = Callable[[str], None]

GROUP, USER, PASSWORD = "staff", "alice", "open sesame"
BANNER = "Authorized users only."
DNS, DOMAIN = "10.78.0.53", "corp.example"

IKE, ESP = "aes256-sha1-modp2048", "aes256-sha1"


@contextmanager
def serving(net: Lab, folder: Path, *arguments: str, psk: str | None = PSK) -> Iterator[Espudp]:
    """A gateway for the users of a group, and a subnet behind it."""
    users = secret_file(folder / "users", f"{USER}:{PASSWORD}\n")
    net.server.run("ip", "address", "add", f"{BEHIND}/24", "dev", "lo")
    names = ["--dns", DNS, "--dns-domain", DOMAIN]
    reach = ["--pool", POOL, "--subnet", SUBNET, "--split", SUBNET, "--split", POOL, *names]
    login = ["--ikev1", "aggressive", "--xauth-users", str(users), "--banner", BANNER]
    suites = ["--ike-proposal", IKE, "--esp-proposal", ESP]
    typed = [*reach, *login, *suites, *arguments]
    with espudp(net.server, folder / "server", "listen", *typed, psk=psk) as peer:
        yield peer


@contextmanager
def calling(net: Lab, folder: Path, *, password: str = PASSWORD, **options: str) -> Iterator[Vpnc]:
    login = {"Xauth_username": USER, "Xauth_password": password}
    with vpnc(net.client, folder / "client", GROUP, PSK, **login, **options) as client:
        yield client


@pytest.mark.cell("aggressive mode, XAUTH, mode config")
def test_a_user_of_a_group(tmp_path: Path, saw: Saw) -> None:
    with lab() as net, serving(net, tmp_path) as gateway:
        with calling(net, tmp_path) as client:
            told = client.wait()
            address = told["INTERNAL_IP4_ADDRESS"]
            assert (told["INTERNAL_IP4_DNS"], told["CISCO_DEF_DOMAIN"]) == (DNS, DOMAIN)
            assert (told["CISCO_BANNER"], told["CISCO_SPLIT_INC_0_ADDR"]) == (
                BANNER,
                SUBNET.partition("/")[0],
            )
            (connection,) = gateway.tunnel()["connections"]
            assert connection["remote_identity"] == f"keyid:{USER}"
            assert connection["path"].rpartition(" -> ")[2].startswith(f"{ROUTER_OUTSIDE}:")
            assert net.client.ping(BEHIND)
            assert net.client.ping(BEHIND, octets=1200)
            assert net.server.ping(address, octets=700)
            transfer(net.client, net.server, BEHIND)
            transfer(net.server, net.client, address)
            (inbound,) = gateway.sas("in")
            assert inbound["drops"] == {}
            saw(f"{connection['suite']}, ESP {inbound['suite']} in UDP, ping and TCP both ways")
        wait_until(lambda: not gateway.tunnel()["connections"], "espudp to hear of the Delete")


@pytest.mark.cell("hybrid authentication")
def test_a_gateway_by_certificate(tmp_path: Path, saw: Saw) -> None:
    """vpnc knows the gateway by its certificate, and has nothing but a password."""
    files = of_kind("rsa").arguments(tmp_path / "pki")
    ours, ca = files[: files.index("--ca")], files[-1]
    options = {"IKE_Authmode": "hybrid", "CA-File": ca}
    with (
        lab() as net,
        serving(net, tmp_path, *ours, psk=None) as gateway,
        calling(net, tmp_path, **options) as client,
    ):
        client.wait()
        assert net.client.ping(BEHIND)
        (connection,) = gateway.tunnel()["connections"]
        assert connection["remote_identity"] == f"keyid:{USER}"
        saw("RSA, and a password")


@pytest.mark.cell("new keys and dead peer detection")
def test_the_gateway_rekeys_and_asks_whether_it_lives(tmp_path: Path, saw: Saw) -> None:
    with lab() as net, serving(net, tmp_path) as gateway, calling(net, tmp_path) as client:
        client.wait()
        before = _spis(gateway)
        gateway.ask("rekey", what="child")
        wait_until(lambda: len(gateway.sas()) == 1 and not before & _spis(gateway), "new SPIs")
        assert net.client.ping(BEHIND)
        wait_until(lambda: _silence(gateway) > 1.0, "silence")
        gateway.ask("check-alive")
        wait_until(lambda: _silence(gateway) < 1.0, "vpnc to say that it lives", seconds=3)
        saw("asked for by espudp, answered by vpnc")


def _spis(gateway: Espudp) -> set[int]:
    return {sa["spi"] for sa in gateway.sas()}


def _silence(gateway: Espudp) -> float:
    (connection,) = gateway.tunnel()["connections"]
    return float(connection["silent_for"])


@pytest.mark.cell("XAUTH, wrong password")
def test_a_wrong_password(tmp_path: Path, saw: Saw) -> None:
    with lab() as net, serving(net, tmp_path) as gateway:
        with calling(net, tmp_path, password="another") as client:
            client.process.wait()
        assert "authentication unsuccessful" in client.process.output
        gateway.wait_for("wrong user name or password (XAUTH)")
        assert not gateway.tunnel()["connections"]
    saw("refused, and says so")
