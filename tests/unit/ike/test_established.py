"""An IKE SA at work: deletes, dead peer detection, windows, bad requests, lifetimes, the end."""

from dataclasses import replace

import pytest

from espudp.ike.config import Timers
from espudp.ike.drop import Drop
from espudp.ike.events import (
    ChildInstalled,
    ChildRemoved,
    ConnectionDown,
    Diagnostic,
    Fault,
    IkeRekeyed,
)
from espudp.ike.lifetimes import LifetimeConfig
from espudp.ike.v2.ending import CLOSE_SECONDS
from espudp.ike.v2.hub import Datagram
from espudp.ike.v2.informational import DeleteUnknown
from espudp.wire.ikev2.constants import ExchangeType, NotifyType, ProtocolId
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import emit_message, parse_message
from espudp.wire.ikev2.payloads import (
    Delete,
    Encrypted,
    Nonce,
    Notify,
    Payload,
    SecurityAssociation,
    TsInitiator,
    TsResponder,
    Unknown,
    VendorId,
)
from espudp.wire.ikev2.proposal import Proposal
from espudp.wire.selectors import TrafficSelector
from tests.unit.ike.pair import (
    FOREVER,
    START,
    Pair,
    Side,
    client_child,
    client_config,
    headers,
    mirrored,
    server_config,
)

_INFORMATIONAL = ExchangeType.INFORMATIONAL
_ALL = (TrafficSelector.from_network("0.0.0.0/0"),)


def _answer(
    pair: Pair, asker: Side, payloads: list[Payload], exchange: int = _INFORMATIONAL
) -> list[Payload]:
    """What the other side answers to a request that no endpoint of ours would make."""
    other = pair.server if asker is pair.client else pair.client
    sa = asker.ike.sa
    asker.request(exchange, payloads, pair.now)
    pair.move(asker)
    (answer,) = pair.take(other)
    message = parse_message(answer[0])
    (encrypted,) = message.payloads
    assert isinstance(encrypted, Encrypted)
    opened = sa._protection.open(answer[0], encrypted)
    assert opened is not None
    sa.outgoing.finish()
    return list(opened.payloads())


def _notify(payloads: list[Payload]) -> Notify:
    (notify,) = payloads
    assert isinstance(notify, Notify)
    return notify


# Is it alive?


def test_a_silent_peer_is_asked_whether_it_lives() -> None:
    pair = Pair().connect()
    pair.wire.clear()
    pair.wait(29.0)
    assert pair.wire == []
    pair.wait(31.0)
    assert {h.exchange for h in headers(pair.wire)} == {_INFORMATIONAL}
    pair.agree()


def test_esp_traffic_spares_the_question() -> None:
    pair = Pair().connect()
    pair.wire.clear()
    for _ in range(20):
        pair.wait(10.0)
        pair.client.endpoint.note_inbound(1, pair.now)
        pair.server.endpoint.note_inbound(1, pair.now)
    assert pair.wire == []


def test_a_peer_that_is_gone() -> None:
    pair = Pair().connect()
    child = pair.client.children[0]
    pair.wire.clear()
    pair.wait(120.0, flush=False)
    (down,) = pair.client.told(ConnectionDown)
    assert (down.fault, down.retry) == (Fault.TIMEOUT, True)
    (removed,) = pair.client.told(ChildRemoved)
    assert (removed.spi_in, removed.linger) == (child.spi_in, 0.0)
    sent = pair.take(pair.client)
    assert len(sent) == 9
    assert len(set(sent)) == 1
    assert pair.client.endpoint.poll_timer() is None
    assert pair.client.states == []


def test_it_can_be_turned_off() -> None:
    pair = Pair(client_config(timers=Timers(dpd_interval=0, ike_lifetime=FOREVER))).connect()
    assert pair.client.endpoint.poll_timer() is None


def test_unprotected_complaints_change_nothing() -> None:
    """RFC 7296 section 2.21.4."""
    pair = Pair().connect()
    pair.client.endpoint.check_alive(1, pair.now)
    ((data, path),) = pair.take(pair.client)
    header = replace(Header.parse(data), is_initiator=False, is_response=True)
    for error in (NotifyType.INVALID_IKE_SPI, NotifyType.INVALID_SYNTAX, NotifyType.AUTHENTICATION_FAILED):
        pair.give(pair.client, (emit_message(header, [Notify.of(error)]), pair.server.connection.path))
    pair.give(pair.client, (emit_message(header, []), pair.server.connection.path))
    assert pair.client.endpoint.drops[Drop.UNPROTECTED] == 4
    pair.give(pair.server, (data, path))
    pair.flush()
    pair.agree()


