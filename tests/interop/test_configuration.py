"""Addresses, DNS servers, subnets and selectors that one side gives the other; strongSwan in both roles."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.interop.caller import BEHIND, GATEWAY, GATEWAY6, POOL, SUBNET, CallingSwan
from tests.interop.gateway import BEHIND_SWAN, Gateway
from tests.interop.lab import RESOLV_CONF, wait_until
from tests.interop.matrix import INITIATOR, RESPONDER
from tests.interop.swan import ESP

pytestmark = [pytest.mark.strongswan, pytest.mark.namespaces, pytest.mark.tun]

Saw = Callable[[str], None]

initiator = pytest.mark.peer("strongSwan", INITIATOR)
responder = pytest.mark.peer("strongSwan", RESPONDER)

SUBNET6, BEHIND6 = "fd00:78::/64", "fd00:78::1"
POOL4, DNS4 = "10.81.0.0/24", "10.78.0.54"
POOL6, DNS6 = "fd00:79::/120", "fd00:78::53"
# RFC 8598 section 3.1
INTERNAL_DNS_DOMAIN = "25"


@contextmanager
def pools(gateway: Gateway) -> Iterator[list[str]]:
    """Pools of strongSwan's for the block, of both families, with DNS servers and a domain."""
    gateway.net.server.run("ip", "address", "add", f"{BEHIND6}/64", "dev", "lo")
    domain = {INTERNAL_DNS_DOMAIN: ["corp.example"]}
    gateway.swan.vici.load_pool({"four": {"addrs": POOL4, "dns": [DNS4], **domain}})
    gateway.swan.vici.load_pool({"six": {"addrs": POOL6, "dns": [DNS6]}})
    try:
        yield ["four", "six"]
    finally:
        for name in ("four", "six"):
            gateway.swan.vici.unload_pool({"name": name})
        gateway.net.server.run("ip", "address", "del", f"{BEHIND6}/64", "dev", "lo")


@initiator
@pytest.mark.cell("configuration payload")
def test_what_strongswan_gives(gateway: Gateway, tmp_path: Path, saw: Saw) -> None:
    child = {"local_ts": [SUBNET, SUBNET6], "esp_proposals": [ESP]}
    with pools(gateway) as names:
        gateway.serve(pools=names, children={"net": child})
        more = ["--subnet", SUBNET6, "--vip", "any4", "--vip", "any6"]
        with gateway.connected(tmp_path, *more) as peer:
            addresses = [text.partition("/")[0] for text in peer.ask("status")["addresses"]]
            (sa,) = gateway.swan.ike_sas()
            assert sorted(addresses) == sorted(sa["remote-vips"])
            assert len(addresses) == 2
            assert gateway.net.client.ping(BEHIND_SWAN)
            assert gateway.net.client.ping(BEHIND6, octets=1000)
            assert sorted(peer.ask("status")["dns"]) == sorted([DNS4, DNS6])
            used = gateway.net.client.resolv_conf.read_text()
            assert DNS4 in used
            assert DNS6 in used
        gateway.swan.vici.unload_conn({"name": "gateway"})
    assert gateway.net.client.resolv_conf.read_text() == RESOLV_CONF
    saw("addresses and DNS servers of both families, in use and put back")


@responder
@pytest.mark.cell("configuration payload")
def test_what_espudp_gives(calling: CallingSwan, tmp_path: Path, saw: Saw) -> None:
    more = ["--dns", DNS4, "--dns", DNS6, "--dns-domain", "corp.example"]
    with calling.listening(tmp_path, *more) as place, place.dialled():
        for server in (DNS4, DNS6):
            calling.swan.wait_for(f"installing DNS server {server} to")
        (sa,) = calling.swan.ike_sas()
        assert len(sa["local-vips"]) == 2
        assert calling.net.client.ping(GATEWAY)
        assert calling.net.client.ping(GATEWAY6)
    saw("addresses and DNS servers of both families, in use and put back")


FIRST, SECOND = "10.78.0.0/25", "10.78.0.128/25"
IN_SECOND = "10.78.0.129"


@pytest.fixture
def halves(gateway: Gateway) -> Iterator[None]:
    """strongSwan has an address in each half of its subnet, as libipsec needs for its routes."""
    gateway.net.server.run("ip", "address", "add", f"{IN_SECOND}/25", "dev", "lo")
    yield
    gateway.net.server.run("ip", "address", "del", f"{IN_SECOND}/25", "dev", "lo")


@initiator
@pytest.mark.cell("several traffic selectors")
@pytest.mark.usefixtures("halves")
def test_several_selectors_as_initiator(gateway: Gateway, tmp_path: Path, saw: Saw) -> None:
    child = {"local_ts": [FIRST, SECOND, "10.77.0.0/24"], "esp_proposals": [ESP]}
    gateway.serve(children={"net": child})
    with gateway.connected(tmp_path, "--subnet", SECOND, subnet=FIRST):
        (offered,) = gateway.swan.child_sas()
        assert sorted(offered["local-ts"]) == sorted([FIRST, SECOND])
        assert gateway.net.client.ping(BEHIND_SWAN)
        assert gateway.net.client.ping(IN_SECOND)
    saw("two of three subnets in one child SA")


