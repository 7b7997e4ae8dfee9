"""From datagrams to the TUN device: what is opened, what is dropped and why, where the peer is."""

from ipaddress import ip_address

import pytest

from espudp.crypto.suites import EspSuite
from espudp.esp.datapath import DataPath, PeerMoved, SaSnapshot, UnknownSpi
from espudp.esp.drops import Drop
from espudp.esp.events import UNKNOWN_SPI_BURST
from espudp.wire import ip
from espudp.wire.address import Path, UdpAddress
from espudp.wire.buffer import Buffer
from espudp.wire.selectors import TrafficSelector
from tests.unit.crypto.seeded import keys_for, seeded_rng
from tests.unit.esp import reference
from tests.unit.esp.peers import (
    CBC,
    CBC_ESN,
    ELSEWHERE,
    GCM,
    GCM_ESN,
    LEFT,
    LEFT6,
    LEFT_SPI,
    RIGHT,
    RIGHT6,
    RIGHT_SPI,
    TO_LEFT,
    both,
    datagrams,
    events,
    left_keys,
    left_path,
    mirrored,
    right_path,
    udp,
    udp6,
)

suites = pytest.mark.parametrize("suite", [GCM, GCM_ESN, CBC, CBC_ESN], ids=lambda suite: suite.name)


def authentic(plaintext: bytes, sequence: int = 1, suite: EspSuite = GCM) -> bytes:
    """A datagram for the right end with this very plaintext, padded to whole blocks only in front."""
    keys = left_keys(suite).keys_out
    return reference.seal(suite, keys, RIGHT_SPI, sequence, bytes(suite.encr.iv_octets), plaintext)


def trailer(padding: bytes, next_header: int) -> bytes:
    return padding + bytes([len(padding), next_header])


def inbound_shot(path: DataPath) -> SaSnapshot:
    return next(shot for shot in path.snapshot(0.0) if shot.direction == "in")


class TestUnauthenticated:
    """Nothing that is not authentic changes anything but a counter."""

    def test_runts(self) -> None:
        right = right_path()
        spi = RIGHT_SPI.to_bytes(4, "big")
        shortest = len(authentic(b"\x00\x3b"))
        found = [spi, spi + bytes(4), (spi + bytes(100))[: shortest - 1]]
        assert right.open(found, TO_LEFT, 0.0) == []
        assert right.drops == {Drop.RUNT: 3}
        assert right.open([b"", b"\x00", b"\x00\x00\x20"], TO_LEFT, 0.0) == []
        assert right.drops == {Drop.RUNT: 6}

    @pytest.mark.parametrize("spi", [0, 1, 255])
    def test_reserved_spis(self, spi: int) -> None:
        right = right_path()
        right.open([spi.to_bytes(4, "big") + bytes(60)], TO_LEFT, 0.0)
        assert right.drops == {Drop.RESERVED_SPI: 1}
        assert events(right) == []

    def test_unknown_spis_are_told_at_a_bounded_rate(self) -> None:
        right = right_path()
        strange = [spi.to_bytes(4, "big") + bytes(60) for spi in range(0x5000, 0x5000 + 100)]
        assert right.open(strange, ELSEWHERE, 0.0) == []
        assert right.drops == {Drop.UNKNOWN_SPI: 100}
        told = events(right)
        assert told == [UnknownSpi(0x5000 + n, ELSEWHERE) for n in range(UNKNOWN_SPI_BURST)]
        for now in range(1000):
            right.open(strange, ELSEWHERE, float(now))
        assert len(events(right)) == UNKNOWN_SPI_BURST

    @suites
    def test_forged_packets_leave_no_trace(self, suite: EspSuite) -> None:
        left, right = both(suite)
        wire = datagrams(left.seal([udp(60 + n) for n in range(5)], 0.0))
        before = right.snapshot(0.0)
        for datagram in wire:
            for at in range(4, len(datagram)):
                forged = datagram[:at] + bytes([datagram[at] ^ 0x10]) + datagram[at + 1 :]
                assert right.open([forged], ELSEWHERE, 0.0) == []
            for cut in (1, 4, 16):
                assert right.open([datagram[:-cut], datagram + bytes(cut)], ELSEWHERE, 0.0) == []
        assert events(right) == []
        assert right.take_heard() == []
        assert set(right.drops) <= {Drop.INTEGRITY, Drop.REPLAY, Drop.RUNT}
        after = right.snapshot(0.0)
        assert [(shot.sequence, shot.packets, shot.path) for shot in after] == [
            (shot.sequence, shot.packets, shot.path) for shot in before
        ]
        # A far sequence number that was forged has not moved the window.
        assert right.open(wire, TO_LEFT, 0.0) == [udp(60 + n) for n in range(5)]

    @suites
    def test_a_forged_packet_in_the_middle_of_a_train(self, suite: EspSuite) -> None:
        left, right = both(suite)
        packets = [udp(60 + n) for n in range(9)]
        wire = datagrams(left.seal(packets, 0.0))
        wire[4] = wire[4][:-1] + bytes([wire[4][-1] ^ 1])
        assert right.open(wire, TO_LEFT, 0.0) == packets[:4] + packets[5:]
        assert right.drops == {Drop.INTEGRITY: 1}

    def test_another_keys_packets(self) -> None:
        stranger = left_path(keys_out=keys_for(GCM, 99))
        right = right_path()
        right.open(datagrams(stranger.seal([udp()], 0.0)), TO_LEFT, 0.0)
        assert right.drops == {Drop.INTEGRITY: 1}

    @suites
    def test_replays(self, suite: EspSuite) -> None:
        left, right = both(suite)
        wire = datagrams(left.seal([udp()] * 10, 0.0))
        assert len(right.open(wire, TO_LEFT, 0.0)) == 10
        assert right.open(wire, ELSEWHERE, 1.0) == []
        assert right.open([wire[-1]] * 3, ELSEWHERE, 2.0) == []
        assert right.drops == {Drop.REPLAY: 13}
        assert events(right) == []
        assert right.take_heard() == [(1, 0.0)]

    def test_reordered_and_repeated_within_a_train(self) -> None:
        left, right = both()
        packets = [udp(60 + n) for n in range(6)]
        wire = datagrams(left.seal(packets, 0.0))
        order = [3, 3, 0, 5, 1, 0, 4, 2, 5]
        assert right.open([wire[n] for n in order], TO_LEFT, 0.0) == [packets[n] for n in (3, 0, 5, 1, 4, 2)]
        assert right.drops == {Drop.REPLAY: 3}

    def test_older_than_the_window(self) -> None:
        left, right = both(replay_window=32)
        wire = datagrams(left.seal([udp()] * 40, 0.0))
        right.open([wire[39]], TO_LEFT, 0.0)
        assert len(right.open(wire[:39], TO_LEFT, 0.0)) == 31
        assert right.drops == {Drop.REPLAY: 8}


