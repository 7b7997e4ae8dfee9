"""IKEv1: SAs of both phases are replaced at any time, from either side and from both. No packet is lost."""

import itertools

import pytest

from espudp.ike.config import LifetimeConfig, Timers
from espudp.ike.events import ChildInstalled, ConnectionDown, ConnectionUp, IkeRekeyed
from espudp.ike.ikev1_config import Mode
from tests.scenario.lab import Lab, is_esp
from tests.scenario.lab_v1 import TermsV1, lab_v1
from tests.scenario.test_rekey import Traffic, one_pair, rekey_child, rekey_ike
from tests.sim.host import Host
from tests.sim.link import Quality

NO_PFS = TermsV1(esp=("aes128gcm16",))
PFS = TermsV1(esp=("aes128-sha256-ecp256",))


def up(lab: Lab, client: Host) -> None:
    """Connects: what the server sends leaves with the last message of quick mode, and not before."""
    lab.connect(client)
    lab.world.run(1.0)


TERMS = pytest.mark.parametrize("terms", [NO_PFS, PFS], ids=["without PFS", "with PFS"])


@TERMS
@pytest.mark.parametrize("who", ["client", "server"])
def test_either_side_rekeys_the_child(terms: TermsV1, who: str) -> None:
    lab = lab_v1(terms=terms)
    client = lab.client()
    up(lab, client)
    traffic, old = Traffic(lab, client), client.children()[0]
    rekey_child(client if who == "client" else lab.server)
    lab.world.run(20.0)
    assert one_pair(client, lab.server)
    assert client.children()[0].spi_in != old.spi_in
    assert client.told(ChildInstalled)[-1].replaces == old.spi_in
    traffic.check()


@pytest.mark.parametrize("seed", range(4))
def test_both_rekey_the_child_at_once(seed: int) -> None:
    """Both new ones live; the next rekey, of either, leaves one."""
    lab = lab_v1(seed=seed, terms=NO_PFS)
    client = lab.client()
    up(lab, client)
    traffic = Traffic(lab, client)
    rekey_child(client)
    rekey_child(lab.server)
    lab.world.run(20.0)
    assert {c.spi_in for c in client.children()} == {c.spi_out for c in lab.server.children()}
    assert len(client.children()) == 2
    rekey_child((client, lab.server)[seed % 2])
    lab.world.run(20.0)
    assert one_pair(client, lab.server)
    traffic.check()


@pytest.mark.parametrize("who", ["client", "server", "both"])
@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.value)
def test_phase_1_is_rekeyed(mode: Mode, who: str) -> None:
    lab = lab_v1(terms=TermsV1(exchange=mode))
    client = lab.client(behind=lab.nat())
    up(lab, client)
    traffic, children = Traffic(lab, client), client.children()
    hosts = {"client": (client,), "server": (lab.server,), "both": (client, lab.server)}[who]
    for _ in range(3):
        for host in hosts:
            rekey_ike(host)
        lab.world.run(20.0)
    assert all(len(host.told(IkeRekeyed)) >= 3 for host in (client, lab.server))
    assert len(client.told(ConnectionUp)) == len(lab.server.told(ConnectionUp)) == 1
    assert client.children() == children
    rekey_child(client)
    lab.world.run(20.0)
    rekey_child(lab.server)
    lab.world.run(20.0)
    assert one_pair(client, lab.server)
    traffic.check()


