"""SAs spread over workers: each does what one data path would do, whoever meets the traffic first."""

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from espudp.esp.datapath import DataPath
from espudp.esp.drops import Drop
from espudp.esp.elsewhere import CATCH_UP_BURST, owner_of
from espudp.esp.events import HardExpired, PeerMoved, SoftExpired, UnknownSpi
from espudp.esp.messages import Announce, Ask, Incoming, Install, Outgoing
from espudp.esp.sa import ChildKeys, Lifetime
from espudp.wire.address import Path, UdpAddress
from espudp.wire.natt import NON_ESP_MARKER
from espudp.wire.selectors import at_host
from espudp.wire.train import Burst
from espudp.wire.transport import Transport
from espudp.wire.vnet import GSO_UDP_L4, NEEDS_CSUM, Frame, VnetHeader
from tests.property.inner_traffic import UDP, Cut, Flow
from tests.unit.crypto.seeded import seeded_rng
from tests.unit.esp.crew import Crew, octets
from tests.unit.esp.peers import (
    LEFT,
    LEFT6,
    RIGHT,
    RIGHT6,
    TO_LEFT,
    TO_RIGHT,
    datagrams,
    events,
    left_keys,
    mirrored,
    selectors,
    udp,
)

TO_DNS = (replace(selectors("10.2.0.1")[0], protocol=UDP, first_port=53, last_port=53),)

WORKERS = 3
SPI = {number: 0x3000 + number for number in range(WORKERS)}
"""An inbound SPI that each worker owns."""

ELSEWHERE = Path(TO_RIGHT.local, UdpAddress("203.0.113.9", 61000))


def keys(owner: int, number: int = 0, **changes: Any) -> ChildKeys:
    spi = SPI[owner] + 3 * number
    assert owner_of(spi, WORKERS) == owner
    return left_keys(**({"spi_in": spi, "spi_out": spi + 0x10000} | changes))


def joined(*children: ChildKeys) -> tuple[Crew, DataPath]:
    """A crew that has the child SAs, and its peer, which has them in one place."""
    crew, peer = Crew(WORKERS), DataPath(seeded_rng(2))
    for child in children:
        crew.front.install(child, 0.0)
        peer.install(mirrored(child), 0.0)
    crew.carry()
    return crew, peer


def back(size: int = 100) -> bytes:
    """What the peer has for us."""
    return udp(size, src=RIGHT, dst=LEFT)


def drops(crew: Crew, now: float = 0.0) -> dict[Drop, int]:
    crew.front.ask()
    crew.carry(now)
    return {reason: count for reason, count in crew.front.drops.items() if count}


def opened(peer: DataPath, crew: Crew, number: int) -> list[bytes]:
    trains, crew.sent[number] = crew.sent[number], []
    return [octets(packet) for train in trains for packet in peer.open(train.datagrams, TO_LEFT, 0.0)]


@pytest.mark.parametrize("owner", range(WORKERS))
@pytest.mark.parametrize("reader", range(WORKERS))
def test_a_packet_leaves_through_its_owner_whoever_reads_it(owner: int, reader: int) -> None:
    crew, peer = joined(keys(owner))
    packets = [udp(100), udp(200)]
    crew.seal(reader, packets)
    crew.carry()
    assert opened(peer, crew, owner) == packets
    assert not any(crew.sent.values())
    assert crew.handed.total() == (0 if reader == owner else 2)
    assert drops(crew) == {}


@pytest.mark.parametrize("owner", range(WORKERS))
@pytest.mark.parametrize("receiver", range(WORKERS))
@pytest.mark.parametrize("burst", [False, True])
def test_a_datagram_is_opened_by_its_owner_whoever_receives_it(
    owner: int, receiver: int, burst: bool
) -> None:
    crew, peer = joined(keys(owner))
    packets = [back()] * 4
    train: Sequence[bytes] = datagrams(peer.seal(packets, 0.0))
    if burst:
        train = Burst(bytearray(b"".join(train)), len(train[0]))
    crew.open(receiver, train, TO_RIGHT)
    crew.carry()
    assert crew.delivered[owner] == packets
    assert drops(crew) == {}


