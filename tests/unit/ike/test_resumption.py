"""Session resumption (RFC 5723): tickets, who may use them, and what comes of bad ones."""

from dataclasses import replace
from datetime import timedelta

import pytest

from espudp.crypto.ikekeys import derive_resumed_ike_keys
from espudp.crypto.prf import prf, prf_plus
from espudp.crypto.tickets import TicketBox
from espudp.errors import WireError
from espudp.ike.config import ListenerConfig
from espudp.ike.drop import Drop
from espudp.ike.encapsulation import Encapsulation
from espudp.ike.events import ConnectionDown, ConnectionUp, Fault
from espudp.ike.farewell import Farewell
from espudp.ike.identity import Identity
from espudp.ike.pad import PadEntry
from espudp.ike.proposals import IkeProposal
from espudp.ike.tickets import LONGEST_SECONDS, Session, Ticket
from espudp.wire.ikev2.constants import ExchangeType, NotifyType
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import parse_message
from espudp.wire.ikev2.payloads import KeyExchange, Nonce, Notify, SecurityAssociation
from espudp.wire.selectors import TrafficSelector
from tests.unit.crypto.certs import NOW
from tests.unit.ike.pair import (
    CLIENT_ID,
    IKE,
    PSK,
    SERVER_ID,
    Datagram,
    Pair,
    Side,
    client_config,
    notified,
    rewritten,
    server_config,
)

_SECRET = bytes(range(32))
_RESUME = ExchangeType.IKE_SESSION_RESUME
_GONE = Farewell(Fault.TIMEOUT, "asleep", retry=True)


def _pair(**server: object) -> Pair:
    listener = replace(server_config(), secret=_SECRET, **server)  # type: ignore[arg-type]
    return Pair(replace(client_config(), resume=True), listener).connect()


def _broken_off(**server: object) -> Pair:
    """Connected, and then silence; the client dials again, and has said so."""
    pair = _pair(**server)
    pair.client.connection.down(_GONE)
    for side in (pair.client, pair.server):
        side.forget()
        side.endpoint.drops.clear()
    pair.wire.clear()
    pair.dial()
    return pair


def _agree(pair: Pair) -> None:
    """Both have the same SAs again; the server has ended the session that broke off."""
    for side in (pair.client, pair.server):
        down = {event.connection for event in side.told(ConnectionDown)}
        side.events = [e for e in side.events if not isinstance(e, ConnectionDown)]
        assert not down & set(side.endpoint._hub.connections)
    pair.agree()


def _exchanges(pair: Pair) -> list[int]:
    return [Header.parse(data).exchange for data, _ in pair.wire]


def _fresh_listener(pair: Pair, listener: ListenerConfig) -> None:
    """The server is another process from now on."""
    pair.server = Side("another life", listener)


def _ticket(request: Datagram) -> bytes:
    notify = parse_message(request[0]).notify(NotifyType.TICKET_OPAQUE)
    assert notify is not None
    return notify.data


def test_a_session_goes_on_without_diffie_hellman() -> None:
    pair = _broken_off()
    pair.flush()
    _agree(pair)
    assert _exchanges(pair) == [_RESUME, _RESUME, ExchangeType.IKE_AUTH, ExchangeType.IKE_AUTH]
    for data, _ in pair.wire[:2]:
        message = parse_message(data)
        assert message.get(KeyExchange) is None
        assert message.get(SecurityAssociation) is None
    (up,) = pair.server.told(ConnectionUp)
    assert (up.remote_identity, up.local_identity) == (CLIENT_ID, SERVER_ID)
    assert pair.client.told(ConnectionUp)[0].remote_identity == SERVER_ID
    # The old one is gone, silently, and the next ticket is there.
    assert len(pair.server.endpoint._hub.connections) == 1
    assert pair.client.connection.ticket is not None


