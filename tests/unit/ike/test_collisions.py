"""Both sides at once (RFC 7296 sections 2.8.1, 2.8.2 and 2.25), in each order that matters.

A, B     the two sides; here the client and the server
M, N     the child SAs, or IKE SAs, that the two exchanges make
"""

from random import Random

import pytest

from espudp.ike.config import Timers
from espudp.ike.events import ChildInstalled, ChildRemoved, ConnectionDown, IkeRekeyed
from espudp.ike.v2.connection import RETIRED_LINGER
from tests.unit.ike.pair import FOREVER, Datagram, Pair, client_child, client_config, server_config

_TIMERS = Timers(dpd_interval=0, ike_lifetime=FOREVER)
_SEEDS = range(8)  # the nonces, and so the winners, differ


def _pair(seed: int) -> Pair:
    pair = Pair(client_config(timers=_TIMERS), server_config(timers=_TIMERS), seed=seed).connect()
    pair.wire.clear()
    return pair


def _rekey_child(pair: Pair, *sides: str) -> None:
    for name in sides or ("client", "server"):
        side = getattr(pair, name)
        for spi in list(side.connection.children)[-1:]:
            side.endpoint.rekey_child(1, spi, pair.now)


def _rekey_ike(pair: Pair, *sides: str) -> None:
    for name in sides or ("client", "server"):
        getattr(pair, name).endpoint.rekey_ike(1, pair.now)


def _settle(pair: Pair, seconds: float = 200.0) -> None:
    pair.flush()
    pair.wait(seconds)
    pair.agree()
    assert len(pair.client.connection.children) == len(pair.server.connection.children) == 1
    assert len(pair.client.states) == len(pair.server.states) == 1
    for side in (pair.client, pair.server):
        assert len(side.endpoint._hub.child_spis) == 1
        assert len(side.connection.sas) == 1
        assert not side.ike.tasks


# Child SAs


@pytest.mark.parametrize("seed", _SEEDS)
def test_both_rekey_the_child_sa(seed: int) -> None:
    """RFC 7296 section 2.8.1, the first diagram."""
    pair = _pair(seed)
    (old_a,), (old_b,) = pair.client.children, pair.server.children
    _rekey_child(pair)
    (req1,), (req2,) = pair.take(pair.client), pair.take(pair.server)
    pair.give(pair.client, req2)
    (resp2,) = pair.take(pair.client)
    pair.give(pair.server, req1)
    (resp1,) = pair.take(pair.server)
    pair.give(pair.client, resp1)
    pair.give(pair.server, resp2)
    # Three pairs exist for a moment, and both now know which one goes.
    assert [len(side.connection.children) for side in (pair.client, pair.server)] == [3, 3]
    retired_a = [e for e in pair.client.told(ChildRemoved) if e.linger == RETIRED_LINGER]
    retired_b = [e for e in pair.server.told(ChildRemoved) if e.linger == RETIRED_LINGER]
    assert [(e.spi_in, e.spi_out) for e in retired_a] == [(e.spi_out, e.spi_in) for e in retired_b]
    pair.flush()
    survivor = pair.client.children[0]
    assert survivor.spi_in not in (old_a.spi_in, retired_a[0].spi_in)
    # Who made the survivor sends on it at once, the other one when it has heard from it.
    replacing = [e for e in (*pair.client.children, *pair.server.children)]
    assert sorted(e.standby for e in replacing) == [False, True]
    for side, old in ((pair.client, old_a), (pair.server, old_b)):
        assert old.spi_in in {e.spi_in for e in side.told(ChildRemoved)}
    _settle(pair)


@pytest.mark.parametrize("seed", _SEEDS)
def test_the_side_with_the_lowest_nonce_deletes_what_it_made(seed: int) -> None:
    pair = _pair(seed)
    _rekey_child(pair)
    req1, req2 = pair.take(pair.client), pair.take(pair.server)
    pair.give(pair.client, req2[0])
    pair.give(pair.server, req1[0])
    resp2, resp1 = pair.take(pair.client), pair.take(pair.server)
    pair.give(pair.client, resp1[0])
    pair.give(pair.server, resp2[0])
    winners = [
        side
        for side in (pair.client, pair.server)
        if any(e.replaces is not None and not e.standby for e in side.told(ChildInstalled))
    ]
    assert len(winners) == 1
    _settle(pair)


