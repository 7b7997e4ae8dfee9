"""The data path against the plain reference, octet for octet, for every suite there is."""

import pytest

from espudp.crypto.suites import EspSuite
from espudp.esp.datapath import DataPath
from espudp.esp.sa import ChildKeys
from tests.unit.crypto.seeded import seeded_rng
from tests.unit.crypto.vectors import DISTINCT_SUITES
from tests.unit.esp import reference
from tests.unit.esp.peers import (
    RIGHT_SPI,
    TO_LEFT,
    both,
    datagrams,
    left_keys,
    mirrored,
    right_path,
    tcp,
    udp,
    udp6,
)


def name_of_suite(suite: EspSuite) -> str:
    return suite.name


every_suite = pytest.mark.parametrize("suite", DISTINCT_SUITES, ids=name_of_suite)

PACKETS = [
    *(udp(size) for size in range(28, 64)),
    *(udp6(size) for size in range(48, 70)),
    udp(1400),
    udp6(1400),
]
# Where the interesting things happen to sequence numbers.
STARTS = [0, 2**31 - 3, 2**32 - 1 - len(PACKETS)]


def sealed(keys: ChildKeys) -> list[bytes]:
    path = DataPath(seeded_rng(5))
    path.install(keys, 0.0)
    return datagrams(path.seal(PACKETS, 0.0))


@every_suite
@pytest.mark.parametrize("start", STARTS)
def test_what_is_sealed(suite: EspSuite, start: int) -> None:
    keys = left_keys(suite, sent=start)
    found = sealed(keys)
    assert len(found) == len(PACKETS)
    ivs = {reference.iv_of(suite, datagram) for datagram in found}
    assert len(ivs) == (len(PACKETS) if suite.encr.iv_octets else 1)
    for sequence, (packet, datagram) in enumerate(zip(PACKETS, found, strict=True), start + 1):
        iv = reference.iv_of(suite, datagram)
        plaintext = reference.plaintext_of(suite, packet)
        assert datagram == reference.seal(suite, keys.keys_out, RIGHT_SPI, sequence, iv, plaintext)
        assert len(datagram) == suite.packet_octets(len(packet))


@every_suite
def test_ivs_count(suite: EspSuite) -> None:
    ivs = [int.from_bytes(reference.iv_of(suite, datagram), "big") for datagram in sealed(left_keys(suite))]
    counts = [(ivs[0] + n) % 2**64 for n in range(len(ivs))]
    assert (ivs == counts) is suite.encr.counts


@every_suite
@pytest.mark.parametrize("start", STARTS)
def test_what_is_opened(suite: EspSuite, start: int) -> None:
    keys = left_keys(suite)
    path = right_path(suite, received=start)
    iv = bytes(range(suite.encr.iv_octets))
    for sequence, packet in enumerate(PACKETS, start + 1):
        plaintext = reference.plaintext_of(suite, packet, tfc=sequence % 7)
        datagram = reference.seal(suite, keys.keys_out, RIGHT_SPI, sequence, iv, plaintext)
        assert path.open([datagram], TO_LEFT, 0.0) == [packet]
    assert not path.drops


@every_suite
def test_one_end_to_the_other_and_back(suite: EspSuite) -> None:
    left, right = both(suite)
    assert right.open(datagrams(left.seal(PACKETS, 0.0)), TO_LEFT, 0.0) == PACKETS
    answer = tcp(b"answer", src=PACKETS[0][16:20], dst=PACKETS[0][12:16])
    trains = right.seal([answer], 0.0)
    assert left.open(datagrams(trains), trains[0][0], 0.0) == [answer]
    assert not left.drops
    assert not right.drops


@pytest.mark.parametrize("suite", [suite for suite in DISTINCT_SUITES if suite.esn], ids=name_of_suite)
def test_over_the_edge_of_32_bits(suite: EspSuite) -> None:
    """RFC 4303 appendix A2.2: only the low half travels, and both ends go on counting."""
    start = 2**32 - 1 - len(PACKETS) // 2
    keys = left_keys(suite, sent=start)
    wire = sealed(keys)
    assert [int.from_bytes(datagram[4:8], "big") for datagram in wire] == [
        sequence % 2**32 for sequence in range(start + 1, start + 1 + len(PACKETS))
    ]
    path = DataPath(seeded_rng(6))
    path.install(mirrored(keys), 0.0)
    assert path.open(wire, TO_LEFT, 0.0) == PACKETS
    # The high half is part of what the ICV covers.
    last = reference.open_(suite, keys.keys_out, start + len(PACKETS), wire[-1])
    assert last == reference.plaintext_of(suite, PACKETS[-1])
    assert reference.open_(suite, keys.keys_out, start + len(PACKETS) - 2**32, wire[-1]) is None