def test_again_and_again() -> None:
    pair = _broken_off()
    pair.flush()
    tickets = {_ticket(pair.wire[0])}
    for _ in range(3):
        pair.client.connection.down(_GONE)
        pair.wire.clear()
        pair.dial()
        pair.flush()
        tickets.add(_ticket(pair.wire[0]))
        assert len(pair.wire) == 4
    assert len(tickets) == 4


def test_a_gateway_that_restarted_knows_its_tickets() -> None:
    pair = _broken_off()
    _fresh_listener(pair, replace(server_config(), secret=_SECRET))
    pair.flush()
    assert _exchanges(pair)[:2] == [_RESUME, _RESUME]
    _agree(pair)


def test_the_keys() -> None:
    """Section 5.1."""
    choice = IKE
    suite = _suite(choice)
    keys = derive_resumed_ike_keys(suite, b"d" * 32, b"i" * 32, b"r" * 32, b"1" * 8, b"2" * 8)
    seed = prf(suite.prf, b"d" * 32, b"Resumption" + b"i" * 32 + b"r" * 32)
    stream = prf_plus(suite.prf, seed, b"i" * 32 + b"r" * 32 + b"1" * 8 + b"2" * 8, 200)
    assert stream.startswith(keys.d + keys.ei + keys.er + keys.pi + keys.pr)


def _suite(proposal: IkeProposal):  # type: ignore[no-untyped-def]
    from espudp.ike.tickets import suite_of

    pair = Pair().connect()
    suite = suite_of(pair.client.ike.sa.suite.name, (proposal,))
    assert suite == pair.client.ike.sa.suite
    return suite


# Refused: all from the beginning


def _begins_anew(pair: Pair) -> None:
    """TICKET_NACK, and then as if there had never been a ticket."""
    (request,) = pair.take(pair.client)
    assert Header.parse(request[0]).exchange == _RESUME
    pair.give(pair.server, request)
    (answer,) = pair.take(pair.server)
    assert notified(answer) == [NotifyType.TICKET_NACK]
    assert Header.parse(answer[0]).spi_r == bytes(8)
    assert not [s for s in pair.server.states if type(s).__name__ == "AwaitAuth"]
    assert pair.server.endpoint.drops[Drop.TICKET] == 1
    pair.give(pair.client, answer)
    pair.flush()
    assert pair.client.told(ConnectionUp)
    assert ExchangeType.IKE_SA_INIT in _exchanges(pair)


def test_the_ticket_of_another_gateway() -> None:
    pair = _broken_off()
    _fresh_listener(pair, replace(server_config(), secret=bytes(32)))
    _begins_anew(pair)
    _agree(pair)


def test_a_gateway_without_tickets() -> None:
    pair = _broken_off()
    _fresh_listener(pair, replace(server_config(), secret=_SECRET, tickets=False))
    _begins_anew(pair)


@pytest.mark.parametrize("hours", [25, 24 * 365])
def test_a_ticket_that_is_too_old(hours: int) -> None:
    pair = _broken_off()
    pair.server.endpoint._hub.wall_clock = lambda: NOW + timedelta(hours=hours)
    _begins_anew(pair)


def test_a_client_knows_when_its_ticket_is_too_old() -> None:
    pair = _pair()
    pair.client.connection.down(_GONE)
    pair.wire.clear()
    pair.now += LONGEST_SECONDS
    pair.dial()
    pair.flush()
    assert _RESUME not in _exchanges(pair)


def test_who_may_come_no_more() -> None:
    """The entry that the client came by is for somebody else now, or is gone."""
    pair = _broken_off()
    other = PadEntry.of_psk(PSK, Identity.parse("somebody@example.org"))
    _fresh_listener(pair, replace(server_config(), secret=_SECRET, pad=(other,)))
    (request,) = pair.take(pair.client)
    pair.give(pair.server, request)
    (answer,) = pair.take(pair.server)
    assert notified(answer) == [NotifyType.TICKET_NACK]


