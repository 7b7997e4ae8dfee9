"""RFC 7296 section 2.25, sentence by sentence: what is answered to a request that meets one of our own, and
that both sides are of one mind afterwards, in whatever order the messages come.
"""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from espudp.ike.config import Timers
from espudp.ike.events import ConnectionDown
from espudp.wire.address import UdpAddress
from espudp.wire.ikev2.constants import NotifyType, ProtocolId, name_of_notify
from espudp.wire.ikev2.message import parse_message
from espudp.wire.ikev2.payloads import Delete, Encrypted, Notify, Payload, SecurityAssociation
from tests.unit.ike.pair import CLIENT, FOREVER, PFS, Pair, Side, client_child, client_config, server_config

_TIMERS = Timers(dpd_interval=0, ike_lifetime=FOREVER)
_CAFE = "203.0.113.50"

Act = Callable[[Pair, Side], None]


def _create(pair: Pair, side: Side) -> None:
    """Only who dialled knows of one more subnet."""
    child = client_child(PFS, remote="10.1.7.0/24") if side is pair.client else side.connection.policy.child
    side.endpoint.create_child(1, child, pair.now)


def _rekey(pair: Pair, side: Side) -> None:
    side.endpoint.rekey_child(1, min(side.connection.children), pair.now)


def _delete(pair: Pair, side: Side) -> None:
    side.endpoint.delete_child(1, min(side.connection.children), pair.now)


def _rekey_ike(pair: Pair, side: Side) -> None:
    side.endpoint.rekey_ike(1, pair.now)


def _close(pair: Pair, side: Side) -> None:
    side.endpoint.close(1, pair.now)


def _ask(pair: Pair, side: Side) -> None:
    side.endpoint.check_alive(1, pair.now)


def _tell(pair: Pair, side: Side) -> None:
    """The client moves, the server has one more address to tell."""
    if side is pair.client:
        side.endpoint.local_addresses_changed([UdpAddress(_CAFE, 4500)], pair.now)
    else:
        ours = side.connection.path.local
        side.endpoint.local_addresses_changed([ours, UdpAddress("192.0.2.2", 4500)], pair.now)


ACTS: dict[str, Act] = {
    "create child": _create,
    "rekey child": _rekey,
    "delete child": _delete,
    "rekey IKE": _rekey_ike,
    "close": _close,
    "ask": _ask,
    "addresses": _tell,
}

# As the answers are written below.
SAS, DELETED, EMPTY, PUT_OFF = "SA", "Delete", "", name_of_notify(NotifyType.TEMPORARY_FAILURE)


class Rule(NamedTuple):
    """Who is doing one thing gets a request to do another, and answers so."""

    doing: str
    asked: str
    answer: str


RULES = [
    # 2.25.1
    Rule("delete child", "rekey child", PUT_OFF),
    Rule("rekey child", "rekey child", SAS),
    Rule("delete child", "delete child", EMPTY),
    Rule("rekey child", "delete child", DELETED),
    Rule("create child", "rekey IKE", PUT_OFF),
    Rule("rekey child", "rekey IKE", PUT_OFF),
    Rule("delete child", "rekey IKE", PUT_OFF),
    # 2.25.2
    Rule("rekey IKE", "rekey IKE", SAS),
    Rule("close", "rekey IKE", PUT_OFF),
    Rule("rekey IKE", "close", EMPTY),
    Rule("close", "close", EMPTY),
    Rule("rekey IKE", "create child", PUT_OFF),
    Rule("rekey IKE", "rekey child", PUT_OFF),
    Rule("rekey IKE", "delete child", DELETED),
    # and what follows from them
    Rule("close", "create child", PUT_OFF),
    Rule("close", "rekey child", PUT_OFF),
    Rule("close", "delete child", DELETED),
    Rule("create child", "close", EMPTY),
    Rule("rekey child", "close", EMPTY),
    Rule("create child", "create child", SAS),
    Rule("create child", "rekey child", SAS),
    Rule("ask", "rekey IKE", SAS),
    Rule("addresses", "rekey IKE", SAS),
    Rule("addresses", "rekey child", SAS),
]


