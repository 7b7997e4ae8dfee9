"""Which outbound SA takes a packet: the most specific, then the newest."""

from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from itertools import islice

import pytest

from espudp.esp.sa import Child, OutboundSa, Peer
from espudp.esp.selectors import SelectorSet, Verdict
from espudp.esp.spd import CACHE_SIZE, Spd
from espudp.wire import ip
from espudp.wire.selectors import TrafficSelector
from tests.unit.crypto.seeded import seeded_rng
from tests.unit.esp.peers import LEFT, TO_RIGHT, left_keys, selectors, tcp, udp

ANYWHERE = selectors("0.0.0.0/0", "::/0")


def sa_for(*remote: str | TrafficSelector, local: Sequence[TrafficSelector] = ANYWHERE) -> OutboundSa:
    compiled = tuple(TrafficSelector.from_network(one) if isinstance(one, str) else one for one in remote)
    keys = left_keys(remote=compiled, local=tuple(local))
    return Child(keys, Peer(1, TO_RIGHT), 0.0, seeded_rng()).outbound


def ports(cidr: str, protocol: int, first: int = 0, last: int = 65535) -> TrafficSelector:
    net = TrafficSelector.from_network(cidr)
    return TrafficSelector(net.first, net.last, protocol, first, last)


def to(destination: str, source: str = "10.1.0.1") -> bytes:
    return udp(src=ip_address(source).packed, dst=ip_address(destination).packed)


def lookup(spd: Spd, packet: bytes) -> OutboundSa | None:
    """Twice: what is remembered is what was decided."""
    addresses = ip.addresses_of(packet)
    found = spd.lookup(addresses, packet)
    assert spd.lookup(addresses, packet) is found
    return found


def filled(*sas: OutboundSa) -> Spd:
    spd = Spd()
    for sa in sas:
        spd.add(sa)
    return spd


def test_the_longest_prefix_wins_whatever_the_order() -> None:
    everything, net, host = sa_for("0.0.0.0/0"), sa_for("10.2.0.0/16"), sa_for("10.2.0.7/32")
    for order in ((everything, net, host), (host, net, everything), (net, host, everything)):
        spd = filled(*order)
        assert lookup(spd, to("10.2.0.7")) is host
        assert lookup(spd, to("10.2.0.8")) is net
        assert lookup(spd, to("192.0.2.1")) is everything
        assert lookup(spd, to("fd00::1", "fd00::2")) is None


def test_the_newest_wins_among_equals_and_the_older_is_behind_it() -> None:
    old, new = sa_for("10.2.0.0/16"), sa_for("10.2.0.0/16")
    spd = filled(old, new)
    assert lookup(spd, to("10.2.0.1")) is new
    spd.remove(new)
    assert lookup(spd, to("10.2.0.1")) is old
    spd.add(new)
    spd.add(old)
    assert lookup(spd, to("10.2.0.1")) is old
    spd.remove(old)
    spd.remove(old)
    spd.remove(new)
    assert lookup(spd, to("10.2.0.1")) is None


def test_nothing_is_left_of_what_is_removed() -> None:
    sas = [sa_for("10.2.0.0/16", "10.2.0.0/24", "fd00::/32", "10.2.0.0/16") for _ in range(3)]
    spd = filled(*sas)
    for sa in sas:
        assert sa in spd
        spd.remove(sa)
        assert sa not in spd
    assert not spd._filed
    assert spd._tables == {32: {}, 128: {}}


def test_ports_come_before_all_traffic_of_the_same_network() -> None:
    plain, web = sa_for("10.2.0.0/16"), sa_for(ports("10.2.0.0/16", ip.TCP, 80, 80))
    for order in ((plain, web), (web, plain)):
        spd = filled(*order)
        assert lookup(spd, tcp()) is web
        assert lookup(spd, udp()) is plain
        assert lookup(spd, udp(dport=80)) is plain


def test_a_decision_by_ports_is_not_remembered_for_the_addresses() -> None:
    one, two = (sa_for(ports("10.2.0.0/16", ip.UDP, port, port)) for port in (2001, 2002))
    spd = filled(one, two)
    for _ in range(2):
        assert lookup(spd, udp(dport=2001)) is one
        assert lookup(spd, udp(dport=2002)) is two
        assert lookup(spd, udp(dport=2003)) is None
        assert lookup(spd, tcp()) is None