@TERMS
@pytest.mark.parametrize("weather", ["fair", "foul"])
def test_a_thousand_rekeys_lose_nothing(terms: TermsV1, weather: str) -> None:
    """A thousand times, half of them with PFS: of both phases, from either side and from both at once.

    In foul weather a tenth of the IKE messages gets lost, and datagrams overtake each other.
    """
    quality, turns, pause = Quality(latency=0.02), 500, (1.0, 3.0)
    if weather == "foul":
        quality = Quality(latency=0.02, jitter=0.02, loss=0.1, duplicate=0.05, spares=is_esp)
        turns, pause = 100, (8.0, 12.0)
    lab = lab_v1(seed=11, terms=terms, quality=quality)
    client = lab.client(behind=lab.nat())
    up(lab, client)
    traffic = Traffic(lab, client, interval=0.1)
    chance = lab.world.chance("who and when")
    starters = [(client,), (lab.server,), (client, lab.server)]
    rekeys = itertools.cycle(itertools.product([rekey_child, rekey_ike], starters))
    for what, who in itertools.islice(rekeys, turns):
        for host in who:
            what(host)
            if chance.random() < 0.5:
                lab.world.run(chance.uniform(0.0, 0.1))
        lab.world.run(chance.uniform(*pause))
        assert not client.told(ConnectionDown), client.told(ConnectionDown)
        assert not lab.server.told(ConnectionDown), lab.server.told(ConnectionDown)
    lab.world.run(100.0)
    rekey_child(client)
    lab.world.run(250.0)
    assert one_pair(client, lab.server), (client.children(), lab.server.children())
    assert len(client.told(ChildInstalled)) > turns / 2
    assert len(client.told(IkeRekeyed)) > turns / 6
    traffic.check(ordered=weather == "fair")


@pytest.mark.parametrize("seed", range(3))
def test_rekeys_that_overlap_in_foul_weather(seed: int) -> None:
    """Begun while others are under way or have just ended, so that messages of several overtake each other,
    and a fifth of them gets lost. ESP does not, and nothing of it may be missing.
    """
    quality = Quality(latency=0.02, jitter=0.05, loss=0.2, duplicate=0.1, spares=is_esp)
    lab = lab_v1(seed=seed, terms=NO_PFS, quality=quality)
    client = lab.client(behind=lab.nat())
    lab.connect(client, within=200.0)
    lab.world.run(40.0)
    traffic, chance = Traffic(lab, client, interval=0.1), lab.world.chance("who and when")
    for _ in range(25):
        what = chance.choice([rekey_child, rekey_ike])
        for host in chance.choice([(client,), (lab.server,), (client, lab.server)]):
            what(host)
            lab.world.run(chance.choice([0.0, chance.uniform(0.0, 0.3)]))
        lab.world.run(chance.choice([chance.uniform(0.0, 2.0), chance.uniform(5.0, 15.0), 60.0]))
    lab.world.run(250.0)
    rekey_child(client)
    lab.world.run(250.0)
    assert one_pair(client, lab.server)
    assert not client.told(ConnectionDown) + lab.server.told(ConnectionDown)
    traffic.check(ordered=False)


@pytest.mark.parametrize("unit", ["packets", "bytes", "seconds"])
def test_soft_lifetimes_start_a_rekey(unit: str) -> None:
    lifetimes = {
        "packets": LifetimeConfig(soft_seconds=None, hard_seconds=None, soft_packets=300, hard_packets=600),
        "bytes": LifetimeConfig(soft_seconds=None, hard_seconds=None, soft_bytes=1 << 14, hard_bytes=1 << 15),
        "seconds": LifetimeConfig(soft_seconds=60.0, hard_seconds=90.0),
    }
    lab = lab_v1(terms=TermsV1(lifetime=lifetimes[unit]))
    client = lab.client()
    up(lab, client)
    traffic = Traffic(lab, client, interval=0.05)
    lab.world.run(400.0)
    assert len(client.told(ChildInstalled)) > 4
    traffic.check()


def test_soft_lifetimes_of_phase_1() -> None:
    timers = Timers(ike_lifetime=LifetimeConfig(soft_seconds=100.0, hard_seconds=150.0))
    lab = lab_v1(terms=TermsV1(timers=timers))
    client = lab.client()
    up(lab, client)
    traffic = Traffic(lab, client, interval=0.2)
    lab.world.run(1000.0)
    assert len(client.told(IkeRekeyed)) > 7
    assert not client.told(ConnectionDown)
    assert len(client.told(ConnectionUp)) == 1
    traffic.check()