def _pair(seed: int = 0) -> Pair:
    """Both could make and rekey child SAs with a key exchange of their own."""
    client = client_config(timers=_TIMERS, child=client_child(PFS))
    pair = Pair(client, server_config(timers=_TIMERS, esp=(PFS,)), seed=seed).connect()
    for side, path in ((pair.client, CLIENT), (pair.server, "")):
        ours = UdpAddress(path, 4500) if path else side.connection.path.local
        side.endpoint.local_addresses_changed([ours], pair.now)
    pair.flush()
    for side in (pair.client, pair.server):
        side.forget()
    pair.wire.clear()
    return pair


def _what(payloads: tuple[Payload, ...]) -> str:
    for payload in payloads:
        if isinstance(payload, Notify) and payload.is_error:
            return name_of_notify(payload.type)
        if isinstance(payload, SecurityAssociation):
            return SAS
        if isinstance(payload, Delete) and payload.protocol == ProtocolId.ESP:
            return DELETED
    return EMPTY


@pytest.mark.parametrize("who", ["client", "server"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.asked} meets {rule.doing}")
def test_what_is_answered(rule: Rule, who: str) -> None:
    pair = _pair()
    doer, asker = (pair.client, pair.server) if who == "client" else (pair.server, pair.client)
    sa = asker.ike.sa
    ACTS[rule.doing](pair, doer)
    ACTS[rule.asked](pair, asker)
    (request,) = pair.take(asker)
    pair.take(doer)
    pair.give(doer, request)
    data, _ = pair.take(doer)[0]
    (encrypted,) = parse_message(data).payloads
    assert isinstance(encrypted, Encrypted)
    opened = sa._protection.open(data, encrypted)
    assert opened is not None
    assert _what(opened.payloads()) == rule.answer


@pytest.mark.parametrize(("asked", "answer"), [("rekey child", "CHILD_SA_NOT_FOUND"), ("delete child", "")])
def test_a_child_sa_that_does_not_exist(asked: str, answer: str) -> None:
    pair = _pair()
    ACTS[asked](pair, pair.client)
    sa, (request,) = pair.client.ike.sa, pair.take(pair.client)
    for child in list(pair.server.connection.children.values()):
        pair.server.connection.remove(child)
    pair.give(pair.server, request)
    data, _ = pair.take(pair.server)[0]
    (encrypted,) = parse_message(data).payloads
    assert isinstance(encrypted, Encrypted)
    opened = sa._protection.open(data, encrypted)
    assert opened is not None
    assert _what(opened.payloads()) == answer


def _of_one_mind(pair: Pair) -> None:
    """Both have the same SAs, or both have none."""
    for side in (pair.client, pair.server):
        side.collect()
    if pair.client.endpoint._hub.connections:
        pair.agree()
        here = {(c.spi_in, c.spi_out) for c in pair.client.connection.children.values()}
        assert here == {(c.spi_out, c.spi_in) for c in pair.server.connection.children.values()} != set()
        assert pair.client.connection.path == pair.server.connection.path._replace(
            local=pair.server.connection.path.remote, remote=pair.server.connection.path.local
        )
    else:
        assert not pair.server.endpoint._hub.connections
        assert len(pair.client.told(ConnectionDown)) == len(pair.server.told(ConnectionDown)) == 1
    for side in (pair.client, pair.server):
        assert set(side.state_names) <= {"Established"}
        assert not any(state.ike.tasks for state in (side,) if side.endpoint._hub.connections)


@pytest.mark.parametrize("theirs", ACTS)
@pytest.mark.parametrize("ours", ACTS)
def test_every_pair_ends_well(ours: str, theirs: str) -> None:
    for seed, order in enumerate(ORDERS):
        _play(_pair(seed), ours, theirs, order)


# C and S: the first request arrives; c and s: what the client or the server has to say since does. They
# cross, or one side is done before it hears of the other's request.
ORDERS = ("CScs", "CsSc", "ScCs")


def _play(pair: Pair, ours: str, theirs: str, order: str) -> None:
    ACTS[ours](pair, pair.client)
    ACTS[theirs](pair, pair.server)
    first = {"C": pair.take(pair.client), "S": pair.take(pair.server)}
    for step in order:
        if step in first:
            for datagram in first[step]:
                pair.give(pair.server if step == "C" else pair.client, datagram)
        else:
            pair.move(pair.client if step == "c" else pair.server)
    pair.flush()
    pair.wait(400.0)
    _of_one_mind(pair)
