"""Many connections in one endpoint: finding the right IKE SA, timers, commands, what is shown."""

from dataclasses import replace
from random import Random

import pytest

from espudp.errors import CryptoError
from espudp.ike.config import Identity
from espudp.ike.drop import Drop
from espudp.ike.endpoint import Endpoint
from espudp.ike.events import ConnectionDown, ConnectionUp, Fault, IkeRekeyed, PeerRefused
from espudp.ike.keylog import ChildKeyLog, IkeKeyLog
from espudp.ike.snapshot import Phase
from espudp.ike.v2.hub import NO_SPI
from espudp.wire.ikev2.constants import ExchangeType, NotifyType
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import emit_message, parse_message
from tests.unit.ike.pair import PSK, START, Pair, client_config, path_to_server, server_config

_PATH = path_to_server(4500)
_STRANGER = Header(b"A" * 8, b"B" * 8, 0, ExchangeType.INFORMATIONAL, True, False, 5)


def _said(endpoint: Endpoint, data: bytes, now: float = START) -> list[bytes]:
    endpoint.receive_datagram(data, _PATH, now)
    return [answer for answer, _ in endpoint.datagrams_to_send(now)]


def _endpoint() -> Endpoint:
    return Endpoint(Random(1).randbytes, listener=server_config())


# Strangers


def test_a_request_for_an_unknown_ike_sa() -> None:
    """RFC 7296 section 2.21.4: answered without protection, with the same SPIs and message ID."""
    endpoint = _endpoint()
    (answer,) = _said(endpoint, emit_message(_STRANGER, []))
    header = Header.parse(answer)
    assert (header.spi_i, header.spi_r, header.message_id) == (_STRANGER.spi_i, _STRANGER.spi_r, 5)
    assert (header.is_response, header.is_initiator, header.exchange) == (True, False, 37)
    (notify,) = parse_message(answer).notifies()
    assert (notify.type, notify.data) == (NotifyType.INVALID_IKE_SPI, b"")
    assert endpoint.drops[Drop.UNKNOWN_SPI] == 1


@pytest.mark.parametrize(
    "header",
    [
        replace(_STRANGER, is_response=True),
        replace(_STRANGER, is_response=True, is_initiator=False),
        replace(_STRANGER, spi_i=NO_SPI),
        replace(_STRANGER, spi_r=NO_SPI),
        replace(_STRANGER, spi_r=NO_SPI, spi_i=NO_SPI),
        replace(_STRANGER, exchange=ExchangeType.IKE_SA_INIT, spi_r=NO_SPI, message_id=1),
        replace(_STRANGER, exchange=ExchangeType.IKE_SA_INIT, spi_r=NO_SPI, is_initiator=False, message_id=0),
        replace(_STRANGER, exchange=ExchangeType.IKE_SA_INIT, spi_i=NO_SPI, spi_r=NO_SPI, message_id=0),
    ],
)
def test_what_gets_no_answer(header: Header) -> None:
    endpoint = _endpoint()
    assert _said(endpoint, emit_message(header, [])) == []
    assert endpoint.drops.total() == 1


@pytest.mark.parametrize("major", [3, 15])
def test_a_higher_version_is_told_ours(major: int) -> None:
    endpoint = _endpoint()
    (answer,) = _said(endpoint, emit_message(replace(_STRANGER, major=major), []))
    message = parse_message(answer)
    (notify,) = message.notifies()
    assert (notify.type, notify.data) == (NotifyType.INVALID_MAJOR_VERSION, b"\x02")
    assert message.header.message_id == 5
    response = replace(_STRANGER, major=major, is_response=True)
    assert _said(endpoint, emit_message(response, [])) == []


@pytest.mark.parametrize("major", [0, 1])
def test_a_lower_version_is_told_nothing(major: int) -> None:
    endpoint = _endpoint()
    assert _said(endpoint, emit_message(replace(_STRANGER, major=major), [])) == []
    assert endpoint.drops[Drop.VERSION] == 1


def test_who_begins_with_ikev1_is_told_of_where_somebody_listens() -> None:
    first = emit_message(replace(_STRANGER, major=1, spi_r=NO_SPI, message_id=0), [])
    listening = _endpoint()
    assert _said(listening, first) == []
    told = listening.next_event()
    assert isinstance(told, PeerRefused)
    assert "IKEv1" in told.reason
    assert "--ikev1" in told.detail
    for octets in (emit_message(replace(_STRANGER, major=1), []), first[:-1], first):
        assert _said(listening, octets) == []
    assert listening.next_event() is None
    calling = Endpoint(Random(1).randbytes)
    assert _said(calling, first) == []
    assert calling.next_event() is None