@pytest.mark.parametrize("seed", _SEEDS)
def test_a_rekey_that_the_other_side_hears_of_too_late(seed: int) -> None:
    """RFC 7296 section 2.8.1, the second diagram: req1 is lost, and B is done before it comes again."""
    pair = _pair(seed)
    _rekey_child(pair)
    pair.take(pair.client)
    pair.move(pair.server)
    pair.flush()
    assert len(pair.server.children) == 1
    assert len(pair.client.children) == 1
    _settle(pair)
    # CHILD_SA_NOT_FOUND was no news to A.
    assert len(pair.client.told(ChildInstalled)) == len(pair.server.told(ChildInstalled)) == 2


@pytest.mark.parametrize("seed", _SEEDS)
def test_a_late_answer_of_the_loser(seed: int) -> None:
    """B has both exchanges behind it, and has even rekeyed again, when A gets its answer."""
    pair = _pair(seed)
    _rekey_child(pair)
    (req1,), (req2,) = pair.take(pair.client), pair.take(pair.server)
    pair.give(pair.client, req2)
    pair.move(pair.client)
    pair.give(pair.server, req1)
    late = pair.take(pair.server)
    for _ in range(3):
        pair.move(pair.server)
        pair.move(pair.client)
    for datagram in late:
        pair.give(pair.client, datagram)
    _settle(pair, 400.0)


@pytest.mark.parametrize("seed", _SEEDS)
def test_a_rekey_meets_a_delete(seed: int) -> None:
    """RFC 7296 section 2.25.1: TEMPORARY_FAILURE one way, a Delete payload as usual the other way."""
    pair = _pair(seed)
    _rekey_child(pair, "client")
    pair.server.endpoint.delete_child(1, pair.server.children[0].spi_in, pair.now)
    (rekey,), (delete,) = pair.take(pair.client), pair.take(pair.server)
    first, second = ((pair.client, delete), (pair.server, rekey))
    for side, datagram in (first, second) if seed % 2 else (second, first):
        pair.give(side, datagram)
    pair.flush()
    pair.wait(60.0)
    _settle(pair)


# IKE SAs


@pytest.mark.parametrize("seed", _SEEDS)
def test_both_rekey_the_ike_sa(seed: int) -> None:
    pair = _pair(seed)
    _rekey_ike(pair)
    (req1,), (req2,) = pair.take(pair.client), pair.take(pair.server)
    pair.give(pair.client, req2)
    pair.give(pair.server, req1)
    (resp2,), (resp1,) = pair.take(pair.client), pair.take(pair.server)
    pair.give(pair.client, resp1)
    pair.give(pair.server, resp2)
    here, there = pair.client.ike.sa, pair.server.ike.sa
    assert (here.spi_i, here.spi_r) == (there.spi_i, there.spi_r)
    assert sorted([*pair.client.state_names, *pair.server.state_names]) == [
        *["Deleting"] * 2,
        *["Established"] * 2,
        *["Superseded"] * 2,
    ]
    # The maker of the survivor deletes the old one, the other side what it made.
    assert {n.count("Deleting") for n in (pair.client.state_names, pair.server.state_names)} == {1}
    pair.flush()
    assert len(pair.client.told(IkeRekeyed)) == len(pair.server.told(IkeRekeyed)) == 1
    _settle(pair)


@pytest.mark.parametrize("seed", _SEEDS)
def test_an_ike_rekey_that_only_one_side_noticed(seed: int) -> None:
    """RFC 7296 section 2.8.2, the diagram: B's request is on its way when A is done already."""
    pair = _pair(seed)
    _rekey_ike(pair)
    (req1,), (late,) = pair.take(pair.client), pair.take(pair.server)
    pair.give(pair.server, req1)
    pair.move(pair.server)
    (req3,) = pair.take(pair.client)
    if seed % 2:
        pair.give(pair.client, late)  # refused with TEMPORARY_FAILURE: A is closing that IKE SA
        pair.move(pair.client)
    pair.give(pair.server, req3)
    pair.give(pair.client, late)
    _settle(pair)
    assert len(pair.server.told(IkeRekeyed)) == 1


