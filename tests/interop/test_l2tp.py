"""xl2tpd and pppd as the L2TP of both ends, behind a NAT, with the configuration that espudp writes."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from espudp.host.l2tp import client_files, server_files, write_files
from tests.interop.authority import of_kind
from tests.interop.lab import NEIGHBOUR_ADDRESS, SERVER_ADDRESS, Lab, Namespace, lab, wait_until
from tests.interop.matrix import INITIATOR, RESPONDER
from tests.interop.peer import PSK, Espudp, espudp
from tests.interop.swan import ESPUDP_ID
from tests.interop.xl2tpd import USER, Xl2tpd, transfer, xl2tpd

pytestmark = [pytest.mark.xl2tpd, pytest.mark.namespaces, pytest.mark.tun]

Saw = Callable[[str], None]

POOL = "10.99.0.0/24"
SERVER = "10.99.0.1"

MANY = 20

# What the router carries that is neither IKE nor ESP in UDP, nor says that such a datagram met a closed port;
# the neighbour's questions aside.
OTHERS = f"""
table ip others {{
  chain forward {{
    type filter hook forward priority 0
    udp dport {{ 500, 4500 }} accept
    udp sport {{ 500, 4500 }} accept
    icmp type destination-unreachable accept
    ip saddr != {NEIGHBOUR_ADDRESS} counter
  }}
}}
"""


def test_without_ipsec(tmp_path: Path) -> None:
    """What is below works: both daemons with this configuration, and the PPP that this kernel has not."""
    ours, theirs = tmp_path / "server", tmp_path / "client"
    write_files(ours, server_files(ours, IPv4Network(POOL)))
    write_files(theirs, client_files(theirs, SERVER_ADDRESS, USER))
    with lab() as net, xl2tpd(net.server, ours) as server, xl2tpd(net.client, theirs) as client:
        assert client.wait_for_links() == {"ppp0": SERVER}
        assert server.wait_for_links() == {"ppp0": "10.99.0.2"}
        assert net.client.ping(SERVER, octets=1200)
        transfer(net.client, net.server, SERVER)


MAIN = ("--ikev1", "main")
VERSIONS = [pytest.param((), id="IKEv2"), pytest.param(MAIN, id="IKEv1")]


@pytest.mark.peer("xl2tpd", INITIATOR)
@pytest.mark.cell("L2TP")
@pytest.mark.parametrize("ike", VERSIONS)
def test_through_transport_mode(tmp_path: Path, saw: Saw, ike: tuple[str, ...]) -> None:
    """A link and its traffic, of which the outside sees nothing; and when IPsec breaks off, still nothing. A
    neighbour who asks without IPsec gets no answer.
    """
    naked = tmp_path / "naked"
    write_files(naked, client_files(naked, SERVER_ADDRESS, USER))
    with lab() as net, serving(net, tmp_path / "server") as (gateway, server):
        net.router.run("nft", "-f", "-", text=OTHERS)
        with (
            net.neighbour() as space,
            xl2tpd(space, naked) as neighbour,
            dialling(net.client, tmp_path / "client", "--id", "alice", *ike) as client,
        ):
            assert client.wait_for_links() == {"ppp0": SERVER}
            (address,) = server.wait_for_links().values()
            check_traffic(net.client, net.server, address)
            gateway.kill()
            with net.client.pinging(SERVER) as there, net.server.pinging(address) as back:
                time.sleep(0.3)
                assert (there.end(), back.end()) == (0, 0)
            assert "Connecting to host" in neighbour.process.output
            assert not neighbour.links()
        assert strangers(net) == 0
        saw("a PPP link through transport mode, TCP and ping over it; nothing in the clear")


@pytest.mark.peer("xl2tpd", RESPONDER)
@pytest.mark.cell("L2TP")
@pytest.mark.parametrize("ike", VERSIONS)
def test_two_clients_behind_one_nat(tmp_path: Path, saw: Saw, ike: tuple[str, ...]) -> None:
    """Both send from UDP port 1701 to the same server, and neither disturbs the other, nor do new keys."""
    with ExitStack() as stack:
        net = stack.enter_context(lab())
        spaces = net.client, stack.enter_context(net.neighbour())
        gateway, server = stack.enter_context(serving(net, tmp_path / "server"))
        for name, space in zip(("alice", "bob"), spaces, strict=True):
            client = stack.enter_context(dialling(space, tmp_path / name, "--id", name, *ike))
            assert client.wait_for_links() == {"ppp0": SERVER}
        addresses = server.wait_for_links(2).values()
        assert set(addresses) == {"10.99.0.2", "10.99.0.3"}
        with spaces[0].pinging(SERVER) as one, spaces[1].pinging(SERVER) as two:
            for address in addresses:
                assert net.server.ping(address, octets=1200)
            before = {sa["spi"] for sa in gateway.sas()}
            gateway.ask("rekey", what="child")
            gateway.ask("rekey", what="ike")
            wait_until(lambda: renewed(gateway, before), "new keys for both")
            time.sleep(0.3)
            assert min(one.end(), two.end()) > MANY
        saw("two behind one NAT at once, and new keys")


@pytest.mark.peer("xl2tpd", INITIATOR)
@pytest.mark.cell("L2TP", variant="IKEv1 with certificates")
def test_with_certificates(tmp_path: Path, saw: Saw) -> None:
    ours = of_kind("rsa")
    theirs = replace(ours, espudp=ours.swan).arguments(tmp_path / "theirs")
    identified = ("--remote-id", ESPUDP_ID, *theirs)
    with (
        lab() as net,
        serving(net, tmp_path / "server", *ours.arguments(tmp_path / "ours"), psk=None),
        dialling(net.client, tmp_path / "client", *MAIN, *identified, psk=None) as client,
    ):
        assert client.wait_for_links() == {"ppp0": SERVER}
        assert net.client.ping(SERVER)
        saw("certificates as well")


@contextmanager
def serving(
    net: Lab, folder: Path, *arguments: str, psk: str | None = PSK
) -> Iterator[tuple[Espudp, Xl2tpd]]:
    reach = ["--pool", POOL, "--l2tp", "--l2tp-config", str(folder)]
    with espudp(net.server, folder / "espudp", "listen", *reach, *arguments, psk=psk) as peer:
        peer.wait_for("Listening")
        with xl2tpd(net.server, folder) as daemon:
            yield peer, daemon


@contextmanager
def dialling(space: Namespace, folder: Path, *arguments: str, psk: str | None = PSK) -> Iterator[Xl2tpd]:
    wanted = ["--l2tp", "--l2tp-config", str(folder), "--l2tp-user", USER]
    with espudp(space, folder / "espudp", "connect", SERVER_ADDRESS, *wanted, *arguments, psk=psk) as peer:
        peer.wait_for("Connected to")
        with xl2tpd(space, folder) as daemon:
            yield daemon


def check_traffic(client: Namespace, server: Namespace, address: str) -> None:
    """Small and large packets from either side, and a TCP connection each way."""
    assert client.ping(SERVER)
    assert server.ping(address, octets=1200)
    transfer(client, server, SERVER)
    transfer(server, client, address)


def renewed(peer: Espudp, before: set[str]) -> bool:
    return len({sa["spi"] for sa in peer.sas()} - before) == 2


def strangers(net: Lab) -> int:
    """How many packets the router has carried that are neither IKE nor ESP in UDP."""
    shown = json.loads(net.router.run("nft", "-j", "list", "table", "ip", "others"))["nftables"]
    rules = [item["rule"]["expr"] for item in shown if "rule" in item]
    counted = [part["counter"]["packets"] for rule in rules for part in rule if "counter" in part]
    assert len(counted) == 1
    packets: int = counted[0]
    return packets