# Windows


def test_one_request_at_a_time() -> None:
    pair = Pair().connect()
    for _ in range(3):
        pair.client.endpoint.check_alive(1, pair.now)
    (first,) = pair.take(pair.client)
    assert pair.take(pair.client) == []
    pair.give(pair.server, first)
    pair.move(pair.server)
    (second,) = pair.take(pair.client)
    assert [h.message_id for h in headers([first, second])] == [2, 3]


def test_each_side_numbers_its_own_requests() -> None:
    pair = Pair().connect()
    pair.server.endpoint.check_alive(1, pair.now)
    (request,) = pair.take(pair.server)
    header = Header.parse(request[0])
    assert (header.message_id, header.is_initiator, header.is_response) == (0, False, False)


def test_a_repeated_request_gets_the_same_octets_and_has_no_effect() -> None:
    pair = Pair().connect()
    spi = pair.client.children[0].spi_in
    pair.client.endpoint.delete_child(1, spi, pair.now)
    (request,) = pair.take(pair.client)
    answers = []
    for _ in range(3):
        pair.give(pair.server, request)
        answers += pair.take(pair.server)
    assert len(answers) == 3
    assert len(set(answers)) == 1
    assert len(pair.server.told(ChildRemoved)) == 1


def test_what_is_outside_of_the_window_is_dropped() -> None:
    pair = Pair().connect()
    pair.client.endpoint.check_alive(1, pair.now)
    ((data, path),) = pair.take(pair.client)
    header = Header.parse(data)
    for message_id in (0, 1, 3, 4, 0xFFFFFFFF):
        forged = replace(header, message_id=message_id).emit() + data[28:]
        pair.give(pair.server, (forged, path))
    assert pair.take(pair.server) == []
    assert pair.server.endpoint.drops[Drop.OUT_OF_WINDOW] == 5
    old = next(d for d in pair.wire if Header.parse(d[0]).exchange == ExchangeType.IKE_AUTH)
    pair.give(pair.server, old)
    assert len(pair.take(pair.server)) == 1  # the answer to the last request, once more
    pair.give(pair.server, (data, path))
    pair.give(pair.server, old)
    assert len(pair.take(pair.server)) == 1
    assert pair.server.endpoint.drops[Drop.OUT_OF_WINDOW] == 6


def test_responses_that_nothing_asked_for() -> None:
    pair = Pair().connect()
    pair.client.endpoint.check_alive(1, pair.now)
    pair.move(pair.client)
    (answer,) = pair.take(pair.server)
    pair.give(pair.client, answer)
    pair.give(pair.client, answer)
    assert pair.client.endpoint.drops[Drop.UNSOLICITED] == 1


def test_forged_and_turned_messages() -> None:
    pair = Pair().connect()
    pair.client.endpoint.check_alive(1, pair.now)
    ((data, path),) = pair.take(pair.client)
    for at in (0, 7, 17, 19, 20, 40, len(data) - 1):
        pair.give(pair.server, (data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], path))
    pair.client.endpoint.receive_datagram(data, path, pair.now)  # its own message, thrown back
    assert pair.take(pair.server) == []
    assert not pair.client.told(ConnectionDown)
    pair.give(pair.server, (data, path))
    assert len(pair.take(pair.server)) == 1


def test_a_request_keeps_going_until_it_is_answered() -> None:
    pair = Pair().connect()
    pair.client.endpoint.check_alive(1, pair.now)
    pair.wait(10.0, flush=False)
    sent = pair.take(pair.client)
    assert len(sent) > 3
    assert len({data for data, _ in sent}) == 1
    pair.give(pair.server, sent[-1])
    pair.flush()
    pair.agree()


# Requests that are wrong


def test_unknown_critical_payload() -> None:
    pair = Pair().connect()
    notify = _notify(_answer(pair, pair.client, [Unknown(123, True, b"x")]))
    assert (notify.type, notify.data) == (NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD, bytes([123]))
    assert _answer(pair, pair.client, [Unknown(123, False, b"x"), VendorId(b"y")]) == []
    pair.agree()


