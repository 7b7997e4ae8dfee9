"""Several child SAs for the same traffic, one for each worker (RFC 9611)."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

import pytest

from espudp.ike.config import Limits, Timers
from espudp.ike.events import ChildInstalled, ConnectionDown, Diagnostic
from espudp.ike.proposals import EspProposal
from espudp.ike.v2.connection import FIRST_PAUSE, LONGEST_PAUSE
from espudp.ike.v2.hub import Datagram
from espudp.ike.v2.resources import config_like, info, most_alike
from espudp.wire.ikev2.constants import ExchangeType, NotifyType, ProtocolId
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import Message, parse_message
from espudp.wire.ikev2.payloads import (
    Delete,
    Encrypted,
    Nonce,
    Notify,
    Payload,
    SecurityAssociation,
    TsInitiator,
    TsResponder,
)
from espudp.wire.ikev2.proposal import Proposal, Transform
from espudp.wire.selectors import TrafficSelector
from tests.unit.ike.pair import (
    ESP,
    FOREVER,
    PFS,
    Pair,
    Side,
    client_child,
    client_config,
    mirrored,
    server_config,
)

_TIMERS = Timers(dpd_interval=0, ike_lifetime=FOREVER)
_CHILD_EXCHANGE = frozenset({int(ExchangeType.CREATE_CHILD_SA)})
_ESP_TRANSFORMS = (Transform(1, 20, 128), Transform(5, 0))
_RESOURCE = Notify.of(NotifyType.SA_RESOURCE_INFO)


def _pair(
    ours: int, theirs: int, *proposals: EspProposal, limits: Limits | None = None, seed: int = 0
) -> Pair:
    client = client_config(child=client_child(*proposals), timers=_TIMERS)
    server = server_config(esp=proposals or (ESP,), timers=_TIMERS, limits=limits)
    pair = Pair(client, server, workers=(ours, theirs), seed=seed).connect()
    # One more request, so that the server knows that its last answer has arrived.
    pair.client.endpoint.check_alive(1, pair.now)
    pair.flush()
    return pair


def _workers(side: Side) -> list[int | None]:
    """Whom each child SA is for, in the order in which they came."""
    return [child.resource for child in side.children]


def _notes(side: Side) -> list[str]:
    return [note.text for note in side.told(Diagnostic)]


def _opened(pair: Pair, data: bytes) -> tuple[Payload, ...]:
    """What is inside a message of the client's."""
    message = parse_message(data)
    encrypted = message.get(Encrypted)
    assert encrypted is not None
    opened = pair.server.ike.sa._protection.open(data, encrypted)
    assert opened is not None
    return opened.payloads()


def _requests(pair: Pair) -> list[list[int]]:
    """The notifies of each CREATE_CHILD_SA request of the client's."""
    asked = (ExchangeType.CREATE_CHILD_SA, True, False)
    sent = [(data, Header.parse(data)) for data, _ in pair.wire]
    wanted = [data for data, h in sent if (h.exchange, h.is_initiator, h.is_response) == asked]
    return [[p.type for p in _opened(pair, data) if isinstance(p, Notify)] for data in wanted]


# The wire


def test_the_notify_says_nothing_of_who_it_is_for() -> None:
    """RFC 9611 section 7: no identifier that tells of the hardware. Section 5.1: protocol and SPI size 0."""
    (notify,) = info(True)
    assert notify == Notify(0, b"", 16444, b"")
    assert info(False) == []
    assert int(NotifyType.TS_MAX_QUEUE) == 48


# Who gets how many


