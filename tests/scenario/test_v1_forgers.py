"""Whoever can write to an IKEv1 port under any address, and whoever can read as well, but has no keys."""

import time
import tracemalloc
from collections.abc import Callable
from itertools import product

import pytest

from espudp.ike.config import Identity, Limits
from espudp.ike.credentials import Psk, PskOf
from espudp.ike.drop import Drop
from espudp.ike.events import ConnectionDown, ConnectionUp, PeerRefused
from espudp.ike.ikev1_config import Mode
from espudp.ike.pad import PadEntry
from espudp.ike.v1.hub import AGGRESSIVE_AT_ONCE, AGGRESSIVE_PER_SECOND
from espudp.ike.xauth import XauthLogin
from espudp.wire.address import Path, UdpAddress
from espudp.wire.ikev1.constants import CfgType, ExchangeType, NotifyType, PayloadType, ProtocolId
from espudp.wire.ikev1.header import HEADER_OCTETS, Header
from espudp.wire.ikev1.message import emit_message
from espudp.wire.ikev1.payloads import Attributes, Delete, Notification, Payload, Unknown, VendorId
from tests.scenario.credentials import CLIENT as CLIENT_NAME
from tests.scenario.credentials import SERVER as SERVER_NAME
from tests.scenario.credentials import person, trust
from tests.scenario.lab import SERVER_IP
from tests.scenario.lab_v1 import lab_v1
from tests.scenario.strangers_v1 import (
    Stranger,
    answers,
    client_v1,
    connection_of,
    heard_from,
    offer,
    pair_v1,
    sa_of,
    said,
    server_v1,
    states_of,
    transform,
    users,
)
from tests.unit.ike.pair import CLIENT, PSK, Datagram, Pair, mirrored

MODES = pytest.mark.parametrize("mode", [pytest.param(mode, id=mode.value) for mode in Mode])


def _up(pair: Pair) -> bool:
    return bool(pair.client.told(ConnectionUp)) and len(pair.client.children) == 1


# Floods


@MODES
def test_who_forges_the_address_of_a_client_does_not_keep_it_out(mode: Mode) -> None:
    """Aggressive mode asks for a key pair before an address has shown anything, so none is charged for it."""
    pair, stranger = pair_v1(client_v1(mode)), Stranger()
    for port in range(1000, 1000 + AGGRESSIVE_AT_ONCE - 2):
        answers(pair.server, stranger.aggressive(), heard_from(CLIENT, port), pair.now)
    pair.dial()
    pair.wait(20.0)
    assert _up(pair)


def test_a_flood_in_aggressive_mode_keeps_nobody_out_of_main_mode() -> None:
    pair, stranger = pair_v1(server=server_v1(limits=Limits(half_open_max=50))), Stranger()
    for number in range(1000):
        answers(
            pair.server, stranger.aggressive(), heard_from(f"10.0.{number >> 8}.{number & 255}"), pair.now
        )
    pair.dial()
    pair.wait(5.0)
    assert _up(pair)
    assert states_of(pair.server) <= AGGRESSIVE_AT_ONCE + 1


def test_a_flood_in_aggressive_mode_leaves_room_for_a_client() -> None:
    """With as many forged first messages as there is room for, and as many again."""
    pair, stranger = pair_v1(client_v1(Mode.AGGRESSIVE)), Stranger()
    pair.dial()
    start = pair.now
    for number in range(int(2 * AGGRESSIVE_PER_SECOND * 30)):
        pair.now = start + number / (2 * AGGRESSIVE_PER_SECOND)
        answers(
            pair.server, stranger.aggressive(), heard_from(f"10.0.{number >> 8}.{number & 255}"), pair.now
        )
        pair.wait(0.0)
    pair.wait(10.0)
    assert _up(pair)


@MODES
def test_a_flood_that_is_as_fast_as_we_are_keeps_nobody_out(mode: Mode) -> None:
    """More forged first messages than there may be half-open come before a client's next one is read."""
    pair, stranger = pair_v1(client_v1(mode), server_v1(limits=Limits(half_open_max=20))), Stranger()
    pair.dial()
    for _ in range(6):
        pair.move(pair.client)
        pair.move(pair.server)
        for number in range(100):
            answers(pair.server, stranger.main(), heard_from(f"10.0.0.{number}"), pair.now)
            pair.now += 0.002
    assert _up(pair)
    assert states_of(pair.server) <= 21
    assert pair.server.endpoint.drops[Drop.HALF_OPEN] >= 400