@pytest.mark.parametrize("owner", range(WORKERS))
@pytest.mark.parametrize("reader", range(WORKERS))
@pytest.mark.parametrize("version", [4, 6])
def test_fragments_of_transport_mode_get_together_whoever_reads_them(
    owner: int, reader: int, version: int
) -> None:
    """Only the first one shows the ports, and the kernel brings all to one queue, which may be any."""
    cut = Cut(Flow(version), octets=3000, size=1000, number=5, mishaps=(("late", 0),))
    ends = (LEFT, RIGHT) if version == 4 else (LEFT6, RIGHT6)
    here, there = (str(ip_address(end)) for end in ends)
    local, remote = (at_host(dns, end) for dns, end in ((selectors(here), here), (TO_DNS, there)))
    child = keys(owner, local=local, remote=remote, transport=Transport(here, there))
    crew = Crew(WORKERS)
    crew.front.install(child, 0.0)
    crew.carry()
    pieces = [piece for made in cut.pieces() for piece in made.packets]
    for piece in pieces:
        crew.seal(reader, [piece])
    crew.carry()
    (train,) = crew.sent[owner]
    alone = DataPath(seeded_rng(3))
    alone.install(child, 0.0)
    assert [len(d) for d in train.datagrams] == [len(d) for d in datagrams(alone.seal(pieces, 0.0))]
    assert drops(crew) == {}
    # When it is gone nobody waits for fragments any more.
    crew.front.remove(child.spi_in, 0.0)
    crew.carry()
    crew.seal(reader, pieces)
    assert drops(crew) == {Drop.NO_POLICY: len(pieces)}


def test_of_several_child_sas_for_the_same_traffic_each_worker_uses_its_own() -> None:
    crew, peer = joined(*(keys(owner) for owner in range(WORKERS)))
    for reader in range(WORKERS):
        crew.seal(reader, [udp(100)])
        (train,) = crew.sent[reader]
        assert train.datagrams[0][:4] == (SPI[reader] + 0x10000).to_bytes(4, "big")
        assert opened(peer, crew, reader) == [udp(100)]
    assert not crew.handed


def test_ones_own_child_sa_is_no_reason_to_take_the_packets_of_a_nearer_peer() -> None:
    near = selectors("10.2.0.0/24")
    crew, _ = joined(keys(1), keys(2, connection=2, remote=near), keys(1, 1, remote=selectors("10.2.0.1/32")))
    crew.seal(1, [udp(100, dst=bytes([10, 2, 0, 7]))])
    crew.seal(2, [udp(100, dst=bytes([10, 2, 0, 1])), udp(100, dst=bytes([10, 2, 9, 9]))])
    crew.carry()
    assert [train.datagrams[0][:4] for train in crew.sent[2]] == [(SPI[2] + 0x10000).to_bytes(4, "big")]
    assert {d[:4] for train in crew.sent[1] for d in train.datagrams} == {
        (SPI[1] + 0x10003).to_bytes(4, "big"),
        (SPI[1] + 0x10000).to_bytes(4, "big"),
    }


def test_the_newest_connection_wins_as_in_one_process() -> None:
    crew, peer = joined(keys(1), keys(2, connection=2))
    crew.seal(1, [udp(100)])
    crew.carry()
    assert opened(peer, crew, 2) == [udp(100)]


def test_a_child_sa_that_was_removed_takes_nothing_any_more() -> None:
    crew, _ = joined(keys(1), keys(0, connection=2))
    crew.front.remove(SPI[1], 1.0)
    crew.front.remove_connection(2, 1.0)
    crew.carry(1.0)
    for reader in range(WORKERS):
        crew.seal(reader, [udp(100)], 1.0)
    assert not crew.handed
    assert drops(crew, 1.0) == {Drop.NO_POLICY: 3}
    assert crew.front.snapshot(1.0) == []


