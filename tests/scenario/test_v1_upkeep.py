"""IKEv1: what a connection does about SAs that got lost, and what is left of those that are gone."""

from dataclasses import replace

import pytest

from espudp.ike.config import Identity, LifetimeConfig, Timers
from espudp.ike.events import ChildInstalled, ConnectionDown, ConnectionUp, IkeRekeyed
from espudp.ike.v1 import informational
from espudp.ike.v1.connection import Connection
from espudp.ike.v1.sa import REMEMBERED_IDS, WORN_IDS
from espudp.wire.ikev1.constants import ProtocolId
from espudp.wire.ikev1.payloads import Delete
from tests.scenario.lab import FOREVER, SERVER_IP, Lab, is_esp
from tests.scenario.lab_v1 import TermsV1, lab_v1
from tests.scenario.test_rekey import Traffic, one_pair, rekey_child, rekey_ike
from tests.scenario.test_v1_dpd import connection_of, forget_phase_1
from tests.sim.host import Host
from tests.sim.link import Datagram

HERE, THERE = "192.168.7.0/24", "10.1.0.0/16"
ASKING = Timers(ike_lifetime=FOREVER, dpd_interval=10.0)
PASSIVE = Timers(ike_lifetime=FOREVER, dpd_interval=0.0)


def connected(client_timers: Timers, server_timers: Timers) -> tuple[Lab, Host]:
    lab = lab_v1(terms=TermsV1(timers=client_timers), server=TermsV1(timers=server_timers))
    client = lab.client(behind=lab.nat())
    lab.connect(client)
    lab.world.run(1.0)
    return lab, client


def never_renews(host: Host) -> None:
    """As a gateway where users log in, or a peer that does not know how."""
    connection_of(host).hub.renew = lambda _connection, _now: False


def kept(connection: Connection) -> int:
    """How much it remembers, all in all."""
    upkeep, hub = connection.upkeep, connection.hub
    ours = len(upkeep.isakmp) + len(upkeep._agenda._entries) + len(upkeep._wishes) + len(upkeep._waiting)
    return ours + len(connection.children) + len(hub.states) + len(hub.timers._heap)


class TestNothingIsKept:
    def test_after_fifty_renewals(self) -> None:
        """Of ISAKMP SAs and child SAs that are gone."""
        terms = TermsV1(
            lifetime=LifetimeConfig(soft_seconds=200.0, hard_seconds=300.0),
            timers=Timers(ike_lifetime=LifetimeConfig(soft_seconds=400.0, hard_seconds=600.0)),
        )
        lab = lab_v1(terms=terms)
        client = lab.client(behind=lab.nat())
        lab.connect(client)
        lab.world.run(1.0)
        traffic = Traffic(lab, client, interval=10.0)
        lab.world.run(20_000.0)
        traffic.check()
        lab.world.run(150.0)
        assert len(client.told(IkeRekeyed)) > 45
        assert len(client.told(ChildInstalled)) > 95
        for host in (client, lab.server):
            assert len(connection_of(host).upkeep.isakmp) <= 2
            assert kept(connection_of(host)) < 30

    def test_of_a_peer_that_renews_without_end(self) -> None:
        lab, client = connected(ASKING, ASKING)
        for _ in range(50):
            rekey_ike(client)
            lab.world.run(0.5)
        assert len(client.told(IkeRekeyed)) == 50
        assert kept(connection_of(lab.server)) < 80
        lab.world.run(200.0)
        assert kept(connection_of(lab.server)) < 20
        assert one_pair(client, lab.server)

    @pytest.mark.parametrize("who", ["client", "server"])
    def test_of_a_peer_that_never_deletes_child_sas(self, who: str) -> None:
        """However often it rekeys; and no packet is lost."""
        lab, client = connected(ASKING, ASKING)
        peer = client if who == "client" else lab.server
        connection_of(peer).upkeep.delete_children = lambda children, now: None  # type: ignore[method-assign]
        traffic = Traffic(lab, client, interval=1.0)
        for _ in range(30):
            rekey_child(peer)
            lab.world.run(20.0)
        assert len(client.children()) == len(lab.server.children()) < 10
        lab.world.run(200.0)
        assert one_pair(client, lab.server)
        traffic.check()

    def test_of_two_that_renew_at_once(self) -> None:
        """One of the two ISAKMP SAs is deleted, even where the one who is to do it does not."""
        timers = Timers(ike_lifetime=LifetimeConfig(soft_seconds=2000.0, hard_seconds=3000.0))
        lab, client = connected(timers, timers)
        for _ in range(4):
            rekey_ike(client)
            rekey_ike(lab.server)
            lab.world.run(1.0)
            lab.quality.loss = 1.0  # Deletes get lost
            lab.world.run(10.0)
            lab.quality.loss = 0.0
            lab.world.run(100.0)
        lab.world.run(4000.0)
        assert len(connection_of(client).upkeep.isakmp) <= 2
        assert len(connection_of(lab.server).upkeep.isakmp) <= 2
        assert not client.told(ConnectionDown)