@responder
@pytest.mark.cell("several traffic selectors")
def test_several_selectors_as_responder(calling: CallingSwan, tmp_path: Path, saw: Saw) -> None:
    children = {"net": {"remote_ts": [POOL, SUBNET, "10.200.0.0/24"], "esp_proposals": [ESP]}}
    with calling.listening(tmp_path) as place, place.dialled(children=children):
        (narrowed,) = calling.swan.child_sas()
        assert sorted(narrowed["remote-ts"]) == sorted([POOL, SUBNET])
        assert calling.net.client.ping(GATEWAY)
        assert calling.net.client.ping(BEHIND)
    saw("two of three subnets in one child SA")


@initiator
@pytest.mark.cell("ports and protocols in selectors")
def test_ports_as_initiator(gateway: Gateway, tmp_path: Path, saw: Saw) -> None:
    child = {"local_ts": [f"{SUBNET}[icmp]"], "esp_proposals": [ESP]}
    gateway.serve(children={"net": child})
    with gateway.connected(tmp_path, subnet=f"{SUBNET}[icmp]"):
        (offered,) = gateway.swan.child_sas()
        assert offered["local-ts"] == [f"{SUBNET}[icmp]"]
        assert gateway.net.client.ping(BEHIND_SWAN)
    saw("ICMP alone")


@responder
@pytest.mark.cell("ports and protocols in selectors")
def test_ports_as_responder(calling: CallingSwan, tmp_path: Path, saw: Saw) -> None:
    children = {"net": {"remote_ts": [f"{POOL}[icmp]"], "esp_proposals": [ESP]}}
    with calling.listening(tmp_path) as place, place.dialled(children=children):
        (narrowed,) = calling.swan.child_sas()
        assert narrowed["remote-ts"] == [f"{POOL}[icmp]"]
        assert calling.net.client.ping(GATEWAY)
    saw("ICMP alone")


@initiator
@pytest.mark.cell("one child SA per pair of selectors")
@pytest.mark.usefixtures("halves")
def test_a_child_per_pair(gateway: Gateway, tmp_path: Path, saw: Saw) -> None:
    """strongSwan plays a gateway whose children have one pair each (survey: Cisco, FortiGate)."""
    children = {
        "first": {"local_ts": [FIRST], "esp_proposals": [ESP]},
        "second": {"local_ts": [SECOND], "esp_proposals": [ESP]},
    }
    gateway.serve(children=children)
    with gateway.connected(tmp_path, "--subnet", SECOND, subnet=FIRST):
        wait_until(lambda: len(gateway.swan.child_sas()) == 2, "a second child SA")
        selectors = sorted(selector for child in gateway.swan.child_sas() for selector in child["local-ts"])
        assert selectors == sorted([FIRST, SECOND])
        assert gateway.net.client.ping(BEHIND_SWAN)
        assert gateway.net.client.ping(IN_SECOND)
    saw("a child SA for what the first left out")


@responder
@pytest.mark.cell("one child SA per pair of selectors")
def test_a_child_per_pair_of_the_peer(calling: CallingSwan, tmp_path: Path, saw: Saw) -> None:
    """strongSwan plays a client whose children have one pair each."""
    children = {
        "net": {"remote_ts": [FIRST], "esp_proposals": [ESP]},
        "second": {"remote_ts": [SECOND], "esp_proposals": [ESP]},
    }
    calling.net.server.run("ip", "address", "add", f"{IN_SECOND}/25", "dev", "lo")
    try:
        with calling.listening(tmp_path) as place, place.dialled(children=children):
            calling.swan.initiate("second")
            (_,) = calling.swan.ike_sas()
            reached = [selector for child in calling.swan.child_sas() for selector in child["remote-ts"]]
            assert sorted(reached) == sorted([FIRST, SECOND])
            assert calling.net.client.ping(BEHIND)
            assert calling.net.client.ping(IN_SECOND)
    finally:
        calling.net.server.run("ip", "address", "del", f"{IN_SECOND}/25", "dev", "lo")
    saw("a child SA for what the first left out")


@initiator
@pytest.mark.cell("IPv6 inside")
def test_ipv6_inside(gateway: Gateway, tmp_path: Path, saw: Saw) -> None:
    child = {"local_ts": [SUBNET, SUBNET6], "esp_proposals": [ESP]}
    with pools(gateway) as names:
        gateway.serve(pools=names, children={"net": child})
        more = ["--subnet", SUBNET6, "--vip", "any4", "--vip", "any6"]
        with gateway.connected(tmp_path, *more) as peer:
            addresses = [text.partition("/")[0] for text in peer.ask("status")["addresses"]]
            (six,) = (address for address in addresses if ":" in address)
            assert gateway.net.client.ping(BEHIND6, octets=1000)
            assert gateway.net.server.ping(six)
    saw("addresses of both families")


@initiator
@pytest.mark.cell("split DNS (RFC 8598)")
def test_domains_of_strongswan(gateway: Gateway, tmp_path: Path, saw: Saw) -> None:
    child = {"local_ts": [SUBNET, SUBNET6], "esp_proposals": [ESP]}
    with pools(gateway) as names:
        gateway.serve(pools=names, children={"net": child})
        with gateway.connected(tmp_path, "--subnet", SUBNET6) as peer:
            status = peer.ask("status")
            assert status["dns_domains"] == ["corp.example"]
            assert DNS4 in status["dns"]
    saw("a domain and the DNS server for it")