def test_the_local_selectors_count_too() -> None:
    first, second = (sa_for("0.0.0.0/0", local=selectors(cidr)) for cidr in ("10.1.0.0/24", "10.1.1.0/24"))
    spd = filled(first, second)
    assert lookup(spd, to("192.0.2.1", "10.1.0.5")) is first
    assert lookup(spd, to("192.0.2.1", "10.1.1.5")) is second
    assert lookup(spd, to("192.0.2.1", "10.1.2.5")) is None


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("10.2.0.1", "10.2.0.6"),
        ("10.2.0.127", "10.2.0.128"),
        ("9.255.255.255", "10.2.0.5"),
        ("0.0.0.0", "255.255.255.254"),
    ],
)
def test_ranges_that_are_no_network(first: str, last: str) -> None:
    spd = filled(sa_for(TrafficSelector(ip_address(first), ip_address(last))))
    lowest, highest = int(ip_address(first)), int(ip_address(last))
    for number in {lowest, highest, (lowest + highest) // 2}:
        assert lookup(spd, to(str(ip_address(number)))) is not None
    for number in {max(lowest - 1, 0), min(highest + 1, 2**32 - 1)} - {lowest, highest}:
        assert lookup(spd, to(str(ip_address(number)))) is None


def test_a_change_is_seen_at_once() -> None:
    spd = Spd()
    assert lookup(spd, to("10.2.0.1")) is None
    net = sa_for("10.2.0.0/16")
    spd.add(net)
    assert lookup(spd, to("10.2.0.1")) is net
    host = sa_for("10.2.0.1/32")
    spd.add(host)
    assert lookup(spd, to("10.2.0.1")) is host
    spd.remove(host)
    assert lookup(spd, to("10.2.0.1")) is net


def test_memory_is_bounded() -> None:
    spd = filled(sa_for("10.0.0.0/8"), sa_for(ports("11.0.0.0/8", ip.UDP)))
    packet, other = to("10.0.0.0"), to("11.0.0.0")
    for number in range(CACHE_SIZE + 10):
        low = number.to_bytes(3, "big")
        spd.lookup(LEFT + b"\x0a" + low, packet[:17] + low + packet[20:])
        spd.lookup(LEFT + b"\x0b" + low, other[:17] + low + other[20:])
        assert len(spd._by_addresses) + len(spd._by_flow) <= CACHE_SIZE


def test_what_finds_nothing_is_not_remembered() -> None:
    spd = filled(sa_for("10.2.0.0/16"))
    for number in range(100):
        assert spd.lookup(LEFT + bytes([11, 0, 0, number]), udp()) is None
    assert not spd._by_addresses
    assert not spd._by_flow


def test_ten_thousand_hosts_are_one_step_away() -> None:
    """The candidates for a packet are those of its own address, however many others there are."""
    sas = {host: sa_for(f"{host}/32") for host in islice(ip_network("10.64.0.0/16").hosts(), 10_000)}
    spd = filled(*sas.values())
    for host in (ip_address("10.64.0.1"), ip_address("10.64.39.16")):
        assert list(spd._candidates(LEFT + host.packed)) == [sas[host]]


def test_an_sa_is_asked_once_however_many_selectors_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer with as many child SAs and selectors as it may have must not slow down the lookup for all."""
    asked = 0
    verdict = SelectorSet.verdict

    def counted(one: SelectorSet, addresses: bytes) -> Verdict:
        nonlocal asked
        asked += 1
        return verdict(one, addresses)

    sas = [sa_for(*(ports("10.2.0.7/32", 6, n * 255 + m, n * 255 + m) for m in range(255))) for n in range(8)]
    spd = filled(*sas)
    monkeypatch.setattr(SelectorSet, "verdict", counted)
    packet = to("10.2.0.7")
    assert spd.lookup(ip.addresses_of(packet), packet) is None
    assert asked == len(sas)
    for sa in sas:
        spd.remove(sa)
    assert spd._tables == {32: {}, 128: {}}


def test_one_selector_for_certain_ports_puts_an_sa_before_those_for_all_traffic() -> None:
    everything = sa_for("10.2.0.0/16")
    both = sa_for(ports("10.2.0.0/16", 17), "10.2.0.0/16")
    later = sa_for("10.2.0.0/16")
    spd = filled(both, everything, later)
    assert lookup(spd, to("10.2.0.1")) is both
