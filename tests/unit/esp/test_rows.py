"""Super-packets and trains: what becomes of them, whose memory they borrow, and what is never used again."""

import struct
from dataclasses import replace
from typing import Any

import pytest
from cryptography.exceptions import InternalError

from espudp.crypto.rows import MAX_RECEIVED_OCTETS, MAX_ROWS, MAX_SENT_OCTETS, layout_of
from espudp.crypto.suites import EspSuite, parse_esp_suite
from espudp.errors import ConfigError, CryptoError
from espudp.esp.datapath import DataPath, HardExpired, SoftExpired
from espudp.esp.drops import Drop
from espudp.esp.grids import Grids
from espudp.esp.inbound import MAX_CHECKED
from espudp.esp.sa import Lifetime
from espudp.offload import segment
from espudp.wire import ecn, ip
from espudp.wire.train import Burst, Train
from espudp.wire.vnet import GSO_TCPV4, GSO_UDP_L4, NEEDS_CSUM, Frame, Offload, VnetHeader
from tests.unit.crypto.seeded import keys_for, seeded_rng
from tests.unit.crypto.vectors import DISTINCT_SUITES
from tests.unit.esp.peers import (
    CBC,
    GCM,
    GCM_ESN,
    LEFT,
    LEFT_SPI,
    RIGHT,
    RIGHT_SPI,
    TO_LEFT,
    both,
    datagrams,
    events,
    left_keys,
    left_path,
    mirrored,
    plain,
    right_path,
    selectors,
    tcp_checksum_is_right,
    udp,
    udp6,
)

EVERYTHING = Offload.CHECKSUM | Offload.TSO4 | Offload.TSO6 | Offload.USO4 | Offload.USO6

some_suites = pytest.mark.parametrize("suite", [GCM, GCM_ESN, CBC], ids=lambda suite: suite.name)


def tcp_frame(
    segments: int, mss: int = 1000, last: int | None = None, *, flags: int = 0x18, tos: int = 0, fill: int = 0
) -> Frame:
    """A super-packet as the kernel hands it over, with the pseudo-header's sum for a checksum."""
    octets = (segments - 1) * mss + (mss if last is None else last)
    payload = bytes((fill + place) % 251 for place in range(octets))
    tcp = struct.pack("!HHIIBBHHH", 1234, 80, 7, 9, 5 << 4, flags, 512, 0, 0) + payload
    seed = 0xFFFF - ip.checksum(ip.pseudo_header(LEFT, RIGHT, ip.TCP, len(tcp)))
    tcp = tcp[:16] + seed.to_bytes(2, "big") + tcp[18:]
    packet = bytearray(ip.build_ip(LEFT, RIGHT, ip.TCP, tcp, tos=tos))
    return Frame(VnetHeader(NEEDS_CSUM, GSO_TCPV4, 40, mss, 20, 16), [memoryview(packet)])


def segments_of(frame: Frame) -> list[bytes]:
    return list(segment(frame))


def flattened(packets: list[Any]) -> list[bytes]:
    """What the TUN device would make of them."""
    return [
        piece
        for packet in packets
        for piece in (segments_of(packet) if isinstance(packet, Frame) else [bytes(packet)])
    ]


def bursts(trains: list[Train]) -> list[Burst]:
    found = [train.datagrams for train in trains]
    assert all(isinstance(burst, Burst) for burst in found)
    return [burst for burst in found if isinstance(burst, Burst)]


