"""Who is shown where: peers of transport mode behind one NAT."""

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address
from itertools import combinations, product
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espudp.errors import ConfigError
from espudp.esp.selectors import SelectorSet
from espudp.esp.stand_ins import DEFAULT_NETWORKS, REST_SECONDS, StandIns, apart_from
from espudp.wire import ip
from espudp.wire.address import Path, UdpAddress
from espudp.wire.selectors import ALL_PORTS, TrafficSelector
from espudp.wire.transport import Transport
from tests.unit.esp.peers import left_keys

SERVER, NAT = "203.0.113.1", "198.51.100.1"
L2TP = (1701, 1701)


def host(address: str, protocol: int = ip.UDP, ports: tuple[int, int] = L2TP) -> TrafficSelector:
    one = ip_address(address)
    return TrafficSelector(one, one, protocol, *ports)


class Table(StandIns):
    """Remembers what it has given, by connection."""

    def give(
        self,
        connection: int,
        *,
        spi: int = 0,
        private: str = "",
        who: str = "",
        port: int = 0,
        server: str = SERVER,
        at: str = NAT,
        ours: tuple[int, int] = L2TP,
        theirs: tuple[int, int] = L2TP,
        protocol: int = ip.UDP,
        replaces: int | None = None,
        now: float = 0.0,
    ) -> str:
        """Where the host sees a peer that is another one with each connection, unless said otherwise."""
        keys: Any = left_keys(
            connection=connection,
            spi_in=spi or 0x1000 + connection,
            local=(host(server, protocol, ours),),
            remote=(host(at, protocol, theirs),),
            path=Path(UdpAddress(server, 4500), UdpAddress(at, port or 20_000 + connection)),
            replaces=replaces,
        )
        private = private or f"10.0.0.{connection}"
        transport, remote = self.place(keys, Transport(server, at, server, private), who or private, now)
        assert [str(selector.first) for selector in remote] == [transport.shown]
        assert [selector.ports for selector in remote] == [theirs]
        return transport.shown


def test_the_first_is_where_it_is_and_each_later_one_somewhere_else() -> None:
    table = Table()
    assert [table.give(n) for n in range(1, 5)] == [NAT, "198.18.0.1", "198.18.0.2", "198.18.0.3"]


def test_in_ipv6_as_well() -> None:
    table, server, at = Table(), "2001:db8::1", "2001:db8:1::1"
    seen = [table.give(n, server=server, at=at, private=f"fd00::{n}") for n in (1, 2)]
    assert seen == [at, "fd65:7370:7564:7000::1"]


def test_peers_that_nobody_could_take_for_one_another_stay_where_they_are() -> None:
    table = Table()
    assert table.give(1) == NAT
    assert table.give(2, ours=(1702, 1702)) == NAT
    assert table.give(3, theirs=(1702, 1702)) == NAT
    assert table.give(4, at="198.51.100.2") == "198.51.100.2"
    assert table.give(5, ours=ALL_PORTS, theirs=ALL_PORTS) == "198.18.0.1"


def test_all_that_one_peer_has_is_in_one_place() -> None:
    table = Table()
    table.give(1)
    assert table.give(2) == "198.18.0.1"
    assert table.give(2, spi=0x2000, ours=(80, 80)) == "198.18.0.1"
    assert table.give(2, spi=0x2001) == "198.18.0.1"


def test_a_rekey_changes_nothing() -> None:
    table = Table()
    table.give(1)
    table.give(2)
    assert table.give(2, spi=0x2000, replaces=0x1002) == "198.18.0.1"
    table.remove(0x1002, 1.0)
    assert table.give(2, spi=0x2001, replaces=0x2000, now=1000.0) == "198.18.0.1"
    # Another connection that follows it, of a peer that has authenticated anew.
    assert table.give(3, replaces=0x2001, now=1000.0) == "198.18.0.1"


def test_a_place_rests_before_another_peer_gets_it() -> None:
    table = Table()
    table.give(1)
    table.give(2)
    table.remove_connection(1, 10.0)
    table.remove_connection(2, 10.0)
    assert table.give(3, now=10.0 + REST_SECONDS - 1) == "198.18.0.2"
    assert table.give(4, now=10.0 + REST_SECONDS) == NAT


def test_who_comes_back_by_the_same_mapping_has_its_place_again() -> None:
    table = Table()
    table.give(1)
    table.give(2)
    table.remove_connection(2, 0.0)
    assert table.give(3, private="10.0.0.2", port=20_002, now=5.0) == "198.18.0.1"
    table.remove_connection(1, 0.0)
    assert table.give(4, private="10.0.0.9", port=20_001, now=5.0) == "198.18.0.2"
    assert table.give(5, private="10.0.0.1", port=20_001, now=5.0) == NAT


def test_a_mapping_that_its_peer_has_left_vouches_for_nobody() -> None:
    table = Table()
    table.give(1)
    table.move(1, UdpAddress(NAT, 33_333))
    assert table.give(2, private="10.0.0.1", port=20_001) == "198.18.0.1"


@pytest.mark.parametrize("gone", [False, True])
def test_who_says_the_private_address_of_another_gets_nothing_of_its(gone: bool) -> None:
    """NAT-OA and traffic selectors are the peer's to write, and a NAT gives ports away again."""
    table = Table()
    table.give(1)
    table.give(2, who="victim")
    if gone:
        table.remove_connection(2, 0.0)
    assert table.give(3, private="10.0.0.2", port=20_002, who="liar", now=5.0) == "198.18.0.2"
    if gone:
        assert table.give(4, private="10.0.0.2", port=20_002, who="victim", now=5.0) == "198.18.0.1"


