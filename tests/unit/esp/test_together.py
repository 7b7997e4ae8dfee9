"""Super-packets and bursts of one flow that are worked on together: the same comes of them as one by one."""

from collections.abc import Iterable
from typing import Any

import pytest

from espudp.crypto.rows import MAX_BURSTS
from espudp.crypto.suites import EspSuite
from espudp.errors import CryptoError
from espudp.esp.datapath import DataPath
from espudp.esp.drops import Drop
from espudp.esp.sa import Lifetime
from espudp.offload import superpackets
from espudp.wire.train import TOGETHER, Burst, Train
from espudp.wire.vnet import Frame, Offload
from tests.property.both_paths import Sender
from tests.property.inner_traffic import Flow, Hosts, Item, TcpItem
from tests.unit.crypto.vectors import DISTINCT_SUITES
from tests.unit.esp.peers import GCM, LEFT, RIGHT, TO_LEFT, both, left_keys, left_path, right_path, udp
from tests.unit.esp.test_rows import EVERYTHING, Failing, flattened, segments_of, some_suites, tcp_frame

every_suite = pytest.mark.parametrize("suite", DISTINCT_SUITES, ids=lambda suite: suite.name)


def frames(count: int = TOGETHER, segments: int = 20, **what: int) -> list[Frame]:
    return [tcp_frame(segments, fill=n, **what) for n in range(count)]


def cut(supers: Iterable[Frame]) -> list[bytes]:
    return [packet for frame in supers for packet in segments_of(frame)]


def sent(trains: list[Train]) -> list[bytes]:
    return [datagram for train in trains for datagram in train.datagrams]


def burst_of(path: DataPath, supers: list[Frame]) -> Burst:
    (train,) = path.seal(supers, 0.0)
    assert isinstance(train.datagrams, Burst)
    return train.datagrams.copy()


def taking_all(path: DataPath) -> DataPath:
    path.set_offloads(EVERYTHING)
    return path


def test_a_grid_has_room_for_what_comes_together() -> None:
    assert MAX_BURSTS >= TOGETHER