@MODES
def test_a_flood_does_not_push_out_who_is_about_to_log_in(mode: Mode) -> None:
    """Who has proved to have the key of the group, and whose user looks for the password."""
    entry = PadEntry(proof=Psk(PSK), demand=PskOf(PSK), xauth=users(alice="secret"))
    server = server_v1(entry, limits=Limits(half_open_max=20))
    alice = XauthLogin(user="alice", password="secret")
    pair, stranger = pair_v1(client_v1(mode, login=alice), server), Stranger()
    pair.dial()
    for _ in range(3 if mode is Mode.MAIN else 2):
        pair.move(pair.client)
        pair.move(pair.server)
    answer = pair.take(pair.client)
    assert [Header.parse(data).exchange for data, _ in answer] == [ExchangeType.TRANSACTION]
    for number in range(60):
        path = heard_from(f"10.0.0.{number}")
        answers(pair.server, stranger.main() if number % 2 else stranger.aggressive(), path, pair.now)
    for datagram in answer:
        pair.give(pair.server, datagram)
    pair.flush()
    assert _up(pair)


@pytest.mark.parametrize("way", ["PSK", "certificates"])
@MODES
def test_nothing_is_repeated_to_who_has_shown_nothing(mode: Mode, way: str) -> None:
    """CVE-2016-5361: what a forged first message brings to whoever is at that address, until it is forgotten.

    In aggressive mode the third message, which may be lost, is to be asked for: once.
    """
    pair = pair_v1(client_v1(mode))
    if way == "certificates":
        pair = _with_certificates(mode)
    pair.dial()
    ((first, path),) = pair.take(pair.client)
    answered = len(answers(pair.server, first, mirrored(path), pair.now))
    for _ in range(100):
        due = pair.server.endpoint.poll_timer()
        if due is None:
            break
        pair.now = due
        pair.server.endpoint.handle_timer(pair.now)
    repeated = len(pair.server.endpoint.datagrams_to_send(pair.now))
    assert repeated <= (answered if mode is Mode.AGGRESSIVE else 0)
    assert states_of(pair.server) == 0


def _with_certificates(mode: Mode) -> Pair:
    client = client_v1(
        mode,
        proof=person("RSA", CLIENT_NAME).proof,
        demand=trust(),
        local_identity=Identity.parse(CLIENT_NAME),
        remote_identity=None,
    )
    return pair_v1(client, server_v1(PadEntry(proof=person("RSA", SERVER_NAME).proof, demand=trust())))


def _cost(messages: list[bytes]) -> float:
    """CPU seconds for each, the least of some tries."""
    tries = []
    for _ in range(3):
        server = pair_v1().server
        began = time.process_time()
        for number, message in enumerate(messages):
            answers(server, message, heard_from(f"10.0.{number >> 8}.{number & 255}"), 1000.0)
        tries.append((time.process_time() - began) / len(messages))
    return min(tries)


def test_an_offer_of_which_nothing_will_do_costs_no_more_than_to_read_it() -> None:
    """Once people have been told a few of them: what it holds is not put in words that nobody hears."""
    stranger = Stranger()
    many = [transform(number, encryption=5, group=1) for number in range(128)]
    useless = stranger.main(offer(*many))
    unwanted = stranger.main(offer(*many), offer(*many[:1]))  # is read, and dropped for its second offer
    assert _cost([useless] * 120) < 2.2 * _cost([unwanted] * 120)


@pytest.mark.parametrize(
    "payloads",
    [
        pytest.param(lambda: [offer(*[transform(n) for n in range(64)])], id="transforms"),
        pytest.param(lambda: [offer(), *[VendorId(bytes(16))] * 60], id="vendor ids"),
        pytest.param(lambda: [offer(), *[VendorId(bytes(100))] * 63], id="as large as it may be"),
        pytest.param(lambda: [offer(), *[Notification(ProtocolId.ISAKMP, b"", 1)] * 60], id="notifications"),
    ],
)
def test_what_is_kept_of_strangers_is_bounded(payloads: Callable[[], list[Payload]]) -> None:
    pair, stranger = pair_v1(server=server_v1(limits=Limits(half_open_max=30))), Stranger()
    message = stranger.main(*payloads())
    tracemalloc.start()
    try:
        for number in range(150):
            forged = stranger.chance.randbytes(8) + message[8:]
            answers(pair.server, forged, heard_from(f"10.0.0.{number}"), pair.now)
        # Timers sweep those out that are gone once there are twice as many.
        assert tracemalloc.get_traced_memory()[0] < (2 * 30 + 64) * 8_000
    finally:
        tracemalloc.stop()
    assert states_of(pair.server) <= 30


