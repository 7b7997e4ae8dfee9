"""Make before break: SAs are replaced at any time, from either side and from both, and no packet is lost."""

import itertools
from dataclasses import replace

import pytest

from espudp.ike.config import LifetimeConfig, Timers
from espudp.ike.events import ChildInstalled, ChildRemoved, ConnectionDown, IkeRekeyed
from tests.scenario.lab import FOREVER, Lab, Terms, is_esp
from tests.sim.host import Host
from tests.sim.ladder import Ladder
from tests.sim.link import Quality
from tests.sim.traffic import Flow
from tests.sim.world import START

NO_PFS = Terms(esp=("aes128gcm16",))
PFS = Terms(esp=("aes128gcm16-curve25519",))
TERMS = pytest.mark.parametrize("terms", [NO_PFS, PFS], ids=["without PFS", "with PFS"])


def rekey_child(host: Host, child: ChildInstalled | None = None) -> None:
    """Start to rekey a child SA, the newest if none is named, as its soft lifetime does."""
    child = child or host.children()[-1]
    connection, spi_in = child.connection, child.spi_in
    host.do(lambda tunnel: tunnel.rekey_child(connection, spi_in, host.world.now))


def rekey_ike(host: Host) -> None:
    """Start to rekey the IKE SA."""
    connection = host.children()[-1].connection
    host.do(lambda tunnel: tunnel.rekey_ike(connection, host.world.now))


def one_pair(client: Host, server: Host) -> bool:
    """Whether each side has one child SA, and it is the same one."""
    here, there = client.children(), server.children()
    if not len(here) == len(there) == 1:
        return False
    return (here[0].spi_in, here[0].spi_out) == (there[0].spi_out, there[0].spi_in)


class Traffic:
    """Flows both ways for as long as the scenario goes on, which has to lose nothing."""

    def __init__(self, lab: Lab, client: Host, interval: float = 0.02) -> None:
        self._lab = lab
        self._flows: tuple[Flow, Flow] = lab.flows(client, interval=interval)
        for flow in self._flows:
            flow.start()

    def check(self, *, ordered: bool = True) -> None:
        """Stop, wait for the last ones, and see that all of them are there, once."""
        for flow in self._flows:
            flow.stop()
        self._lab.world.run(3.0)
        for flow in self._flows:
            tally = flow.tally
            assert (tally.lost, tally.duplicated, tally.damaged) == (0, 0, 0), tally
            assert tally.sent == tally.received > 0
            assert tally.perfect or not ordered, tally


@TERMS
def test_the_client_rekeys_its_child(terms: Terms) -> None:
    lab = Lab(terms=terms)
    client = lab.client()
    lab.connect(client)
    traffic, ladder = Traffic(lab, client), Ladder(client, lab.server)
    old = client.children()[0]
    rekey_child(client)
    lab.world.run(10.0)
    assert ladder.matches("""
        CREATE_CHILD_SA 2 request  -->
                                   <--  CREATE_CHILD_SA 2 response
        INFORMATIONAL 3 request    -->
                                   <--  INFORMATIONAL 3 response
    """), ladder
    assert one_pair(client, lab.server)
    assert client.told(ChildInstalled)[-1].replaces == old.spi_in
    assert lab.server.told(ChildInstalled)[-1].replaces == old.spi_out
    traffic.check()


@TERMS
def test_the_server_rekeys_its_child(terms: Terms) -> None:
    lab = Lab(terms=terms)
    client = lab.client()
    lab.connect(client)
    traffic, ladder = Traffic(lab, client), Ladder(client, lab.server)
    rekey_child(lab.server)
    lab.world.run(10.0)
    assert ladder.matches("""
                                       <--  CREATE_CHILD_SA 0 request
        CREATE_CHILD_SA 0 response -->
                                       <--  INFORMATIONAL 1 request
        INFORMATIONAL 1 response   -->
    """), ladder
    assert one_pair(client, lab.server)
    traffic.check()


