"""Transport mode in the batched data path against the plain reference: octet for octet, drop for drop."""

from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from espudp.crypto.suites import EspSuite
from espudp.esp.sa import ChildKeys, Lifetime
from espudp.wire.selectors import ALL_PORTS, TrafficSelector, at_host
from espudp.wire.transport import Transport
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
    Send,
    Sender,
    Wait,
    check_ivs,
    receive,
    seal,
)
from tests.property.inner_traffic import ITEMS, UDP, Cut, Flow, Hosts, Item, Made
from tests.reference.datapath_reference import Sealed
from tests.unit.crypto.seeded import keys_for
from tests.unit.esp import reference as esp
from tests.unit.esp.peers import CBC_ESN, GCM, LEFT_SPI, RIGHT_SPI, left_keys, mirrored, selectors

# Whatever depends on more of the suite is the same in tunnel mode.
some_suites = pytest.mark.parametrize("suite", [GCM, CBC_ESN], ids=lambda suite: suite.name)
thorough = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)

# What the hosts see, and what they are behind NATs; the peer may be shown under another address.
HERE, SHOWN, THERE = "10.1.0.1", "10.2.0.1", ("203.0.113.7", "192.168.0.9")
HERE6, SHOWN6, THERE6 = "fd00:1::1", "fd00:2::1", ("2001:db8::7", "fd00:9::9")


@dataclass(frozen=True)
class Situation:
    """Which NATs there are, and what is known of them."""

    stand_in: bool = False
    known: bool = True
    port: int | None = None
    """What the SAs are for at the peer: UDP to this port, or everything."""

    def transport(self, here: str, shown: str, there: tuple[str, str]) -> Transport:
        outer = "198.51.100.2" if "." in here else "2001:db8:2::2"
        remote, stand_in = (outer, shown) if self.stand_in else (shown, "")
        return Transport(here, remote, *(there if self.known else ("", "")), stand_in)

    def selectors(self, address: str, *, ours: bool) -> tuple[TrafficSelector, ...]:
        (host,) = selectors(address)
        if self.port is None:
            return (host,)
        ports = ALL_PORTS if ours else (self.port, self.port)
        return at_host((TrafficSelector(host.first, host.last, UDP, *ports),), address)


def child_keys(
    suite: EspSuite, start: int, lifetime: Lifetime, situation: Situation, *, left: bool
) -> list[ChildKeys]:
    """One child SA for each version of IP, and one in tunnel mode for a network that is elsewhere."""
    first, last = ((HERE, SHOWN), (HERE6, SHOWN6)) if left else ((SHOWN, HERE), (SHOWN6, HERE6))
    made = [
        left_keys(
            suite,
            sent=start if number == 0 else 0,
            lifetime=lifetime,
            spi_in=LEFT_SPI + 2 * number,
            spi_out=RIGHT_SPI + 2 * number,
            keys_out=keys_for(suite, 20 + number),
            local=situation.selectors(here, ours=left),
            remote=situation.selectors(shown, ours=not left),
            transport=situation.transport(here, shown, there),
        )
        for number, ((here, shown), there) in enumerate(((first, THERE), (last, THERE6)))
    ]
    tunnel = left_keys(
        GCM,
        spi_in=LEFT_SPI + 1,
        spi_out=RIGHT_SPI + 1,
        keys_out=keys_for(GCM, 7),
        remote=selectors("10.3.0.0/16"),
    )
    return [*made, tunnel]


CUTS = st.builds(
    Cut,
    st.builds(Flow, st.sampled_from([4, 6]), st.integers(0, 2), st.sampled_from([0, 2, 0xB8])),
    octets=st.integers(1, 4000),
    size=st.sampled_from([256, 1000, 1352]),
    number=st.integers(1, 9),
    mishaps=st.lists(
        st.tuples(st.sampled_from(["lost", "twice", "late"]), st.integers(0, 15)), max_size=2
    ).map(tuple),
)


