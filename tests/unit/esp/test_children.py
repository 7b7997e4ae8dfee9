"""How child SAs take over from one another, grow old and go: no packet lost, each limit told once."""

from collections.abc import Callable

import pytest

from espudp.esp.datapath import DataPath, HardExpired, PeerReady, SaSnapshot, SoftExpired
from espudp.esp.drops import Drop
from espudp.esp.sa import ChildKeys, Lifetime
from tests.unit.crypto.seeded import keys_for, seeded_rng
from tests.unit.esp.peers import (
    ELSEWHERE,
    GCM,
    LEFT,
    LEFT_NET,
    LEFT_SPI,
    RIGHT,
    RIGHT_NET,
    RIGHT_SPI,
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
    udp,
)

ANSWER = udp(src=RIGHT, dst=LEFT)


def successor(number: int = 1, *, replaces: int | None = LEFT_SPI) -> ChildKeys:
    """The left end of the child SA that follows."""
    return left_keys(
        spi_in=LEFT_SPI + number * 0x10000,
        spi_out=RIGHT_SPI + number * 0x10000,
        keys_in=keys_for(GCM, 100 + number),
        keys_out=keys_for(GCM, 200 + number),
        replaces=replaces,
    )


def answering(keys: ChildKeys, replaces: int | None = RIGHT_SPI) -> ChildKeys:
    return mirrored(keys, replaces=replaces)


def spi_used(path: DataPath, packet: bytes, now: float = 0.0) -> int | None:
    sent = datagrams(path.seal([packet], now))
    return int.from_bytes(sent[0][:4], "big") if sent else None


def states(path: DataPath, now: float = 0.0) -> dict[int, str]:
    return {shot.pair: shot.state for shot in path.snapshot(now)}