@TERMS
def test_a_rekeyed_ike_sa_counts_from_zero(terms: Terms) -> None:
    lab = Lab(terms=terms)
    client = lab.client()
    client.connect(replace(terms.connection(), resume=False), lab.server_ip)  # it asks for no new tickets
    lab.world.run_until(lambda: client.up, 30.0)
    traffic, ladder = Traffic(lab, client), Ladder(client, lab.server)
    before = client.children(), lab.server.children()
    rekey_ike(client)
    lab.world.run(10.0)
    rekey_ike(lab.server)
    lab.world.run(10.0)
    rekey_child(client)
    lab.world.run(10.0)
    assert ladder.matches("""
        CREATE_CHILD_SA 2 request  -->
                                   <--  CREATE_CHILD_SA 2 response
        INFORMATIONAL 3 request    -->
                                   <--  INFORMATIONAL 3 response
                                   <--  CREATE_CHILD_SA 0 request
        CREATE_CHILD_SA 0 response -->
                                   <--  INFORMATIONAL 1 request
        INFORMATIONAL 1 response   -->
        CREATE_CHILD_SA 0 request  -->
                                   <--  CREATE_CHILD_SA 0 response
        INFORMATIONAL 1 request    -->
                                   <--  INFORMATIONAL 1 response
    """), ladder
    assert len(client.told(IkeRekeyed)) == len(lab.server.told(IkeRekeyed)) == 2
    assert before[0][0].spi_in not in {child.spi_in for child in client.children()}
    assert one_pair(client, lab.server)
    traffic.check()


@TERMS
@pytest.mark.parametrize("seed", range(8))
def test_both_rekey_the_child_at_once(seed: int, terms: Terms) -> None:
    """RFC 7296 section 2.8.1: of two new SAs, the one with the lowest nonce goes."""
    lab = Lab(seed, terms)
    client = lab.client()
    lab.connect(client)
    traffic = Traffic(lab, client)
    rekey_child(client)
    rekey_child(lab.server)
    lab.world.run(90.0)
    assert one_pair(client, lab.server)
    assert not client.told(ConnectionDown)
    traffic.check()


@pytest.mark.parametrize("seed", range(8))
def test_both_rekey_the_ike_sa_at_once(seed: int) -> None:
    """RFC 7296 section 2.8.1, for IKE SAs: the children end up on the one that stays."""
    lab = Lab(seed)
    client = lab.client()
    lab.connect(client)
    traffic, ladder = Traffic(lab, client), Ladder(client, lab.server)
    rekey_ike(client)
    rekey_ike(lab.server)
    lab.world.run(90.0)
    ladder.clear()
    rekey_child(client)
    lab.world.run(5.0)
    assert len(ladder.steps) == 4, ladder
    assert one_pair(client, lab.server)
    assert not client.told(ConnectionDown)
    traffic.check()


@pytest.mark.parametrize("seed", range(8))
def test_one_rekeys_the_ike_sa_and_the_other_the_child(seed: int) -> None:
    """RFC 7296 section 2.25: TEMPORARY_FAILURE, and another try."""
    lab = Lab(seed)
    client = lab.client()
    lab.connect(client)
    traffic = Traffic(lab, client)
    first, second = (client, lab.server) if seed % 2 else (lab.server, client)
    rekey_ike(first)
    rekey_child(second)
    lab.world.run(120.0)
    assert one_pair(client, lab.server)
    assert client.told(IkeRekeyed)
    assert client.told(ChildRemoved)
    assert not client.told(ConnectionDown)
    traffic.check()


@TERMS
@pytest.mark.parametrize("weather", ["fair", "foul"])
def test_a_thousand_rekeys_lose_nothing(terms: Terms, weather: str) -> None:
    """250 times four: of the child and the IKE SA, from either side and from both at once, at odd moments.

    In foul weather a tenth of the IKE messages gets lost, and datagrams overtake each other.
    """
    quality = Quality(latency=0.02)
    if weather == "foul":
        quality = Quality(latency=0.02, jitter=0.02, loss=0.1, duplicate=0.05, spares=is_esp)
    lab = Lab(11, terms, quality=quality)
    client = lab.client(behind=lab.nat())
    lab.connect(client)
    traffic = Traffic(lab, client, interval=0.05)
    chance = lab.world.chance("who and when")
    pause = (1.0, 3.0) if weather == "fair" else (8.0, 12.0)
    done = {rekey_child: 0, rekey_ike: 0}
    starters = [(client,), (lab.server,), (client, lab.server)]
    for what, who in itertools.islice(itertools.cycle(itertools.product(done, starters)), 250):
        for host in who:
            what(host)
            if chance.random() < 0.5:
                lab.world.run(chance.uniform(0.0, 0.1))
        done[what] += 1
        lab.world.run(chance.uniform(*pause))
        assert not client.told(ConnectionDown), client.told(ConnectionDown)
        assert not lab.server.told(ConnectionDown), lab.server.told(ConnectionDown)
    lab.world.run(150.0)
    assert one_pair(client, lab.server), (client.children(), lab.server.children())
    assert len(client.told(ChildInstalled)) > 100
    assert len(client.told(IkeRekeyed)) > 100
    traffic.check(ordered=weather == "fair")