@pytest.mark.parametrize(
    ("ours", "theirs", "children"),
    [(1, 1, 1), (1, 4, 1), (4, 1, 1), (2, 2, 2), (4, 4, 4), (2, 4, 2), (4, 2, 4), (8, 2, 4), (3, 2, 3)],
)
@pytest.mark.parametrize("proposal", [ESP, PFS], ids=str)
def test_one_for_each_worker_of_who_dials(
    ours: int, theirs: int, children: int, proposal: EspProposal
) -> None:
    """As many as the other side takes: twice the number of its own workers (RFC 9611 section 6)."""
    pair = _pair(ours, theirs, proposal)
    assert len(pair.client.children) == len(pair.server.children) == children
    assert _workers(pair.client) == (list(range(children)) if ours > 1 else [None])
    for side, workers in ((pair.client, ours), (pair.server, theirs)):
        loads = Counter(child.spi_in % workers for child in side.children)
        assert max(loads.values()) - min(loads.values()) <= 1
        assert len(loads) == min(workers, children)
        assert all(
            child.resource == (child.spi_in % workers if workers > 1 else None) for child in side.children
        )
    first = pair.client.children[0]
    for child in pair.client.children:
        assert (child.local, child.remote, child.suite) == (first.local, first.remote, first.suite)
        assert child.replaces is None
        assert not child.standby
    assert len({child.keys_in for child in pair.client.children}) == children
    pair.agree()


def test_with_one_worker_nothing_of_it_is_on_the_wire() -> None:
    pair = _pair(1, 4)
    assert _requests(pair) == []
    assert not pair.server.connection.children.popitem()[1].shared


def test_a_peer_that_did_not_say_so_is_never_asked() -> None:
    pair = _pair(4, 1)
    pair.wait(100_000.0)
    assert _requests(pair) == []
    assert len(pair.client.children) == 1
    assert _notes(pair.client) == []


def test_each_request_says_what_it_is_for() -> None:
    pair = _pair(3, 3)
    assert _requests(pair) == [[NotifyType.SA_RESOURCE_INFO]] * 2


def test_a_peer_that_has_enough_is_not_asked_again() -> None:
    pair = _pair(8, 2)
    assert len(_requests(pair)) == 4
    assert "TS_MAX_QUEUE" in _notes(pair.client)[-1]
    assert "worker 4" in _notes(pair.client)[-1]
    _delete(pair, pair.client, 0)
    pair.wait(100_000.0)
    assert len(_requests(pair)) == 4
    assert len(pair.client.children) == 3
    pair.agree()


def test_the_suite_of_the_first_is_that_of_all() -> None:
    """RFC 9611 section 3: identical properties, although more is on offer."""
    offered = EspProposal.parse("aes256gcm16-aes128gcm16"), EspProposal.parse("aes256-aes128-sha256-sha1")
    for accepted in ("aes128gcm16", "aes128-sha1", "aes256-sha256"):
        pair = Pair(
            client_config(child=client_child(*offered), timers=_TIMERS),
            server_config(esp=(EspProposal.parse(accepted), *offered), timers=_TIMERS),
            workers=(3, 3),
        ).connect()
        assert len({child.suite for child in pair.client.children}) == 1
        assert len(pair.client.children) == 3
        for child in list(pair.client.connection.children.values())[1:]:
            (proposal,) = child.config.proposals
            assert (proposal.encr, proposal.esn) == ((child.suite.encr,), (child.suite.esn,))


def test_what_is_left_of_a_proposal_for_one_suite() -> None:
    pair = _pair(1, 1, EspProposal.parse("aes128-aes256-sha256-sha1-curve25519-none-esn-noesn"))
    (child,) = pair.client.connection.children.values()
    (left,) = config_like(child).proposals
    assert str(left) == "aes128-sha256-curve25519-none-esn"
    assert EspProposal.parse("aes256-sha256").only(child.suite) is None
    assert EspProposal.parse("aes128gcm16").only(child.suite) is None
    assert EspProposal.parse("aes128-sha1-esn").only(child.suite) is None
    assert EspProposal.parse("aes128-sha256").only(child.suite) is None


