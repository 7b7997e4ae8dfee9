"""Peers with several workers: a child SA for each of them (RFC 9611), beside peers that have but one."""

from collections import Counter

import pytest

from espudp.esp.snapshot import SaSnapshot
from espudp.ike.config import LifetimeConfig
from espudp.ike.events import ChildInstalled, ConnectionDown, Diagnostic
from espudp.ike.ikev1_config import Ikev1Config, NatTraversal
from tests.scenario.lab import Lab, Terms
from tests.scenario.lab_v1 import TermsV1, lab_v1
from tests.scenario.test_rekey import Traffic, rekey_child, rekey_ike
from tests.sim.host import IKE_PORT, Host
from tests.sim.ladder import Ladder
from tests.sim.link import Quality

_DAY = 86_400.0


def _lab(ours: int, theirs: int, *, seed: int = 0, quality: Quality | None = None, **terms: object) -> Lab:
    return Lab(
        seed,
        Terms(workers=ours, **terms),  # type: ignore[arg-type]
        Terms(workers=theirs, **terms),  # type: ignore[arg-type]
        quality or Quality(),
    )


def _up(lab: Lab) -> Host:
    """A client whose child SAs are all there."""
    client = lab.client(behind=lab.nat())
    lab.connect(client)
    lab.world.run(20.0)
    return client


def _paired(client: Host, server: Host) -> bool:
    """Whether both have the same child SAs."""
    here = {(child.spi_in, child.spi_out) for child in client.children()}
    return here == {(child.spi_out, child.spi_in) for child in server.children()}


def _workers(host: Host) -> list[int]:
    return sorted(-1 if child.resource is None else child.resource for child in host.children())


def _delete(host: Host, child: ChildInstalled) -> None:
    host.do(lambda tunnel: tunnel.delete_child(child.connection, child.spi_in, host.world.now))


def _check_alive(host: Host) -> None:
    host.do(lambda tunnel: tunnel.check_alive(host.connection, host.world.now))
    host.world.run(1.0)


def _sas(host: Host, direction: str) -> list[SaSnapshot]:
    shots = host.tunnel.snapshot(host.world.now).sas
    return [sa for sa in shots if sa.direction == direction]


@pytest.mark.parametrize(
    ("ours", "theirs", "here", "there"),
    [
        (2, 2, [0, 1], [0, 1]),
        (3, 3, [0, 1, 2], [0, 1, 2]),
        (4, 4, [0, 1, 2, 3], [0, 1, 2, 3]),
        (4, 2, [0, 1, 2, 3], [0, 0, 1, 1]),
        (2, 4, [0, 1], [0, 1]),
        (4, 1, [0], [-1]),
        (1, 4, [-1], [0]),
        (8, 3, [0, 1, 2, 3, 4, 5], [0, 0, 1, 1, 2, 2]),
    ],
)
def test_a_child_for_each_worker(ours: int, theirs: int, here: list[int], there: list[int]) -> None:
    lab = _lab(ours, theirs)
    client = _up(lab)
    assert (_workers(client), _workers(lab.server)) == (here, there)
    for host, workers in ((client, ours), (lab.server, theirs)):
        for child in host.children():
            assert workers == 1 or child.spi_in % workers == child.resource
        (connection,) = host.tunnel.snapshot(lab.world.now).connections
        assert Counter(c.resource for c in connection.children) == Counter(
            c.resource for c in host.children()
        )
    assert _paired(client, lab.server)
    assert all(flow.tally.perfect for flow in lab.exchange(client))


def test_what_is_said_and_in_which_order() -> None:
    lab = _lab(3, 1 + 1)
    client = lab.client()
    ladder = Ladder(client, lab.server)
    lab.connect(client)
    lab.world.run(5.0)
    assert ladder.matches("""
        IKE_SA_INIT 0 request      -->
                                   <--  IKE_SA_INIT 0 response
        IKE_AUTH 1 request         -->
                                   <--  IKE_AUTH 1 response
        CREATE_CHILD_SA 2 request  -->
                                   <--  CREATE_CHILD_SA 2 response
        CREATE_CHILD_SA 3 request  -->
                                   <--  CREATE_CHILD_SA 3 response
    """), ladder


