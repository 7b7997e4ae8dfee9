"""From the TUN device to datagrams: routing, size, MSS, order, and where an SA ends."""

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

import pytest
from scapy.layers.inet import ICMP, IP

from espudp.crypto.suites import EspSuite
from espudp.errors import ConfigError, CryptoError
from espudp.esp.datapath import DataPath, HardExpired, SoftExpired
from espudp.esp.drops import Drop
from espudp.esp.outbound import REPLIES_PER_SECOND, REPLY_BURST
from espudp.esp.sa import Lifetime
from espudp.wire import ip
from espudp.wire.address import Path, UdpAddress
from espudp.wire.buffer import Buffer
from espudp.wire.selectors import TrafficSelector
from tests.unit.crypto.seeded import keys_for, seeded_rng
from tests.unit.esp.peers import (
    CBC,
    GCM,
    GCM_ESN,
    LEFT,
    LEFT_SPI,
    RIGHT6,
    TO_LEFT,
    TO_RIGHT,
    both,
    datagrams,
    events,
    left_keys,
    left_path,
    mirrored,
    plain,
    selectors,
    tcp,
    tcp_checksum_is_right,
    udp,
    udp6,
)

SYN_MSS = b"\x02\x04\x05\xb4"  # 1460


def opened(right: DataPath, left: DataPath, *packets: Buffer) -> list[bytes]:
    return plain(right.open(datagrams(left.seal(packets, 0.0)), TO_LEFT, 0.0))


class TestRouting:
    def test_packets_of_one_sa_are_one_train_in_order(self) -> None:
        left, right = both()
        packets = [udp(size) for size in range(40, 60)]
        ((path, train, _),) = left.seal(packets, 0.0)
        assert path == TO_RIGHT
        assert right.open(train, TO_LEFT, 0.0) == packets

    def test_runs_by_path(self) -> None:
        left = left_path()
        other = Path(TO_RIGHT.local, UdpAddress("198.51.100.3", 4500))
        left.install(
            left_keys(
                connection=2, spi_in=0x3000, spi_out=0x4000, remote=selectors("10.3.0.0/16"), path=other
            ),
            0.0,
        )
        here, there = udp(50), udp(50, dst=ip_address("10.3.0.1").packed)
        trains = left.seal([here, here, there, here, there, there], 0.0)
        assert [(path, len(train)) for path, train, _ in trains] == [
            (TO_RIGHT, 2),
            (other, 1),
            (TO_RIGHT, 1),
            (other, 2),
        ]
        spis = [int.from_bytes(datagram[:4], "big") for _, train, _ in trains for datagram in train]
        assert [spi == 0x4000 for spi in spis] == [False, False, True, False, True, True]

    def test_two_sas_over_one_path_are_one_train(self) -> None:
        left = left_path()
        left.install(left_keys(spi_in=0x3000, spi_out=0x4000, remote=selectors("10.3.0.0/16")), 0.0)
        trains = left.seal([udp(50), udp(50, dst=ip_address("10.3.0.1").packed)], 0.0)
        assert [len(train) for _, train, _ in trains] == [2]

    @pytest.mark.parametrize(
        "packet",
        [b"", b"\x45", bytes(40), udp(60)[:-1], udp(60) + b"\x00", udp6(60)[:-1], b"\x75" + udp(60)[1:]],
    )
    def test_what_is_no_packet(self, packet: bytes) -> None:
        left = left_path()
        assert left.seal([packet, udp(50), packet], 0.0) != []
        assert left.drops == {Drop.NOT_IP: 2}

    @pytest.mark.parametrize(
        "packet",
        [
            udp(dst=ip_address("10.3.0.1").packed),
            udp(src=ip_address("10.9.0.1").packed),
            udp(src=LEFT, dst=LEFT),
        ],
    )
    def test_what_no_selectors_match(self, packet: bytes) -> None:
        left = left_path()
        assert left.seal([packet], 0.0) == []
        assert left.drops == {Drop.NO_POLICY: 1}

    def test_views_and_bytearrays_are_packets_too(self) -> None:
        left, right = both()
        assert opened(right, left, memoryview(udp(60)), bytearray(udp6(61))) == [udp(60), udp6(61)]

    def test_move_and_remove(self) -> None:
        left = left_path()
        elsewhere = Path(TO_RIGHT.local, UdpAddress("203.0.113.5", 4500))
        left.move(1, elsewhere)
        left.move(99, TO_RIGHT)
        assert left.seal([udp()], 0.0)[0][0] == elsewhere
        left.remove(LEFT_SPI, 0.0)
        left.remove(LEFT_SPI, 0.0)
        assert left.seal([udp()], 0.0) == []