def test_a_removed_child_sa_may_linger_at_its_owner() -> None:
    crew, peer = joined(keys(1))
    late = datagrams(peer.seal([back()], 0.0))
    crew.front.remove(SPI[1], 1.0, linger=5.0)
    crew.carry(1.0)
    crew.open(1, late, TO_RIGHT, 1.0)
    assert crew.delivered[1] == [back()]


@pytest.mark.parametrize("burst", [False, True])
def test_datagrams_may_come_before_the_command_that_they_follow_from(burst: bool) -> None:
    crew, peer = joined()
    child = keys(1)
    peer.install(mirrored(child), 0.0)
    packets = [back()] * 8
    train: Sequence[bytes] = datagrams(peer.seal(packets, 0.0))
    crew.front.install(child, 0.0)
    crew.open(1, Burst(bytearray(b"".join(train)), len(train[0])) if burst else train, TO_RIGHT)
    assert crew.delivered[1] == packets
    assert drops(crew) == {}


@pytest.mark.parametrize("count", [1, 20])
@pytest.mark.parametrize(("owner", "reader"), [(1, 1), (1, 2), (0, 2)])
def test_packets_may_come_before_the_command_that_they_follow_from(
    owner: int, reader: int, count: int
) -> None:
    crew, peer = joined(keys(reader, connection=2, remote=selectors("10.9.0.0/16")))
    child = keys(owner, 1)
    peer.install(mirrored(child), 0.0)
    crew.front.install(child, 0.0)
    crew.seal(reader, [udp(100)] * count)
    crew.carry()
    assert opened(peer, crew, owner) == [udp(100)] * count
    assert drops(crew) == {}


def test_a_super_packet_may_come_before_the_command_that_it_follows_from() -> None:
    crew, peer = joined()
    child = keys(1)
    peer.install(mirrored(child), 0.0)
    crew.front.install(child, 0.0)
    whole = udp(28 + 3 * 500)
    header = VnetHeader(NEEDS_CSUM, GSO_UDP_L4, 28, 500, 20, 6)
    crew.seal(1, [Frame(header, (whole,))])
    assert [packet[28:] for packet in opened(peer, crew, 1)] == [whole[28:528], whole[528:1028], whole[1028:]]
    assert drops(crew) == {}


def test_what_was_handed_over_may_come_before_the_command_that_it_follows_from() -> None:
    crew, peer = joined()
    child = keys(1)
    peer.install(mirrored(child), 0.0)
    crew.front.install(child, 0.0)
    crew.workers[1].take_over(Outgoing(udp(100)), 0.0)
    crew.workers[1].take_over(Incoming(datagrams(peer.seal([back()], 0.0)), TO_RIGHT, 0), 0.0)
    assert crew.workers[1].packets_to_deliver() == [back()]
    (train,) = crew.workers[1].datagrams_to_send(0.0)
    assert peer.open(train.datagrams, TO_LEFT, 0.0) == [udp(100)]


def test_what_comes_before_the_packet_without_an_sa_still_leaves() -> None:
    crew, peer = joined(keys(1))
    crew.front.remove(SPI[1], 0.0)
    crew.seal(1, [udp(100), udp(100, dst=bytes([192, 0, 2, 1])), udp(100)])
    assert opened(peer, crew, 1) == [udp(100)]
    assert drops(crew) == {Drop.NO_POLICY: 2}


def test_a_flood_for_no_sa_asks_for_commands_now_and_then() -> None:
    crew, _ = joined()
    for number in range(10_000):
        crew.open(1, [(0x5002 + 3 * number).to_bytes(4, "big") + bytes(60)], TO_RIGHT)
        crew.seal(1, [udp(100)])
    crew.open(1, [b"1", bytes(3) + b"\1" + bytes(60)], TO_RIGHT)
    crew.open(1, [SPI[2].to_bytes(4, "big") + bytes(60)], TO_RIGHT)  # that is not ours to know
    assert crew.asked == CATCH_UP_BURST
    crew.open(1, [(0x5002).to_bytes(4, "big") + bytes(60)], TO_RIGHT, 1.0)
    assert crew.asked == CATCH_UP_BURST + 1