@pytest.mark.parametrize(("ours", "theirs"), [(1, 1), (1, 4), (4, 1)])
def test_with_one_worker_at_an_end_all_is_as_ever(ours: int, theirs: int) -> None:
    lab = _lab(ours, theirs)
    client = lab.client()
    ladder = Ladder(client, lab.server)
    lab.connect(client)
    lab.world.run(20.0)
    assert ladder.matches("""
        IKE_SA_INIT 0 request      -->
                                   <--  IKE_SA_INIT 0 response
        IKE_AUTH 1 request         -->
                                   <--  IKE_AUTH 1 response
    """), ladder
    assert not client.told(Diagnostic) + lab.server.told(Diagnostic)


def test_traffic_flows_while_they_come() -> None:
    lab = _lab(4, 4)
    client = lab.client()
    lab.connect(client)
    assert len(client.children()) == 1
    traffic = Traffic(lab, client, 0.001)
    lab.world.run(5.0)
    assert len(client.children()) == 4
    traffic.check()


@pytest.mark.parametrize("seed", range(6))
def test_on_a_bad_line(seed: int) -> None:
    lab = _lab(4, 3, seed=seed, quality=Quality(loss=0.2, duplicate=0.1, latency=0.05, jitter=0.1))
    client = lab.client()
    lab.connect(client, within=300.0)
    lab.world.run(300.0)
    assert (_workers(client), _workers(lab.server)) == ([0, 1, 2, 3], [0, 0, 1, 2])
    assert _paired(client, lab.server)


def test_each_is_rekeyed_on_its_own() -> None:
    lab = _lab(3, 2)
    client = _up(lab)
    traffic = Traffic(lab, client)
    for host in (client, lab.server) * 2:
        for child in host.children():
            rekey_child(host, child)
            lab.world.run(3.0)
            new = host.told(ChildInstalled)[-1]
            assert (new.replaces, new.resource) == (child.spi_in, child.resource)
            assert (_workers(client), _workers(lab.server)) == ([0, 1, 2], [0, 0, 1])
    assert _paired(client, lab.server)
    traffic.check()


@pytest.mark.parametrize("seed", range(4))
def test_both_rekey_all_of_them_at_once(seed: int) -> None:
    lab = _lab(3, 3, seed=seed, quality=Quality(latency=0.03))
    client = _up(lab)
    traffic = Traffic(lab, client)
    for _ in range(3):
        for host in (client, lab.server):
            for child in host.children():
                rekey_child(host, child)
        lab.world.run(60.0)
        assert _workers(client) == _workers(lab.server) == [0, 1, 2]
        assert _paired(client, lab.server)
    # Some arrive by a new SA while others are still on the way by the old one.
    traffic.check(ordered=False)


def test_the_ike_sa_is_rekeyed_under_them() -> None:
    lab = _lab(4, 4)
    client = lab.client()
    lab.connect(client)
    traffic = Traffic(lab, client)
    for host in (lab.server, client):  # the first time while child SAs are still being made
        rekey_ike(host)
        lab.world.run(60.0)
        assert _workers(client) == _workers(lab.server) == [0, 1, 2, 3]
    traffic.check()


def test_a_day_of_soft_lifetimes() -> None:
    lab = _lab(3, 3, lifetime=LifetimeConfig(soft_seconds=3000.0, hard_seconds=3600.0))
    client = _up(lab)
    lab.world.run(_DAY)
    assert _workers(client) == _workers(lab.server) == [0, 1, 2]
    assert _paired(client, lab.server)
    # Each about 30 times, and not more often because there are others beside it.
    assert 3 * 27 <= len(client.told(ChildInstalled)) <= 3 * 36
    assert not client.told(ConnectionDown)
    assert all(flow.tally.perfect for flow in lab.exchange(client))


