"""A laptop that slept (RFC 5723): its tunnel comes back with a ticket."""

from dataclasses import replace

import pytest

from espudp.ike.events import ConnectionDown, ConnectionUp
from espudp.ike.identity import Identity
from espudp.ike.pad import PadEntry
from espudp.wire.eap import EapType
from tests.scenario.credentials import CLIENT, SERVER, person, trust
from tests.scenario.lab import SERVER_IP, Lab, Terms
from tests.scenario.test_eap import lab_of, login, users
from tests.sim.host import Host
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
    assert [up.resumed for up in client.told(ConnectionUp)] == [False, True]
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


def _sleeps_and_wakes(lab: Lab) -> tuple[Host, Ladder]:
    client = lab.client()
    client.keep_up(lab.terms.connection(), SERVER_IP, pause=1.0)
    lab.world.run_until(lambda: client.up, 5.0)
    lab.quality.loss = 1.0
    number = client.connection
    client.do(lambda tunnel: tunnel.check_alive(number, lab.world.now))
    lab.world.run_until(lambda: bool(client.told(ConnectionDown)), 200.0)
    lab.quality.loss = 0.0
    ladder = Ladder(client, lab.server)
    lab.world.run_until(lambda: len(client.told(ConnectionUp)) == 2, 60.0)
    lab.world.run(1.0)
    return client, ladder


@pytest.mark.parametrize("method", [EapType.MSCHAPV2, EapType.GTC])
def test_nobody_is_asked_for_a_password_again(method: EapType) -> None:
    """And the gateway ends the IKE SA of before, of which it may not know yet that it broke off."""
    lab = lab_of(login(method), users(method))
    client, ladder = _sleeps_and_wakes(lab)
    assert [step.exchange for step in ladder.steps if step.left][-2:] == ["IKE_SESSION_RESUME", "IKE_AUTH"]
    first, second = lab.server.told(ConnectionUp)
    assert first.remote_identity == second.remote_identity == Identity.of_user(b"alice")
    assert len(lab.server.tunnel.snapshot(lab.world.now).connections) == 1
    assert all(flow.tally.perfect for flow in lab.exchange(client))


def test_certificates_are_not_shown_again() -> None:
    proof = person("P-256", SERVER).proof
    entry = PadEntry(proof=proof, demand=trust())
    ours = person("P-256", CLIENT).proof
    lab = Lab(terms=Terms(proof=ours, demand=trust(), pad=(entry,)))
    client, ladder = _sleeps_and_wakes(lab)
    assert [step.exchange for step in ladder.steps if step.left][-2:] == ["IKE_SESSION_RESUME", "IKE_AUTH"]
    first, second = lab.server.told(ConnectionUp)
    assert first.remote_identity == second.remote_identity
    assert all(flow.tally.perfect for flow in lab.exchange(client))


def test_a_login_without_a_child_sa() -> None:
    """RFC 6023 section 5, with EAP."""
    lab = lab_of(login(EapType.MSCHAPV2), users(EapType.MSCHAPV2))
    client = lab.client()
    client.connect(replace(lab.terms.connection(), childless=True), SERVER_IP)
    ladder = Ladder(client, lab.server)
    lab.world.run_until(lambda: client.up, 10.0)
    assert ladder.steps[-1].exchange == "CREATE_CHILD_SA"
    assert all(flow.tally.perfect for flow in lab.exchange(client))