def test_who_believes_wrongly_does_not_start_a_circle() -> None:
    crew, _ = joined()
    local, remote = left_keys().local, left_keys().remote
    crew.workers[1].obey(Announce(SPI[2], 1, 2, local, remote), 0.0)
    crew.workers[2].obey(Announce(SPI[1], 1, 1, local, remote), 0.0)
    crew.seal(1, [udp(100)])
    crew.carry()
    assert crew.handed == {2: 1}
    assert drops(crew) == {Drop.NO_POLICY: 1}


def test_a_full_queue_is_counted_where_it_was_met() -> None:
    crew, peer = joined(keys(1))
    crew.full.add(1)
    crew.seal(0, [udp(100)])
    crew.open(2, datagrams(peer.seal([back(), back(200)], 0.0)), TO_RIGHT)
    assert drops(crew) == {Drop.HAND_OVER: 3}


def test_what_a_worker_drops_is_counted_once_however_often_it_is_asked() -> None:
    crew, _ = joined(keys(1))
    crew.seal(1, [udp(100, dst=bytes([192, 0, 2, 1]))])
    assert drops(crew) == drops(crew) == {Drop.NO_POLICY: 1}
    crew.seal(1, [udp(100, dst=bytes([192, 0, 2, 1]))])
    assert drops(crew) == {Drop.NO_POLICY: 2}


def test_ike_that_comes_to_a_worker_is_handed_to_the_front_with_its_marker() -> None:
    crew, _ = joined()
    message = NON_ESP_MARKER + bytes(28)
    crew.workers[2].receive_datagrams([message], TO_RIGHT, 0.0)
    ((receiver, _),) = crew.astray
    assert receiver == 0
    crew.workers[1].receive_datagrams([b"\xff"], TO_RIGHT, 0.0)  # a keepalive has done its work
    assert crew.handed == {0: 1}


def test_the_front_hears_who_is_alive_and_not_too_often() -> None:
    crew, peer = joined(keys(1))
    worker = crew.workers[1]
    for now in (10.0, 10.2, 10.4):
        crew.open(1, datagrams(peer.seal([back()], now)), TO_RIGHT, now)
        if (due := worker.poll_timer()) is not None and due <= now:
            worker.handle_timer(now)
    crew.carry(10.4)
    assert crew.front.take_heard() == [(1, 10.0)]
    assert worker.poll_timer() == 11.0
    worker.handle_timer(11.0)
    crew.carry(11.0)
    assert crew.front.take_heard() == [(1, 10.4)]
    assert worker.poll_timer() is None


def test_lifetimes_end_where_the_child_sa_is_and_are_told_in_front() -> None:
    crew, _ = joined(keys(1, lifetime=Lifetime(soft_packets=1, hard_packets=2)))
    crew.seal(1, [udp(100)])
    crew.carry()
    assert events(crew.front) == [SoftExpired(1, SPI[1])]
    crew.seal(0, [udp(100), udp(100)])
    crew.carry()
    assert events(crew.front) == [HardExpired(1, SPI[1])]


def test_a_peer_that_moved_is_followed_by_every_worker() -> None:
    crew, peer = joined(keys(0), keys(1), keys(2))
    train = [d for d in datagrams(peer.seal([back()], 0.0)) if d[:4] == SPI[2].to_bytes(4, "big")]
    crew.open(2, train, ELSEWHERE)
    crew.carry()
    assert events(crew.front) == [PeerMoved(1, ELSEWHERE)]
    crew.carry()
    for reader in range(WORKERS):
        crew.seal(reader, [udp(100)])
        assert crew.sent[reader][-1].path == ELSEWHERE


def test_a_move_and_an_mtu_reach_every_worker() -> None:
    crew, _ = joined(keys(0), keys(1), keys(2))
    crew.front.move(1, ELSEWHERE)
    crew.front.set_inner_mtu(1, 1280)
    crew.front.ask()
    crew.carry()
    shots = crew.front.snapshot(0.0)
    assert {(shot.path, shot.inner_mtu) for shot in shots} == {(ELSEWHERE, 1280)}
    assert {shot.pair for shot in shots} == set(SPI.values())