def test_protocols_whose_one_port_is_the_senders() -> None:
    """What this host sends by ICMP no selector of the peer's side tells apart by type."""
    table = Table()
    for connection, kind, there in ((1, 0x0800, NAT), (2, 0, "198.18.0.1")):
        theirs = kind, kind
        assert table.give(connection, protocol=ip.ICMP, ours=ALL_PORTS, theirs=theirs) == there


CHANCE = st.integers(0, 2**32)
KINDS = [(ip.UDP, (1701, 1701)), (ip.UDP, (1701, 1800)), (ip.UDP, ALL_PORTS), (0, ALL_PORTS), (0, (80, 80))]
KINDS += [(ip.ICMP, (0x0800, 0x0800)), (ip.ICMP, (0, 0)), (ip.TCP, (80, 80))]


@given(CHANCE)
def test_no_packet_is_for_two_peers(seed: int) -> None:
    """They come, move, rekey and go; each of them lies about its address as it likes."""
    chance, table, now = Random(seed), Table(), 0.0
    placed: dict[int, tuple[str, str, SelectorSet]] = {}  # by SPI: whose, where, what this host sends there
    gone: dict[int, float] = {}
    for spi in range(0x1000, 0x1018):
        now += chance.choice([0.0, 1.0, REST_SECONDS / 3])
        connection, action = chance.randint(1, 5), chance.random()
        if action < 0.15:
            table.move(connection, UdpAddress(NAT, 20_000 + chance.randint(1, 5)))
        elif action < 0.4 and placed:
            over = chance.choice(list(placed))
            table.remove(over, now)
            gone.setdefault(over, now)
        else:
            protocol, ours = chance.choice(KINDS)
            theirs = chance.choice([ports for other, ports in KINDS if other == protocol])
            who = f"peer {connection}"
            shown = table.give(
                connection,
                who=who,
                spi=spi,
                private=f"10.0.0.{chance.randint(1, 2)}",
                port=20_000 + chance.randint(1, 5),
                protocol=protocol,
                ours=ours,
                theirs=theirs,
                now=now,
            )
            out = SelectorSet((host(SERVER, protocol, ours),), (host(shown, protocol, theirs),))
            placed[spi] = who, shown, out
        here = [one for spi, one in placed.items() if now < gone.get(spi, now) + REST_SECONDS]
        for (who, shown, some), (other, where, others) in combinations(here, 2):
            if who != other and shown == where:
                assert not any(some.matches(flow) and others.matches(flow) for flow in flows(shown))


def flows(remote: str) -> Iterator[ip.Flow]:
    ends = ip_address(SERVER).packed, ip_address(remote).packed
    for protocol in (ip.UDP, ip.TCP):
        for sport, dport in product((1701, 1800, 80, 5), repeat=2):
            yield ip.Flow(*ends, protocol, sport, dport, 4, 0, 40)
    for kind in (0x0800, 0):
        yield ip.Flow(*ends, ip.ICMP, kind, ip.ABSENT, 4, 0, 40)


def test_small_networks_run_out() -> None:
    networks = IPv4Network("10.0.0.0/30"), IPv4Network("10.9.9.9/32"), IPv6Network("fd00::/126")
    table = Table(networks)
    assert [table.give(n) for n in range(1, 5)] == [NAT, "10.0.0.1", "10.0.0.2", "10.9.9.9"]
    with pytest.raises(ConfigError, match="no address left"):
        table.give(5)
    table.remove_connection(3, 0.0)
    assert table.give(6, now=REST_SECONDS) == "10.0.0.2"


def test_addresses_that_this_host_knows_of_stand_in_for_nobody() -> None:
    """As in a laboratory, where 198.18.0.0/15 is for benchmarks."""
    lan, lan6 = IPv4Network("198.18.0.0/24"), IPv6Network("fd65:7370:7564:7000::/80")
    left = apart_from([lan, lan6, IPv4Network("10.0.0.0/8")])
    table = Table(left)
    assert [table.give(n) for n in range(1, 4)] == [NAT, "198.18.1.1", "198.18.1.2"]
    assert sum(n.num_addresses for n in left if n.version == 4) == (1 << 17) - 256
    assert not any(network.overlaps(taken) for network in left for taken in (lan, lan6))
    assert apart_from([IPv4Network("0.0.0.0/0"), IPv6Network("fd00::/8")]) == []
    assert apart_from([]) == list(DEFAULT_NETWORKS)


def test_without_networks_the_second_is_refused() -> None:
    table = Table(())
    assert table.give(1) == NAT
    with pytest.raises(ConfigError, match="no address left"):
        table.give(2)


def test_nothing_is_left_of_those_that_are_gone() -> None:
    table = Table()
    for n in range(1, 200):
        table.give(n, now=float(n))
        table.remove_connection(n, float(n))
    table.give(1, now=10_000.0)
    kept = [vars(table)[name] for name in ("_places", "_at", "_of", "_resting", "_known")]
    assert [len(each) for each in kept] == [1, 1, 1, 0, 0]


def test_an_spi_that_is_drawn_again() -> None:
    table = Table()
    table.give(1, spi=0x5000)
    table.remove(0x5000, 0.0)
    assert table.give(2, spi=0x5000, now=1.0) == NAT
    assert table.give(3, now=REST_SECONDS + 5.0) == "198.18.0.1"