def test_a_client_does_not_answer_for_its_gateway_for_ever() -> None:
    """Who dialled also answers the first message of its peer, whose address anybody can forge."""
    pair = pair_v1().connect()
    stranger = Stranger()
    useless = offer(transform(encryption=5))
    told = sum(
        len(answers(pair.client, stranger.main(useless), connection_of(pair.client).path, pair.now))
        for _ in range(500)
    )
    assert told <= 50
    assert pair.client.endpoint.drops[Drop.RATE] >= 450


# On the way


def test_our_own_words_do_not_come_back_as_the_peers() -> None:
    """HASH(1) is the same for both sides: who sends back what we have asked must not be taken for the peer,
    or one that is dead is never given up.
    """
    pair = pair_v1().connect()
    (up,) = pair.client.told(ConnectionUp)
    pair.client.endpoint.check_alive(up.connection, pair.now)
    for _ in range(40):
        for data, path in pair.take(pair.client):
            pair.client.endpoint.receive_datagram(data, path, pair.now)
        due = pair.client.endpoint.poll_timer()
        if due is None or pair.client.told(ConnectionDown):
            break
        pair.now = due
        pair.client.endpoint.handle_timer(pair.now)
    assert pair.client.told(ConnectionDown)


def test_our_own_delete_does_not_come_back_as_the_peers() -> None:
    pair = pair_v1().connect()
    (up,) = pair.server.told(ConnectionUp)
    pair.server.endpoint.delete_child(up.connection, pair.server.children[0].spi_in, pair.now)
    heard = connection_of(pair.server).last_inbound
    pair.now += 5.0
    for data, path in pair.take(pair.server):
        pair.server.endpoint.receive_datagram(data, mirrored(path), pair.now)
    assert connection_of(pair.server).last_inbound == heard


_FORGED: list[Payload] = [
    Delete(ProtocolId.ISAKMP, (bytes(16),)),
    Delete(ProtocolId.ESP, (b"\xc0\xff\xee\x01",)),
    Notification(ProtocolId.ISAKMP, b"", NotifyType.INVALID_COOKIE),
    Notification(ProtocolId.ISAKMP, bytes(16), NotifyType.INITIAL_CONTACT),
    Notification(ProtocolId.ISAKMP, bytes(16), NotifyType.R_U_THERE, b"\0\0\0\1"),
    Notification(ProtocolId.ISAKMP, bytes(16), NotifyType.R_U_THERE_ACK, b"\0\0\0\1"),
    Notification(ProtocolId.ISAKMP, b"", NotifyType.AUTHENTICATION_FAILED),
    Attributes(CfgType.SET, 1),
]


@pytest.mark.parametrize("step", range(6))
@MODES
def test_what_is_said_in_the_clear_ends_nothing(mode: Mode, step: int) -> None:
    """With the right cookies, to both sides, in every state."""
    pair = pair_v1(client_v1(mode))
    pair.dial()
    sides = [pair.client, pair.server]
    for number in range(12):
        for datagram in pair.take(sides[number % 2]):
            if number == step or number > 5:
                _forge(pair, datagram)
            pair.give(sides[1 - number % 2], datagram)
    pair.wait(1.0)
    assert _up(pair)
    for side in sides:
        assert not side.told(ConnectionDown)
        assert connection_of(side).children


def _forge(pair: Pair, datagram: Datagram) -> None:
    data, path = datagram
    seen = Header.parse(data)
    for cookie_r in (seen.cookie_r, bytes(8)):
        for kind in (ExchangeType.INFORMATIONAL, ExchangeType.TRANSACTION, seen.exchange):
            for message_id, payload in product((0, 0x1234), _FORGED):
                octets = emit_message(Header(seen.cookie_i, cookie_r, 0, kind, message_id), [payload])
                for side in (pair.server, pair.client):
                    for way in (path, mirrored(path)):
                        side.endpoint.receive_datagram(octets, way, pair.now)