class TestSize:
    def test_up_to_the_inner_mtu(self) -> None:
        left, right = both()
        assert opened(right, left, udp(1400), udp6(1400)) == [udp(1400), udp6(1400)]
        assert left.seal([udp(1401), udp6(1401)], 0.0) == []
        assert left.drops == {Drop.TOO_BIG: 2}
        left.set_inner_mtu(1, 1401)
        left.set_inner_mtu(99, 100)
        assert len(datagrams(left.seal([udp(1401), udp6(1401)], 0.0))) == 2

    def test_the_sender_is_told(self) -> None:
        left = left_path()
        left.seal([udp(1401), udp(100), udp6(1500)], 0.0)
        four, six = left.take_replies()
        parsed = IP(four)
        assert (parsed.src, parsed.dst, parsed[ICMP].nexthopmtu) == ("10.2.0.1", "10.1.0.1", 1400)
        assert six[8:24] == RIGHT6
        assert int.from_bytes(six[44:48], "big") == 1400
        assert left.take_replies() == []

    def test_at_a_bounded_rate(self) -> None:
        left = left_path()
        left.seal([udp(1401)] * 1000, 0.0)
        assert len(left.take_replies()) == REPLY_BURST
        left.seal([udp(1401)] * 1000, 0.5)
        assert len(left.take_replies()) == REPLIES_PER_SECOND / 2
        left.seal([udp(1401)] * 1000, 1000.0)
        left.seal([udp(1401)] * 1000, 2000.0)
        assert len(left.take_replies()) == REPLY_BURST
        assert left.drops[Drop.TOO_BIG] == 4000

    def test_nobody_is_told_what_may_not_be_answered(self) -> None:
        left = left_path()
        error = ip.build_ip(LEFT, udp()[16:20], ip.ICMP, b"\x03\x04" + bytes(1400))
        assert left.seal([error], 0.0) == []
        assert left.take_replies() == []
        assert left.drops == {Drop.TOO_BIG: 1}

    def test_without_df_it_is_fragmented(self) -> None:
        left, right = both()
        pieces = opened(right, left, udp(3000, df=False))
        assert [len(piece) for piece in pieces] == [1396, 1396, 20 + 3000 - 20 - 2 * 1376]
        assert b"".join(piece[20:] for piece in pieces) == udp(3000, df=False)[20:]
        assert not left.drops

    def test_an_sa_for_certain_ports_gets_no_later_fragments(self) -> None:
        net = TrafficSelector.from_network("10.2.0.0/16")
        port = TrafficSelector(net.first, net.last, ip.UDP, 2000, 2000)
        left, right = both(remote=(port,))
        assert opened(right, left, udp(3000, df=False)) == [udp(3000, df=False)]

    def test_ipv6_counts_on_1280(self) -> None:
        left, right = both(inner_mtu=1000)
        assert opened(right, left, udp6(1280)) == [udp6(1280)]
        assert left.seal([udp6(1281)], 0.0) == []
        (reply,) = left.take_replies()
        assert int.from_bytes(reply[44:48], "big") == 1280

    @pytest.mark.parametrize(
        ("make", "mss"),
        [(tcp, 1360), (lambda **kw: tcp(src=udp6()[8:24], dst=udp6()[24:40], **kw), 1340)],
    )
    def test_mss_is_clamped_both_ways(self, make: Callable[..., bytes], mss: int) -> None:
        syn = make(flags=0x02, options=SYN_MSS)
        left, right = both()
        (clamped,) = opened(right, left, syn)
        assert int.from_bytes(clamped[-2:], "big") == mss
        assert tcp_checksum_is_right(clamped)
        # A peer that does not clamp: the receiver does.
        careless = DataPath(seeded_rng(3))
        careless.install(left_keys(inner_mtu=9000), 0.0)
        fresh = DataPath(seeded_rng(4))
        fresh.install(mirrored(left_keys()), 0.0)
        assert opened(fresh, careless, syn) == [clamped]