def test_strangers_are_answered_only_so_often() -> None:
    endpoint = _endpoint()
    message = emit_message(_STRANGER, [])
    answers = sum(len(_said(endpoint, message)) for _ in range(1_000))
    assert answers == 50
    assert endpoint.drops[Drop.RATE] == 950
    assert len(_said(endpoint, message, START + 1.0)) == 1


@pytest.mark.parametrize("octets", [0, 1, 27, 28, 29, 64, 2_000])
def test_garbage(octets: int) -> None:
    endpoint = _endpoint()
    for fill in (b"\x00", b"\xff", b"\x2e"):
        assert _said(endpoint, fill * octets) == []
    assert endpoint.drops.total() == 3


def test_a_length_that_is_not_the_datagrams() -> None:
    """CVE-2013-4564."""
    endpoint = _endpoint()
    message = emit_message(_STRANGER, [])
    for data in (message + b"x", message[:-1], message[:24] + bytes(4), message[:24] + b"\xff" * 4):
        assert _said(endpoint, data) == []
    assert endpoint.drops[Drop.MALFORMED] == 4


def test_who_does_not_listen() -> None:
    pair = Pair()
    pair.dial()
    (request,) = pair.take(pair.client)
    endpoint = Endpoint(Random(1).randbytes)
    assert _said(endpoint, request[0]) == []
    assert endpoint.drops[Drop.NOT_LISTENING] == 1


# Many peers


def test_many_connections_side_by_side() -> None:
    pair = Pair()
    numbers = [
        pair.dial(client_config(identity=Identity.parse(f"c{n}.example.org")), source=20_000 + n)
        for n in range(40)
    ]
    pair.flush()
    assert numbers == list(range(1, 41))
    assert sorted(e.connection for e in pair.client.told(ConnectionUp)) == numbers
    assert len({c.local for c in pair.client.children}) == 40
    pair.client.endpoint.close(7, pair.now)
    pair.flush()
    assert [e.connection for e in pair.client.told(ConnectionDown)] == [7]
    assert len(pair.server.told(ConnectionDown)) == 1
    assert len(pair.server.endpoint.snapshot(pair.now)) == 39
    pair.wait(300.0)
    assert len(pair.server.endpoint.snapshot(pair.now)) == 39


def test_both_roles_in_one_endpoint() -> None:
    pair = Pair().connect()
    back = replace(server_config(), local_identity=Identity.parse("back.example.org"))
    third = Endpoint(Random(3).randbytes, listener=back)
    number = pair.server.endpoint.connect(
        client_config(remote_identity=None), path_to_server(4500), None, pair.now
    )
    assert number == 2
    for _ in range(4):
        for source, target in ((pair.server.endpoint, third), (third, pair.server.endpoint)):
            for data, path in source.datagrams_to_send(pair.now):
                target.receive_datagram(data, type(path)(path.remote, path.local), pair.now)
    roles = [e.initiator for e in pair.server.told(ConnectionUp)]
    assert roles == [False, True]


def test_commands_for_what_is_gone_do_nothing() -> None:
    pair = Pair().connect()
    endpoint, now = pair.client.endpoint, pair.now
    for connection in (0, -1, 2, 99):
        endpoint.close(connection, now)
        endpoint.rekey_ike(connection, now)
        endpoint.rekey_child(connection, 1, now)
        endpoint.delete_child(connection, 1, now)
        endpoint.create_child(connection, pair.config.child, now)
        endpoint.check_alive(connection, now)
        endpoint.note_inbound(connection, now)
        endpoint.move(connection, _PATH, now)
    endpoint.rekey_child(1, 0xDEAD, now)
    endpoint.delete_child(1, 0xDEAD, now)
    assert endpoint.datagrams_to_send(now) == []
    pair.agree()


def test_esp_moves_the_peer() -> None:
    pair = Pair().connect()
    elsewhere = pair.server.connection.path._replace(
        remote=pair.server.connection.path.remote._replace(port=61_000)
    )
    pair.server.endpoint.move(1, elsewhere, pair.now)
    pair.server.endpoint.check_alive(1, pair.now)
    ((_, path),) = pair.take(pair.server)
    assert path == elsewhere


