"""IKEv1: somebody who may come in says that it is where a third party is."""

from dataclasses import replace

import pytest

from espudp.ike.events import ChildInstalled, ConnectionUp, IkeRekeyed
from espudp.ike.ikev1_config import Mode
from espudp.ike.narrowing import Dynamic
from espudp.ike.v1.attempt import Attempt
from espudp.wire import ip
from espudp.wire.address import Path, UdpAddress
from tests.scenario.lab import NAT_IP, Lab
from tests.scenario.lab_v1 import TermsV1, lab_v1
from tests.scenario.test_v1_children import HOSTS, up
from tests.sim.host import NATT_PORT, Host
from tests.sim.link import Datagram

THIRD_PARTY = "192.0.2.99"
OUTER = TermsV1(pool=(), request=())


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


@pytest.mark.parametrize(("mode", "last"), [(Mode.MAIN, 2), (Mode.AGGRESSIVE, 1)])
def test_a_proof_that_comes_from_a_third_party(mode: Mode, last: int) -> None:
    """Whoever it was has read what we sent somewhere else, and is no more there than it was before."""
    terms = replace(OUTER, exchange=mode, local=(f"{THIRD_PARTY}/32",))
    lab = lab_v1(terms=terms, server=OUTER)
    client = lab.client(behind=lab.nat())
    forge(lab, client, last)
    client.connect(lab.terms.connection(), lab.server_ip)
    lab.world.run(60.0)
    assert lab.server.told(ConnectionUp)
    assert not placed(lab)


@pytest.mark.parametrize(("mode", "last"), [(Mode.MAIN, 2), (Mode.AGGRESSIVE, 1)])
def test_a_proof_that_comes_from_where_somebody_of_the_same_name_is(
    mode: Mode, last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where many share a key and a name, nobody renews the phase 1 of another, and so gets what is its."""
    monkeypatch.setattr(Attempt, "_initial_contact", lambda _self, _sa: [])
    lab = lab_v1(terms=TermsV1(exchange=mode))
    client, thief = lab.client(), lab.client(number=66)
    lab.connect(client)
    forge(lab, thief, last, source=UdpAddress(client.ip, NATT_PORT))
    thief.connect(lab.terms.connection(), lab.server_ip)
    lab.world.run(5.0)
    assert len(lab.server.told(ConnectionUp)) == 2
    assert not lab.server.told(IkeRekeyed)


def test_a_quick_mode_that_comes_from_a_third_party() -> None:
    lab = lab_v1(terms=HOSTS)
    client = lab.client(behind=lab.nat())
    up(lab, client)
    forge(lab, client, *range(100))
    child = replace(HOSTS.connection().child, local=(Dynamic(ip.TCP),), remote=(Dynamic(ip.TCP),))
    client.do(lambda tunnel: tunnel.create_child(client.connection, child, lab.world.now))
    lab.world.run(5.0)
    assert len(lab.server.told(ChildInstalled)) == 2
    assert placed(lab) == {NAT_IP}