class TestPlaintext:
    @pytest.mark.parametrize(
        ("plaintext", "reason"),
        [
            (udp(60) + trailer(b"\x01\x03", 4), Drop.PADDING),
            (udp(60) + trailer(b"\x00\x01", 4), Drop.PADDING),
            (udp(60) + b"\x00\x00\xff\x04", Drop.PADDING),
            (trailer(b"\x01\x02", 59), Drop.DUMMY),
            (udp(62) + trailer(b"", 59), Drop.DUMMY),
            (bytes(1000) + trailer(b"\x01\x02", 59), Drop.DUMMY),
            (udp(62)[20:] + trailer(b"", 17), Drop.NEXT_HEADER),
            (udp(62) + trailer(b"", 0), Drop.NEXT_HEADER),
            (udp(62) + trailer(b"", 41), Drop.INNER_HEADER),
            (udp6(62) + trailer(b"", 4), Drop.INNER_HEADER),
            (udp(62)[:-4] + trailer(b"", 4), Drop.INNER_HEADER),
            (udp6(62)[:-4] + trailer(b"", 41), Drop.INNER_HEADER),
            (udp(62)[:18] + trailer(b"", 4), Drop.INNER_HEADER),
            (trailer(b"\x01\x02", 4), Drop.INNER_HEADER),
            (b"\x44" + udp(62)[1:] + trailer(b"", 4), Drop.INNER_HEADER),
            (b"\x45\x00\x00\x00" + udp(62)[4:] + trailer(b"", 4), Drop.INNER_HEADER),
        ],
    )
    def test_what_is_authentic_and_wrong(self, plaintext: bytes, reason: Drop) -> None:
        right = right_path()
        good = authentic(reference.plaintext_of(GCM, udp(60)), 2)
        assert right.open([authentic(plaintext), good], TO_LEFT, 3.0) == [udp(60)]
        assert right.drops == {reason: 1}
        assert inbound_shot(right).drops == {reason.value: 1}
        # It was authentic all the same: received once, and a sign of life.
        assert right.open([authentic(plaintext)], TO_LEFT, 4.0) == []
        assert right.drops == {reason: 1, Drop.REPLAY: 1}
        assert right.take_heard() == [(1, 3.0)]

    @suites
    @pytest.mark.parametrize("packet", [udp(61), udp6(61)])
    @pytest.mark.parametrize("tfc", [0, 1, 3, 500])
    def test_tfc_padding_is_taken_off(self, suite: EspSuite, packet: bytes, tfc: int) -> None:
        plaintext = reference.plaintext_of(suite, packet, tfc)
        assert right_path(suite).open([authentic(plaintext, suite=suite)], TO_LEFT, 0.0) == [packet]

    @pytest.mark.parametrize("extra", [4, 64, 248])
    def test_more_padding_than_needed(self, extra: int) -> None:
        padding = bytes(range(1, 3 + extra))
        plaintext = udp(60) + trailer(padding, 4)
        assert right_path().open([authentic(plaintext)], TO_LEFT, 0.0) == [udp(60)]

    def test_a_dummy_moves_the_peer_like_any_authentic_packet(self) -> None:
        right = right_path()
        right.open([authentic(trailer(b"\x01\x02", 59))], ELSEWHERE, 0.0)
        assert events(right) == [PeerMoved(1, ELSEWHERE)]