class TestSuperPackets:
    @some_suites
    @pytest.mark.parametrize(("segments", "last"), [(2, 1000), (2, 1), (7, 999), (44, 20)])
    def test_one_is_one_burst_and_comes_out_as_one(self, suite: EspSuite, segments: int, last: int) -> None:
        left, right = both(suite)
        right.set_offloads(EVERYTHING)
        frame = tcp_frame(segments, last=last)
        (burst,) = bursts(left.seal([frame], 0.0))
        assert len(burst) == segments
        assert burst.size == suite.packet_octets(1040)
        assert len(burst[-1]) == suite.packet_octets(40 + last)
        opened = right.open(burst, TO_LEFT, 0.0)
        assert flattened(opened) == segments_of(frame)
        assert len(opened) == (1 if segments > 5 else segments)

    def test_without_offloads_whole_packets_come_out(self) -> None:
        left, right = both()
        frame = tcp_frame(20)
        (burst,) = bursts(left.seal([frame], 0.0))
        packets = plain(right.open(burst, TO_LEFT, 0.0))
        assert packets == segments_of(frame)
        assert all(map(tcp_checksum_is_right, packets))

    def test_only_the_kinds_that_were_named_come_out(self) -> None:
        left, right = both()
        right.set_offloads(Offload.CHECKSUM | Offload.USO4 | Offload.TSO6)
        frame = tcp_frame(20)
        (burst,) = bursts(left.seal([frame], 0.0))
        assert plain(right.open(burst, TO_LEFT, 0.0)) == segments_of(frame)

    @pytest.mark.parametrize("suite", DISTINCT_SUITES, ids=lambda suite: suite.name)
    def test_a_burst_is_one_send(self, suite: EspSuite) -> None:
        left, right = both(suite)
        for frame in (tcp_frame(150, 100), tcp_frame(60, 1060, 30), tcp_frame(66, 64, 1)):
            trains = [train.copy() for train in left.seal([frame], 0.0)]
            pieces = [Burst(piece, burst.size) for burst in bursts(trains) for piece in burst.pieces]
            assert all(len(piece) <= MAX_ROWS and piece.octets <= MAX_SENT_OCTETS for piece in pieces)
            packets = [packet for burst in bursts(trains) for packet in right.open(burst, TO_LEFT, 0.0)]
            assert flattened(packets) == segments_of(frame)

    def test_one_too_wide_for_the_path_is_answered_segment_by_segment(self) -> None:
        left = left_path(inner_mtu=900)
        assert left.seal([tcp_frame(3)], 0.0) == []
        assert left.drops == {Drop.TOO_BIG: 3}
        assert len(left.take_replies()) == 3

    def test_one_that_no_kernel_hands_out_is_none(self) -> None:
        left = left_path()
        whole = tcp_frame(3)
        (packet,) = whole.parts
        broken = [
            Frame(whole.header._replace(gso_size=0), [packet]),
            Frame(whole.header._replace(gso_type=GSO_UDP_L4), [packet]),
            Frame(whole.header, [packet[:-1]]),
            Frame(whole.header, [b""]),
            Frame(VnetHeader(NEEDS_CSUM, csum_start=60, csum_offset=16), [udp(70)]),
        ]
        assert left.seal(broken, 0.0) == []
        assert left.drops == {Drop.NOT_IP: len(broken)}
        assert left.snapshot(0.0)[1].sequence == 0

    def test_without_an_sa_each_segment_counts(self) -> None:
        left = DataPath(seeded_rng())
        assert left.seal([tcp_frame(3)], 0.0) == []
        assert left.drops == {Drop.NO_POLICY: 3}

    def test_a_syn_is_clamped_even_there(self) -> None:
        left, right = both(inner_mtu=1100)
        opened = plain(right.open(datagrams(left.seal([tcp_frame(8, flags=0x02)], 0.0)), TO_LEFT, 0.0))
        assert opened == segments_of(tcp_frame(8, flags=0x02))

    @some_suites
    def test_gro_may_bring_more_than_one_send(self, suite: EspSuite) -> None:
        """A train of the length of an IP packet's goes the fast way."""
        left, right = both(suite)
        layout = layout_of(suite)
        plains = range(800, 1396, suite.encr.block_octets)
        plain_octets = next(n for n in plains if layout.rows(n) > layout.rows_to_send(n))
        rows = layout.rows(plain_octets)
        frames = [tcp_frame(count, plain_octets - 42) for count in (rows - 20, 20)]
        data = b"".join(bytes(burst.data) for burst in bursts(left.seal(frames, 0.0)))
        assert MAX_SENT_OCTETS < len(data) <= MAX_RECEIVED_OCTETS
        opened = right.open_burst(Burst(data, layout.overhead + plain_octets), TO_LEFT, 0.0)
        assert opened is not None
        assert len(opened) == rows