@pytest.mark.parametrize(
    ("exchange", "payloads"),
    [
        (ExchangeType.CREATE_CHILD_SA, []),
        (ExchangeType.CREATE_CHILD_SA, [Nonce(bytes(32))]),
        (ExchangeType.CREATE_CHILD_SA, [TsInitiator(_ALL), TsResponder(_ALL)]),
        (
            ExchangeType.CREATE_CHILD_SA,
            [SecurityAssociation((Proposal(1, ProtocolId.IKE, bytes(7) + b"x", ()),))],
        ),
        (_INFORMATIONAL, [Nonce(bytes(32))]),
    ],
)
def test_a_request_out_of_shape_ends_the_ike_sa(exchange: int, payloads: list[Payload]) -> None:
    """RFC 7296 section 2.21.3: INVALID_SYNTAX is fatal on both sides."""
    pair = Pair().connect()
    assert _notify(_answer(pair, pair.client, payloads, exchange)).type == NotifyType.INVALID_SYNTAX
    (down,) = pair.server.told(ConnectionDown)
    assert (down.fault, down.retry) == (Fault.PROTOCOL, True)
    assert pair.server.state_names == ["Answered"]


def test_a_request_that_cannot_be_parsed_ends_the_ike_sa() -> None:
    pair = Pair().connect()
    sa = pair.client.ike.sa
    header = sa._header(_INFORMATIONAL, sa.outgoing.next_id, is_response=False)
    sealed = sa._protection.seal(header, [Unknown(41, False, b"\x03\x05\x40\x00")])
    pair.give(pair.server, (sealed, pair.client.connection.path))
    (answer,) = pair.take(pair.server)
    assert Header.parse(answer[0]).is_response
    assert pair.server.told(ConnectionDown)[0].fault is Fault.PROTOCOL


def test_a_response_that_makes_no_sense_ends_the_ike_sa() -> None:
    """RFC 7296 section 2.21: no answer to it, but a Delete."""
    pair = Pair().connect()
    pair.client.endpoint.rekey_child(1, pair.client.children[0].spi_in, pair.now)
    ((data, _),) = pair.take(pair.client)
    header = replace(Header.parse(data), is_initiator=False, is_response=True)
    answer = pair.server.ike.sa._protection.seal(header, [Nonce(bytes(32))])
    pair.give(pair.client, (answer, pair.server.connection.path))
    assert pair.client.state_names == ["Deleting"]
    (delete,) = pair.take(pair.client)
    assert Header.parse(delete[0]).exchange == _INFORMATIONAL
    pair.wait(CLOSE_SECONDS, flush=False)
    assert pair.client.told(ConnectionDown)[0].fault is Fault.PROTOCOL


@pytest.mark.parametrize("rekeying", ["child", "ike"])
def test_a_peer_that_cannot_read_us_has_forgotten_the_ike_sa(rekeying: str) -> None:
    """RFC 7296 section 2.21.3: INVALID_SYNTAX as an answer is fatal on both sides, and no Delete follows."""
    pair = Pair().connect()
    client, peer = pair.client, pair.server.ike.sa
    if rekeying == "child":
        client.endpoint.rekey_child(1, client.children[0].spi_in, pair.now)
    else:
        client.endpoint.rekey_ike(1, pair.now)
    ((data, path),) = pair.take(client)
    request = peer.accept(
        Datagram(data, Header.parse(data), mirrored(path), pair.now),
        frozenset({ExchangeType.CREATE_CHILD_SA}),
    )
    assert request is not None
    peer.respond(request, [Notify.of(NotifyType.INVALID_SYNTAX)])
    pair.move(pair.server)
    (down,) = client.told(ConnectionDown)
    assert (down.fault, down.retry) == (Fault.PROTOCOL, True)
    assert not client.states
    assert not client.children
    assert not pair.take(client)


@pytest.mark.parametrize("status", [16390, 16400, 16420, 40960, 9, 11, 43])
def test_notifies_that_we_do_not_act_on(status: int) -> None:
    pair = Pair().connect()
    assert _answer(pair, pair.client, [Notify.of(status, b"whatever")]) == []
    pair.agree()


@pytest.mark.parametrize(
    ("error", "fault"),
    [(NotifyType.AUTHENTICATION_FAILED, Fault.AUTHENTICATION), (NotifyType.INVALID_SYNTAX, Fault.PROTOCOL)],
)
def test_a_peer_that_gives_up_on_us(error: int, fault: Fault) -> None:
    """RFC 7296 section 2.21.2: without a Delete payload."""
    pair = Pair().connect()
    assert _answer(pair, pair.server, [Notify.of(error)]) == []
    assert pair.client.told(ConnectionDown)[0].fault is fault


# Deletes of child SAs


def test_a_child_sa_is_deleted_at_both_ends() -> None:
    pair = Pair().connect()
    spi = pair.server.children[0].spi_in
    pair.server.endpoint.delete_child(1, spi, pair.now)
    pair.flush()
    assert not pair.client.children + pair.server.children
    assert {e.linger for e in pair.client.told(ChildRemoved)} == {0.0}
    pair.server.endpoint.delete_child(1, spi, pair.now)
    assert pair.take(pair.server) == []