def port_selector(cidr: str, protocol: int, port: int) -> tuple[TrafficSelector, ...]:
    net = TrafficSelector.from_network(cidr)
    return (TrafficSelector(net.first, net.last, protocol, port, port),)


class TestSelectors:
    """RFC 4301 section 5.2: the SA that brought a packet must be one for such packets."""

    @pytest.mark.parametrize(
        "packet",
        [
            udp(src=ip_address("10.9.0.1").packed),
            udp(dst=ip_address("10.9.0.1").packed),
            udp(src=RIGHT, dst=LEFT),
            udp(src=RIGHT6, dst=LEFT6),
            udp(src=ip_address("127.0.0.1").packed),
        ],
    )
    def test_other_addresses(self, packet: bytes) -> None:
        right = right_path()
        wire = [
            authentic(reference.plaintext_of(GCM, one), n) for n, one in enumerate((udp(), packet, udp()), 1)
        ]
        assert right.open(wire, TO_LEFT, 0.0) == [udp(), udp()]
        assert right.drops == {Drop.SELECTORS: 1}

    def test_one_peer_cannot_speak_for_another(self) -> None:
        """The packet would match the selectors of the other peer's SA, but came through this one's."""
        right = right_path()
        other = left_keys(
            connection=2, spi_in=0x3000, spi_out=0x4000, local=(TrafficSelector.from_network("10.3.0.0/16"),)
        )
        right.install(mirrored(other), 0.0)
        packet = udp(src=ip_address("10.3.0.1").packed)
        assert right.open([authentic(reference.plaintext_of(GCM, packet))], TO_LEFT, 0.0) == []
        assert right.drops == {Drop.SELECTORS: 1}

    def test_ports_and_fragments(self) -> None:
        keys = left_keys(remote=port_selector("10.2.0.0/16", ip.UDP, 2000))
        right = DataPath(seeded_rng())
        right.install(mirrored(keys), 0.0)
        later = udp()[:6] + b"\x00\x40" + udp()[8:]
        first = udp()[:6] + b"\x20\x00" + udp()[8:]
        offered = [udp(), udp(dport=2001), later, first, udp()]
        wire = [authentic(reference.plaintext_of(GCM, one), n) for n, one in enumerate(offered, 1)]
        assert right.open(wire, TO_LEFT, 0.0) == [udp(), first, udp()]
        assert right.drops == {Drop.SELECTORS: 2}

    def test_hidden_extension_headers(self) -> None:
        keys = left_keys(remote=port_selector("fd00:2::/32", ip.UDP, 2000))
        right = DataPath(seeded_rng())
        right.install(mirrored(keys), 0.0)
        chain = ip.build_ip(LEFT6, RIGHT6, ip.HOP_BY_HOP, bytes(8) * 20)
        assert right.open([authentic(reference.plaintext_of(GCM, chain))], TO_LEFT, 0.0) == []
        assert right.drops == {Drop.SELECTORS: 1}


