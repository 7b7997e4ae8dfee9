"""The whole batched data path against the plain one-packet reference: octet for octet, drop for drop.

Frames go in as a TUN device hands them over and come out as it takes them; the reference sees each packet by
itself.
"""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from espudp.crypto.suites import EspSuite
from espudp.esp.sa import Lifetime
from espudp.wire.vnet import Offload
from tests.property.both_paths import (
    AUTHENTIC,
    OFFLOADS,
    OUTSIDE,
    Arrival,
    Both,
    Fate,
    Mtu,
    Rekey,
    Retire,
    Send,
    Sender,
    Step,
    Wait,
    base_keys,
    check_ivs,
    receive,
    seal,
    successor,
)
from tests.property.inner_traffic import ITEMS, TRAINS, Hosts
from tests.unit.crypto.vectors import DISTINCT_SUITES
from tests.unit.esp import reference as esp
from tests.unit.esp.peers import GCM, RIGHT_SPI, mirrored

every_suite = pytest.mark.parametrize("suite", DISTINCT_SUITES, ids=lambda suite: suite.name)
thorough = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

STARTS = st.sampled_from([0, 1000, 2**31 - 4, 2**32 - 40, 2**32 - 8])
LIFETIMES = st.sampled_from(
    [
        Lifetime(),
        Lifetime(),
        Lifetime(soft_packets=5, hard_packets=20),
        Lifetime(hard_packets=7),
        Lifetime(soft_bytes=900, hard_bytes=9000),
        Lifetime(soft_seconds=1.0, hard_seconds=2.0),
    ]
)

FATES = st.lists(
    st.builds(Fate, st.integers(0, 60), st.sampled_from(AUTHENTIC + OUTSIDE), st.integers(0, 1500)),
    max_size=5,
)

SENDS = st.lists(ITEMS, min_size=1, max_size=6).map(lambda items: Send(tuple(items)))
BULKS = st.lists(TRAINS, min_size=1, max_size=3).map(lambda items: Send(tuple(items)))
STEPS = st.lists(
    st.one_of(
        SENDS,
        SENDS,
        BULKS,
        st.sampled_from([Mtu(1300), Mtu(700), Mtu(1401), Rekey(False), Rekey(True), Wait(0.7), Wait(1.5)]),
    ),
    min_size=1,
    max_size=6,
)
ARRIVALS = st.builds(
    lambda items, fates: Send(tuple(items), tuple(fates)),
    st.one_of(st.lists(ITEMS, min_size=1, max_size=4), st.lists(TRAINS, min_size=1, max_size=3)),
    FATES,
)
CHANGES = [Mtu(700), Rekey(False), Rekey(True), Retire(0.0), Retire(1.0), Wait(0.7), Wait(1.5)]
STEPS_BETWEEN = st.lists(
    st.one_of(
        ARRIVALS,
        ARRIVALS,
        ARRIVALS,
        st.sampled_from(CHANGES),
    ),
    min_size=1,
    max_size=6,
)
DSCP = st.sampled_from([None, None, 0, 46])


@every_suite
@thorough
@given(STARTS, LIFETIMES, st.booleans(), DSCP, STEPS)
def test_sealing(
    suite: EspSuite, start: int, lifetime: Lifetime, dns: bool, dscp: int | None, steps: list[Step]
) -> None:
    both, hosts = Both(base_keys(suite, start, lifetime, dns), dscp=dscp), Hosts()
    suites = {RIGHT_SPI: suite, RIGHT_SPI + 1: GCM, RIGHT_SPI + 2: GCM}
    ivs: dict[int, list[tuple[int, bytes]]] = {}
    for step in steps:
        if not isinstance(step, Send):
            both.step(step)
            suites[both.keys.spi_out] = suite
            continue
        for datagram, want in seal(both, suites, [hosts.make(item) for item in step.items]):
            iv = esp.iv_of(suites[want.spi], datagram)
            ivs.setdefault(want.spi, []).append((want.sequence, iv))
        both.check()
    for spi, used in ivs.items():
        check_ivs(suites[spi], used)


@every_suite
@thorough
@given(
    STARTS,
    LIFETIMES,
    st.booleans(),
    st.sampled_from([1024, 1024, 64, 32, 0]),
    st.sampled_from(OFFLOADS),
    STEPS_BETWEEN,
    st.integers(0, 99),
)
def test_opening(
    suite: EspSuite,
    start: int,
    lifetime: Lifetime,
    dns: bool,
    window: int,
    offload: Offload,
    steps: list[Step],
    seed: int,
) -> None:
    ours = base_keys(suite, start, Lifetime(), dns)
    window = window or (64 if suite.esn else 0)
    both = Both([mirrored(child, lifetime=lifetime, replay_window=window) for child in ours])
    both.fast.set_offloads(offload)
    sender, chance = Sender(ours, suite), Random(seed)
    current, rekeys = ours[0], 0
    waiting: list[Arrival] = []
    for step in steps:
        match step:
            case Send():
                waiting += sender.send(step)
                # What comes late enough meets a receiver that has gone on.
                if chance.random() < 0.7:
                    receive(both, waiting, offload, chance)
                    waiting = []
            case Rekey(standby):
                rekeys += 1
                current = successor(current, rekeys)
                replaced, both.keys = both.keys.spi_in, mirrored(current, lifetime=lifetime)
                both.keys = replace(both.keys, replaces=replaced, replay_window=window)
                both.install(both.keys, standby=standby)
                sender.path.install(current, 0.0)
            case _:
                both.step(step)
        both.check()
    receive(both, waiting, offload, chance)
    both.check()
