"""Virtual addresses: ours first, one per peer, the same when it comes back."""

from ipaddress import ip_network

import pytest

from espudp.errors import ConfigError
from espudp.ike import pool as pool_module
from espudp.ike.identity import Identity
from espudp.ike.pool import AddressPool

_ANNA, _BERT, _CARL = (Identity.parse(f"{name}@example.org") for name in ("anna", "bert", "carl"))


def _pool(*networks: str) -> AddressPool:
    return AddressPool(ip_network(n) for n in networks)


def test_the_first_address_is_ours() -> None:
    pool = _pool("10.99.0.0/24", "2001:db8:1::/64")
    assert pool.own == ("10.99.0.1", "2001:db8:1::1")
    assert pool.assign(_ANNA, 1) == "10.99.0.2"
    assert pool.assign(_ANNA, 1, version=6) == "2001:db8:1::2"


def test_the_same_address_on_coming_back() -> None:
    pool = _pool("10.99.0.0/24")
    assert pool.assign(_ANNA, 1) == "10.99.0.2"
    pool.release(1)
    assert pool.assign(_BERT, 2) == "10.99.0.3"
    assert pool.assign(_ANNA, 3) == "10.99.0.2"


def test_two_connections_of_one_identity_do_not_share() -> None:
    pool = _pool("10.99.0.0/24")
    assert {pool.assign(_ANNA, n) for n in range(3)} == {"10.99.0.2", "10.99.0.3", "10.99.0.4"}


def test_an_address_that_was_asked_for() -> None:
    pool = _pool("10.99.0.0/24")
    assert pool.assign(_ANNA, 1, requested="10.99.0.77") == "10.99.0.77"
    assert pool.assign(_BERT, 2, requested="10.99.0.77") == "10.99.0.2"
    assert pool.assign(_CARL, 3, requested="0.0.0.0") == "10.99.0.3"


@pytest.mark.parametrize(
    "not_for_peers", ["10.99.0.0", "10.99.0.1", "10.99.0.255", "10.98.0.7", "2001:db8::1"]
)
def test_addresses_that_nobody_gets(not_for_peers: str) -> None:
    assert _pool("10.99.0.0/24").assign(_ANNA, 1, requested=not_for_peers) == "10.99.0.2"


def test_an_address_that_somebody_has_left_is_not_to_be_had_by_its_number() -> None:
    pool = _pool("10.99.0.0/24")
    pool.assign(_ANNA, 1)
    pool.release(1)
    assert pool.assign(_BERT, 2, requested="10.99.0.2") == "10.99.0.3"
    assert pool.assign(_ANNA, 3, requested="10.99.0.2") == "10.99.0.2"


def test_an_address_taken_over_is_not_its_former_owners_any_more() -> None:
    pool = _pool("10.99.0.0/29")
    pool.assign(_ANNA, 1)
    for number in range(2, 6):
        pool.assign(_CARL, number)
    pool.release(1)
    assert pool.assign(_BERT, 6) == "10.99.0.2"
    pool.release(6)
    assert pool.assign(_CARL, 7, requested="10.99.0.2") == "10.99.0.2"
    pool.release(7)
    assert pool.assign(_ANNA, 8, requested="10.99.0.2") == "10.99.0.2"


def test_a_full_pool_gives_what_has_been_free_for_longest() -> None:
    pool = _pool("10.99.0.0/29")
    peers = [Identity.parse(f"peer{n}") for n in range(7)]
    given = [pool.assign(peer, n) for n, peer in enumerate(peers[:5])]
    assert given == [f"10.99.0.{n}" for n in range(2, 7)]
    assert pool.assign(peers[5], 5) is None
    pool.release(3)
    pool.release(1)
    assert pool.assign(peers[5], 5) == given[3]
    assert pool.assign(peers[3], 3) == given[1]
    assert pool.assign(peers[6], 6) is None


def test_no_address_of_that_version() -> None:
    assert _pool("10.99.0.0/24").assign(_ANNA, 1, version=6) is None
    assert _pool().assign(_ANNA, 1) is None


def test_releasing_twice_or_nothing() -> None:
    pool = _pool("10.99.0.0/24")
    pool.assign(_ANNA, 1)
    pool.release(1)
    pool.release(1)
    pool.release(99)
    assert pool.leased == 0


def test_memory_is_bounded_and_no_address_gets_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "REMEMBERED_MAX", 4)
    pool = _pool("10.99.0.0/26")
    for n in range(500):
        assert pool.assign(Identity.parse(f"peer{n}"), n) is not None
        pool.release(n)
    assert len(pool._former) <= 4
    assert len(pool._remembered) <= 4
    given = {pool.assign(Identity.parse(f"last{n}"), 1000 + n) for n in range(61)}
    assert len(given) == 61
    assert None not in given


@pytest.mark.parametrize("network", ["10.0.0.1/32", "2001:db8::1/128", "10.0.0.0/32"])
def test_networks_without_room(network: str) -> None:
    with pytest.raises(ConfigError) as error:
        _pool(network)
    assert network in str(error.value)
    assert error.value.remedy


def test_the_smallest_network() -> None:
    pool = _pool("10.0.0.0/31")
    assert pool.own == ("10.0.0.0",)
    assert pool.assign(_ANNA, 1) == "10.0.0.1"


def test_networks_that_are_not_for_everybody() -> None:
    red, blue = ip_network("10.99.0.0/29"), ip_network("10.98.0.0/29")
    pool = AddressPool([red, blue])
    assert pool.assign(_ANNA, 1, within=[blue]) == "10.98.0.2"
    assert pool.assign(_BERT, 2, within=[red]) == "10.99.0.2"
    assert pool.assign(_BERT, 3, within=[red], requested="10.98.0.5") == "10.99.0.3"
    assert pool.assign(_BERT, 4, within=[red], requested="10.98.0.2") == "10.99.0.4"  # Anna's, too
    pool.release(1)
    assert pool.assign(_ANNA, 5, within=[red]) == "10.99.0.5"  # not what it had in the other one
    assert pool.assign(_ANNA, 6) == "10.99.0.6"
    assert pool.assign(_ANNA, 7, within=[red]) is None
    assert pool.assign(_ANNA, 8, within=[]) is None