class TestPeerAddress:
    def test_it_follows_authentic_news(self) -> None:
        left, right = both()
        old, new = datagrams(left.seal([udp()] * 2, 0.0))
        right.open([new], ELSEWHERE, 5.0)
        assert events(right) == [PeerMoved(1, ELSEWHERE)]
        answer = udp(src=RIGHT, dst=LEFT)
        assert right.seal([answer], 5.0)[0][0] == ELSEWHERE
        # What was held back on the old path moves nothing back.
        assert right.open([old], TO_LEFT, 6.0) != []
        assert events(right) == []
        assert right.seal([answer], 6.0)[0][0] == ELSEWHERE

    def test_all_sas_of_the_connection_move(self) -> None:
        left, right = both()
        other = left_keys(spi_in=0x3000, spi_out=0x4000, local=(TrafficSelector.from_network("10.3.0.0/16"),))
        right.install(mirrored(other), 0.0)
        right.open(datagrams(left.seal([udp()], 0.0)), ELSEWHERE, 0.0)
        packets = [udp(src=RIGHT, dst=LEFT), udp(src=RIGHT, dst=ip_address("10.3.0.1").packed)]
        assert [path for path, _, _ in right.seal(packets, 0.0)] == [ELSEWHERE]

    def test_only_where_it_may(self) -> None:
        left = left_path()
        right = DataPath(seeded_rng())
        right.install(mirrored(left_keys(), follow_peer=False), 0.0)
        assert right.open(datagrams(left.seal([udp()], 0.0)), ELSEWHERE, 0.0) == [udp()]
        assert events(right) == []
        assert right.seal([udp(src=RIGHT, dst=LEFT)], 0.0)[0][0] == TO_LEFT

    def test_an_sa_that_was_replaced_moves_nobody(self) -> None:
        """A packet held back on it is newer than all before on it, and older than what came since."""
        left, right = both()
        (held,) = datagrams(left.seal([udp()], 0.0))
        right.remove(left_keys().spi_out, 0.0, linger=5.0)
        assert right.open([held], ELSEWHERE, 1.0) == [udp()]
        assert events(right) == []

    def test_several_moves_are_told_as_one(self) -> None:
        left, right = both()
        for number, datagram in enumerate(datagrams(left.seal([udp()] * 50, 0.0))):
            right.open([datagram], Path(TO_LEFT.local, UdpAddress("203.0.113.9", 1000 + number)), 0.0)
        assert events(right) == [PeerMoved(1, Path(TO_LEFT.local, UdpAddress("203.0.113.9", 1049)))]

    def test_who_was_heard(self) -> None:
        left, right = both()
        first, second, third = datagrams(left.seal([udp()] * 3, 0.0))
        assert right.take_heard() == []
        right.open([first], TO_LEFT, 5.0)
        right.open([second], TO_LEFT, 7.5)
        assert right.take_heard() == [(1, 7.5)]
        assert right.take_heard() == []
        right.open([third], TO_LEFT, 9.0)
        right.remove_connection(1, 9.0)
        assert right.take_heard() == []


def test_a_train_of_many_sas() -> None:
    left, right = both()
    other = left_keys(spi_in=0x3000, spi_out=0x4000, local=(TrafficSelector.from_network("10.3.0.0/16"),))
    left.install(other, 0.0)
    right.install(mirrored(other), 0.0)
    here, there = udp(50), udp(51, src=ip_address("10.3.0.1").packed)
    packets = [here, there, there, here]
    wire = datagrams(left.seal(packets, 0.0))
    junk = (0x7777_7777).to_bytes(4, "big") + bytes(50)
    assert right.open([wire[0], junk, *wire[1:], junk], TO_LEFT, 0.0) == packets
    assert right.drops == {Drop.UNKNOWN_SPI: 2}


def test_views_are_datagrams_too() -> None:
    left, right = both(CBC_ESN)
    wire = datagrams(left.seal([udp()] * 4, 0.0))
    mixed: list[Buffer] = [memoryview(wire[0]), bytearray(wire[1]), wire[2], memoryview(bytearray(wire[3]))]
    assert right.open(mixed, TO_LEFT, 0.0) == [udp()] * 4


def test_without_a_window_replays_pass_and_nobody_moves_back() -> None:
    left, right = both(replay_window=0)
    wire = datagrams(left.seal([udp()] * 3, 0.0))
    assert len(right.open(wire + wire, TO_LEFT, 0.0)) == 6
    assert len(right.open(wire, ELSEWHERE, 0.0)) == 3
    assert events(right) == []
    assert inbound_shot(right).spi == RIGHT_SPI
    assert LEFT_SPI != RIGHT_SPI


def test_without_a_window_a_peer_that_started_anew_is_found_where_it_is() -> None:
    left, right = both(replay_window=0)
    right.open(datagrams(left.seal([udp()] * 9, 0.0)), TO_LEFT, 0.0)
    anew, _ = both(replay_window=0)
    events(right)
    for second in (1.0, 2.0):
        assert len(right.open(datagrams(anew.seal([udp()], second)), ELSEWHERE, second)) == 1
        assert events(right) == []
    assert len(right.open(datagrams(anew.seal([udp()], 3.0)), ELSEWHERE, 3.0)) == 1
    assert events(right) == [PeerMoved(1, ELSEWHERE)]
    assert inbound_shot(right).path == ELSEWHERE