def test_an_unknown_spi_is_told_by_whoever_would_own_it() -> None:
    crew, _ = joined()
    crew.open(0, [(0x5002).to_bytes(4, "big") + bytes(60)], TO_RIGHT)
    crew.carry()
    assert events(crew.front) == [UnknownSpi(0x5002, TO_RIGHT)]
    assert drops(crew) == {Drop.UNKNOWN_SPI: 1}
    assert owner_of(0x5002, WORKERS) == 1


def test_a_child_sa_that_cannot_be_is_at_its_end() -> None:
    crew, _ = joined()
    crew.front.install(keys(1, replay_window=7), 0.0)
    crew.carry()
    assert events(crew.front) == [HardExpired(1, SPI[1])]


def test_when_a_worker_dies_its_child_sas_are_asked_to_be_made_anew() -> None:
    crew, peer = joined(
        keys(0), keys(1, connection=2, remote=selectors("10.9.0.0/16")), keys(2, connection=3)
    )
    crew.front.ask()
    crew.carry()
    crew.workers[1] = crew.worker(1)
    crew.front.lose(1)
    crew.carry()
    assert events(crew.front) == [SoftExpired(2, SPI[1])]
    assert {shot.pair for shot in crew.front.snapshot(0.0)} == {SPI[0], SPI[2]}
    crew.seal(1, [udp(100)])  # the new one knows what the others have
    crew.carry()
    assert opened(peer, crew, 2) == [udp(100)]


def test_flows_stay_where_a_hash_puts_them_once_several_workers_can_carry_them() -> None:
    crew, _ = joined(keys(0), keys(1, connection=2), keys(1, 1, remote=selectors("10.9.0.0/16")))
    assert crew.steering == {}  # until then to the worker that has the SA, where their answers come from
    second = keys(2)
    crew.front.install(second, 0.0)
    assert crew.steering == dict.fromkeys(range(WORKERS), False)
    crew.steering.clear()
    crew.front.lose(1)
    assert crew.steering == {1: False}
    crew.front.remove(second.spi_in, 1.0)
    assert crew.steering == dict.fromkeys(range(WORKERS), True)
    crew.front.install(keys(2, 1), 2.0)
    crew.front.remove_connection(1, 3.0)
    assert crew.steering == dict.fromkeys(range(WORKERS), True)


def test_a_rekey_makes_the_new_one_wait_at_the_same_worker() -> None:
    crew, peer = joined(keys(1))
    new = keys(1, 1, replaces=SPI[1])
    crew.front.install(new, 1.0, standby=True)
    crew.carry(1.0)
    crew.seal(2, [udp(100)], 1.0)
    crew.carry(1.0)
    assert opened(peer, crew, 1) == [udp(100)]  # which has the old one only
    peer.install(mirrored(new), 1.0)
    crew.open(1, datagrams(peer.seal([back()], 1.0)), TO_RIGHT, 1.0)
    crew.seal(2, [udp(100)], 1.0)
    crew.carry(1.0)
    assert crew.sent[1][-1].datagrams[0][:4] == (SPI[1] + 3 + 0x10000).to_bytes(4, "big")


def test_the_worker_that_owns_it_hears_that_the_peer_has_it() -> None:
    crew, _ = joined(keys(1))
    new = keys(1, 1, replaces=SPI[1])
    crew.front.install(new, 1.0, standby=True)
    crew.front.confirm(new.spi_in)
    crew.carry(1.0)
    crew.seal(2, [udp(100)], 1.0)
    crew.carry(1.0)
    assert crew.sent[1][-1].datagrams[0][:4] == new.spi_out.to_bytes(4, "big")


def test_no_key_is_shown() -> None:
    child = keys(1)
    for message in (Install(child, 0.0, False), Announce(1, 1, 1, child.local, child.remote), Ask()):
        for secret in (child.keys_in.encr, child.keys_out.encr):
            assert secret.hex() not in repr(message)
            assert repr(secret) not in repr(message)
