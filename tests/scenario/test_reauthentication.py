"""A connection is authenticated anew while traffic flows (RFC 7296 section 2.8.3, RFC 4478)."""

import pytest

from espudp.ike.config import Timers
from espudp.ike.events import AddressAssigned, ConnectionDown, ConnectionUp, Fault
from espudp.ike.v2.reauth import GRACE_SECONDS, RETRY_SECONDS
from tests.scenario.lab import FOREVER, Lab, Terms
from tests.scenario.test_rekey import Traffic
from tests.sim.host import Host
from tests.sim.ladder import Ladder
from tests.sim.link import Quality
from tests.sim.nat import NatKind

NEVER = Terms()


def terms(seconds: float) -> Terms:
    return Terms(timers=Timers(ike_lifetime=FOREVER, reauth=seconds))


def _one_is_left(*hosts: Host) -> bool:
    return all(len(host.told(ConnectionUp)) - len(host.told(ConnectionDown)) == 1 for host in hosts)


def test_one_repetition() -> None:
    lab = Lab()
    client = lab.client()
    first = lab.connect(client)
    traffic = Traffic(lab, client, interval=0.005)
    ladder = Ladder(client, lab.server)
    client.do(lambda tunnel: tunnel.reauthenticate(first, lab.world.now))
    lab.world.run(1.0)
    assert ladder.matches("""
        IKE_SA_INIT 0 request             -->
                                          <-- IKE_SA_INIT 0 response
        IKE_AUTH 1 request                -->
                                          <-- IKE_AUTH 1 response
    """)
    ladder.clear()
    lab.world.run(10.0)
    assert ladder.matches("""
        INFORMATIONAL 2 request           -->
                                          <-- INFORMATIONAL 2 response
    """)
    traffic.check()
    assert client.connection != first
    assert [down.connection for down in client.told(ConnectionDown)] == [first]
    assert client.told(ConnectionDown)[0].fault is Fault.LOCAL_REQUEST
    assert len({event.addresses for event in client.told(AddressAssigned)}) == 1
    assert _one_is_left(client, lab.server)
    assert len(client.children()) == len(lab.server.children()) == 1


@pytest.mark.parametrize(("who", "nat"), [("client", None), ("server", NatKind.SYMMETRIC)])
def test_a_day_of_it(who: str, nat: NatKind | None) -> None:
    """`--reauth` on either side: the server's word is the client's deed (AUTH_LIFETIME)."""
    ours, theirs = (terms(3600), NEVER) if who == "client" else (NEVER, terms(3600))
    lab = Lab(terms=ours, server_terms=theirs)
    client = lab.client(behind=None if nat is None else lab.nat(kind=nat))
    lab.connect(client)
    traffic = Traffic(lab, client, interval=20.0)
    lab.world.run(24 * 3600.0)
    traffic.check()
    assert 24 <= len(client.told(ConnectionUp)) <= 31
    assert not [d for d in client.told(ConnectionDown) if d.fault is not Fault.LOCAL_REQUEST]
    assert not [d for d in lab.server.told(ConnectionDown) if d.fault is not Fault.PEER_REQUEST]
    assert _one_is_left(client, lab.server)


@pytest.mark.parametrize("seed", range(6))
def test_on_a_bad_wire(seed: int) -> None:
    """Messages come twice, and ESP before the IKE_AUTH that makes its SA; no packet gets lost."""
    lab = Lab(seed, terms=terms(60), quality=Quality(latency=0.02, jitter=0.02, duplicate=0.1))
    client = lab.client()
    lab.connect(client)
    flows = lab.flows(client, interval=0.05)
    for flow in flows:
        flow.start()
    lab.world.run(600.0)
    for flow in flows:
        flow.stop()
    lab.world.run(15.0)
    assert [flow.tally.lost for flow in flows] == [0, 0]
    assert len(client.told(ConnectionUp)) >= 10
    assert _one_is_left(client, lab.server)


def test_an_attempt_that_fails_is_repeated_while_the_connection_stays() -> None:
    lab = Lab(terms=terms(100), server_terms=NEVER)
    client = lab.client()
    first = lab.connect(client)
    traffic = Traffic(lab, client, interval=0.05)
    # Requests to begin anew get lost, and nothing else does.
    doorkeeper = lab.server.tunnel._ike._doorkeeper
    lab.server.tunnel._ike._doorkeeper = None
    lab.world.run(250.0)
    assert client.connection == first
    assert len(client.told(ConnectionDown)) == 1  # of the attempt
    lab.server.tunnel._ike._doorkeeper = doorkeeper
    lab.world.run(90.0 + 2 * RETRY_SECONDS)
    assert client.connection != first
    traffic.check()
    assert _one_is_left(lab.server)


def test_a_client_that_does_not_repeat_it_has_to_go() -> None:
    """RFC 4478 sections 2 and 4."""
    lab = Lab(server_terms=terms(100))
    client = lab.client()
    lab.connect(client)
    client.tunnel._ike._hub.connections[client.connection].reauth_at = float("inf")
    client.tunnel._ike._hub.reschedule(client.tunnel._ike._hub.connections[client.connection].current)  # type: ignore[arg-type]
    lab.world.run(100.0 + GRACE_SECONDS - 5.0)
    assert not lab.server.told(ConnectionDown)
    lab.world.run(10.0)
    assert lab.server.told(ConnectionDown)[0].fault is Fault.AUTHENTICATION
    assert client.told(ConnectionDown)[0].retry


def test_rekeys_do_not_prolong_it() -> None:
    lab = Lab(terms=terms(100))
    client = lab.client()
    first = lab.connect(client)
    for _ in range(9):
        lab.world.run(10.0)
        if client.connection == first:
            client.do(lambda tunnel: tunnel.rekey_ike(first, lab.world.now))
    lab.world.run(10.0)
    assert client.connection != first


def test_closed_in_the_middle_of_it() -> None:
    lab = Lab()
    client = lab.client()
    first = lab.connect(client)
    client.do(lambda tunnel: tunnel.reauthenticate(first, lab.world.now))
    client.do(lambda tunnel: tunnel.close_all(lab.world.now))
    lab.world.run(10.0)
    assert not client.children() + lab.server.children()
    assert len(lab.server.told(ConnectionDown)) == len(lab.server.told(ConnectionUp))


def test_the_server_ends_the_old_connection_in_the_middle_of_it() -> None:
    """Nobody waits for the new one any more: whoever keeps the tunnel up dials by itself."""
    lab = Lab()
    client = lab.client()
    first = lab.connect(client)
    client.do(lambda tunnel: tunnel.reauthenticate(first, lab.world.now))
    lab.server.do(lambda tunnel: tunnel.close_all(lab.world.now))
    lab.world.run(10.0)
    downs = {down.connection for down in client.told(ConnectionDown)}
    ups = {up.connection for up in client.told(ConnectionUp)}
    assert first in downs
    assert len(lab.server.children()) == len(ups - downs)