class TestTakingOver:
    def test_make_before_break(self) -> None:
        left, right = both()
        new = successor()
        # The responder of the rekey installs first and waits; the initiator uses it at once.
        right.install(answering(new), 1.0, standby=True)
        assert spi_used(right, ANSWER) == LEFT_SPI
        assert states(right) == {RIGHT_SPI: "active", new.spi_out: "standby"}
        left.install(new, 1.0)
        assert spi_used(left, udp()) == new.spi_out
        late = datagrams(right.seal([ANSWER], 1.0))
        assert right.open(datagrams(left.seal([udp()], 1.0)), TO_LEFT, 1.0) == [udp()]
        assert spi_used(right, ANSWER) == new.spi_in
        assert states(right) == {RIGHT_SPI: "active", new.spi_out: "active"}
        # What was under way on the old one still arrives.
        left.remove(LEFT_SPI, 1.5, linger=5.0)
        assert left.open(late, TO_RIGHT, 2.0) == [ANSWER]

    @pytest.mark.parametrize("end", ["remove", "linger", "expire"])
    def test_it_takes_over_when_the_old_one_ends(self, end: str) -> None:
        right = DataPath(seeded_rng())
        right.install(mirrored(left_keys(lifetime=Lifetime(hard_seconds=10.0))), 0.0)
        new = answering(successor())
        right.install(new, 0.0, standby=True)
        if end == "expire":
            right.handle_timer(10.0)
        else:
            right.remove(RIGHT_SPI, 10.0, linger=5.0 if end == "linger" else 0.0)
        assert spi_used(right, ANSWER, 10.0) == new.spi_out
        assert states(right, 10.0)[new.spi_in] == "active"

    def test_what_is_not_authentic_wakes_nothing(self) -> None:
        left, right = both()
        new = successor()
        right.install(answering(new), 0.0, standby=True)
        left.install(new, 0.0)
        (sealed,) = datagrams(left.seal([udp()], 0.0))
        right.open([sealed[:-1] + bytes([sealed[-1] ^ 1])], TO_LEFT, 0.0)
        assert spi_used(right, ANSWER) == LEFT_SPI

    @pytest.mark.parametrize("replaces", [0x9999, 5])
    def test_where_the_old_one_is_gone_there_is_nothing_to_wait_for(self, replaces: int) -> None:
        right = DataPath(seeded_rng())
        new = answering(successor(), replaces)
        right.install(new, 0.0, standby=True)
        assert spi_used(right, ANSWER) == new.spi_out

    def test_an_old_one_that_no_longer_sends_is_not_waited_for(self) -> None:
        right = DataPath(seeded_rng())
        right.install(mirrored(left_keys()), 0.0)
        right.remove(RIGHT_SPI, 0.0, linger=10.0)
        new = answering(successor())
        right.install(new, 0.0, standby=True)
        assert spi_used(right, ANSWER) == new.spi_out

    def test_the_sa_of_another_connection_with_the_same_peer(self) -> None:
        """After the peer has authenticated anew: waited for as well, and followed when it goes."""
        right = DataPath(seeded_rng())
        right.install(mirrored(left_keys()), 0.0)
        new = mirrored(successor(), connection=2, replaces=RIGHT_SPI)
        right.install(new, 0.0, standby=True)
        assert spi_used(right, ANSWER) == LEFT_SPI
        right.remove_connection(mirrored(left_keys()).connection, 0.0)
        assert spi_used(right, ANSWER) == new.spi_out

    def test_one_that_stands_by_and_goes_first(self) -> None:
        right = DataPath(seeded_rng())
        right.install(mirrored(left_keys()), 0.0)
        right.install(mirrored(successor(), connection=2, replaces=RIGHT_SPI), 0.0, standby=True)
        right.remove_connection(2, 0.0)
        right.remove(RIGHT_SPI, 0.0)
        assert right.snapshot(0.0) == []
        assert right.seal([ANSWER], 0.0) == []

    def test_a_chain_of_rekeys_none_of_which_is_used(self) -> None:
        right = DataPath(seeded_rng())
        right.install(mirrored(left_keys()), 0.0)
        chain = [answering(successor(1)), answering(successor(2), RIGHT_SPI + 0x10000)]
        for keys in chain:
            right.install(keys, 0.0, standby=True)
        assert spi_used(right, ANSWER) == LEFT_SPI
        right.remove(RIGHT_SPI, 0.0)
        assert spi_used(right, ANSWER) == chain[0].spi_out
        right.remove(chain[0].spi_in, 0.0)
        assert spi_used(right, ANSWER) == chain[1].spi_out

    def test_of_two_in_a_row_the_older_one_may_be_confirmed_last(self) -> None:
        """In IKEv1 quick modes overtake each other; the older one is about to be deleted."""
        right = DataPath(seeded_rng())
        right.install(mirrored(left_keys()), 0.0)
        chain = [answering(successor(n), RIGHT_SPI + (n - 1) * 0x10000) for n in (1, 2, 3)]
        for keys in chain:
            right.install(keys, 0.0, standby=True)
        for keys in reversed(chain):
            right.confirm(keys.spi_in)
            assert spi_used(right, ANSWER) == chain[2].spi_out
        right.remove(chain[2].spi_in, 0.0)
        assert spi_used(right, ANSWER) == chain[1].spi_out

    def test_the_first_one_waits_for_word_that_the_peer_has_it(self) -> None:
        right = DataPath(seeded_rng())
        right.install(mirrored(left_keys()), 0.0, standby=True)
        assert right.seal([ANSWER], 0.0) == []
        right.confirm(RIGHT_SPI + 1)
        assert states(right) == {RIGHT_SPI: "standby"}
        right.confirm(RIGHT_SPI)
        assert spi_used(right, ANSWER) == LEFT_SPI
        right.confirm(RIGHT_SPI)
        right.remove(RIGHT_SPI, 0.0, linger=5.0)
        right.confirm(RIGHT_SPI)
        assert right.seal([ANSWER], 0.0) == []

    def test_the_first_one_waits_for_the_peer_to_use_it(self) -> None:
        left, right = left_path(), DataPath(seeded_rng())
        right.install(mirrored(left_keys()), 0.0, standby=True)
        assert right.open(datagrams(left.seal([udp()], 1.0)), TO_LEFT, 1.0) == [udp()]
        assert spi_used(right, ANSWER) == LEFT_SPI

    def test_that_the_peer_uses_it_is_told_once(self) -> None:
        left, right = both()
        new = successor()
        right.install(answering(new), 0.0, standby=True)
        left.install(new, 0.0)
        for _ in range(2):
            right.open(datagrams(left.seal([udp()], 0.0)), TO_LEFT, 0.0)
        assert events(right) == [PeerReady(1, new.spi_out)]

    def test_the_redundant_one_of_a_simultaneous_rekey_goes_again(self) -> None:
        """RFC 7296 section 2.8.1: both ends rekey; whichever new SA is deleted, something carries on."""
        first, second = successor(1), successor(2)
        for loser in (first, second):
            left = left_path()
            left.install(second, 0.0, standby=True)
            left.install(first, 0.0)
            assert spi_used(left, udp()) == first.spi_out
            left.remove(loser.spi_in, 0.0, linger=5.0)
            assert spi_used(left, udp()) in {RIGHT_SPI, first.spi_out} - {loser.spi_out}
            left.remove(LEFT_SPI, 0.0)
            winner = second if loser is first else first
            assert spi_used(left, udp()) == winner.spi_out

    def test_a_removed_one_is_not_woken(self) -> None:
        right = DataPath(seeded_rng())
        right.install(mirrored(left_keys()), 0.0)
        new = answering(successor())
        right.install(new, 0.0, standby=True)
        right.remove(new.spi_in, 0.0)
        right.remove(RIGHT_SPI, 0.0)
        assert spi_used(right, ANSWER) is None
        assert right.snapshot(0.0) == []

    @pytest.mark.parametrize("linger", [0.0, 5.0])
    def test_a_lingering_standby_is_not_woken(self, linger: float) -> None:
        left, right = both()
        new = successor()
        right.install(answering(new), 0.0, standby=True)
        left.install(new, 0.0)
        right.remove(new.spi_out, 0.0, linger=linger)
        right.open(datagrams(left.seal([udp()], 0.0)), TO_LEFT, 0.0)
        assert spi_used(right, ANSWER) == LEFT_SPI

    def test_a_thousand_rekeys_lose_nothing(self) -> None:
        left, right = both()
        current: int | None = None
        carried = 0
        for number in range(1, 1001):
            now = float(number)
            old = LEFT_SPI if current is None else current
            new = successor(number % 60000, replaces=old)
            flying = datagrams(left.seal([udp()], now)), datagrams(right.seal([ANSWER], now))
            right.install(answering(new, old - LEFT_SPI + RIGHT_SPI), now, standby=True)
            more = datagrams(right.seal([ANSWER], now))
            left.install(new, now)
            wire = datagrams(left.seal([udp()], now))
            left.remove(old, now, linger=0.5)
            right.remove(old - LEFT_SPI + RIGHT_SPI, now, linger=0.5)
            carried += len(right.open(wire + flying[0], TO_LEFT, now))
            carried += len(left.open(flying[1] + more, TO_RIGHT, now))
            left.handle_timer(now + 0.5)
            right.handle_timer(now + 0.5)
            current = new.spi_in
        assert carried == 4000
        assert not left.drops
        assert not right.drops
        assert len(left.snapshot(0.0)) == len(right.snapshot(0.0)) == 2