def test_who_reads_along_does_not_end_a_call_by_noise() -> None:
    """What looks like the fifth message of main mode, a few times over, before the client's own arrives."""
    pair = pair_v1()
    pair.dial()
    for _ in range(2):
        pair.move(pair.client)
        pair.move(pair.server)
    ((proof, path),) = pair.take(pair.client)
    chance = Stranger().chance
    for _ in range(8):
        pair.give(pair.server, (proof[:HEADER_OCTETS] + chance.randbytes(len(proof) - HEADER_OCTETS), path))
    assert len(pair.server.told(PeerRefused)) <= 8
    pair.give(pair.server, (proof, path))
    pair.flush()
    assert _up(pair)


def test_a_key_that_is_sent_back_is_nobodys() -> None:
    """With our cookie and our public value for its own, what we prove would prove the same for the peer."""
    pair = pair_v1(client_v1(remote_identity=None))
    pair.dial()
    ((first, path),) = pair.take(pair.client)
    header = Header.parse(first)
    server = pair.server.endpoint
    server.receive_datagram(first, mirrored(path), pair.now)
    ((second, _),) = pair.take(pair.server)
    ours = header.cookie_i
    pair.client.endpoint.receive_datagram(ours + ours + second[16:], path, pair.now)
    said = pair.take(pair.client)
    for octets, _ in said:
        pair.client.endpoint.receive_datagram(octets, path, pair.now)
    assert not pair.take(pair.client)


# Versions and ports


@pytest.mark.parametrize("minor", [1, 7, 15])
@MODES
def test_a_minor_version_is_no_matter(mode: Mode, minor: int) -> None:
    """RFC 2408 section 3.1: it is for whoever is older to be understood, so we answer as ever, once."""
    server, stranger = pair_v1().server, Stranger()
    message = bytearray(stranger.main() if mode is Mode.MAIN else stranger.aggressive())
    message[17] |= minor
    said = answers(server, bytes(message), heard_from("10.0.0.1"), 1000.0)
    assert len(said) <= 1


@pytest.mark.parametrize("exchange", [*range(0, 2), 3, *range(5, 40), 240, 255])
def test_exchanges_that_nobody_knows_come_to_nothing(exchange: int) -> None:
    server, stranger = pair_v1().server, Stranger()
    message = bytearray(stranger.main())
    message[18] = exchange
    assert answers(server, bytes(message), heard_from("10.0.0.1"), 1000.0) == []
    assert states_of(server) == 0


@pytest.mark.parametrize("version", [0x00, 0x20, 0x21, 0x30, 0xF0])
def test_content_of_one_version_behind_the_header_of_another(version: int) -> None:
    server, stranger = pair_v1().server, Stranger()
    for flags in (0x00, 0x08, 0x20, 0x28):
        for exchange in (2, 4, 34):
            message = bytearray(stranger.main())
            message[17], message[18], message[19] = version, exchange, flags
            said = answers(server, bytes(message), heard_from("10.0.0.1"), 1000.0)
            assert sum(map(len, said)) <= len(message)
    assert states_of(server) == 0
    assert server.endpoint._hub.states == {}


@pytest.mark.parametrize("port", [500, 4500])
@pytest.mark.parametrize("marker", [0, 1, 4, 8, 12])
def test_a_message_counts_only_behind_what_its_port_has(port: int, marker: int) -> None:
    """RFC 3948 section 2.2: there are 4 zeros in front of IKE on port 4500; 8 on 500 are in front of ESP."""
    tunnel, message = lab_v1().server.tunnel, Stranger().main()
    path = Path(UdpAddress(SERVER_IP, port), UdpAddress("192.0.2.66", port))
    tunnel.receive_datagrams([bytes(marker) + message], path, 1.0)
    said = [bytes(octets) for train in tunnel.datagrams_to_send(1.0) for octets in train.datagrams]
    expected = 4 if port == 4500 else 0
    answered = [octets for octets in said if octets[expected : expected + 8] == message[:8]]
    assert len(answered) == (marker == expected)
    assert tunnel.packets_to_deliver() == []


def test_recorded_sessions_say_nothing_to_a_server_that_has_begun_anew() -> None:
    """Of main and aggressive mode, with all that followed, from the address that they came from."""
    for mode in Mode:
        pair = pair_v1(client_v1(mode)).connect()
        pair.wait(60.0)
        heirs = pair_v1(seed=9).server
        for data, path in pair.wire:
            if path.local.ip == CLIENT:
                answers(heirs, data, mirrored(path), pair.now)
        assert not heirs.told(ConnectionUp)
        assert states_of(heirs) <= 1  # its first message is as good as any