def test_packet_limits_are_each_sas_own() -> None:
    lab = _lab(
        2, 2, lifetime=LifetimeConfig(soft_seconds=None, hard_seconds=None, soft_packets=40, jitter=0.0)
    )
    client = _up(lab)
    traffic = Traffic(lab, client)
    lab.world.run(10.0)
    traffic.check()
    busy = [e for e in client.told(ChildInstalled) if e.replaces is not None]
    assert len(busy) > 5
    assert {e.resource for e in busy} == {0, 1}  # each worker sends on its own
    assert _workers(client) == _workers(lab.server) == [0, 1]


@pytest.mark.parametrize("side", ["client", "server"])
def test_one_is_deleted(side: str) -> None:
    """The others carry on, without a break; and it comes back, but not at once."""
    lab = _lab(3, 3)
    client = _up(lab)
    host = client if side == "client" else lab.server
    for index in (-1, 0):  # the one that carries the traffic, and another one
        traffic = Traffic(lab, client)
        _check_alive(client)  # the server knows then that its last answer has arrived
        _delete(host, host.children()[index])
        lab.world.run(25.0)
        assert len(client.children()) == len(lab.server.children()) == 2
        traffic.check()
        lab.world.run(300.0)
        assert _workers(client) == _workers(lab.server) == [0, 1, 2]
        assert _paired(client, lab.server)


@pytest.mark.parametrize("side", ["client", "server"])
def test_all_are_deleted(side: str) -> None:
    lab = _lab(2, 2)
    client = _up(lab)
    host = client if side == "client" else lab.server
    for child in host.children():
        _delete(host, child)
    lab.world.run(200.0)
    assert _workers(client) == _workers(lab.server) == [0, 1]
    assert all(flow.tally.perfect for flow in lab.exchange(client))


def test_the_server_starts_anew() -> None:
    lab = _lab(3, 3)
    client = lab.client()
    client.keep_up(lab.terms.connection(client.name), lab.server_ip)
    lab.world.run(20.0)
    lab.server.die()
    lab.server.revive()
    lab.server.events.clear()
    lab.world.run(400.0)
    assert _workers(client) == _workers(lab.server) == [0, 1, 2]
    assert all(flow.tally.perfect for flow in lab.exchange(client))


def test_the_nat_moves_all_of_them() -> None:
    """One process has them all here, and so each SA is used by whatever traffic flows."""
    lab = _lab(2, 2)
    nat = lab.nat()
    client = lab.client(behind=nat)
    lab.connect(client)
    lab.world.run(5.0)
    nat.rebind()
    assert lab.exchange(client)[0].tally.perfect
    paths = {sa.path for sa in _sas(lab.server, "out")}
    assert len(paths) == 1


def test_many_clients_share_the_servers_workers() -> None:
    lab = _lab(1, 4)
    nat = lab.nat()
    clients = [lab.client(f"client{n}", behind=nat, number=10 + n) for n in range(8)]
    for client in clients:
        lab.connect(client)
    assert _workers(lab.server) == [0, 0, 1, 1, 2, 2, 3, 3]
    for client in clients:
        assert all(flow.tally.perfect for flow in lab.exchange(client, seconds=0.5))


def test_esp_on_ikes_own_port_is_for_the_worker_that_has_the_port() -> None:
    """IKEv1 with the first drafts of NAT traversal, from behind one NAT."""
    lab = lab_v1(terms=TermsV1(ikev1=Ikev1Config(nat_traversal=(NatTraversal.DRAFT_00,)), workers=3))
    nat = lab.nat()
    clients = [lab.client(f"client-{number}", behind=nat, number=number) for number in (2, 3, 4)]
    for client in clients:
        lab.connect(client)
    for host in (*clients, lab.server):
        for child in host.children():
            rekey_child(host, child)
    lab.world.run(5.0)
    for client in clients:
        assert all(flow.tally.perfect for flow in lab.exchange(client))
    paths = {child.path.local.port for host in (*clients, lab.server) for child in host.children()}
    assert paths == {IKE_PORT}