@pytest.mark.parametrize("seed", _SEEDS)
def test_an_ike_rekey_meets_a_child_rekey(seed: int) -> None:
    """RFC 7296 section 2.25: both are put off, and both happen later."""
    pair = _pair(seed)
    _rekey_ike(pair, "client")
    _rekey_child(pair, "server")
    (here,), (there,) = pair.take(pair.client), pair.take(pair.server)
    pair.give(pair.server, here)
    pair.give(pair.client, there)
    pair.flush()
    assert not pair.client.told(IkeRekeyed)
    _settle(pair)
    assert len(pair.client.told(IkeRekeyed)) == 1
    assert len(pair.client.told(ChildInstalled)) == 2


@pytest.mark.parametrize("seed", _SEEDS)
def test_an_ike_rekey_meets_a_child_delete(seed: int) -> None:
    pair = _pair(seed)
    _rekey_ike(pair, "client")
    pair.server.endpoint.delete_child(1, pair.server.children[0].spi_in, pair.now)
    (here,), (there,) = pair.take(pair.client), pair.take(pair.server)
    pair.give(pair.server, here)
    pair.give(pair.client, there)
    pair.flush()
    pair.wait(60.0)
    _settle(pair)
    assert len(pair.client.told(IkeRekeyed)) == 1


@pytest.mark.parametrize("seed", _SEEDS)
def test_an_ike_rekey_meets_the_end(seed: int) -> None:
    """RFC 7296 section 2.25.2: who is rekeying answers the Delete, and forgets about its rekey."""
    pair = _pair(seed)
    _rekey_ike(pair, "client")
    pair.server.endpoint.close(1, pair.now)
    (here,), (there,) = pair.take(pair.client), pair.take(pair.server)
    first, second = ((pair.client, there), (pair.server, here))
    for side, datagram in (first, second) if seed % 2 else (second, first):
        pair.give(side, datagram)
    pair.flush()
    pair.wait(200.0)
    assert len(pair.client.told(ConnectionDown)) == len(pair.server.told(ConnectionDown)) == 1
    assert pair.client.states == pair.server.states == []


@pytest.mark.parametrize("seed", _SEEDS)
def test_the_loser_is_used_before_its_maker_knows(seed: int) -> None:
    """B took A's answer, and works over its IKE SA, while A still waits for the answer to its own rekey."""
    pair = _pair(seed)
    _rekey_ike(pair)
    (req1,), (req2,) = pair.take(pair.client), pair.take(pair.server)
    pair.give(pair.client, req2)
    pair.move(pair.client)
    pair.server.endpoint.check_alive(1, pair.now)
    pair.move(pair.server)
    pair.move(pair.client)
    pair.give(pair.server, req1)
    _settle(pair)


# In any order


def _delete_child(pair: Pair, *sides: str) -> None:
    for name in sides:
        side = getattr(pair, name)
        for spi in list(side.connection.children)[-1:]:
            side.endpoint.delete_child(1, spi, pair.now)


def _create_child(pair: Pair, *_: str) -> None:
    pair.client.endpoint.create_child(1, client_child(remote="10.1.7.0/24"), pair.now)


@pytest.mark.parametrize("seed", range(80))
def test_any_order(seed: int) -> None:
    """All that the two can do to their SAs, at once; messages late, twice, or not at all."""
    chance = Random(seed)
    pair = _pair(seed)
    flying: list[tuple[str, Datagram]] = []
    for _ in range(50):
        if chance.random() < 0.15:
            act = chance.choice([_rekey_child, _rekey_child, _rekey_ike, _delete_child, _create_child])
            act(pair, *chance.choice([("client",), ("server",), ("client", "server")]))
        for name, side in (("server", pair.client), ("client", pair.server)):
            flying += [(name, d) for d in pair.take(side) if chance.random() > 0.1]
        chance.shuffle(flying)
        while flying and chance.random() < 0.6:
            name, datagram = flying[-1] if chance.random() < 0.2 else flying.pop()
            pair.give(getattr(pair, name), datagram)
        pair.wait(chance.uniform(0, 0.4), flush=False)
    for name, datagram in flying:
        pair.give(getattr(pair, name), datagram)
    pair.wait(1_000.0)
    pair.agree()
    here = {(c.spi_in, c.spi_out) for c in pair.client.connection.children.values()}
    assert here == {(c.spi_out, c.spi_in) for c in pair.server.connection.children.values()} != set()
    for side in (pair.client, pair.server):
        assert side.state_names == ["Established"]
        assert not side.ike.tasks
        assert len(side.endpoint._hub.child_spis) == len(here)