@pytest.mark.parametrize("unit", ["packets", "bytes", "seconds"])
def test_soft_lifetimes_start_a_rekey(unit: str) -> None:
    lifetimes = {
        "packets": LifetimeConfig(soft_seconds=None, hard_seconds=None, soft_packets=200, hard_packets=400),
        "bytes": LifetimeConfig(soft_seconds=None, hard_seconds=None, soft_bytes=12_000, hard_bytes=24_000),
        "seconds": LifetimeConfig(soft_seconds=10.0, hard_seconds=20.0),
    }
    lab = Lab(terms=Terms(lifetime=lifetimes[unit]))
    client = lab.client()
    lab.connect(client)
    traffic = Traffic(lab, client, interval=0.05)
    lab.world.run(120.0)
    assert len(client.told(ChildInstalled)) > 8
    lab.world.run_until(lambda: one_pair(client, lab.server), within=5.0)
    traffic.check()


def test_soft_lifetimes_of_the_ike_sa() -> None:
    timers = Timers(ike_lifetime=LifetimeConfig(soft_seconds=20.0, hard_seconds=40.0))
    lab = Lab(terms=Terms(timers=timers))
    client = lab.client()
    lab.connect(client)
    traffic = Traffic(lab, client, interval=0.1)
    lab.world.run(300.0)
    assert len(client.told(IkeRekeyed)) > 10
    assert not client.told(ConnectionDown)
    traffic.check()


def test_rekeys_without_traffic() -> None:
    lifetime = LifetimeConfig(soft_seconds=100.0, hard_seconds=150.0)
    lab = Lab(terms=Terms(lifetime=lifetime))
    client = lab.client()
    lab.connect(client)
    lab.world.run(3000.0)
    assert all(flow.tally.perfect for flow in lab.exchange(client))


@TERMS
def test_the_peer_wants_another_group_for_pfs(terms: Terms) -> None:
    """INVALID_KE_PAYLOAD in CREATE_CHILD_SA (RFC 7296 section 1.3): the next try has the right one."""
    wide = Terms(esp=("aes128gcm16-curve25519-ecp256-modp2048-none",))
    server = Terms(esp=("aes128gcm16-ecp256",)) if terms is PFS else Terms(esp=("aes128gcm16",))
    lab = Lab(terms=wide, server_terms=server)
    client = lab.client()
    lab.connect(client)
    traffic = Traffic(lab, client)
    for host in (client, lab.server):
        installed = len(client.told(ChildInstalled))
        rekey_child(host)
        lab.world.run(15.0)
        assert len(client.told(ChildInstalled)) > installed
        assert one_pair(client, lab.server)
    traffic.check()


def test_hard_lifetimes_end_what_is_not_rekeyed() -> None:
    """A peer that does not answer: nothing is sent after the hard lifetime, come what may."""
    lifetime = LifetimeConfig(soft_seconds=30.0, hard_seconds=40.0, jitter=0.0)
    lab = Lab(terms=Terms(lifetime=lifetime), server_terms=Terms(lifetime=FOREVER))
    client = lab.client()
    lab.connect(client)
    flow, _ = lab.flows(client, interval=0.5)
    flow.start()
    times: list[float] = []
    client.on_send.append(lambda datagram: times.append(lab.world.now - START) if is_esp(datagram) else None)
    lab.quality.loss = 1.0
    lab.world.run(60.0)
    assert 39.0 < max(times) < 40.2