class TestLingering:
    def test_it_receives_for_a_while_and_sends_nothing(self) -> None:
        left, right = both()
        early, late = datagrams(left.seal([udp()] * 2, 0.0))
        right.remove(RIGHT_SPI, 10.0, linger=5.0)
        assert spi_used(right, ANSWER, 10.0) is None
        assert states(right, 10.0) == {RIGHT_SPI: "lingering"}
        assert [shot.direction for shot in right.snapshot(10.0)] == ["in"]
        assert right.open([early], TO_LEFT, 14.9) == [udp()]
        assert right.poll_timer() == 15.0
        right.handle_timer(14.9)
        assert states(right) != {}
        right.handle_timer(15.0)
        assert right.open([late], TO_LEFT, 15.0) == []
        assert right.drops == {Drop.NO_POLICY: 1, Drop.UNKNOWN_SPI: 1}
        assert right.snapshot(15.0) == []
        assert right.poll_timer() is None

    def test_a_late_timer_does_not_lengthen_it(self) -> None:
        left, right = both()
        right.remove(RIGHT_SPI, 10.0, linger=5.0)
        assert right.open(datagrams(left.seal([udp()] * 2, 0.0)), TO_LEFT, 15.0) == []
        assert right.drops == {Drop.EXPIRED: 2}

    def test_not_past_the_hard_limit_and_without_a_word(self) -> None:
        right = DataPath(seeded_rng())
        right.install(mirrored(left_keys(lifetime=Lifetime(soft_seconds=8.0, hard_seconds=12.0))), 0.0)
        right.remove(RIGHT_SPI, 5.0, linger=100.0)
        assert right.poll_timer() == 12.0
        right.handle_timer(12.0)
        assert events(right) == []
        assert right.snapshot(12.0) == []

    def test_twice_removed_is_gone(self) -> None:
        right = DataPath(seeded_rng())
        right.install(mirrored(left_keys()), 0.0)
        right.remove(RIGHT_SPI, 0.0, linger=5.0)
        right.remove(RIGHT_SPI, 0.0)
        assert right.snapshot(0.0) == []
        assert right.poll_timer() is None
        right.install(mirrored(left_keys()), 1.0)

    def test_a_whole_connection_goes_at_once(self) -> None:
        left = left_path()
        left.install(successor(), 0.0)
        left.install(successor(2), 0.0, standby=True)
        left.install(left_keys(connection=2, spi_in=0x5000, remote=selectors("10.5.0.0/16")), 0.0)
        left.remove(LEFT_SPI, 0.0, linger=5.0)
        left.remove_connection(1, 0.0)
        left.remove_connection(1, 0.0)
        assert states(left) == {0x5000: "active"}
        assert spi_used(left, udp()) is None