# What is shown


def test_the_snapshot() -> None:
    pair = Pair()
    pair.dial()
    (dialling,) = pair.client.endpoint.snapshot(pair.now)
    assert (dialling.connection, dialling.phase, dialling.initiator) == (1, Phase.CONNECTING, True)
    pair.flush()
    pair.now += 5.0
    (here,), (there,) = pair.client.endpoint.snapshot(pair.now), pair.server.endpoint.snapshot(pair.now)
    assert here.phase is there.phase is Phase.ESTABLISHED
    assert (here.local_identity, here.remote_identity) == ("client.example.org", "server.example.org")
    assert (here.addresses, there.peer_addresses) == (("10.99.0.2",), ("10.99.0.2",))
    assert (here.established_for, here.silent_for) == (5.0, 5.0)
    assert here.rekey_in is None
    assert (here.spi_i, here.suite) == (there.spi_i, "aes128gcm16-prfsha256-curve25519")
    assert [c.spi_in for c in here.children] == [c.spi_out for c in there.children]
    assert here.children[0].remote == ("10.1.0.0/16",)
    pair.client.endpoint.close(1, pair.now)
    assert pair.client.endpoint.snapshot(pair.now)[0].phase is Phase.CLOSING


def test_the_key_log_sees_both_sides_agree() -> None:
    pair = Pair().connect()
    pair.client.endpoint.rekey_ike(1, pair.now)
    pair.flush()
    here = [e for e in pair.client.keys if isinstance(e, IkeKeyLog)]
    there = [e for e in pair.server.keys if isinstance(e, IkeKeyLog)]
    assert here == there
    assert len(here) == 2
    (child,) = (e for e in pair.client.keys if isinstance(e, ChildKeyLog))
    (other,) = (e for e in pair.server.keys if isinstance(e, ChildKeyLog))
    assert (child.keys_in, child.spi_in) == (other.keys_out, other.spi_out)
    assert here[0].keys.ei.hex() not in repr(pair.client.keys)


def test_no_secret_shows_anywhere() -> None:
    pair = Pair().connect()
    (log,) = (e for e in pair.client.keys if isinstance(e, IkeKeyLog))
    (child,) = (e for e in pair.client.keys if isinstance(e, ChildKeyLog))
    shown = repr(pair.client.events) + repr(pair.client.endpoint.snapshot(pair.now)) + repr(pair.config)
    shown += "".join(repr(vars(state)) for state in pair.client.states) + repr(vars(pair.client.ike.sa))
    for secret in (PSK, log.keys.ei, log.keys.pi, child.keys_in.encr):
        assert repr(secret) not in shown
        assert secret.hex() not in shown


# Chance and time


def test_a_generator_that_repeats_itself_hangs_nothing() -> None:
    endpoint = Endpoint(bytes)
    with pytest.raises(CryptoError):
        endpoint.connect(client_config(), _PATH, None, START)


def test_a_failing_crypto_operation_ends_what_it_was_for() -> None:
    """CVE-2018-10811."""
    pair = Pair().connect()
    pair.client.endpoint._hub.rng = lambda octets: b""
    pair.client.endpoint.rekey_ike(1, pair.now)
    assert pair.client.told(ConnectionDown)[0].fault is Fault.PROTOCOL
    pair = Pair()
    pair.dial()
    pair.server.endpoint._hub.rng = lambda octets: b""
    pair.flush()
    assert pair.server.states == []
    assert pair.server.endpoint.drops[Drop.BAD_KEY_EXCHANGE] == 1


def test_calls_of_the_timer_for_nothing() -> None:
    pair = Pair().connect()
    for _ in range(100):
        pair.client.endpoint.handle_timer(pair.now)
    assert pair.take(pair.client) == []
    due = pair.client.endpoint.poll_timer()
    assert due is not None
    assert due > pair.now


def test_the_same_seed_gives_the_same_octets() -> None:
    runs = []
    for _ in range(2):
        pair = Pair(seed=9).connect()
        pair.client.endpoint.rekey_ike(1, pair.now)
        pair.flush()
        assert pair.client.told(IkeRekeyed)
        runs.append(pair.wire)
    assert runs[0] == runs[1]
