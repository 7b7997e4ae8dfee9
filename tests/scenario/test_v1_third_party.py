"""IKEv1: somebody who may come in says that it is where a third party is."""

from dataclasses import replace

import pytest

from espudp.ike.events import ChildInstalled, ConnectionUp
from espudp.ike.ikev1_config import Mode
from espudp.ike.narrowing import Dynamic
from espudp.wire import ip
from espudp.wire.address import Path, UdpAddress
from tests.scenario.lab import NAT_IP, Lab
from tests.scenario.lab_v1 import TermsV1, lab_v1
from tests.scenario.test_v1_children import HOSTS, up
from tests.sim.host import Host
from tests.sim.link import Datagram

THIRD_PARTY = "192.0.2.99"
OUTER = TermsV1(pool=(), request=())


def forge(lab: Lab, client: Host, *places: int) -> None:
    """Of what the client sends from now on, the messages in these places come from the third party."""
    send, count = client._send, iter(range(10_000))

    def forged(datagram: Datagram) -> None:
        if next(count) in places:
            path = Path(datagram.destination, UdpAddress(THIRD_PARTY, datagram.source.port))
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
