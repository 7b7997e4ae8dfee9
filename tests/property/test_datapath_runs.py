"""Runs of packets that look alike, and trains of one flow: what batches are best at, with one thing wrong."""

import itertools
from ipaddress import ip_address
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from espudp.crypto.suites import EspSuite
from espudp.esp.sa import Lifetime
from espudp.wire.selectors import TrafficSelector
from espudp.wire.vnet import Offload
from tests.property.both_paths import (
    AUTHENTIC,
    EVERYTHING,
    OFFLOADS,
    Arrival,
    Both,
    Fate,
    Send,
    Sender,
    arrive,
    base_keys,
    delivered,
    receive,
    seal,
    take_back,
)
from tests.property.inner_traffic import (
    ALIKE_ITEMS,
    KINDS,
    UDP,
    AlikeItem,
    Flow,
    Hosts,
    TcpItem,
    UdpItem,
    all_but_one,
)
from tests.unit.crypto.seeded import keys_for
from tests.unit.crypto.vectors import DISTINCT_SUITES
from tests.unit.esp.peers import GCM, RIGHT_SPI, TO_LEFT, left_keys, mirrored

SUITES = st.sampled_from(DISTINCT_SUITES)
STARTS = st.sampled_from([0, 500, 2**32 - 60, 2**32 - 20])
many = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def carry(suite: EspSuite, dns: bool, items: list[AlikeItem], offload: Offload) -> None:
    """Through both ends."""
    keys = base_keys(suite, 0, Lifetime(), dns)
    left, hosts = Both(keys), Hosts()
    right = Both([mirrored(child) for child in keys])
    right.fast.set_offloads(offload)
    suites = {RIGHT_SPI: suite, RIGHT_SPI + 1: GCM, RIGHT_SPI + 2: GCM}
    wire = seal(left, suites, [hosts.make(item) for item in items])
    left.check()
    receive(right, [Arrival(datagram, sealed.tos) for datagram, sealed in wire], offload, Random(1))
    right.check()


@many
@given(SUITES, st.booleans(), st.lists(ALIKE_ITEMS, min_size=1, max_size=3), st.sampled_from(OFFLOADS))
def test_packets_of_one_length(suite: EspSuite, dns: bool, items: list[AlikeItem], offload: Offload) -> None:
    carry(suite, dns, items, offload)


@pytest.mark.parametrize("odd", KINDS)
@pytest.mark.parametrize("usual", ["udp", "tcp", "udp 6", "tcp 6"])
def test_one_that_is_different(usual: str, odd: str) -> None:
    for place, dns in itertools.product((0, 5, 11), (False, True)):
        item = AlikeItem(100, all_but_one(usual, 11, odd, place))
        carry(GCM, dns, [item, item], EVERYTHING)


@pytest.mark.parametrize("other", range(2, 12))
def test_flows_in_one_run_keep_to_their_own_policies(other: int) -> None:
    """One has an SA to itself, and the other's would take it too."""
    first, last, single = map(ip_address, ("10.2.0.0", "10.2.255.255", "10.2.0.1"))
    own = left_keys(
        GCM, spi_in=0x5001, spi_out=0x5002, remote=(TrafficSelector(single, single, UDP, 53, 53),)
    )
    shared = left_keys(
        GCM,
        spi_in=0x6001,
        spi_out=0x6002,
        keys_out=keys_for(GCM, 5),
        remote=(TrafficSelector(first, last, UDP, 53, 53),),
    )
    left, hosts = Both([own, shared]), Hosts()
    made = [hosts.make(UdpItem(Flow(dst=bytes([10, 2, 0, to])), 10, 100)) for to in (1, other)]
    for _ in range(2):
        wire = seal(left, {0x5002: GCM, 0x6002: GCM}, made)
        assert [sealed.spi for _, sealed in wire] == [0x5002] * 10 + [0x6002] * 10


# Which datagrams of a flow come in as one train: from where, how many, and every how manieth.
SLICES = st.lists(
    st.tuples(st.integers(0, 69), st.integers(1, 40), st.sampled_from([1, 1, 1, 2, 3])),
    min_size=1,
    max_size=6,
)
MISHAPS = st.lists(
    st.builds(Fate, st.integers(0, 69), st.sampled_from([*AUTHENTIC, "flip", "cut"]), st.integers(0, 1500)),
    max_size=2,
)


@many
@given(
    SUITES,
    STARTS,
    st.sampled_from([0, 32, 64, 1024]),
    st.sampled_from(OFFLOADS),
    st.sampled_from([4, 6]),
    st.sampled_from([0, 0, 2, 1, 3]),
    MISHAPS,
    SLICES,
)
def test_trains_of_a_flow_in_any_order(
    suite: EspSuite,
    start: int,
    window: int,
    offload: Offload,
    version: int,
    tos: int,
    mishaps: list[Fate],
    slices: list[tuple[int, int, int]],
) -> None:
    """Replayed, held up, with gaps, across the window's edge and across 2^32; one of them altered."""
    keys = base_keys(suite, start, Lifetime(), dns=False)[:1]
    both = Both([mirrored(keys[0], replay_window=window or 64 * suite.esn)])
    both.fast.set_offloads(offload)
    item = TcpItem(Flow(version, tos=tos & 2), 13_950, mss=200)
    wire = Sender(keys, suite).send(Send((item,), tuple(mishaps)))
    for first, count, step in slices:
        datagrams = [arrival.datagram for arrival in wire[first::step][:count]]
        if not datagrams:
            continue
        # One receive call brings datagrams of one size, the last perhaps shorter; others come as a list.
        size = len(datagrams[0])
        alike = all(len(d) == size for d in datagrams[:-1]) and len(datagrams[-1]) <= size
        train, memory = arrive(datagrams, together=alike)
        found = delivered(both.fast.open(train, TO_LEFT, 0.0, tos), offload)
        take_back(memory)
        opened = [both.plain.open(datagram, TO_LEFT, 0.0, tos) for datagram in datagrams]
        assert found == [packet for packet in opened if packet is not None]
        both.check()