class TestAlikePackets:
    def test_many_are_one_burst_and_few_are_not(self) -> None:
        left, right = both()
        packets = [udp(92, sport=n) for n in range(64)]
        (burst,) = bursts(left.seal(packets, 0.0))
        assert plain(right.open(burst, TO_LEFT, 0.0)) == packets
        ((_, few, _),) = left.seal(packets[:3], 0.0)
        assert isinstance(few, list)
        assert plain(right.open(few, TO_LEFT, 0.0)) == packets[:3]

    def test_a_missing_checksum_is_completed_together(self) -> None:
        left, right = both()
        whole = [udp(100, sport=n) for n in range(12)]
        header = VnetHeader(NEEDS_CSUM, csum_start=20, csum_offset=6)
        frames = []
        for packet in whole:
            seed = 0xFFFF - ip.checksum(ip.pseudo_header(LEFT, RIGHT, ip.UDP, 80))
            frames.append(Frame(header, [packet[:26] + seed.to_bytes(2, "big") + packet[28:]]))
        for batch in (frames, frames[:1]):
            assert plain(right.open(datagrams(left.seal(batch, 0.0)), TO_LEFT, 0.0)) == whole[: len(batch)]

    def test_a_burst_has_one_traffic_class(self) -> None:
        left = left_path()
        marked = [
            ip.build_ip(LEFT, RIGHT, 253, bytes(50), tos=tos) for tos in [0] * 10 + [ecn.CE] * 10 + [0xB8] * 2
        ]
        trains = left.seal(marked, 0.0)
        assert [(tos, len(train)) for _, train, tos in trains] == [(0, 10), (ecn.CE, 10), (0xB8, 2)]
        (train,) = left.seal([tcp_frame(9, tos=0xB8)], 0.0)
        assert train.tos == 0xB8

    def test_a_fixed_dscp(self) -> None:
        left = DataPath(seeded_rng(), dscp=10)
        left.install(left_keys(), 0.0)
        marked = [ip.build_ip(LEFT, RIGHT, 253, bytes(50), tos=0xB8 | mark) for mark in range(4)]
        assert [train.tos for train in left.seal(marked, 0.0)] == [40, 41, 42, 43]
        with pytest.raises(ConfigError):
            DataPath(seeded_rng(), dscp=64)

    def test_addresses_of_several_sas(self) -> None:
        left = left_path()
        other = left_keys(spi_in=0x3000, spi_out=0x4000, remote=selectors("10.3.0.0/16"))
        left.install(other, 0.0)
        there = bytes([10, 3, 0, 1])
        packets = [udp(60, dst=there if n % 3 == 0 else RIGHT) for n in range(12)]
        spis = [datagram[:4] for datagram in datagrams(left.seal(packets, 0.0))]
        assert spis == [(0x4000 if n % 3 == 0 else RIGHT_SPI).to_bytes(4, "big") for n in range(12)]

    def test_ports_are_looked_at_where_they_matter(self) -> None:
        (anything,) = selectors("10.2.0.0/16")
        narrow = (replace(anything, protocol=ip.UDP, first_port=9, last_port=9),)
        left = left_path(remote=narrow)
        packets = [udp(60, dport=9 if n % 2 else 10) for n in range(12)]
        assert len(datagrams(left.seal(packets, 0.0))) == 6
        assert left.drops == {Drop.NO_POLICY: 6}

    @pytest.mark.parametrize("octets", [0, 1, 19, 20, 39])
    def test_too_short_for_a_header(self, octets: int) -> None:
        left = left_path()
        stump = udp6(60)[:octets]
        assert left.seal([stump] * 9, 0.0) == []
        assert left.seal([Frame(VnetHeader(), [stump])] * 9, 0.0) == []
        assert left.drops == {Drop.NOT_IP: 18}