SECONDS = Lifetime(soft_seconds=100.0, hard_seconds=120.0)
SPI = LEFT_SPI
SOFT, HARD = SoftExpired(1, SPI), HardExpired(1, SPI)


class TestLifetimes:
    def test_by_time(self) -> None:
        left = DataPath(seeded_rng())
        left.install(left_keys(lifetime=SECONDS), 1000.0)
        assert left.poll_timer() == 1100.0
        left.handle_timer(1099.9)
        assert events(left) == []
        left.handle_timer(1100.0)
        left.handle_timer(1100.0)
        assert events(left) == [SOFT]
        assert left.poll_timer() == 1120.0
        assert spi_used(left, udp(), 1119.9) == RIGHT_SPI
        left.handle_timer(1120.0)
        left.handle_timer(5000.0)
        assert events(left) == [HARD]
        assert left.poll_timer() is None
        assert spi_used(left, udp(), 1120.0) is None
        assert states(left) == {SPI: "expired"}

    def test_by_time_when_the_timer_is_late(self) -> None:
        left, right = both(lifetime=SECONDS)
        wire = datagrams(left.seal([udp()] * 3, 0.0))
        assert spi_used(left, udp(), 120.0) is None
        assert events(left) == [HARD]
        assert right.open(wire, TO_LEFT, 120.0) == []
        assert right.drops == {Drop.EXPIRED: 3}
        assert events(right) == [HardExpired(1, RIGHT_SPI)]
        assert right.open(wire, TO_LEFT, 121.0) == []
        assert events(right) == []

    @pytest.mark.parametrize("batch", [1, 2, 3, 7, 20])
    @pytest.mark.parametrize(
        "lifetime",
        [
            Lifetime(soft_packets=5, hard_packets=8),
            # The packet that reaches a limit in bytes is still carried: the eighth.
            Lifetime(soft_bytes=500, hard_bytes=750),
            Lifetime(soft_bytes=500, hard_bytes=800),
        ],
    )
    def test_by_packets_and_bytes_whatever_the_batch(self, lifetime: Lifetime, batch: int) -> None:
        packets = [udp(100)] * 20
        left = left_path(lifetime=lifetime)
        sent: list[bytes] = []
        for at in range(0, 20, batch):
            sent += datagrams(left.seal(packets[at : at + batch], 0.0))
        assert len(sent) == 8
        assert left.drops == {Drop.NO_POLICY: 12}
        assert events(left) == [SOFT, HARD]
        # The other end counts by itself.
        unlimited = left_path()
        wire = datagrams(unlimited.seal(packets, 0.0))
        right = DataPath(seeded_rng())
        right.install(mirrored(left_keys(lifetime=lifetime)), 0.0)
        opened: list[bytes] = []
        for at in range(0, 20, batch):
            opened += plain(right.open(wire[at : at + batch], TO_LEFT, 0.0))
        assert len(opened) == 8
        assert right.drops == {Drop.EXPIRED: 12}
        assert events(right) == [SoftExpired(1, RIGHT_SPI), HardExpired(1, RIGHT_SPI)]

    def test_a_soft_limit_stops_nothing_and_is_told_once(self) -> None:
        left = left_path(lifetime=Lifetime(soft_packets=2, soft_seconds=5.0))
        assert len(datagrams(left.seal([udp()] * 10, 0.0))) == 10
        left.handle_timer(5.0)
        assert len(datagrams(left.seal([udp()] * 10, 6.0))) == 10
        assert events(left) == [SOFT]
        assert left.poll_timer() is None

    def test_a_hard_limit_alone(self) -> None:
        left = left_path(lifetime=Lifetime(hard_packets=1, hard_seconds=5.0))
        assert left.poll_timer() == 5.0
        left.seal([udp()], 0.0)
        assert events(left) == [HARD]
        assert left.poll_timer() is None

    def test_an_older_sa_carries_on_in_the_same_batch(self) -> None:
        left = left_path()
        new = left_keys(
            spi_in=LEFT_SPI + 0x10000,
            spi_out=RIGHT_SPI + 0x10000,
            replaces=LEFT_SPI,
            lifetime=Lifetime(hard_packets=2),
        )
        left.install(new, 0.0)
        sent = datagrams(left.seal([udp()] * 5, 0.0))
        assert [int.from_bytes(one[:4], "big") for one in sent] == [new.spi_out] * 2 + [RIGHT_SPI] * 3

    def test_forged_packets_use_nothing_up(self) -> None:
        left, right = both(lifetime=Lifetime(hard_packets=5))
        wire = datagrams(left.seal([udp()] * 5, 0.0))
        forged = [one[:-1] + bytes([one[-1] ^ 1]) for one in wire]
        right.open(forged * 10, ELSEWHERE, 0.0)
        assert len(right.open(wire, TO_LEFT, 0.0)) == 5

    def test_thousands_have_one_timer(self) -> None:
        left = DataPath(seeded_rng())
        for number in range(2000):
            lifetime = Lifetime(soft_seconds=1000.0 + number, hard_seconds=9000.0)
            left.install(
                left_keys(
                    connection=number, spi_in=0x10000 + number, spi_out=0x20000 + number, lifetime=lifetime
                ),
                0.0,
            )
        assert left.poll_timer() == 1000.0
        left.handle_timer(1000.0 + 999)
        assert events(left) == [SoftExpired(number, 0x10000 + number) for number in range(1000)]
        assert left.poll_timer() == 2000.0