class TestSequenceNumbers:
    def test_the_first_is_one(self) -> None:
        first, second = datagrams(left_path().seal([udp(), udp()], 0.0))
        assert (first[4:8], second[4:8]) == (b"\x00\x00\x00\x01", b"\x00\x00\x00\x02")

    @pytest.mark.parametrize("batched", [True, False])
    def test_they_end_at_two_to_the_32(self, batched: bool) -> None:
        left = left_path(sent=2**32 - 4)
        packets = [udp()] * 5
        batches = [packets] if batched else [[packet] for packet in packets]
        sent = [datagram for batch in batches for datagram in datagrams(left.seal(batch, 0.0))]
        assert [datagram[4:8].hex() for datagram in sent] == ["fffffffd", "fffffffe", "ffffffff"]
        assert left.drops == {Drop.NO_POLICY: 2}
        assert events(left) == [SoftExpired(1, LEFT_SPI), HardExpired(1, LEFT_SPI)]
        assert left.seal(packets, 1.0) == []
        assert events(left) == []

    def test_a_rekey_is_asked_for_long_before(self) -> None:
        left = left_path(sent=2**32 - 1 - 2**29 - 2)
        left.seal([udp()], 0.0)
        assert events(left) == []
        left.seal([udp()], 0.0)
        left.seal([udp()], 0.0)
        assert events(left) == [SoftExpired(1, LEFT_SPI)]

    def test_with_esn_they_go_on(self) -> None:
        left, right = both(GCM_ESN, sent=2**32 - 4)
        assert opened(right, left, *[udp()] * 9) == [udp()] * 9
        assert events(left) == []

    def test_with_esn_they_end_at_two_to_the_64(self) -> None:
        left, right = both(GCM_ESN, sent=2**64 - 4)
        assert opened(right, left, *[udp()] * 9) == [udp()] * 3
        assert events(left) == [SoftExpired(1, LEFT_SPI), HardExpired(1, LEFT_SPI)]

    def test_no_iv_twice_under_hand_set_keys(self) -> None:
        """A restart begins with sequence number 1 again, and with another IV."""
        ivs = [datagrams(left_path(seed=seed).seal([udp()], 0.0))[0][8:16] for seed in range(20)]
        assert len(set(ivs)) == 20


class TestRefusals:
    @pytest.mark.parametrize(
        "changes", [{"spi_in": 0}, {"spi_in": 255}, {"spi_out": 255}, {"spi_out": 1 << 32}]
    )
    def test_reserved_spis(self, changes: dict[str, Any]) -> None:
        path = DataPath(seeded_rng())
        with pytest.raises(ConfigError, match="no SPI"):
            path.install(left_keys(**changes), 0.0)
        assert path.snapshot(0.0) == []

    @pytest.mark.parametrize("suite", [GCM, CBC])
    def test_keys_of_the_wrong_size(self, suite: EspSuite) -> None:
        path = DataPath(seeded_rng())
        other = keys_for(CBC if suite is GCM else GCM)
        with pytest.raises(CryptoError):
            path.install(left_keys(suite, keys_in=other), 0.0)
        with pytest.raises(CryptoError):
            path.install(left_keys(suite, keys_out=other), 0.0)
        assert path.snapshot(0.0) == []
        assert path.seal([udp()], 0.0) == []

    def test_an_spi_in_use_changes_nothing(self) -> None:
        left = left_path()
        with pytest.raises(ConfigError, match="in use"):
            left.install(left_keys(connection=2, inner_mtu=100), 0.0)
        assert {shot.connection for shot in left.snapshot(0.0)} == {1}
        assert len(left.seal([udp()], 0.0)) == 1


def test_keys_are_in_no_repr() -> None:
    for suite in (GCM, CBC):
        keys = left_keys(suite, lifetime=Lifetime(soft_seconds=1.0))
        left = DataPath(seeded_rng())
        left.install(keys, 0.0)
        inbound = next(iter(left._children.sad))
        shown = "".join(
            map(repr, (keys, left, inbound, inbound.child, inbound.child.outbound, left.snapshot(0.0)))
        )
        for secret in (keys.keys_in.encr, keys.keys_in.integ, keys.keys_out.encr, keys.keys_out.integ):
            if secret:
                assert secret.hex() not in shown
                assert repr(secret)[2:-1] not in shown
