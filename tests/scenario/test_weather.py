"""Peers that die, wires that damage, and time that goes on for a year."""

import pytest

from espudp.ike.config import LifetimeConfig, Timers
from espudp.ike.events import ChildInstalled, ConnectionDown, ConnectionUp, Fault, IkeRekeyed
from tests.scenario.lab import FOREVER, SERVER_IP, Lab, Terms
from tests.scenario.test_rekey import Traffic, one_pair
from tests.sim.link import Quality

_YEAR = 365 * 86_400.0


def test_the_server_dies_and_comes_back() -> None:
    lab = Lab()
    client = lab.client(behind=lab.nat())
    client.keep_up(lab.terms.connection(), SERVER_IP)
    lab.world.run_until(lambda: client.up, within=10.0)
    assert all(flow.tally.perfect for flow in lab.exchange(client))
    lab.server.die()
    lab.world.run_until(lambda: not client.up, within=200.0)
    assert client.told(ConnectionDown)[-1].fault is Fault.TIMEOUT
    lab.world.run(500.0)
    assert not client.up
    lab.server.revive()
    lab.world.run_until(lambda: client.up, within=120.0)
    assert all(flow.tally.perfect for flow in lab.exchange(client))


def test_the_server_restarts_within_a_moment() -> None:
    """It knows nothing of its clients any more; they find out by themselves."""
    lab = Lab()
    client = lab.client(behind=lab.nat())
    client.keep_up(lab.terms.connection(), SERVER_IP)
    lab.world.run_until(lambda: client.up, within=10.0)
    lab.server.die()
    lab.server.revive()
    lab.world.run_until(lambda: len(client.told(ConnectionUp)) == 2 and client.up, within=200.0)
    assert all(flow.tally.perfect for flow in lab.exchange(client))


def test_the_client_dies_and_comes_back() -> None:
    """INITIAL_CONTACT (RFC 7296 section 2.4): what the server had of it goes, and its address stays."""
    lab = Lab()
    client = lab.client(behind=lab.nat())
    lab.connect(client)
    before = client.address
    client.die()
    lab.world.run(3.0)
    client.revive()
    lab.connect(client)
    lab.world.run(5.0)
    assert client.address == before
    assert len(lab.server.told(ConnectionDown)) == 1
    assert len(lab.server.children()) == 1
    assert all(flow.tally.perfect for flow in lab.exchange(client))


def test_a_client_that_never_comes_back_is_forgotten() -> None:
    """Dead peer detection, RFC 7296 section 2.4; and its address is free for others."""
    lab = Lab()
    client = lab.client(behind=lab.nat())
    lab.connect(client)
    client.die()
    lab.world.run_until(lambda: bool(lab.server.told(ConnectionDown)), within=400.0)
    assert lab.server.told(ConnectionDown)[0].fault is Fault.TIMEOUT
    assert not lab.server.children()
    assert lab.server.tunnel.poll_timer() is None


def test_a_cut_wire_that_is_mended_in_time() -> None:
    lab = Lab()
    client = lab.client(behind=lab.nat())
    lab.connect(client)
    lab.quality.loss = 1.0
    lab.world.run(50.0)
    lab.quality.loss = 0.0
    lab.world.run(60.0)
    assert not client.told(ConnectionDown) + lab.server.told(ConnectionDown)
    assert all(flow.tally.perfect for flow in lab.exchange(client))


def test_traffic_makes_asking_unnecessary() -> None:
    """Dead peer detection asks only those who are silent."""
    lab = Lab()
    client = lab.client()
    lab.connect(client)
    before = client.tunnel.snapshot(lab.world.now)
    flows = lab.exchange(client, seconds=300.0)
    assert all(flow.tally.perfect for flow in flows)
    assert before.drops == client.tunnel.snapshot(lab.world.now).drops


@pytest.mark.parametrize("seed", range(6))
def test_damaged_datagrams_are_dropped_and_counted(seed: int) -> None:
    """One flipped bit anywhere is one packet lost, nothing else: nothing false is delivered."""
    lab = Lab(seed, terms=Terms(esp=("aes128-sha256" if seed % 2 else "chacha20poly1305",)))
    client = lab.client()
    lab.connect(client)
    lab.quality.corrupt = 0.2
    lab.quality.duplicate = 0.1
    flows = lab.exchange(client, seconds=60.0)
    corrupted = client.link.counts["corrupted"]
    assert corrupted > 100
    for flow in flows:
        assert flow.tally.damaged == flow.tally.duplicated == 0
        assert 0 < flow.tally.lost < flow.tally.sent * 0.3
    drops = [host.tunnel.snapshot(lab.world.now).drops for host in (client, lab.server)]
    assert sum(sum(counts.values()) for counts in drops) > corrupted
    lab.quality.corrupt = lab.quality.duplicate = 0.0
    lab.world.run(90.0)
    assert not client.told(ConnectionDown) + lab.server.told(ConnectionDown)
    assert all(flow.tally.perfect for flow in lab.exchange(client))


def test_reordering_within_the_window_loses_nothing() -> None:
    lab = Lab(quality=Quality(jitter=0.5))
    client = lab.client()
    lab.connect(client)
    for flow in lab.exchange(client, seconds=20.0):
        assert flow.tally.lost == 0
        assert flow.tally.duplicated == 0
        assert flow.tally.reordered > 0


def test_a_day_behind_a_nat_with_the_usual_timers() -> None:
    """Keepalives, dead peer detection and rekeys at the pace that people use."""
    lab = Lab(terms=Terms(lifetime=LifetimeConfig(), timers=Timers()))
    client = lab.client(behind=lab.nat(timeout=40.0))
    lab.connect(client)
    lab.world.run(86_400.0)
    assert not client.told(ConnectionDown) + lab.server.told(ConnectionDown)
    assert len(client.told(ChildInstalled)) >= 24
    assert len(client.told(IkeRekeyed)) >= 5
    assert one_pair(client, lab.server)
    assert all(flow.tally.perfect for flow in lab.exchange(client))


def test_a_year() -> None:
    """Daily rekeys of the child, weekly ones of the IKE SA, a packet every half hour, and none is lost."""
    timers = Timers(
        dpd_interval=3600.0,
        ike_lifetime=LifetimeConfig(soft_seconds=6 * 86_400.0, hard_seconds=7 * 86_400.0),
    )
    lifetime = LifetimeConfig(soft_seconds=80_000.0, hard_seconds=86_400.0)
    lab = Lab(terms=Terms(esp=("aes128gcm16-curve25519",), lifetime=lifetime, timers=timers))
    client = lab.client()
    lab.connect(client)
    traffic = Traffic(lab, client, interval=1800.0)
    lab.world.run(_YEAR)
    assert len(client.told(ChildInstalled)) > 365
    assert len(client.told(IkeRekeyed)) > 52
    assert not client.told(ConnectionDown) + lab.server.told(ConnectionDown)
    assert one_pair(client, lab.server)
    traffic.check()
    assert lab.world.steps < 1_000_000


def test_a_year_of_silence() -> None:
    """No lifetimes, no traffic, nobody asks: nothing happens, and then all is as it was."""
    lab = Lab(terms=Terms(lifetime=FOREVER, timers=Timers(dpd_interval=0.0, ike_lifetime=FOREVER)))
    client = lab.client()
    lab.connect(client)
    steps = lab.world.steps
    lab.world.run(_YEAR)
    assert lab.world.steps == steps
    assert all(flow.tally.perfect for flow in lab.exchange(client))