@pytest.mark.parametrize("moved", [False, True])
def test_entries_that_change_places(moved: bool) -> None:
    """A guest does not come back by the entry that stands where its own did before a restart."""
    lan, all_ = (
        replace(server_config().child, local=(TrafficSelector.from_network(net),))
        for net in ("10.1.0.0/16", "10.0.0.0/8")
    )
    guests, staff = (replace(PadEntry.of_psk(PSK), name=name, child=lan) for name in ("guests", "staff"))
    staff = replace(staff, child=all_)
    pair = _broken_off(pad=(guests,))
    pad = (staff, guests) if moved else (staff,)
    _fresh_listener(pair, replace(server_config(), secret=_SECRET, pad=pad))
    (request,) = pair.take(pair.client)
    pair.give(pair.server, request)
    (answer,) = pair.take(pair.server)
    assert notified(answer).count(NotifyType.TICKET_NACK) == (not moved)
    pair.give(pair.client, answer)
    pair.flush()
    if moved:
        policy = pair.server.connection.policy
        assert isinstance(policy, ListenerConfig)
        assert policy.pad[0].name == "guests"
        assert pair.server.connection.policy.child == lan


def test_an_entry_that_is_gone() -> None:
    pair = _broken_off()
    for ticket in (t for _, _, t in pair.client.endpoint._hub.wallet._tickets):
        assert isinstance(ticket, Ticket)
    issuer = pair.server.endpoint._hub.issuer
    assert issuer is not None
    (request,) = pair.take(pair.client)
    session = issuer.read(_ticket(request), int(NOW.timestamp()))
    assert session is not None
    bent = issuer.issue(replace(session, entry=bytes(20)))
    pair.give(pair.server, _with_ticket(request, bent))
    (answer,) = pair.take(pair.server)
    assert notified(answer) == [NotifyType.TICKET_NACK]


def test_a_suite_that_is_wanted_no_more() -> None:
    pair = _broken_off()
    ike = (IkeProposal.parse("aes256gcm16-prfsha256-curve25519"),)
    _fresh_listener(pair, replace(server_config(ike=ike), secret=_SECRET))
    (request,) = pair.take(pair.client)
    pair.give(pair.server, request)
    (answer,) = pair.take(pair.server)
    assert notified(answer) == [NotifyType.TICKET_NACK]


def _with_ticket(request: Datagram, ticket: bytes) -> Datagram:
    payloads = [
        Notify.of(NotifyType.TICKET_OPAQUE, ticket)
        if isinstance(p, Notify) and p.type == NotifyType.TICKET_OPAQUE
        else p
        for p in parse_message(request[0]).payloads
    ]
    return rewritten(request, *payloads)


def test_bent_tickets() -> None:
    """Section 9.2: every octet of them counts."""
    pair = _broken_off()
    (request,) = pair.take(pair.client)
    ticket = _ticket(request)
    bent = [ticket[:at] + bytes([ticket[at] ^ 1]) + ticket[at + 1 :] for at in range(0, len(ticket), 7)]
    for octets in [b"", ticket[:8], ticket[:20], ticket[:-1], ticket + b"x", bytes(2000), *bent]:
        pair.give(pair.server, _with_ticket(request, octets))
    answers = pair.take(pair.server)
    assert {tuple(notified(answer)) for answer in answers} == {(NotifyType.TICKET_NACK,)}
    assert pair.server.endpoint.drops[Drop.TICKET] >= len(bent) + 6
    assert "AwaitAuth" not in pair.server.state_names


def test_no_flood_of_refusals() -> None:
    pair = _broken_off()
    (request,) = pair.take(pair.client)
    for number in range(500):
        pair.give(pair.server, _with_ticket(request, number.to_bytes(60)))
    answers = [a for a in pair.take(pair.server) if notified(a) == [NotifyType.TICKET_NACK]]
    assert len(answers) <= 50