class TestBorrowedMemory:
    @some_suites
    def test_bursts_of_one_call_hold_together(self, suite: EspSuite) -> None:
        left, right = both(suite)
        frames = [tcp_frame(5, fill=number) for number in range(30)]
        wire = [datagram for burst in bursts(left.seal(frames, 0.0)) for datagram in burst]
        opened = [packet for datagram in wire for packet in right.open([datagram], TO_LEFT, 0.0)]
        assert flattened(opened) == [packet for frame in frames for packet in segments_of(frame)]

    def test_the_next_call_may_use_it_again(self) -> None:
        left = left_path()
        (first,) = bursts(left.seal([tcp_frame(5)], 0.0))
        kept, before = first.copy(), bytes(first.data)
        left.seal([tcp_frame(5, fill=9)], 0.0)
        assert bytes(first.data) != before
        assert bytes(kept.data) == before

    def test_the_stock_is_bounded_whatever_sizes_come(self) -> None:
        grids = Grids(octets=1 << 20)
        layout = layout_of(GCM)
        for plain_octets in range(40, 1400, 4):
            for _ in range(3):
                grids.take(layout, plain_octets)
            grids.reclaim()
            assert grids.octets <= 1 << 20
        assert grids.octets > 1 << 19

    def test_what_is_taken_is_nobody_else_s(self) -> None:
        grids = Grids(octets=0)
        layout = layout_of(GCM)
        taken = [grids.take(layout, 1000).grid for _ in range(20)]
        assert len({id(grid) for grid in taken}) == 20
        grids.reclaim()
        assert grids.octets == 0

    def test_the_size_used_last_stays(self) -> None:
        layout = layout_of(GCM)
        one = Grids()
        one.take(layout, 1400)
        one.reclaim()
        grids = Grids(octets=3 * one.octets)
        often = grids.take(layout, 1400)
        for plain_octets in range(1404, 1440, 4):
            grids.reclaim()
            grids.take(layout, plain_octets)
            grids.reclaim()
            assert grids.take(layout, 1400) is often


class TestSharedGrids:
    @pytest.mark.parametrize(
        "names", [("aes128gcm16", "aes256gcm16", "chacha20poly1305"), ("aes128-sha256",) * 2]
    )
    def test_sas_take_turns(self, names: tuple[str, ...]) -> None:
        """One SA's salt, SPI and numbers never go out with another's packet."""
        left, right = DataPath(seeded_rng(1)), DataPath(seeded_rng(2))
        hosts = [bytes([10, 2, 0, number]) for number in range(len(names))]
        for number, name in enumerate(names):
            suite = parse_esp_suite(name)
            keys = left_keys(
                suite,
                connection=number,
                spi_in=LEFT_SPI + number,
                spi_out=RIGHT_SPI + number,
                keys_out=keys_for(suite, number),
                remote=selectors(f"10.2.0.{number}/32"),
            )
            left.install(keys, 0.0)
            right.install(mirrored(keys), 0.0)
        for _ in range(3):
            for host in hosts:
                packets = [udp(92, dst=host) for _ in range(20)]
                (burst,) = bursts(left.seal(packets, 0.0))
                assert plain(right.open(burst, TO_LEFT, 0.0)) == packets
        assert not right.drops