def test_who_dialled_gets_another_child_sa_when_the_last_is_gone() -> None:
    pair = Pair().connect()
    pair.server.endpoint.delete_child(1, pair.server.children[0].spi_in, pair.now)
    pair.flush()
    pair.wait(20.0)
    assert len(pair.client.children) == 1
    pair.agree()


def test_a_delete_from_both_sides_at_once() -> None:
    """RFC 7296 section 1.4.1: no Delete payload in the answers."""
    pair = Pair().connect()
    for side in (pair.client, pair.server):
        side.endpoint.delete_child(1, side.children[0].spi_in, pair.now)
    (here,), (there,) = pair.take(pair.client), pair.take(pair.server)
    pair.give(pair.server, here)
    pair.give(pair.client, there)
    answers = [*pair.take(pair.client), *pair.take(pair.server)]
    assert {len(data) for data, _ in answers} == {28 + 4 + 8 + 1 + 16}
    assert len(pair.client.told(ChildRemoved)) == len(pair.server.told(ChildRemoved)) == 1


def test_several_deletes_and_the_same_one_twice() -> None:
    """CVE-2023-38712."""
    pair = Pair().connect()
    pair.client.endpoint.create_child(1, client_child(remote="10.1.7.0/24"), pair.now)
    pair.flush()
    first, second = (c.spi_in.to_bytes(4) for c in pair.client.children)
    deletes: list[Payload] = [
        Delete(ProtocolId.ESP, (first, first, b"\x00\x00\x12\x34")),
        Delete(ProtocolId.ESP, (first,)),
        Delete(ProtocolId.AH, (second,)),
        Delete(ProtocolId.ESP, (second,)),
        Notify(ProtocolId.ESP, first, NotifyType.INVALID_SPI, b""),
    ]
    (delete,) = _answer(pair, pair.client, deletes)
    assert isinstance(delete, Delete)
    assert len(delete.spis) == 2
    assert len(pair.server.told(ChildRemoved)) == 2


def test_deletes_after_the_delete_of_the_ike_sa() -> None:
    pair = Pair().connect()
    spi = pair.client.children[0].spi_in.to_bytes(4)
    answer = _answer(pair, pair.client, [Delete(ProtocolId.IKE), Delete(ProtocolId.ESP, (spi,))])
    assert answer == []
    assert len(pair.server.told(ChildRemoved)) == 1
    assert len(pair.server.told(ConnectionDown)) == 1


def test_a_delete_of_nothing() -> None:
    pair = Pair().connect()
    assert _answer(pair, pair.client, [Delete(ProtocolId.ESP, (b"\xde\xad\xbe\xef",))]) == []
    assert _answer(pair, pair.client, [Delete(ProtocolId.ESP)]) == []
    pair.agree()


def test_the_ike_sa_is_not_rekeyed_while_a_child_sa_is_deleted_that_only_the_peer_has() -> None:
    """RFC 7296 section 2.25.2. With the IKE SA the Delete would get lost, and the peer keep the child SA."""
    pair = Pair().connect()
    pair.client.ike.run(DeleteUnknown(0xC0FFEE01), pair.now)
    delete = pair.take(pair.client)
    pair.server.endpoint.rekey_ike(1, pair.now)
    pair.move(pair.server)
    pair.move(pair.client)
    for datagram in delete:
        pair.give(pair.server, datagram)
    pair.flush()
    assert not pair.client.told(IkeRekeyed)
    pair.wait(20.0)
    assert len(pair.client.told(IkeRekeyed)) == 1
    pair.agree()


# More child SAs


def test_one_more_child_sa() -> None:
    pair = Pair().connect()
    pair.client.endpoint.create_child(1, client_child(remote="10.1.7.0/24"), pair.now)
    pair.flush()
    assert [str(c.remote[0]) for c in pair.client.children] == ["10.1.0.0/16", "10.1.7.0/24"]
    pair.agree()


def test_a_child_sa_that_the_peer_refuses_leaves_the_rest() -> None:
    pair = Pair().connect()
    pair.client.endpoint.create_child(1, client_child(remote="172.30.0.0/16"), pair.now)
    pair.flush()
    assert "TS_UNACCEPTABLE" in pair.client.told(Diagnostic)[-1].text
    assert len(pair.client.endpoint._hub.child_spis) == 1
    pair.agree()


