"""Somebody who may come in says that it is where a third party is: by the source address of its messages."""

from dataclasses import replace

import pytest

from espudp.ike.config import DYNAMIC
from espudp.ike.events import ChildInstalled, ConnectionUp, IkeRekeyed
from espudp.ike.ikev1_config import Mode
from espudp.ike.narrowing import Dynamic
from espudp.ike.v1.attempt import Attempt
from espudp.wire import ip
from espudp.wire.address import Path, UdpAddress
from tests.scenario import test_v1_children as v1
from tests.scenario.lab import NAT_IP, SUBNET, Lab, Terms
from tests.scenario.lab_v1 import TermsV1
from tests.scenario.test_transport import ALL
from tests.sim.host import NATT_PORT, Host
from tests.sim.link import Datagram

THIRD_PARTY = "192.0.2.99"

# Without virtual addresses a tunnel is for where the peer is.
WITHOUT_POOL = Terms(pool=(), request=(), local=(SUBNET,), remote=(DYNAMIC,))
WITHOUT_POOL_V1 = TermsV1(pool=(), request=())
THERE = (f"{THIRD_PARTY}/32",)


def forge(lab: Lab, client: Host, *places: int, source: UdpAddress | None = None) -> None:
    """Of what the client sends from now on, the messages in these places come from the third party, or from
    another `source`.
    """
    send, count = client._send, iter(range(10_000))

    def forged(datagram: Datagram) -> None:
        if next(count) in places:
            path = Path(datagram.destination, source or UdpAddress(THIRD_PARTY, datagram.source.port))
            lab.server.do(lambda tunnel: tunnel.receive_datagrams([datagram.payload], path, lab.world.now))
        else:
            send(datagram)

    client._send = forged  # type: ignore[method-assign]


def placed(lab: Lab) -> set[str]:
    return {str(s.first) for child in lab.server.told(ChildInstalled) for s in child.remote}


@pytest.mark.parametrize(
    ("terms", "server", "last"),
    [
        (replace(WITHOUT_POOL, local=THERE, remote=(SUBNET,)), WITHOUT_POOL, 1),
        (replace(WITHOUT_POOL_V1, exchange=Mode.MAIN, local=THERE), WITHOUT_POOL_V1, 2),
        (replace(WITHOUT_POOL_V1, exchange=Mode.AGGRESSIVE, local=THERE), WITHOUT_POOL_V1, 1),
    ],
    ids=["IKEv2", "main mode", "aggressive mode"],
)
def test_a_proof_that_comes_from_a_third_party(terms: Terms, server: Terms, last: int) -> None:
    """Whoever it was has read what we sent somewhere else, and is no more there than it was before."""
    lab = Lab(terms=terms, server_terms=server)
    client = lab.client(behind=lab.nat())
    forge(lab, client, last)
    client.connect(terms.connection(), lab.server_ip)
    lab.world.run(60.0)
    assert lab.server.told(ConnectionUp)
    assert not placed(lab)


@pytest.mark.parametrize(("mode", "last"), [(Mode.MAIN, 2), (Mode.AGGRESSIVE, 1)])
def test_a_proof_that_comes_from_where_somebody_of_the_same_name_is(
    mode: Mode, last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where many share a key and a name, nobody renews the phase 1 of another, and so gets what is its."""
    monkeypatch.setattr(Attempt, "_initial_contact", lambda _self, _sa: [])
    lab = Lab(terms=TermsV1(exchange=mode))
    client, thief = lab.client(), lab.client(number=66)
    lab.connect(client)
    forge(lab, thief, last, source=UdpAddress(client.ip, NATT_PORT))
    thief.connect(lab.terms.connection(), lab.server_ip)
    lab.world.run(5.0)
    assert len(lab.server.told(ConnectionUp)) == 2
    assert not lab.server.told(IkeRekeyed)


@pytest.mark.parametrize("terms", [ALL, v1.HOSTS], ids=["IKEv2", "IKEv1"])
def test_a_child_sa_that_is_asked_for_from_a_third_party(terms: Terms) -> None:
    lab = Lab(terms=terms)
    client = lab.client(behind=lab.nat())
    lab.connect(client)
    lab.world.run(1.0)
    forge(lab, client, *range(100))
    child = replace(terms.connection().child, local=(Dynamic(ip.TCP),), remote=(Dynamic(ip.TCP),))
    client.do(lambda tunnel: tunnel.create_child(client.connection, child, lab.world.now))
    lab.world.run(5.0)
    assert len(lab.server.told(ChildInstalled)) == 2
    assert placed(lab) == {NAT_IP}