@every_suite
@pytest.mark.parametrize("count", range(2, TOGETHER + 1))
def test_they_leave_as_one_burst_and_come_out_as_they_were(suite: EspSuite, count: int) -> None:
    left, right = both(suite)
    supers = frames(count)
    burst = burst_of(left, supers)
    assert [len(piece) // burst.size for piece in burst.pieces] == [20] * count
    opened = taking_all(right).open_burst(burst, TO_LEFT, 0.0)
    assert opened is not None
    assert [isinstance(packet, Frame) for packet in opened] == [True] * count
    assert flattened(opened) == cut(supers)
    assert not right.drops


@some_suites
def test_octet_for_octet_as_one_by_one(suite: EspSuite) -> None:
    """With CBC, whose IVs are drawn at random, this is seen from what comes out."""
    together, apart = both(suite)[0], both(suite)[0]
    supers = frames(3)
    one_by_one = [datagram for frame in supers for datagram in sent(apart.seal([frame], 0.0))]
    at_once = sent(together.seal(supers, 0.0))
    assert [datagram[:8] for datagram in at_once] == [datagram[:8] for datagram in one_by_one]
    if suite.integ is None:
        assert at_once == one_by_one


def test_more_than_that_are_several_bursts() -> None:
    left, right = both()
    supers = frames(TOGETHER + 3)
    trains = left.seal(supers, 0.0)
    assert [len(train.datagrams) for train in trains] == [TOGETHER * 20, 3 * 20]
    kept = [train.copy() for train in trains]
    opened = [flattened(taking_all(right).open(train.datagrams, TO_LEFT, 0.0)) for train in kept]
    assert [packet for packets in opened for packet in packets] == cut(supers)


@pytest.mark.parametrize(
    "supers",
    [
        [*frames(2), tcp_frame(19)],
        [*frames(2, last=999), tcp_frame(20)],
        [tcp_frame(20, tos=4), tcp_frame(20, tos=8)],
        [tcp_frame(20), tcp_frame(20, flags=0x19), tcp_frame(20, flags=0x90)],
        [tcp_frame(20), tcp_frame(20, flags=0x02), tcp_frame(20)],
        [tcp_frame(130, 100), tcp_frame(130, 100)],
        [tcp_frame(63, 1348 // 2), tcp_frame(63, 1348 // 2), tcp_frame(2)],
    ],
    ids=["shorter", "short last segments", "classes", "FIN and CWR", "a SYN", "more than a send", "others"],
)
def test_whatever_they_are_all_arrives(supers: list[Frame]) -> None:
    left, right = both()
    opened = [
        packet
        for train in [train.copy() for train in left.seal(supers, 0.0)]
        for packet in flattened(taking_all(right).open(train.datagrams, TO_LEFT, 0.0, train.tos))
    ]
    assert opened == cut(supers)


def test_a_limit_among_them_falls_where_it_falls_one_by_one() -> None:
    left, right = both(lifetime=Lifetime(hard_packets=50))
    supers = frames(TOGETHER)
    opened = [
        packet
        for train in [train.copy() for train in left.seal(supers, 0.0)]
        for packet in flattened(taking_all(right).open(train.datagrams, TO_LEFT, 0.0))
    ]
    assert opened == cut(supers)[:50]


@some_suites
@pytest.mark.parametrize("place", [0, 19, 20, 41, 79])
def test_a_forged_datagram_takes_only_itself_down(suite: EspSuite, place: int) -> None:
    left, right = both(suite)
    supers = frames()
    burst = burst_of(left, supers)
    pieces = [bytearray(piece) for piece in burst.pieces]
    pieces[place // 20][(place % 20) * burst.size + 60] ^= 1
    opened = taking_all(right).open(Burst(pieces[0], burst.size, *pieces[1:]), TO_LEFT, 0.0)
    assert flattened(opened) == cut(supers)[:place] + cut(supers)[place + 1 :]
    assert right.drops == {Drop.INTEGRITY: 1}
    # The pieces that were whole went the fast way.
    assert sum(isinstance(packet, Frame) for packet in opened) >= TOGETHER - 1
    # What was forged may still come as it was sent, and nothing else again.
    assert flattened(right.open(burst, TO_LEFT, 0.0)) == [cut(supers)[place]]
    assert right.drops == {Drop.INTEGRITY: 1, Drop.REPLAY: len(cut(supers)) - 1}


def test_a_broken_checksum_stays_broken_and_its_neighbours_are_joined() -> None:
    left, right = both()
    packets = cut(frames())
    packets[25] = packets[25][:-1] + bytes([packets[25][-1] ^ 1])
    datagrams = sent(left.seal(packets, 0.0))
    pieces = [b"".join(datagrams[at : at + 20]) for at in range(0, len(datagrams), 20)]
    opened = taking_all(right).open(Burst(pieces[0], len(datagrams[0]), *pieces[1:]), TO_LEFT, 0.0)
    assert flattened(opened) == packets
    assert any(isinstance(packet, Frame) for packet in opened)


def test_another_flow_in_one_piece() -> None:
    left, right = both()
    supers = frames(3)
    others = segments_of(tcp_frame(20, fill=9))
    for number, packet in enumerate(others):
        changed = bytearray(packet)
        changed[22:24] = b"\x12\x34"  # the port, and a checksum that is as right
        changed[36:38] = ((int.from_bytes(packet[36:38]) + 80 - 0x1234 - 1) % 0xFFFF + 1).to_bytes(2)
        others[number] = bytes(changed)
    packets = cut(supers[:1]) + others + cut(supers[1:])
    datagrams = sent(left.seal(packets, 0.0))
    pieces = [b"".join(datagrams[at : at + 20]) for at in range(0, len(datagrams), 20)]
    opened = taking_all(right).open(Burst(pieces[0], len(datagrams[0]), *pieces[1:]), TO_LEFT, 0.0)
    assert flattened(opened) == packets


def test_only_the_kinds_that_were_named_come_out() -> None:
    left, right = both()
    supers = frames()
    right.set_offloads(Offload.TSO6)
    assert right.open(burst_of(left, supers), TO_LEFT, 0.0) == cut(supers)


def test_pieces_of_small_datagrams() -> None:
    left, right = both()
    packets = [udp(80)] * 40
    datagrams = sent(left.seal(packets, 0.0))
    pieces = [b"".join(datagrams[at : at + 10]) for at in range(0, 40, 10)]
    opened = right.open_burst(Burst(pieces[0], len(datagrams[0]), *pieces[1:]), TO_LEFT, 0.0)
    assert opened == packets


def test_what_came_before_is_not_overwritten() -> None:
    """Two bursts that go piece by piece, one behind the other: what came of both is there in the end."""
    left, right = both()
    supers = frames(2)
    burst = burst_of(left, supers)
    broken = bytearray(burst.pieces[1])
    broken[-1] ^= 1
    opened = taking_all(right).open(Burst(burst.pieces[0], burst.size, broken), TO_LEFT, 0.0)
    assert flattened(opened) == cut(supers)[:-1]


def test_small_ones_share_the_room_of_one() -> None:
    left, right = both()
    for segments, room in ((2, 1), (20, MAX_BURSTS)):
        burst = burst_of(left, frames(TOGETHER, segments))
        assert taking_all(right).open_burst(burst, TO_LEFT, 0.0) is not None
        for grids in (left._outbound._grids, right._inbound._grids):
            assert [bursts for (_, _, bursts), _ in grids.taken] == [room]


@pytest.mark.parametrize("whole", [0, 1, TOGETHER - 1])
@pytest.mark.parametrize("last", [1000, 300])
def test_one_look_joins_bursts_of_which_the_last_is_short(
    whole: int, last: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left, right = both()
    supers = [*frames(whole), tcp_frame(8, last=last)]
    pieces = [burst_of(left, [frame]) for frame in supers]
    burst = Burst(pieces[0].data, pieces[0].size, *(piece.data for piece in pieces[1:]))
    monkeypatch.delattr(superpackets, "_in_runs")
    opened = taking_all(right).open(burst, TO_LEFT, 0.0)
    assert len(opened) == len(supers)
    assert flattened(opened) == cut(supers)


@pytest.mark.parametrize("fails_at", [1, 21, 80])
def test_no_nonce_comes_twice_even_if_the_cipher_fails_among_them(fails_at: int) -> None:
    left = left_path()
    sa = left._outbound._children.spd.lookup(LEFT + RIGHT, udp(60))
    sealer: Any = sa._sealer if sa is not None else None
    cipher = sealer._cipher = Failing(sealer._cipher, fails_at)
    with pytest.raises(CryptoError):
        left.seal(frames(), 0.0)
    left.seal([*frames(), udp(60)], 0.0)
    assert len(cipher.nonces) == fails_at + 80 + 1
    assert len(set(cipher.nonces)) == len(cipher.nonces)


def test_trailers_that_name_another_ip_version_than_the_packets_in_one_piece() -> None:
    sender, hosts = Sender([left_keys()], GCM), Hosts()

    def datagrams_of(item: Item) -> list[bytes]:
        leaving = [sealed for packet in hosts.make(item).packets for sealed in sender.path.seal(packet, 0.0)]
        return [sender._seal(sealed, sealed.plaintext[:-1] + b"\x04").datagram for sealed in leaving]

    # NOPs make up for the longer IP header.
    right_ones = datagrams_of(TcpItem(Flow(4), 8000, options=b"\1" * 20))
    wrong_ones = datagrams_of(TcpItem(Flow(6), 8000, options=b""))
    right = taking_all(right_path())
    burst = Burst(b"".join(right_ones), len(right_ones[0]), b"".join(wrong_ones))
    assert len(flattened(right.open(burst, TO_LEFT, 0.0))) == 8
    assert right.drops == {Drop.INNER_HEADER: 8}