def test_there_is_a_limit() -> None:
    config = server_config()
    pair = Pair(server=replace(config, limits=replace(config.limits, children_per_connection=2))).connect()
    for _ in range(3):
        pair.client.endpoint.create_child(1, client_child(), pair.now)
        pair.flush()
    assert len(pair.server.children) == 2
    assert "NO_ADDITIONAL_SAS" in pair.client.told(Diagnostic)[-1].text
    pair.agree()


# Lifetimes


def _lifetime(soft: float, hard: float) -> Timers:
    return Timers(dpd_interval=0, ike_lifetime=LifetimeConfig(soft_seconds=soft, hard_seconds=hard))


def test_the_ike_sa_is_rekeyed_in_time() -> None:
    pair = Pair(client_config(timers=_lifetime(100.0, 200.0))).connect()
    pair.wait(89.0)
    assert not pair.client.told(IkeRekeyed)
    pair.wait(1_000.0)
    assert 10 <= len(pair.client.told(IkeRekeyed)) <= 12
    assert len(pair.server.told(IkeRekeyed)) == len(pair.client.told(IkeRekeyed))
    pair.agree()


def test_an_ike_sa_that_is_not_rekeyed_ends() -> None:
    pair = Pair(client_config(timers=_lifetime(100.0, 110.0))).connect()
    pair.wait(89.0)
    while not pair.client.told(ConnectionDown):
        pair.wait(1.0, flush=False)
        pair.take(pair.client)
    (down,) = pair.client.told(ConnectionDown)
    assert down.retry
    assert START + 110.0 <= pair.now <= START + 110.0 + CLOSE_SECONDS


# The end


def test_close() -> None:
    pair = Pair().connect()
    pair.client.endpoint.close(1, pair.now)
    assert pair.client.state_names == ["Deleting"]
    assert not pair.client.told(ConnectionDown)
    pair.flush()
    (here,), (there,) = pair.client.told(ConnectionDown), pair.server.told(ConnectionDown)
    assert (here.fault, here.retry) == (Fault.LOCAL_REQUEST, False)
    assert there.fault is Fault.PEER_REQUEST
    assert not pair.client.children + pair.server.children
    assert pair.client.states == []
    assert pair.client.endpoint.snapshot(pair.now) == pair.server.endpoint.snapshot(pair.now) == []
    pair.wait(100.0)
    assert pair.server.states == []


def test_close_when_nobody_answers() -> None:
    pair = Pair().connect()
    pair.client.endpoint.close_all(pair.now)
    pair.client.endpoint.close_all(pair.now)
    pair.wait(CLOSE_SECONDS, flush=False)
    assert len(pair.client.told(ConnectionDown)) == 1
    assert pair.client.endpoint.poll_timer() is None


def test_close_while_a_request_is_under_way() -> None:
    pair = Pair().connect()
    pair.client.endpoint.rekey_ike(1, pair.now)
    (rekey,) = pair.take(pair.client)
    pair.client.endpoint.close(1, pair.now)
    assert pair.take(pair.client) == []
    pair.give(pair.server, rekey)
    pair.flush()
    assert pair.client.told(ConnectionDown)[0].fault is Fault.LOCAL_REQUEST
    assert pair.server.told(ConnectionDown)[0].fault is Fault.PEER_REQUEST


def test_close_from_both_sides_at_once() -> None:
    pair = Pair().connect()
    for side in (pair.client, pair.server):
        side.endpoint.close(1, pair.now)
    (here,), (there,) = pair.take(pair.client), pair.take(pair.server)
    pair.give(pair.server, here)
    pair.give(pair.client, there)
    pair.flush()
    assert len(pair.client.told(ConnectionDown)) == len(pair.server.told(ConnectionDown)) == 1


def test_the_answer_to_a_delete_can_be_repeated() -> None:
    """RFC 7296 section 2.1: the IKE SA is over, but the peer may not have heard."""
    pair = Pair().connect()
    pair.client.endpoint.close(1, pair.now)
    (delete,) = pair.take(pair.client)
    pair.give(pair.server, delete)
    (lost,) = pair.take(pair.server)
    pair.give(pair.server, delete)
    assert pair.take(pair.server) == [lost]
    assert pair.server.state_names == ["Answered"]
    pair.give(pair.client, lost)
    assert pair.client.told(ConnectionDown)


def test_the_peer_is_refused_everything_while_we_close() -> None:
    pair = Pair().connect()
    pair.client.endpoint.close(1, pair.now)
    pair.take(pair.client)
    spi = pair.server.children[0].spi_in
    pair.server.endpoint.rekey_child(1, spi, pair.now)
    pair.move(pair.server)
    pair.move(pair.client)
    assert not pair.client.told(ChildInstalled)[1:]
    assert len(pair.server.children) == 1
