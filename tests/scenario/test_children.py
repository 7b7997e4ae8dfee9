"""Several child SAs of one connection, IPv6 inside and outside, and every suite."""

import pytest

from espudp.ike.config import ChildConfig
from espudp.ike.events import AddressAssigned, ChildInstalled, ConnectionDown
from espudp.ike.proposals import EspProposal
from espudp.wire.selectors import TrafficSelector
from tests.scenario.lab import POOL, SERVER_INSIDE, Lab, Terms
from tests.scenario.test_rekey import PFS, TERMS, rekey_child, rekey_ike
from tests.sim.host import Host
from tests.sim.nat import NatKind
from tests.sim.traffic import Flow
from tests.unit.crypto.vectors import DISTINCT_SUITES

_POOL6 = "2001:db8:99::/64"
_INSIDE6 = "2001:db8:99::1"
_SERVER6, _CLIENT6 = "2001:db8:1::1", "2001:db8:2::7"
_OTHER = "10.1.0.7"  # behind the server


def _second_child(client: Host, proposal: str = "aes256-sha256") -> ChildInstalled:
    config = ChildConfig(
        remote=(TrafficSelector.from_network("10.1.0.0/16"),), proposals=(EspProposal.parse(proposal),)
    )
    known = len(client.children())
    client.do(lambda tunnel: tunnel.create_child(client.connection, config, client.world.now))
    client.world.run_until(lambda: len(client.children()) > known, within=10.0)
    return client.children()[-1]


def _both(lab: Lab, client: Host) -> list[Flow]:
    """Traffic to the server itself, and to what is behind it."""
    flows = [*lab.flows(client), *lab.flows(client, server_inside=_OTHER)]
    for flow in flows:
        flow.start()
    return flows


def _check(lab: Lab, flows: list[Flow]) -> None:
    for flow in flows:
        flow.stop()
    lab.world.run(2.0)
    assert [flow.tally.lost for flow in flows] == [0] * len(flows)
    assert all(flow.tally.perfect for flow in flows)


_TWO_CHILDREN = (Terms(remote=(POOL,)), Terms(esp=("aes128gcm16", "aes256-sha256")))


def test_a_second_child_with_another_suite() -> None:
    lab = Lab(0, *_TWO_CHILDREN)
    client = lab.client()
    lab.connect(client)
    assert _second_child(client).suite.name == "aes256-sha256"
    flows = _both(lab, client)
    lab.world.run(2.0)
    _check(lab, flows)


def test_both_children_are_rekeyed_on_their_own() -> None:
    lab = Lab(0, *_TWO_CHILDREN)
    client = lab.client()
    lab.connect(client)
    _second_child(client)
    flows = _both(lab, client)
    for host in (client, lab.server) * 3:
        for child in host.children():
            rekey_child(host, child)
        lab.world.run(5.0)
        assert len(client.children()) == len(lab.server.children()) == 2
    rekey_ike(client)
    lab.world.run(5.0)
    assert {child.suite.name for child in client.children()} == {"aes128gcm16", "aes256-sha256"}
    _check(lab, flows)


def test_one_child_is_deleted_and_the_other_stays() -> None:
    lab = Lab(0, *_TWO_CHILDREN)
    client = lab.client()
    lab.connect(client)
    second = _second_child(client)
    client.do(lambda tunnel: tunnel.delete_child(client.connection, second.spi_in, lab.world.now))
    lab.world.run(5.0)
    assert len(client.children()) == len(lab.server.children()) == 1
    assert all(flow.tally.perfect for flow in lab.exchange(client))
    there, back = lab.exchange(client, server_inside=_OTHER)
    assert there.tally.received == back.tally.received == 0


@pytest.mark.parametrize("side", ["client", "server"])
def test_the_only_child_is_deleted_and_comes_back(side: str) -> None:
    """Who dialled keeps the tunnel up."""
    lab = Lab()
    client = lab.client()
    lab.connect(client)
    host = client if side == "client" else lab.server
    host.do(lambda tunnel: tunnel.delete_child(host.connection, host.children()[0].spi_in, lab.world.now))
    lab.world.run(10.0)
    assert not client.told(ConnectionDown)
    assert all(flow.tally.perfect for flow in lab.exchange(client))


@pytest.mark.parametrize("suite", DISTINCT_SUITES, ids=lambda suite: suite.name)
def test_every_suite(suite: object) -> None:
    name = str(getattr(suite, "name", ""))
    lab = Lab(terms=Terms(esp=(name,)))
    client = lab.client(behind=lab.nat())
    lab.connect(client)
    assert client.children()[0].suite.name == lab.server.children()[0].suite.name == name
    assert all(flow.tally.perfect for flow in lab.exchange(client, seconds=1.0))


@pytest.mark.parametrize(
    "ike",
    [
        "aes256-sha256-modp2048",
        "aes128-sha1-modp3072",
        "aes192-sha384-modp4096",
        "aes256-sha512-ecp256",
        "aes128gcm16-prfsha384-ecp384",
        "aes256gcm16-prfsha512-ecp521",
        "chacha20poly1305-prfsha256-curve25519",
        "aes128ctr-aesxcbc-prfaesxcbc-curve448",
        "aes256ctr-aescmac-prfaescmac-modp6144",
        "aes128ccm8-prfsha256-modp8192",
        "aes256ccm16-prfsha512-modp1536",
        "aes192gcm12-prfsha256-modp2048s224",
        "aes128gcm8-prfaescmac-modp2048s256",
        "3des-sha1-modp1024",
        "aes128-aesxcbc-prfsha1-modp1024s160",
    ],
)
def test_every_group_and_prf(ike: str) -> None:
    lab = Lab(terms=Terms(ike=(ike,)))
    client = lab.client()
    lab.connect(client)
    rekey_ike(client)
    lab.world.run(5.0)
    rekey_ike(lab.server)
    lab.world.run(5.0)
    assert all(flow.tally.perfect for flow in lab.exchange(client))


@TERMS
def test_ipv6_outside(terms: Terms) -> None:
    lab = Lab(terms=terms, server_ip=_SERVER6)
    client = lab.client(ip=_CLIENT6)
    lab.connect(client)
    rekey_ike(client)
    lab.world.run(5.0)
    assert all(flow.tally.perfect for flow in lab.exchange(client))


@pytest.mark.parametrize("kind", NatKind)
def test_ipv6_inside(kind: NatKind) -> None:
    lab = Lab(terms=Terms(esp=PFS.esp, pool=(POOL, _POOL6), request=("any4", "any6")))
    client = lab.client(behind=lab.nat(kind=kind))
    lab.connect(client)
    assert len(client.told(AddressAssigned)[0].addresses) == 2
    for inside in (SERVER_INSIDE, _INSIDE6):
        assert all(flow.tally.perfect for flow in lab.exchange(client, server_inside=inside))
