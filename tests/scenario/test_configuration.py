"""What a gateway hands out, and the proofs that it may do without or want two of, on whole hosts."""

from dataclasses import replace
from ipaddress import ip_network

import pytest

from espudp.ike.config import ConnectionConfig, Identity
from espudp.ike.credentials import NoDemand, NoProof, Psk, PskOf
from espudp.ike.events import AddressAssigned, ConnectionUp, PeerAddressAssigned
from espudp.ike.pad import PadEntry
from tests.scenario.credentials import CLIENT, SERVER, person, trust
from tests.scenario.lab import POOL, SERVER_IP, SUBNET, Lab, Terms
from tests.sim.host import Host
from tests.sim.link import Quality

POOL6 = "fd00:99::/64"
BOTH = Terms(pool=(POOL, POOL6), request=("any4", "any6"))


def _up(lab: Lab, config: ConnectionConfig) -> Host:
    client = lab.client()
    client.connect(config, SERVER_IP)
    lab.world.run_until(lambda: client.up, 30.0)
    return client


def _flows_arrive(lab: Lab, client: Host) -> bool:
    flows = lab.flows(client)
    for flow in flows:
        flow.start()
    lab.world.run(2.0)
    for flow in flows:
        flow.stop()
    lab.world.run(1.0)
    return all(flow.tally.sent and flow.tally.perfect for flow in flows)


@pytest.mark.parametrize("quality", [Quality(), Quality(loss=0.3)])
def test_addresses_of_both_versions_and_domains_of_their_own(quality: Quality) -> None:
    lab = Lab(terms=BOTH, quality=quality)
    listener = lab.server._listener
    assert listener is not None
    lab.server._listener = replace(
        listener, dns=("10.1.0.53", "fd00:1::53"), dns_domains=("corp.example",), split=(ip_network(SUBNET),)
    )
    lab.server.revive()
    client = _up(lab, lab.terms.connection())
    (assigned,) = client.told(AddressAssigned)
    assert assigned.addresses == ("10.99.0.2", "fd00:99::2")
    assert assigned.dns == ("10.1.0.53", "fd00:1::53")
    assert assigned.domains == ("corp.example",)
    assert assigned.subnets == (SUBNET,)
    assert assigned.application
    assert lab.server.told(PeerAddressAssigned)[-1].addresses == assigned.addresses


def test_anonymous_on_both_sides() -> None:
    entry = PadEntry(proof=NoProof(), demand=NoDemand())
    lab = Lab(terms=Terms(proof=NoProof(), demand=NoDemand(), pad=(entry,), remote_identity=None))
    client = _up(lab, lab.terms.connection())
    assert client.told(ConnectionUp)[-1].remote_identity.is_nobody
    assert lab.server.told(ConnectionUp)[-1].remote_identity.is_nobody
    assert _flows_arrive(lab, client)


def test_a_certificate_and_then_a_key() -> None:
    entry = PadEntry(proof=person("P-256", SERVER).proof, demand=trust(), further=(PskOf(b"second"),))
    lab = Lab(terms=Terms(proof=person("P-256", CLIENT).proof, demand=trust(), pad=(entry,)))
    second = ((Identity.parse(CLIENT), Psk(b"second")),)
    client = _up(lab, replace(lab.terms.connection(), further=second))
    assert _flows_arrive(lab, client)