class TestSnapshot:
    def test_all_of_it(self) -> None:
        lifetime = Lifetime(soft_seconds=100.0, hard_seconds=120.0, hard_packets=1000)
        left, right = both(lifetime=lifetime)
        wire = datagrams(left.seal([udp(100), udp(200)], 1.0))
        right.open([*wire, wire[0]], TO_LEFT, 2.0)
        inbound, outbound = right.snapshot(30.0)
        assert inbound == SaSnapshot(
            connection=1,
            pair=RIGHT_SPI,
            direction="in",
            spi=RIGHT_SPI,
            suite="aes128gcm16",
            state="active",
            path=TO_LEFT,
            local=RIGHT_NET,
            remote=LEFT_NET,
            inner_mtu=1400,
            sequence=2,
            replay_window=1024,
            packets=2,
            octets=300,
            lifetime=lifetime,
            age=30.0,
            soft_seconds_left=70.0,
            hard_seconds_left=90.0,
            drops={"replay": 1},
        )
        assert (outbound.direction, outbound.spi, outbound.pair) == ("out", LEFT_SPI, RIGHT_SPI)
        assert (outbound.sequence, outbound.packets, outbound.replay_window) == (0, 0, 0)
        _, sent = left.snapshot(30.0)
        assert (sent.sequence, sent.packets, sent.octets) == (2, 2, 300)

    def test_without_limits(self) -> None:
        for shot in left_path().snapshot(0.0):
            assert (shot.soft_seconds_left, shot.hard_seconds_left) == (None, None)


@pytest.mark.parametrize(
    "command", [lambda p: p.remove(0, 0.0), lambda p: p.remove(1 << 40, 0.0), lambda p: p.move(9, TO_LEFT)]
)
def test_commands_about_nothing_do_nothing(command: Callable[[DataPath], None]) -> None:
    left = left_path()
    command(left)
    assert len(left.snapshot(0.0)) == 2