@pytest.mark.parametrize("without", [Nonce, Notify])
def test_a_request_that_lacks_a_part(without: type) -> None:
    pair = _broken_off()
    (request,) = pair.take(pair.client)
    kept = [p for p in parse_message(request[0]).payloads if not isinstance(p, without)]
    pair.give(pair.server, rewritten(request, *kept))
    assert not pair.take(pair.server)
    assert pair.server.endpoint.drops == {Drop.BAD_PAYLOADS: 1}


def test_a_ticket_is_for_one_time() -> None:
    """Section 4.3.1: who shows it again begins anew; who shows it twice at once is resumed once."""
    pair = _broken_off()
    (request,) = pair.take(pair.client)
    again = rewritten(request, *reversed(parse_message(request[0]).payloads))
    pair.give(pair.server, request)
    pair.give(pair.server, again)
    answers = pair.take(pair.server)
    assert pair.server.state_names.count("AwaitAuth") == 2
    pair.give(pair.client, answers[0])
    pair.flush()
    assert pair.client.told(ConnectionUp)
    pair.give(pair.server, (again[0][:1] + b"x" + again[0][2:], again[1]))
    assert [notified(a) for a in pair.take(pair.server)] == [[NotifyType.TICKET_NACK]]


def test_two_at_once_with_one_ticket() -> None:
    pair = _broken_off()
    issuer = pair.server.endpoint._hub.issuer
    assert issuer is not None
    (request,) = pair.take(pair.client)
    pair.give(pair.server, request)
    assert issuer.use_up(_ticket(request))
    pair.flush()
    (down,) = pair.client.told(ConnectionDown)
    assert down.fault is Fault.AUTHENTICATION
    assert down.retry


def test_a_stolen_ticket_is_of_no_use() -> None:
    """Section 9.1: seen on the wire, and without SK_d."""
    pair = _broken_off()
    ((_, _, ticket),) = pair.client.endpoint._hub.wallet._tickets
    ticket.sk_d = bytes(32)
    (request,) = pair.take(pair.client)
    pair.give(pair.server, request)
    pair.flush()
    assert not pair.server.told(ConnectionUp)
    assert pair.server.endpoint.drops[Drop.BAD_ICV] >= 1


def test_a_resumed_client_stays_who_it_was() -> None:
    """Section 4.3.3: IDi as in the ticket."""
    pair = _broken_off()
    ((_, _, ticket),) = pair.client.endpoint._hub.wallet._tickets
    ticket.ours = Identity.parse("admin@example.org")
    pair.flush()
    assert not pair.server.told(ConnectionUp)
    assert pair.client.told(ConnectionDown)[0].retry


# When a ticket is kept, and when not (section 6.2)


@pytest.mark.parametrize("fault", [f for f in Fault if f is not Fault.TIMEOUT])
def test_no_ticket_outlives_a_session_that_was_ended(fault: Fault) -> None:
    pair = _pair()
    pair.client.connection.down(Farewell(fault, "over", retry=True))
    pair.wire.clear()
    pair.dial()
    pair.flush()
    assert _RESUME not in _exchanges(pair)


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_rekeyed_ike_sa_gets_a_ticket_of_its_own(who: str) -> None:
    pair = _pair()
    before = pair.client.connection.ticket
    getattr(pair, who).endpoint.rekey_ike(1, pair.now)
    pair.flush()
    pair.wait(1.0)
    after = pair.client.connection.ticket
    assert before is not None
    assert after is not None
    assert after.sk_d == pair.client.ike.sa.sk_d != before.sk_d
    pair.client.connection.down(_GONE)
    pair.wire.clear()
    pair.dial()
    pair.flush()
    assert _exchanges(pair)[:2] == [_RESUME, _RESUME]
    _agree(pair)


