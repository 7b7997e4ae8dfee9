"""Runs of packets that look alike, and trains of one flow: what batches are best at, with one thing wrong."""

from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from espudp.crypto.suites import ESP_SUITES, EspSuite
from espudp.esp.sa import Lifetime
from espudp.wire.vnet import Offload
from tests.property.both_paths import (
    AUTHENTIC,
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
from tests.property.inner_traffic import ALIKE_ITEMS, AlikeItem, Flow, Hosts, TcpItem
from tests.unit.esp.peers import GCM, RIGHT_SPI, TO_LEFT, mirrored

SUITES = st.sampled_from(ESP_SUITES)
STARTS = st.sampled_from([0, 500, 2**32 - 60, 2**32 - 20])
many = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@many
@given(SUITES, st.booleans(), st.lists(ALIKE_ITEMS, min_size=1, max_size=3), st.sampled_from(OFFLOADS))
def test_packets_of_one_length(suite: EspSuite, dns: bool, items: list[AlikeItem], offload: Offload) -> None:
    keys = base_keys(suite, 0, Lifetime(), dns)
    left, hosts = Both(keys), Hosts()
    right = Both([mirrored(child) for child in keys])
    right.fast.set_offloads(offload)
    suites = {RIGHT_SPI: suite, RIGHT_SPI + 1: GCM, RIGHT_SPI + 2: GCM}
    wire = seal(left, suites, [hosts.make(item) for item in items])
    left.check()
    receive(right, [Arrival(datagram, sealed.tos) for datagram, sealed in wire], offload, Random(1))
    right.check()


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
