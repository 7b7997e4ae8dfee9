"""A batch has the same effect as its packets one after another, octet for octet."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from espudp.crypto.suites import EspSuite
from espudp.esp.datapath import DataPath
from espudp.esp.sa import Lifetime
from espudp.wire.buffer import Buffer
from tests.unit.crypto.seeded import keys_for, seeded_rng
from tests.unit.esp.peers import (
    CBC,
    CBC_ESN,
    GCM,
    GCM_ESN,
    LEFT6,
    LEFT_SPI,
    RIGHT6,
    RIGHT_SPI,
    TO_LEFT,
    datagrams,
    left_keys,
    mirrored,
    selectors,
    tcp,
    udp,
)

SUITES = st.sampled_from([GCM, GCM_ESN, CBC, CBC_ESN])
STARTS = st.sampled_from([0, 1000, 2**32 - 8])
LIFETIMES = st.sampled_from([Lifetime(), Lifetime(hard_packets=6), Lifetime(hard_bytes=900)])
HERE, THERE, NOWHERE = (bytes([10, net, 0, 1]) for net in (2, 3, 9))

PACKETS = st.one_of(
    st.builds(udp, st.integers(28, 200), dst=st.sampled_from([HERE, HERE, THERE, NOWHERE])),
    st.builds(udp, st.integers(1395, 1405), df=st.booleans()),
    st.builds(udp, st.integers(48, 120), src=st.just(LEFT6), dst=st.just(RIGHT6)),
    st.builds(
        tcp,
        st.binary(max_size=50),
        flags=st.sampled_from([0x02, 0x10, 0x18]),
        options=st.just(b"\x02\x04\x05\xb4"),
    ),
    st.binary(max_size=60),
)


def ends(suite: EspSuite, start: int, lifetime: Lifetime) -> tuple[DataPath, DataPath]:
    """Two child SAs between two ends, the same each time."""
    left, right = DataPath(seeded_rng(1)), DataPath(seeded_rng(2))
    first = left_keys(suite, sent=start, lifetime=lifetime)
    second = left_keys(
        GCM,
        spi_in=LEFT_SPI + 1,
        spi_out=RIGHT_SPI + 1,
        keys_out=keys_for(GCM, 7),
        remote=selectors("10.3.0.0/16"),
    )
    for keys in (first, second):
        left.install(keys, 0.0)
        right.install(mirrored(keys), 0.0)
    return left, right


def cut(items: Sequence[bytes], cuts: list[int]) -> list[list[Buffer]]:
    """The items in batches of the sizes in `cuts`, and the rest as one."""
    batches: list[list[Buffer]] = []
    at = 0
    for size in cuts:
        batches.append(list(items[at : at + size]))
        at += size
    return [*batches, list(items[at:])]


CUTS = st.lists(st.integers(1, 9), max_size=5)


@settings(max_examples=150, deadline=None)
@given(SUITES, STARTS, LIFETIMES, st.lists(PACKETS, max_size=25), CUTS)
def test_sealing(
    suite: EspSuite, start: int, lifetime: Lifetime, packets: list[bytes], cuts: list[int]
) -> None:
    outcomes = []
    for batches in (cut(packets, cuts), [[packet] for packet in packets]):
        left, _ = ends(suite, start, lifetime)
        wire = [datagram for batch in batches for datagram in datagrams(left.seal(batch, 0.0))]
        outcomes.append((wire, left.drops, left.snapshot(0.0), left.take_replies()))
    assert outcomes[0] == outcomes[1]


# What happens to a datagram on its way: how often it arrives, and which octet is altered.
FATES = st.lists(st.tuples(st.integers(0, 2), st.one_of(st.none(), st.integers(0, 80))), max_size=25)


def disturbed(wire: list[bytes], fates: list[tuple[int, int | None]], order: list[int]) -> list[bytes]:
    arriving: list[bytes] = []
    for datagram, (copies, flip) in zip(wire, fates, strict=False):
        altered = datagram
        if flip is not None and flip < len(datagram):
            altered = datagram[:flip] + bytes([datagram[flip] ^ 0x40]) + datagram[flip + 1 :]
        arriving += [datagram] * copies + [altered]
    arriving += wire[len(fates) :]
    for place in order:
        if place + 1 < len(arriving):
            arriving[place], arriving[place + 1] = arriving[place + 1], arriving[place]
    return arriving


@settings(max_examples=150, deadline=None)
@given(
    SUITES,
    STARTS,
    LIFETIMES,
    st.lists(PACKETS, max_size=25),
    FATES,
    st.lists(st.integers(0, 60), max_size=30),
    CUTS,
)
def test_opening(
    suite: EspSuite,
    start: int,
    lifetime: Lifetime,
    packets: list[bytes],
    fates: list[tuple[int, int | None]],
    order: list[int],
    cuts: list[int],
) -> None:
    left, _ = ends(suite, start, Lifetime())
    wire = disturbed(datagrams(left.seal(packets, 0.0)), fates, order)
    outcomes = []
    for batches in (cut(wire, cuts), [[datagram] for datagram in wire]):
        _, right = ends(suite, start, lifetime)
        opened = [packet for batch in batches for packet in right.open(batch, TO_LEFT, 0.0)]
        outcomes.append((opened, right.drops, right.snapshot(0.0), right.take_heard()))
    assert outcomes[0] == outcomes[1]