def test_another_configuration_has_no_ticket() -> None:
    pair = _pair()
    pair.client.connection.down(_GONE)
    pair.wire.clear()
    pair.dial(replace(pair.config, encap=Encapsulation.ALWAYS))
    pair.flush()
    assert _RESUME not in _exchanges(pair)


def test_nobody_asks_for_tickets_that_does_not_want_any() -> None:
    pair = Pair(replace(client_config(), resume=False), replace(server_config(), secret=_SECRET)).connect()
    assert pair.client.connection.ticket is None


@pytest.mark.parametrize("octets", [0, 4, 4 + 1025])
def test_tickets_that_are_none(octets: int) -> None:
    pair = _pair()
    before = pair.client.connection.ticket
    assert before is not None
    from espudp.ike.v2.resumption import take_ticket
    from espudp.wire.ikev2.message import Message

    answer = Message(
        Header(bytes(8), bytes(8), 0, 37, False, True, 2),
        (Notify.of(NotifyType.TICKET_LT_OPAQUE, bytes(octets)),),
    )
    take_ticket(pair.client.connection, pair.client.ike.sa, answer, (CLIENT_ID, SERVER_ID), pair.now)
    assert pair.client.connection.ticket is before


def test_silence_costs_a_few_tries() -> None:
    """A gateway that knows nothing of tickets any more says nothing, or what anybody can say."""
    pair = _broken_off()
    pair.take(pair.client)
    pair.wait(4.0, flush=False)
    sent = [Header.parse(data).exchange for data, _ in pair.take(pair.client)]
    assert sent[:2] == [_RESUME, _RESUME]
    assert set(sent[2:]) == {ExchangeType.IKE_SA_INIT}
    pair.flush()
    assert not pair.client.told(ConnectionDown)


def test_a_cookie() -> None:
    pair = _broken_off(limits=replace(server_config().limits, cookie_threshold=0))
    pair.flush()
    _agree(pair)
    assert _exchanges(pair) == [_RESUME] * 4 + [ExchangeType.IKE_AUTH] * 2


def test_closing_while_a_ticket_is_shown() -> None:
    pair = _broken_off()
    (number,) = pair.client.endpoint._hub.dialling
    pair.client.endpoint.close(number, pair.now)
    assert pair.client.told(ConnectionDown)[0].fault is Fault.LOCAL_REQUEST
    assert not pair.client.states


def test_nothing_of_it_is_shown() -> None:
    pair = _pair()
    ticket = pair.client.connection.ticket
    assert ticket is not None
    for secret in (ticket.sk_d, ticket.octets):
        assert secret.hex() not in repr(ticket)
        assert repr(secret) not in repr(ticket)
    issuer = pair.server.endpoint._hub.issuer
    assert issuer is not None
    session = issuer.read(ticket.octets, int(NOW.timestamp()))
    assert repr(ticket.sk_d) not in repr(session)
    assert ticket.sk_d not in ticket.octets


# The box, and what is in it


def test_a_box_opens_what_it_has_sealed() -> None:
    box, other = TicketBox(_SECRET), TicketBox(bytes(32))
    ticket = box.seal(lambda n: bytes(n), b"content")
    assert len(ticket) == len(b"content") + 36
    assert TicketBox(_SECRET).open(ticket) == b"content"
    assert other.open(ticket) is None
    for at in range(len(ticket)):
        assert box.open(ticket[:at] + bytes([ticket[at] ^ 0x80]) + ticket[at + 1 :]) is None
        assert box.open(ticket[:at]) is None


def test_a_session_is_written_and_read() -> None:
    names = CLIENT_ID, Identity.parse("192.0.2.1"), SERVER_ID
    session = Session("aes128gcm16", b"d" * 32, *names, bytes(20), 1 << 40, b"ourspi_r")
    octets = session.emit()
    assert Session.parse(octets) == session
    for bad in (b"", octets[:-1], octets + b"x", b"\\x02" + octets[1:]):
        with pytest.raises(WireError):
            Session.parse(bad)