def test_recorded_sessions_say_nothing_to_the_server_that_had_them() -> None:
    for mode in Mode:
        pair = pair_v1(client_v1(mode)).connect()
        pair.wait(60.0)
        former = sa_of(pair.server)
        heard, path = connection_of(pair.server).last_inbound, connection_of(pair.server).path
        pair.now += 1.0
        for data, way in list(pair.wire):
            stranger = heard_from("203.0.113.66", 6666, mirrored(way).local.port)
            answers(pair.server, data, stranger, pair.now)
        assert sa_of(pair.server) is former
        assert (connection_of(pair.server).last_inbound, connection_of(pair.server).path) == (heard, path)
        assert not pair.server.told(ConnectionDown)


@pytest.mark.parametrize("kind", ["Delete", "R-U-THERE", "mode config"])
def test_what_was_protected_and_then_changed_is_nobodys(kind: str) -> None:
    """CVE-2019-10155: whichever octet it is, and whatever the padding holds."""
    pair = pair_v1().connect()
    sa = sa_of(pair.client).sa
    payload: Payload
    match kind:
        case "Delete":
            payload = Delete(ProtocolId.ISAKMP, (sa.cookie_i + sa.cookie_r,))
        case "R-U-THERE":
            cookies = sa.cookie_i + sa.cookie_r
            payload = Notification(ProtocolId.ISAKMP, cookies, NotifyType.R_U_THERE, b"\0\0\0\1")
        case _:
            payload = Attributes(CfgType.SET, 1)
    exchange = ExchangeType.TRANSACTION if kind == "mode config" else ExchangeType.INFORMATIONAL
    good, path = said(pair.client, exchange, payload)
    former, heard = sa_of(pair.server), connection_of(pair.server).last_inbound
    pair.now += 1.0
    for at in range(HEADER_OCTETS, len(good) - 16):
        pair.give(pair.server, (good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :], path))
    for other in (good[:-16], good[:19] + b"\0" + good[20:]):
        pair.give(pair.server, (other[:24] + len(other).to_bytes(4) + other[28:], path))
    assert sa_of(pair.server) is former
    assert connection_of(pair.server).last_inbound == heard
    pair.give(pair.server, (good, path))
    if kind == "Delete":
        assert former.hub.states == {}
    else:
        assert connection_of(pair.server).last_inbound == pair.now


def test_dead_peer_detection_in_the_clear_for_nobody() -> None:
    """CVE-2009-0790, CVE-2020-1763: of an ISAKMP SA that is not there, or whose phase 1 is not over."""
    server, stranger = pair_v1().server, Stranger()
    (answer,) = answers(server, stranger.main(), heard_from("10.0.0.1"), 1000.0)
    half_open = Header.parse(answer)
    for kind in (NotifyType.R_U_THERE, NotifyType.R_U_THERE_ACK, 0xFFFF):
        for cookies in ((bytes(range(8)), bytes(range(8))), (half_open.cookie_i, half_open.cookie_r)):
            for message_id in (0, 1):
                header = Header(*cookies, 0, ExchangeType.INFORMATIONAL, message_id)
                notify = Notification(ProtocolId.ISAKMP, b"".join(cookies), kind, b"\0\0\0\1")
                octets = emit_message(header, [notify])
                assert answers(server, octets, heard_from("10.0.0.1"), 1000.0) == []
    assert states_of(server) == 1


@pytest.mark.parametrize("doi", [0, 1, 2, 0xFFFFFFFF])
@pytest.mark.parametrize("situation", [0, 2, 0x80000000, 0xFFFFFFFF])
def test_domains_and_situations_that_nobody_knows(doi: int, situation: int) -> None:
    """CVE-2015-3204: with all bits that there are."""
    server, stranger = pair_v1().server, Stranger()
    body = doi.to_bytes(4) + situation.to_bytes(4) + offer().body[8:]
    said = answers(server, stranger.main(Unknown(PayloadType.SA, body)), heard_from("10.0.0.1"), 1000.0)
    assert len(said) <= 1
    assert states_of(server) == 0
    assert all(str(event).isprintable() for event in server.told(PeerRefused))