class TestLimits:
    @pytest.mark.parametrize("esn", [False, True])
    def test_the_last_sequence_number(self, esn: bool) -> None:
        left = left_path(GCM_ESN if esn else GCM, sent=2**32 - 6)
        frames = [tcp_frame(4), tcp_frame(4)]
        wire = datagrams(left.seal(frames, 0.0))
        numbers = [int.from_bytes(datagram[4:8], "big") for datagram in wire]
        if esn:
            assert numbers == [2**32 - 5 + n if n < 5 else n - 5 for n in range(8)]
            assert events(left) == []
        else:
            assert numbers == [2**32 - 5 + n for n in range(5)]
            assert events(left)[-1] == HardExpired(1, LEFT_SPI)
            assert left.drops == {Drop.NO_POLICY: 3}

    def test_a_train_across_the_epoch_is_opened(self) -> None:
        left, right = both(GCM_ESN, sent=2**32 - 20)
        frame = tcp_frame(40)
        (burst,) = bursts(left.seal([frame], 0.0))
        assert plain(right.open(burst, TO_LEFT, 0.0)) == segments_of(frame)
        (burst,) = bursts(left.seal([frame], 0.0))
        assert plain(right.open(burst, TO_LEFT, 0.0)) == segments_of(frame)
        assert right.snapshot(0.0)[0].sequence == 2**32 + 60

    @pytest.mark.parametrize(
        "lifetime", [Lifetime(soft_packets=3, hard_packets=7), Lifetime(soft_bytes=2500, hard_bytes=7000)]
    )
    def test_an_sa_ends_in_mid_train(self, lifetime: Lifetime) -> None:
        left, right = DataPath(seeded_rng(1)), DataPath(seeded_rng(2))
        left.install(left_keys(lifetime=lifetime), 0.0)
        assert len(datagrams(left.seal([tcp_frame(20)], 0.0))) == 7
        assert events(left) == [SoftExpired(1, LEFT_SPI), HardExpired(1, LEFT_SPI)]
        assert left.drops == {Drop.NO_POLICY: 13}
        right.install(mirrored(left_keys(lifetime=lifetime)), 0.0)
        (burst,) = bursts(left_path().seal([tcp_frame(20)], 0.0))
        assert len(plain(right.open(burst, TO_LEFT, 0.0))) == 7
        assert events(right) == [SoftExpired(1, RIGHT_SPI), HardExpired(1, RIGHT_SPI)]
        assert right.drops == {Drop.EXPIRED: 13}


class Failing:
    """A cipher that gives up at one of its calls, and remembers every nonce."""

    def __init__(self, cipher: Any, fails_at: int) -> None:
        self._cipher, self._fails_at = cipher, fails_at
        self.nonces: list[bytes] = []

    def encrypt_into(self, nonce: Any, *rest: Any) -> int:
        self.nonces.append(bytes(nonce))
        if len(self.nonces) == self._fails_at:
            raise InternalError("no", [])
        result: int = self._cipher.encrypt_into(nonce, *rest)
        return result

    def encrypt(self, nonce: Any, *rest: Any) -> bytes:
        self.nonces.append(bytes(nonce))
        result: bytes = self._cipher.encrypt(nonce, *rest)
        return result


@pytest.mark.parametrize("fails_at", [1, 5, 10])
def test_no_nonce_comes_twice_even_if_the_cipher_fails_in_mid_train(fails_at: int) -> None:
    left = left_path()
    sa = left._outbound._children.spd.lookup(LEFT + RIGHT, udp(60))
    sealer: Any = sa._sealer if sa is not None else None
    cipher = sealer._cipher = Failing(sealer._cipher, fails_at)
    with pytest.raises(CryptoError):
        left.seal([tcp_frame(9, last=3), tcp_frame(9, last=3)], 0.0)
    left.seal([tcp_frame(9, last=3), udp(60), *[udp(80)] * 20], 0.0)
    assert len(cipher.nonces) == fails_at + 9 + 1 + 20
    assert len(set(cipher.nonces)) == len(cipher.nonces)


def test_a_forged_datagram_in_mid_train_takes_only_itself_down() -> None:
    left, right = both()
    right.set_offloads(EVERYTHING)
    frame = tcp_frame(20)
    (burst,) = bursts(left.seal([frame], 0.0))
    forged = bytearray(burst.data)
    forged[7 * burst.size + 100] ^= 1
    opened = right.open(Burst(forged, burst.size), TO_LEFT, 0.0)
    assert flattened(opened) == segments_of(frame)[:7] + segments_of(frame)[8:]
    assert right.drops == {Drop.INTEGRITY: 1}
    # What was forged may still come as it was sent.
    assert flattened(right.open(burst, TO_LEFT, 0.0)) == [segments_of(frame)[7]]
    assert right.drops == {Drop.INTEGRITY: 1, Drop.REPLAY: 19}


