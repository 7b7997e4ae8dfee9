"""A laptop that slept (RFC 5723): its tunnel comes back with a ticket."""

from dataclasses import replace

import pytest

from espudp.ike.events import ConnectionDown, ConnectionUp
from tests.scenario.lab import SERVER_IP, Lab, Terms
from tests.sim.ladder import Ladder
from tests.sim.link import Quality

_TERMS = Terms(secret=bytes(range(32)))


@pytest.mark.parametrize("behind_nat", [False, True])
def test_after_a_sleep(behind_nat: bool) -> None:
    lab = Lab(terms=_TERMS)
    nat = lab.nat() if behind_nat else None
    client = lab.client(behind=nat)
    client.keep_up(lab.terms.connection(), SERVER_IP, pause=1.0)
    lab.world.run_until(lambda: client.up, 5.0)
    address = client.address
    lab.quality.loss = 1.0
    lab.world.run_until(lambda: bool(client.told(ConnectionDown)), 200.0)
    ladder = Ladder(client, lab.server)
    lab.quality.loss = 0.0
    lab.world.run_until(lambda: len(client.told(ConnectionUp)) == 2, 60.0)
    assert {step.exchange for step in ladder.steps} >= {"IKE_SESSION_RESUME", "IKE_AUTH"}
    assert "IKE_SA_INIT" not in {step.exchange for step in ladder.steps if not step.left}
    assert client.address == address
    assert all(flow.tally.perfect for flow in lab.exchange(client))
    assert len(lab.server.tunnel.snapshot(lab.world.now).connections) == 1


def test_after_the_gateway_restarted() -> None:
    """RFC 6290 section 7: the token says that it did, and the ticket makes it cheap."""
    lab = Lab(terms=_TERMS)
    client = lab.client()
    client.keep_up(lab.terms.connection(), SERVER_IP, pause=0.0)
    lab.world.run_until(lambda: client.up, 5.0)
    lab.world.run(10.0)
    flow, _ = lab.flows(client)
    lab.server.die()
    lab.server.revive()
    ladder = Ladder(client, lab.server)
    before = lab.world.now
    flow.start()
    lab.world.run_until(lambda: len(client.told(ConnectionUp)) == 2, 60.0)
    flow.stop()
    assert lab.world.now - before < 0.2
    assert "IKE_SESSION_RESUME" in {step.exchange for step in ladder.steps}
    assert all(flow.tally.perfect for flow in lab.exchange(client))


@pytest.mark.parametrize("seed", range(12))
def test_in_bad_weather(seed: int) -> None:
    lab = Lab(seed, terms=_TERMS, quality=Quality(loss=0.2, duplicate=0.2, jitter=0.3))
    client = lab.client()
    client.keep_up(lab.terms.connection(), SERVER_IP, pause=1.0)
    for times in (1, 2, 3):
        lab.world.run_until(lambda times=times: len(client.told(ConnectionUp)) >= times, 600.0)  # type: ignore[misc]
        lab.world.run(5.0)
        connection = client.told(ConnectionUp)[-1].connection
        before, lab.quality.loss = lab.quality.loss, 1.0
        client.do(lambda tunnel, c=connection: tunnel.check_alive(c, lab.world.now))  # type: ignore[misc]
        lab.world.run(100.0)
        lab.quality.loss = before
    lab.world.run_until(lambda: client.up, 600.0)
    lab.quality.loss = lab.quality.duplicate = 0.0
    lab.world.run(60.0)
    assert client.up
    assert all(flow.tally.lost == 0 for flow in lab.exchange(client))


def test_a_gateway_with_another_secret() -> None:
    lab = Lab(terms=_TERMS)
    client = lab.client()
    client.keep_up(lab.terms.connection(), SERVER_IP, pause=1.0)
    lab.world.run_until(lambda: client.up, 5.0)
    listener = lab.server._listener
    assert listener is not None
    lab.server._listener = replace(listener, secret=bytes(32))
    lab.server.die()
    lab.server.revive()
    ladder = Ladder(client, lab.server)
    lab.world.run_until(lambda: len(client.told(ConnectionUp)) == 2, 200.0)
    exchanges = [step.exchange for step in ladder.steps]
    assert exchanges.index("IKE_SESSION_RESUME") < exchanges.index("IKE_SA_INIT")