def mixed(hosts: Hosts, items: list[Item], cuts: list[Cut], chance: Random) -> list[Made]:
    """The packets of both, and each datagram's fragments anywhere among others."""
    made = [hosts.make(item) for item in items]
    for cut in cuts:
        at = 0
        for piece in cut.pieces():
            at = chance.randint(at, len(made)) if chance.random() < 0.5 else min(at, len(made))
            made.insert(at, piece)
            at += 1
    return made


SITUATIONS = st.builds(
    Situation, st.booleans(), st.sampled_from([True, True, False]), st.sampled_from([None, None, 53])
)
STARTS = st.sampled_from([0, 2**31 - 4, 2**32 - 20])
LIFETIMES = st.sampled_from(
    [
        Lifetime(),
        Lifetime(),
        Lifetime(soft_packets=5, hard_packets=20),
        Lifetime(soft_bytes=900, hard_bytes=9000),
    ]
)
SENDS = st.tuples(st.lists(ITEMS, max_size=4), st.lists(CUTS, max_size=4))
STEPS = st.lists(
    st.one_of(SENDS, SENDS, st.sampled_from([Mtu(1300), Mtu(700), Rekey(False), Wait(0.7), Wait(1.5)])),
    min_size=1,
    max_size=5,
)


@some_suites
@thorough
@given(STARTS, LIFETIMES, SITUATIONS, STEPS, st.integers(0, 99))
def test_sealing(
    suite: EspSuite,
    start: int,
    lifetime: Lifetime,
    situation: Situation,
    steps: list[tuple[list[Item], list[Cut]] | Mtu | Rekey | Wait],
    seed: int,
) -> None:
    both = Both(child_keys(suite, start, lifetime, situation, left=True))
    hosts, chance = Hosts(), Random(seed)
    suites = {RIGHT_SPI: suite, RIGHT_SPI + 1: GCM, RIGHT_SPI + 2: suite}
    ivs: dict[int, list[tuple[int, bytes]]] = {}
    for step in steps:
        if not isinstance(step, tuple):
            both.step(step)
            suites[both.keys.spi_out] = suite
            continue
        for datagram, want in seal(both, suites, mixed(hosts, *step, chance)):
            ivs.setdefault(want.spi, []).append((want.sequence, esp.iv_of(suites[want.spi], datagram)))
        both.check()
    for spi, used in ivs.items():
        check_ivs(suites[spi], used)


FATES = st.lists(
    st.builds(Fate, st.integers(0, 60), st.sampled_from(AUTHENTIC + OUTSIDE), st.integers(0, 1500)),
    max_size=5,
)


@some_suites
@thorough
@given(
    LIFETIMES,
    SITUATIONS,
    st.sampled_from(OFFLOADS),
    st.lists(st.tuples(st.lists(ITEMS, min_size=1, max_size=3), FATES), min_size=1, max_size=4),
    st.integers(0, 99),
)
def test_opening(
    suite: EspSuite,
    lifetime: Lifetime,
    situation: Situation,
    offload: Offload,
    sends: list[tuple[list[Item], list[Fate]]],
    seed: int,
) -> None:
    """What the sender's host has made, and what somebody makes of it who has the keys."""
    ours = child_keys(suite, 0, Lifetime(), Situation(port=situation.port), left=True)
    theirs = child_keys(suite, 0, lifetime, situation, left=False)
    both = Both(
        [
            mirrored(keys, transport=there.transport, lifetime=lifetime)
            for keys, there in zip(ours, theirs, strict=True)
        ]
    )
    both.fast.set_offloads(offload)
    sender, chance = _Sender(ours, suite), Random(seed)
    for items, fates in sends:
        receive(both, sender.send(Send(tuple(items), tuple(fates))), offload, chance)
        both.check()


class _Sender(Sender):
    """All of whose SAs but the one in tunnel mode are of one suite."""

    def _seal(self, sealed: Sealed, plaintext: bytes) -> Arrival:
        suite = GCM if sealed.spi == RIGHT_SPI + 1 else self.suite
        return Arrival(sealed.bytes_of(self.chance.randbytes(suite.encr.iv_octets), plaintext), sealed.tos)