@pytest.mark.parametrize("clients", [2, 5])
def test_many_peers_are_spread_over_the_workers(clients: int) -> None:
    pair = Pair(workers=(1, 2))
    for number in range(clients):
        identity = replace(client_config().local_identity, data=b"client%d" % number)
        pair.dial(client_config(identity=identity))
    pair.flush()
    loads = Counter(_workers(pair.server))
    assert sorted(loads.values()) == [clients // 2, clients - clients // 2]


def test_more_children_for_another_subnet() -> None:
    """A second child SA with selectors of its own is one of several as well."""
    pair = _pair(2, 2)
    pair.client.endpoint.create_child(1, client_child(remote="10.1.7.0/24"), pair.now)
    pair.flush()
    assert Counter(str(child.remote[0]) for child in pair.client.children) == {
        "10.1.0.0/16": 2,
        "10.1.7.0/24": 2,
    }
    assert sorted(_workers(pair.client), key=str) == [0, 0, 1, 1]
    pair.agree()


def test_the_snapshot_names_the_worker() -> None:
    pair = _pair(2, 1)
    (here,), (there,) = pair.client.endpoint.snapshot(pair.now), pair.server.endpoint.snapshot(pair.now)
    assert [child.resource for child in here.children] == [0]
    assert [child.resource for child in there.children] == [None]


# Rekeys


@pytest.mark.parametrize("who", ["client", "server"])
@pytest.mark.parametrize("proposal", [ESP, PFS], ids=str)
def test_a_rekey_keeps_the_worker_at_both_ends(who: str, proposal: EspProposal) -> None:
    pair = _pair(4, 4, proposal)
    side: Side = getattr(pair, who)
    for _ in range(3):
        for child in side.children:
            side.endpoint.rekey_child(1, child.spi_in, pair.now)
            pair.flush()
            for end in (pair.client, pair.server):
                new = end.told(ChildInstalled)[-1]
                assert new.replaces is not None
                assert new.spi_in % 4 == new.replaces % 4 == new.resource
        assert (
            sorted(_workers(pair.client), key=str) == sorted(_workers(pair.server), key=str) == [0, 1, 2, 3]
        )
    assert all(child.shared for child in pair.client.connection.children.values())
    assert all(child.shared for child in pair.server.connection.children.values())
    pair.agree()


def test_all_of_them_are_rekeyed_at_once() -> None:
    pair = _pair(4, 4)
    for side in (pair.client, pair.server):
        for child in side.children:
            side.endpoint.rekey_child(1, child.spi_in, pair.now)
    pair.flush()
    pair.wait(500.0)
    for side in (pair.client, pair.server):
        assert sorted(_workers(side), key=str) == [0, 1, 2, 3]
        assert len(side.endpoint._hub.child_spis) == 4
    pair.agree()


@pytest.mark.parametrize("seed", range(8))
def test_both_rekey_the_same_one(seed: int) -> None:
    """RFC 7296 section 2.8.1, with others for the same traffic beside it."""
    pair = _pair(3, 2, seed=seed)
    before = set(_workers(pair.client))
    for side in (pair.client, pair.server):
        side.endpoint.rekey_child(1, pair.client.children[1].spi_in, pair.now)
    pair.server.endpoint.rekey_child(1, pair.client.children[1].spi_out, pair.now)
    (req1,), (req2,) = pair.take(pair.client), pair.take(pair.server)
    pair.give(pair.client, req2)
    pair.give(pair.server, req1)
    pair.flush()
    pair.wait(500.0)
    assert set(_workers(pair.client)) == before == {0, 1, 2}
    assert len(pair.client.children) == 3
    pair.agree()


def test_the_ike_sa_is_rekeyed_while_they_are_made() -> None:
    pair = Pair(client_config(timers=_TIMERS), server_config(timers=_TIMERS), workers=(4, 4))
    pair.dial()
    while not pair.client.children:
        pair.move(pair.client)
        pair.move(pair.server)
    pair.server.endpoint.rekey_ike(1, pair.now)
    pair.flush()
    pair.wait(200.0)
    assert _workers(pair.client) == [0, 1, 2, 3]
    pair.agree()


def test_a_rekey_without_the_notify_keeps_the_worker() -> None:
    """RFC 9611 section 3: it MAY be included, and the worker stays the same whether or not it is."""
    pair = _pair(2, 2)
    old = pair.server.children[1]
    rekey = Notify(ProtocolId.ESP, old.spi_out.to_bytes(4), NotifyType.REKEY_SA, b"")
    answer = _ask(pair, [rekey], TsInitiator(old.remote), TsResponder(old.local))
    assert answer.notify(NotifyType.SA_RESOURCE_INFO) is None
    new = pair.server.told(ChildInstalled)[-1]
    assert (new.replaces, new.resource) == (old.spi_in, old.resource)
    assert pair.server.connection.children[new.spi_in].shared


# What is lost


def _delete(pair: Pair, side: Side, index: int) -> None:
    side.endpoint.delete_child(1, side.children[index].spi_in, pair.now)
    pair.flush()


@pytest.mark.parametrize("who", ["client", "server"])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_one_is_deleted_and_the_others_stay(who: str, index: int) -> None:
    pair = _pair(3, 3)
    gone = pair.client.children[index].resource
    _delete(pair, getattr(pair, who), index)
    assert sorted(_workers(pair.client), key=str) == sorted({0, 1, 2} - {gone})
    pair.wait(FIRST_PAUSE * 0.5 - 1.0)
    assert len(pair.client.children) == 2
    pair.wait(FIRST_PAUSE * 1.5)
    assert _workers(pair.client)[-1] == gone
    assert sorted(_workers(pair.client), key=str) == [0, 1, 2]
    pair.agree()


def test_what_the_peer_deletes_again_and_again_comes_back_ever_later() -> None:
    """RFC 9611 section 6: bringing it up again at once might cause an infinite loop."""
    pair = _pair(2, 2)
    made = []
    for _ in range(10):
        pair.client.endpoint.check_alive(1, pair.now)
        pair.flush()
        _delete(pair, pair.server, 1)
        assert len(pair.client.children) == 1
        start = pair.now
        while len(pair.client.children) < 2:
            pair.wait(5.0)
        made.append(pair.now - start)
    assert made[0] < 2 * FIRST_PAUSE
    assert all(late >= LONGEST_PAUSE / 2 for late in made[-3:])
    assert len(pair.client.told(ChildInstalled)) == 2 + 10
    pair.agree()


@pytest.mark.parametrize("who", ["client", "server"])
def test_all_are_deleted_and_come_back(who: str) -> None:
    pair = _pair(3, 3)
    side: Side = getattr(pair, who)
    for child in side.children:
        side.endpoint.delete_child(1, child.spi_in, pair.now)
    pair.flush()
    assert pair.client.children == pair.server.children == []
    pair.wait(30.0)
    assert sorted(_workers(pair.client), key=str) == [0, 1, 2]
    pair.agree()


def test_one_that_the_peer_has_lost_is_made_anew_for_its_worker() -> None:
    """CHILD_SA_NOT_FOUND; that others carry the same traffic does not replace it."""
    pair = _pair(3, 3)
    lost = pair.client.children[1]
    connection = pair.server.connection
    connection.remove(connection.children[lost.spi_out])
    pair.client.endpoint.rekey_child(1, lost.spi_in, pair.now)
    pair.flush()
    assert sorted(_workers(pair.client), key=str) == [0, 1, 2]
    assert lost.spi_in not in {child.spi_in for child in pair.client.children}
    pair.agree()


# Answers to the request for one more


def _refused(pair: Pair, *payloads: Payload) -> None:
    """The client's request under way gets this answer."""
    request = pair.take(pair.client)[-1]
    header = replace(Header.parse(request[0]), is_response=True, is_initiator=False)
    sealed = pair.server.ike.sa._protection.seal(header, payloads)
    pair.give(pair.client, (sealed, mirrored(request[1])))


def _asking(workers: int = 4) -> Pair:
    """The client has sent its first request for one more."""
    pair = Pair(client_config(timers=_TIMERS), server_config(timers=_TIMERS), workers=(workers, workers))
    pair.dial()
    while not pair.client.children:
        pair.move(pair.client)
        pair.move(pair.server)
    return pair


@pytest.mark.parametrize(
    "error",
    [
        NotifyType.TS_MAX_QUEUE,
        NotifyType.NO_ADDITIONAL_SAS,
        NotifyType.TS_UNACCEPTABLE,
        NotifyType.NO_PROPOSAL_CHOSEN,
        NotifyType.INVALID_KE_PAYLOAD,
        8191,
    ],
)
def test_a_refusal_leaves_the_tunnel_as_it_is(error: int) -> None:
    pair = _asking()
    _refused(pair, Notify.of(error))
    pair.wait(100_000.0)
    assert len(pair.client.children) == 1
    assert len(pair.client.endpoint._hub.child_spis) == 1
    assert len(_notes(pair.client)) == 1
    assert not pair.client.told(ConnectionDown)
    assert pair.take(pair.client) == []


def test_what_is_put_off_is_tried_again() -> None:
    pair = _asking(2)
    _refused(pair, Notify.of(NotifyType.TEMPORARY_FAILURE))
    assert pair.take(pair.client) == []
    # The server's window has not moved: it never saw the request that was answered in its place.
    pair.server.ike.sa.incoming.expected_id += 1
    pair.wait(60.0)
    assert _workers(pair.client) == [0, 1]
    pair.agree()


def test_a_peer_that_puts_it_off_for_ever_keeps_its_tunnel() -> None:
    pair = _asking()
    asked = 0
    for _ in range(50):
        if pair.client.ike.task is not None:
            asked += 1
            _refused(pair, Notify.of(NotifyType.TEMPORARY_FAILURE))
        pair.wait(20.0, flush=False)
    assert 5 <= asked <= 10
    assert len(pair.client.children) == 1
    assert not pair.client.told(ConnectionDown)


def _accepted(
    theirs: Iterable[TrafficSelector], ours: Iterable[TrafficSelector], *more: Payload
) -> list[Payload]:
    proposal = Proposal(1, ProtocolId.ESP, b"\x12\x34\x56\x78", _ESP_TRANSFORMS)
    payloads: list[Payload] = [*more, SecurityAssociation((proposal,)), Nonce(bytes(32))]
    return [*payloads, TsInitiator(tuple(theirs)), TsResponder(tuple(ours))]


def test_one_that_carries_less_is_not_one_of_several() -> None:
    """RFC 9611 section 3: the same selectors. The peer has it now, so it is deleted there."""
    pair = _asking()
    (first,) = pair.client.children
    less = TrafficSelector.from_network("10.1.7.0/24")
    _refused(pair, *_accepted(first.local, [less], _RESOURCE))
    (deletion,) = pair.take(pair.client)
    assert any(isinstance(payload, Delete) for payload in _opened(pair, deletion[0]))
    assert len(pair.client.children) == 1
    assert "no further child SA" in _notes(pair.client)[-1]


def test_one_that_the_peer_does_not_know_as_one_of_several_is_the_last() -> None:
    pair = _asking()
    (first,) = pair.client.children
    _refused(pair, *_accepted(first.local, first.remote))
    assert _workers(pair.client) == [0, 1]
    assert [child.shared for child in pair.client.connection.children.values()] == [True, False]


# Requests for one more


def _ask(
    pair: Pair, notifies: list[Notify], theirs: TsInitiator, ours: TsResponder, suite: int = 128
) -> Message:
    """A request for a child SA that no endpoint of ours might make, and its answer."""
    transforms = (Transform(1, 20, suite), Transform(5, 0))
    spi = pair.client.endpoint._hub.nonce(4)
    proposals = (Proposal(1, ProtocolId.ESP, spi, transforms),)
    payloads: list[Payload] = [*notifies, SecurityAssociation(proposals), Nonce(bytes(32)), theirs, ours]
    pair.client.request(ExchangeType.CREATE_CHILD_SA, payloads, pair.now)
    pair.move(pair.client)
    ((data, path),) = pair.take(pair.server)
    received = pair.client.ike.sa.accept(
        Datagram(data, Header.parse(data), mirrored(path), pair.now), _CHILD_EXCHANGE
    )
    assert received is not None
    return received.message


def _ask_same(pair: Pair, *notifies: Notify, suite: int = 128) -> Message:
    child = pair.server.children[0]
    return _ask(pair, list(notifies), TsInitiator(child.remote), TsResponder(child.local), suite)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_a_responder_says_when_it_has_enough(workers: int) -> None:
    pair = _pair(1, workers)
    for _ in range(most_alike(workers) - 1):
        answer = _ask_same(pair, _RESOURCE)
        assert answer.notify(NotifyType.SA_RESOURCE_INFO) == _RESOURCE
    assert Counter(_workers(pair.server)) == (
        {worker: 2 for worker in range(workers)} if workers > 1 else {None: 1}
    )
    (refusal,) = _ask_same(pair, _RESOURCE).payloads
    assert refusal == Notify(0, b"", 48, b"")
    assert len(pair.server.children) == most_alike(workers)
    assert not pair.server.told(ConnectionDown)


def test_the_number_of_children_of_a_connection_is_bounded_as_ever() -> None:
    """RFC 9611 section 6: even then the answer is not NO_ADDITIONAL_SAS."""
    pair = _pair(1, 2, limits=Limits(children_per_connection=3))
    room = 3 + most_alike(2) - 1
    for _ in range(room - 1):
        assert not _ask_same(pair).notifies()
    assert len(pair.server.children) == room
    (child,) = pair.server.children[:1]
    part = TsResponder((TrafficSelector.from_network("10.1.7.0/24"),))
    (refusal,) = _ask(pair, [_RESOURCE], TsInitiator(child.remote), part).notifies()
    assert refusal.type == NotifyType.TS_MAX_QUEUE
    (refusal,) = _ask(pair, [], TsInitiator(child.remote), part).notifies()
    assert refusal.type == NotifyType.NO_ADDITIONAL_SAS


def test_as_many_workers_as_there_can_be() -> None:
    pair = Pair(client_config(timers=_TIMERS), server_config(timers=_TIMERS), workers=(64, 64))
    pair.dial()
    while pair.move(pair.client) + pair.move(pair.server):
        pass
    assert len(pair.client.children) == 64
    assert sorted(_workers(pair.server), key=lambda w: w or 0) == list(range(64))
    pair.agree()


def test_those_that_are_being_replaced_do_not_count() -> None:
    """RFC 9611 section 6: room for those that come before the old ones are torn down."""
    pair = _pair(1, 2)
    for _ in range(2):
        _ask_same(pair, _RESOURCE)
    for child in pair.server.children:
        rekey = Notify(ProtocolId.ESP, child.spi_out.to_bytes(4), NotifyType.REKEY_SA, b"")
        answer = _ask_same(pair, rekey, _RESOURCE)
        assert answer.notify(NotifyType.TS_MAX_QUEUE) is None
    assert len(pair.server.children) == 6
    assert _ask_same(pair, _RESOURCE).notify(NotifyType.SA_RESOURCE_INFO) is not None
    assert _ask_same(pair, _RESOURCE).notify(NotifyType.TS_MAX_QUEUE) is not None


def test_another_suite_is_not_for_the_same_group() -> None:
    pair = _pair(1, 2)
    (refusal,) = _ask_same(pair, _RESOURCE, suite=256).payloads
    assert refusal == Notify.of(NotifyType.NO_PROPOSAL_CHOSEN)
    assert len(pair.server.children) == 1


def test_a_plain_duplicate_is_still_what_it_was() -> None:
    """RFC 7296 section 2.8 allows several without any notify; it is not answered with one."""
    pair = _pair(1, 2)
    assert _ask_same(pair).notify(NotifyType.SA_RESOURCE_INFO) is None
    assert len(pair.server.children) == 2
    assert not any(child.shared for child in pair.server.connection.children.values())


@pytest.mark.parametrize(
    "notify",
    [
        Notify(0, b"", NotifyType.SA_RESOURCE_INFO, b"cpu 7"),
        Notify(3, b"", NotifyType.SA_RESOURCE_INFO, b"\x00" * 64),
        Notify(3, b"\x01\x02\x03\x04", NotifyType.SA_RESOURCE_INFO, b""),
        Notify(1, b"\x01" * 8, NotifyType.SA_RESOURCE_INFO, b"\xff" * 512),
    ],
    ids=["identifier", "protocol", "SPI", "IKE SPI"],
)
def test_what_must_be_ignored_is(notify: Notify) -> None:
    """RFC 9611 section 5.1: protocol and SPI size; and the identifier is nothing but for debugging."""
    pair = _pair(1, 2)
    assert _ask_same(pair, notify).notify(NotifyType.SA_RESOURCE_INFO) == _RESOURCE
    assert _workers(pair.server) == [0, 1]


def test_a_listener_does_not_ask_for_more() -> None:
    """It is for who dialled to do that, so that not both do."""
    pair = _pair(2, 4)
    pair.server.endpoint.create_child(
        1, replace(server_config().child, remote=_client_address(pair)), pair.now
    )
    pair.flush()
    pair.wait(10_000.0)
    assert len(pair.server.children) <= 3


def _client_address(pair: Pair) -> tuple[TrafficSelector, ...]:
    return pair.server.children[0].remote