def test_thirty_child_sas_are_rekeyed_by_both_at_once() -> None:
    """And neither of them takes the other for dead, or misses what it says, meanwhile."""
    subnets = tuple(f"10.{n}.0.0/16" for n in range(1, 31))
    lab = lab_v1(
        terms=TermsV1(remote=subnets, timers=ASKING),
        server=TermsV1(local=("10.99.0.0/24", *subnets), timers=ASKING),
    )
    client = lab.client()
    lab.connect(client)
    lab.world.run(5.0)
    before = {child.spi_in for child in client.children()}
    assert len(before) == 30
    for host in (client, lab.server):
        for child in host.children():
            rekey_child(host, child)
    lab.world.run(20.0)
    assert not before & {child.spi_in for child in client.children()}
    assert len(client.children()) == len(lab.server.children()) == 60
    for child in client.children():
        rekey_child(client, child)
    lab.world.run(300.0)
    assert len(client.children()) == len(lab.server.children()) == 30
    assert not client.told(ConnectionDown)


@pytest.mark.parametrize("who", ["client", "server"])
def test_message_ids_are_remembered_as_long_as_they_could_be_replayed(who: str) -> None:
    """Before the oldest is forgotten, the ISAKMP SA is renewed."""
    lab, client = connected(PASSIVE, PASSIVE)
    host = client if who == "client" else lab.server
    if who == "server":
        never_renews(client)
    first = connection_of(host).phase1.sa
    for _ in range(WORN_IDS // 2 + 50):
        host.do(lambda _: connection_of(host).check_alive(lab.world.now))
        lab.world.run(0.1)
    lab.world.run(5.0)
    assert len(first._used) < REMEMBERED_IDS
    assert connection_of(host).phase1.sa is not first
    assert len(client.told(IkeRekeyed)) == 1
    assert not client.told(ConnectionDown)


@pytest.mark.parametrize("used", [True, False])
def test_the_last_message_of_a_quick_mode_never_comes(*, used: bool) -> None:
    """What the peer sends on the child SA says as much (RFC 2408 section 3.1)."""
    lab, client = connected(PASSIVE, PASSIVE)
    lab.world.run(100.0)

    def goes(datagram: Datagram) -> bool:
        has_asked = bool(lab.server.told(ChildInstalled)[1:])
        return not has_asked or is_esp(datagram) or datagram.source.ip == lab.server_ip

    lab.quality.loss, lab.quality.spares = 1.0, goes
    traffic = Traffic(lab, client, interval=1.0) if used else None
    rekey_child(client)
    lab.world.run(110.0)
    assert len(lab.server.told(ChildInstalled)) == 2
    known = {child.spi_in for child in lab.server.children()}
    assert [child.spi_out in known for child in client.children()] == [True] * used
    if traffic is not None:
        traffic.check()


class TestLostPhase1:
    def test_a_peer_that_has_lost_it_and_does_not_say_so(self) -> None:
        """A quick mode that nobody answers while ESP comes: the child SA is rekeyed over a new phase 1."""
        lab, client = connected(ASKING, ASKING)
        never_renews(lab.server)
        traffic = Traffic(lab, client, interval=0.5)
        forget_phase_1(lab, lab.server)
        rekey_child(client)
        lab.world.run(100.0)
        assert client.told(IkeRekeyed)
        assert len(client.told(ChildInstalled)) == 2
        assert one_pair(client, lab.server)
        traffic.check()

    def test_a_peer_that_keeps_its_child_sas_and_is_silent(self) -> None:
        """Who was called asks it by a new phase 1, before it thinks that it has hung up."""
        lab, client = connected(PASSIVE, ASKING)
        for host in (lab.server, client):
            forget_phase_1(lab, host)
        lab.world.run(1000.0)
        assert not lab.server.told(ConnectionDown)
        assert connection_of(lab.server).current is not None
        assert one_pair(client, lab.server)

    def test_what_waits_for_phase_1_may_not_be_needed_any_more(self) -> None:
        """The peer has ended the child SA that was to be rekeyed."""
        subnets = ("10.99.0.0/24", "10.1.0.0/16")
        lab = lab_v1(
            terms=TermsV1(remote=subnets, timers=PASSIVE), server=TermsV1(local=subnets, timers=PASSIVE)
        )
        client = lab.client()
        lab.connect(client)
        lab.world.run(1.0)
        for host in (lab.server, client):
            forget_phase_1(lab, host)
        server, now = connection_of(lab.server), lab.world.now
        server.hub.renew = lambda _connection, _now: True
        rekey_child(lab.server)
        assert server.upkeep.waiting == 2
        server.remove(list(server.children.values())[-1], now)
        rekey_ike(client)
        lab.world.run(10.0)
        assert server.current is not None
        assert server.upkeep.waiting == 0
        assert len(lab.server.told(ChildInstalled)) == 2

    @pytest.mark.parametrize("where", ["between sites", "with a virtual address"])
    def test_a_peer_for_whom_the_child_sas_end_with_it(self, where: str) -> None:
        """It says no word of them: when it has been silent for a while, they are made anew with phase 1; and
        if it does not want that, all is.
        """
        sites = TermsV1(request=(), pool=(), local=(HERE,), remote=(THERE,), timers=ASKING)
        terms = sites if where == "between sites" else TermsV1(timers=ASKING)
        gateway = replace(sites, local=(THERE,), remote=(HERE,)) if terms is sites else terms
        lab = lab_v1(terms=terms, server=replace(gateway, timers=PASSIVE))
        client = lab.client(behind=lab.nat())
        client.keep_up(terms.connection(), SERVER_IP)
        lab.world.run(2.0)
        server, now = connection_of(lab.server), lab.world.now
        assert server.current is not None
        sa = server.current.sa
        delete = Delete(ProtocolId.ISAKMP, (sa.cookie_i + sa.cookie_r,))
        informational.send(server.current, [delete])
        forget_phase_1(lab, lab.server)
        for child in list(server.children.values()):
            server.remove(child, now)
        lab.world.run(30.0)
        assert len(client.told(ChildInstalled)) == 2
        assert len(client.told(ConnectionDown)) == (terms is not sites)
        assert client.children()[-1].spi_in in {child.spi_out for child in lab.server.children()}


def test_a_gateway_that_has_restarted_and_calls() -> None:
    """It says INITIAL-CONTACT (RFC 2407 section 4.6.3.3): what it had is not sent on any more."""
    sites = TermsV1(request=(), pool=(), local=(HERE,), remote=(THERE,), timers=PASSIVE)
    lab = lab_v1(terms=sites, server=replace(sites, local=(THERE,), remote=(HERE,)))
    client = lab.client()
    lab.connect(client)
    lab.world.run(1.0)
    lab.server.die()
    lab.server.revive()
    back = replace(sites, local=(THERE,), remote=(HERE,), remote_identity="client@example.org")
    config = replace(back.connection(), local_identity=Identity.parse("server.example.org"))
    lab.server.connect(config, client.ip, natt_only=True)
    lab.world.run(30.0)
    assert len(client.told(ConnectionUp)) == 1
    assert not client.told(ConnectionDown)
    known = {child.spi_out for child in lab.server.told(ChildInstalled)[1:]}
    assert known
    assert {child.spi_in for child in client.children()} <= known


def test_who_hangs_up_is_called_anew_at_once() -> None:
    """It has forgotten the virtual address as well, so that a new phase 1 alone would not do."""
    lab, client = connected(ASKING, PASSIVE)
    lab.server.do(lambda tunnel: tunnel.close_all(lab.world.now))
    lab.world.run(0.5)
    (down,) = client.told(ConnectionDown)
    assert (down.reason, down.retry) == ("the peer closed the connection", True)