def test_a_burst_of_strangers() -> None:
    """Sizes that no SA makes, SPIs that nobody has, and a burst for an SA with another's tail."""
    right = right_path()
    known = RIGHT_SPI.to_bytes(4, "big")
    for width in (1, 4, 9, 25, 27, 36, 37, 40):
        for spi in (known, b"\0\0\0\0", b"none"):
            for spare in (0, 1, 5):
                assert (
                    right.open(Burst((spi + bytes(width))[:width] * 10 + known[:spare], width), TO_LEFT, 0.0)
                    == []
                )
    assert right.take_heard() == []
    assert right.snapshot(0.0)[0].packets == 0


@some_suites
def test_strangers_cost_no_memory(suite: EspSuite) -> None:
    """Bursts of all sizes for an SPI that somebody has seen; then one that is honest but for its last."""
    left, right = both(suite)
    for octets in range(16, 1400, 16):
        width = suite.packet_octets(octets)
        rows = [RIGHT_SPI.to_bytes(4, "big") + bytes([0, 0, 1, n]) + bytes(width - 8) for n in range(6)]
        assert right.open(Burst(b"".join(rows), width), TO_LEFT, 0.0) == []
    assert right._inbound._grids.octets == 0
    assert right.drops == {Drop.INTEGRITY: 6 * 87}
    (burst,) = bursts(left.seal([tcp_frame(9)], 0.0))
    assert len(right.open(Burst(bytes(burst.data[:-1]) + b"?", burst.size), TO_LEFT, 0.0)) == 8
    assert right._inbound._grids.octets > 0


@some_suites
def test_segments_of_an_octet_cost_no_memory(suite: EspSuite) -> None:
    left, right = both(suite)
    frame = tcp_frame(3000, mss=1)
    (train,) = left.seal([frame], 0.0)
    assert flattened(right.open(train.datagrams, TO_LEFT, 0.0)) == segments_of(frame)
    assert left._outbound._grids.octets == 0


def test_congestion_marks_reach_each_packet() -> None:
    left, right = both()
    right.set_offloads(EVERYTHING)
    frame = tcp_frame(10, tos=ecn.ECT_0)
    (train,) = left.seal([frame], 0.0)
    packets = [bytes(packet) for packet in plain(right.open(train.datagrams, TO_LEFT, 0.0, ecn.CE))]
    assert [ecn.tos_of(packet) for packet in packets] == [ecn.CE] * 10
    assert all(ip.checksum(packet[:20]) == 0 and tcp_checksum_is_right(packet) for packet in packets)


@pytest.mark.parametrize("octets", [60, 64, 73, 74, 80])
def test_ip_options_that_leave_no_room_for_tcp(octets: int) -> None:
    """The flags of TCP would lie behind the packet."""
    left, right = both()
    right.set_offloads(EVERYTHING)
    header = bytearray(ip.build_ip(LEFT, RIGHT, ip.TCP, bytes(octets - 20)))
    header[0] = 0x4F
    packets = [bytes(header)] * 10
    (burst,) = bursts(left.seal(packets, 0.0))
    assert flattened(right.open(burst, TO_LEFT, 0.0)) == packets


def test_many_hosts_behind_one_sa() -> None:
    """Addresses that the selectors settled are remembered, but not without end."""
    left, right = both()
    hosts = [bytes([10, 1, number >> 8, number & 255]) for number in range(3 * MAX_CHECKED)]
    for _ in range(2):
        packets = [udp(92, src=host) for host in hosts]
        trains = left.seal(packets, 0.0)
        opened = [packet for train in trains for packet in plain(right.open(train.datagrams, TO_LEFT, 0.0))]
        assert opened == packets
    sa = right._inbound._find(RIGHT_SPI.to_bytes(4, "big"))
    assert sa is not None
    assert 0 < len(sa.checked) <= MAX_CHECKED
