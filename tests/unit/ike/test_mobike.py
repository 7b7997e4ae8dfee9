"""MOBIKE message by message, and peers that have the keys and mean no good (RFC 4555)."""

from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from espudp.ike.events import ConnectionDown, NatStatus, PathChanged
from espudp.ike.natd import natd_hash
from espudp.ike.v2.addresses import MAX_ADDRESSES, copied_cookie
from espudp.ike.v2.hub import Datagram
from espudp.ike.v2.mobike import PROBES_AT_ONCE
from espudp.wire.address import Path, UdpAddress
from espudp.wire.ikev2.constants import ExchangeType, NotifyType
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.payloads import Delete, Notify, Payload
from tests.unit.ike.pair import CLIENT, SERVER, Pair, client_config, mirrored

_INFORMATIONAL = frozenset({int(ExchangeType.INFORMATIONAL)})
_CAFE = "203.0.113.50"
_VICTIM = "203.0.113.66"
_UPDATE = Notify.of(NotifyType.UPDATE_SA_ADDRESSES)


def _pair(**options: object) -> Pair:
    pair = Pair(client_config(**options)).connect()  # type: ignore[arg-type]
    for side, ip in ((pair.client, CLIENT), (pair.server, SERVER)):
        side.endpoint.local_addresses_changed([UdpAddress(ip, 4500)], pair.now)
    pair.flush()
    for side in (pair.client, pair.server):
        assert side.connection.mobike is not None
        side.forget()
    pair.wire.clear()
    return pair


def _from(ip: str, port: int = 4500) -> Path:
    return Path(UdpAddress(ip, port), UdpAddress(SERVER, 4500))


def _ask(pair: Pair, payloads: Sequence[Payload], path: Path) -> list[Payload]:
    """What the server answers to a request of the client's that came over a path."""
    sa = pair.client.ike.sa
    sa.request(ExchangeType.INFORMATIONAL, payloads, path, pair.now)
    for data, _ in pair.take(pair.client):
        pair.server.endpoint.receive_datagram(data, mirrored(path), pair.now)
    for data, back in pair.take(pair.server):
        assert back == mirrored(path)
        opened = sa.accept(_datagram(data, path, pair.now), _INFORMATIONAL)
        if opened is not None:
            return list(opened.message.payloads)
    raise AssertionError("no answer")


def _datagram(data: bytes, path: Path, now: float) -> Datagram:
    return Datagram(data, Header.parse(data), path, now)


def _types(payloads: list[Payload]) -> list[int]:
    return [p.type for p in payloads if isinstance(p, Notify)]


# COOKIE2


@pytest.mark.parametrize("octets", [8, 16, 64])
def test_a_cookie_goes_back_as_it_came(octets: int) -> None:
    cookie = Notify.of(NotifyType.COOKIE2, bytes(range(octets)))
    assert _ask(_pair(), [cookie], _from(CLIENT)) == [cookie]


@pytest.mark.parametrize("octets", [0, 7, 65, 3000])
def test_a_cookie_of_a_size_that_none_has_does_not(octets: int) -> None:
    assert _ask(_pair(), [Notify.of(NotifyType.COOKIE2, bytes(octets))], _from(CLIENT)) == []


def test_a_cookie_goes_back_with_the_last_answer_too() -> None:
    cookie = Notify.of(NotifyType.COOKIE2, bytes(8))
    assert _ask(_pair(), [Delete(1), cookie], _from(CLIENT)) == [cookie]


@pytest.mark.parametrize("bend", ["another", "none"])
@pytest.mark.parametrize("who", ["client", "server"])
def test_another_cookie_than_ours_ends_the_connection(who: str, bend: str) -> None:
    """RFC 4555 section 3.7: MUST be closed. Whoever answers so has not seen the request."""
    pair = _pair()
    pair.client.endpoint.local_addresses_changed([UdpAddress(_CAFE, 4500)], pair.now)
    asker, other = pair.client, pair.server
    if who == "server":
        pair.move(pair.client)  # UPDATE_SA_ADDRESSES
        _, request = pair.take(pair.server)
        asker, other = pair.server, pair.client
    else:
        (request,) = pair.take(pair.client)
    payloads: list[Payload] = []
    if bend == "another":
        payloads.append(Notify.of(NotifyType.COOKIE2, bytes(16)))
    opened = other.ike.sa.accept(_datagram(request[0], mirrored(request[1]), pair.now), _INFORMATIONAL)
    assert opened is not None
    other.ike.sa.respond(opened, payloads)
    pair.move(other)
    assert asker.state_names == ["Deleting"]
    pair.flush()
    assert asker.told(ConnectionDown)[0].retry


# Updates, and what they make the server do


def test_an_update_moves_ike_at_once_and_esp_when_it_is_proved() -> None:
    pair = _pair()
    pair.client.endpoint.local_addresses_changed([UdpAddress(_CAFE, 4500)], pair.now)
    # The server is where it was, so the client need not ask.
    assert [e.path.local.ip for e in pair.client.told(PathChanged)] == [_CAFE]
    pair.move(pair.client)
    assert pair.server.connection.ike_path.remote.ip == _CAFE
    assert pair.server.connection.path.remote.ip == CLIENT
    pair.flush()
    assert [(e.path.remote.ip, e.nat) for e in pair.server.told(PathChanged)] == [(_CAFE, NatStatus())]
    pair.agree()


def test_the_answer_to_an_older_question_proves_nothing() -> None:
    pair = _pair()
    pair.client.endpoint.local_addresses_changed([UdpAddress(_CAFE, 4500)], pair.now)
    pair.move(pair.client)
    update_answer, question = pair.take(pair.server)
    pair.give(pair.client, update_answer)
    pair.give(pair.client, question)
    (answer,) = pair.take(pair.client)
    # Meanwhile the client says it is at the victim's.
    pair.client.request(ExchangeType.INFORMATIONAL, [_UPDATE], pair.now)
    ((data, _),) = pair.take(pair.client)
    pair.server.endpoint.receive_datagram(data, mirrored(_from(_VICTIM)), pair.now)
    pair.give(pair.server, answer)
    assert not pair.server.told(PathChanged)
    assert pair.server.connection.path.remote.ip == CLIENT


def test_a_third_party_gets_no_more_than_a_few_small_messages() -> None:
    """However often a client claims to be there: about as many as it sends itself."""
    pair = _pair()
    sent = got = 0
    for number in range(200):
        victim = _from(f"203.0.113.{100 + number % 100}")
        pair.client.ike.sa.outgoing.pending = None
        pair.client.ike.sa.outgoing.next_id += 1 if number else 0
        pair.client.request(ExchangeType.INFORMATIONAL, [_UPDATE], pair.now)
        ((data, _),) = pair.take(pair.client)
        sent += len(data)
        pair.server.endpoint.receive_datagram(data, mirrored(victim), pair.now)
        got += sum(len(data) for data, _ in pair.take(pair.server))
    assert got < 3 * sent
    pair.client.endpoint.receive_datagram = lambda *_: None  # type: ignore[method-assign]
    after = 0
    for _ in range(400):
        pair.wait(1.0, flush=False)
        after += len(pair.take(pair.server))
        pair.take(pair.client)
    assert after < 60
    assert not pair.server.told(PathChanged)


@pytest.mark.parametrize("ip", ["224.0.0.1", "255.255.255.255", "0.0.0.0", "127.0.0.1", "169.254.1.1"])
def test_nobody_is_at_such_an_address(ip: str) -> None:
    pair = _pair()
    cookie = Notify.of(NotifyType.COOKIE2, bytes(8))
    assert _types(_ask(pair, [_UPDATE, cookie], _from(ip))) == [
        NotifyType.UNACCEPTABLE_ADDRESSES,
        NotifyType.COOKIE2,
    ]
    assert pair.server.connection.ike_path.remote.ip == CLIENT
    assert not pair.server.told(PathChanged)


def test_an_update_over_again_changes_nothing() -> None:
    """Whoever repeats it from elsewhere gets the answer of before, and that is all."""
    pair = _pair()
    pair.client.endpoint.local_addresses_changed([UdpAddress(_CAFE, 4500)], pair.now)
    ((data, path),) = pair.take(pair.client)
    pair.give(pair.server, (data, path))
    pair.flush()
    pair.server.forget()
    pair.server.endpoint.receive_datagram(data, mirrored(_from(_VICTIM)), pair.now)
    pair.wait(1.0)
    assert not pair.server.told(PathChanged)
    assert pair.server.connection.ike_path.remote.ip == _CAFE


def test_the_responder_does_not_say_where_to_go() -> None:
    pair = _pair()
    pair.server.request(ExchangeType.INFORMATIONAL, [_UPDATE], pair.now)
    ((data, _),) = pair.take(pair.server)
    elsewhere = Path(UdpAddress(CLIENT, 4500), UdpAddress(_VICTIM, 4500))
    pair.client.endpoint.receive_datagram(data, elsewhere, pair.now)
    assert pair.client.connection.ike_path.remote.ip == SERVER
    assert not pair.client.told(PathChanged)


def test_a_request_from_elsewhere_without_an_update_changes_nothing() -> None:
    """RFC 4555 section 3.8: so that it can be used to see whether a path works."""
    pair = _pair(force_encap=True)
    pair.client.endpoint.check_alive(1, pair.now)
    ((data, path),) = pair.take(pair.client)
    moved = path._replace(local=path.local._replace(port=40001))
    pair.give(pair.server, (data, moved))
    ((_, back),) = pair.take(pair.server)
    assert back.remote.port == 40001
    assert not pair.server.told(PathChanged)


# Refusals


def _refusing(pair: Pair, error: int) -> list[str]:
    """Has the server refuse whatever update comes, until none does; where they came from."""
    seen: list[str] = []
    for _ in range(40):
        sent = pair.take(pair.client)
        if not sent:
            return seen
        for data, path in sent:
            accepted = pair.server.ike.sa.accept(_datagram(data, mirrored(path), pair.now), _INFORMATIONAL)
            if accepted is None:
                continue
            seen.append(path.local.ip)
            refused = accepted.message.notify(NotifyType.UPDATE_SA_ADDRESSES) is not None
            pair.server.ike.sa.respond(
                accepted, [Notify.of(error)] if refused else copied_cookie(accepted.message)
            )
        pair.move(pair.server)
    raise AssertionError("it never stops")


@pytest.mark.parametrize("error", [NotifyType.UNACCEPTABLE_ADDRESSES, NotifyType.UNEXPECTED_NAT_DETECTED])
def test_each_pair_is_tried_once_and_then_the_old_one_kept(error: int) -> None:
    pair = _pair()
    ips = [*(f"203.0.113.{50 + n}" for n in range(3)), CLIENT]
    pair.client.endpoint.local_addresses_changed([UdpAddress(ip, 4500) for ip in ips], pair.now)
    asked = _refusing(pair, error)
    assert asked[:3] == ips[:3]
    assert len(asked) <= 6
    assert pair.client.connection.path.local.ip == CLIENT
    assert not pair.client.told(ConnectionDown)


def test_no_address_that_the_peer_accepts() -> None:
    pair = _pair()
    pair.client.endpoint.local_addresses_changed([UdpAddress(_CAFE, 4500)], pair.now)
    _refusing(pair, NotifyType.UNACCEPTABLE_ADDRESSES)
    pair.wait(5.0)
    assert pair.client.told(ConnectionDown)[0].retry


def _promise(source: UdpAddress, destination: UdpAddress) -> Notify:
    packed = ip_address(source.ip).packed + ip_address(destination.ip).packed
    return Notify.of(
        NotifyType.NO_NATS_ALLOWED, packed + source.port.to_bytes(2) + destination.port.to_bytes(2)
    )


def test_a_nat_that_the_peer_does_not_allow() -> None:
    pair = _pair()
    server = UdpAddress(SERVER, 4500)
    honest = [_UPDATE, _promise(UdpAddress(_CAFE, 4500), server)]
    assert _types(_ask(pair, honest, _from(_CAFE, 4501))) == [NotifyType.UNEXPECTED_NAT_DETECTED]
    assert pair.server.connection.ike_path.remote.ip == CLIENT
    assert _types(_ask(pair, honest, _from(_CAFE))) == []
    assert pair.server.connection.ike_path.remote.ip == _CAFE


@pytest.mark.parametrize("data", [b"", bytes(11), bytes(12), bytes(36), bytes(3000)])
def test_promises_that_make_no_sense(data: bytes) -> None:
    update = [_UPDATE, Notify.of(NotifyType.NO_NATS_ALLOWED, data)]
    assert _types(_ask(_pair(), update, _from(_CAFE))) == [NotifyType.UNEXPECTED_NAT_DETECTED]


# Lists


def _four(ip: str) -> Notify:
    return Notify.of(NotifyType.ADDITIONAL_IP4_ADDRESS, ip_address(ip).packed)


def test_a_long_list_is_cut() -> None:
    pair = _pair()
    many = [_four(f"203.0.113.{n}") for n in range(60)]
    assert _ask(pair, many, _from(CLIENT)) == []
    mobike = pair.server.connection.mobike
    assert mobike is not None
    assert len(mobike.peer_addresses) == 1 + MAX_ADDRESSES
    assert mobike.peer_addresses[0] == CLIENT


def test_a_list_of_more_than_a_message_has_room_for() -> None:
    pair = _pair()
    many = [_four(f"203.0.113.{n}") for n in range(100)]
    assert _types(_ask(pair, many, _from(CLIENT))) == [NotifyType.INVALID_SYNTAX]
    assert pair.server.told(ConnectionDown)


def test_a_list_of_thousands_is_not_even_put_together() -> None:
    pair = _pair()
    many = [_four(f"203.0.{n // 250}.{n % 250}") for n in range(4000)]
    pair.client.request(ExchangeType.INFORMATIONAL, many, pair.now)
    pair.move(pair.client)
    assert not pair.take(pair.server)
    assert pair.server.endpoint.drops.total() > 0
    assert not pair.server.told(ConnectionDown)


def test_addresses_that_are_none_are_left_out() -> None:
    pair = _pair()
    bad = [
        Notify.of(NotifyType.ADDITIONAL_IP4_ADDRESS, bytes(5)),
        Notify.of(NotifyType.ADDITIONAL_IP6_ADDRESS, bytes(4)),
        Notify.of(NotifyType.ADDITIONAL_IP6_ADDRESS, b""),
        *map(_four, ("0.0.0.0", "224.0.0.5", "127.0.0.1", "255.255.255.255", _CAFE)),
    ]
    assert _ask(pair, bad, _from(CLIENT)) == []
    mobike = pair.server.connection.mobike
    assert mobike is not None
    assert mobike.peer_addresses == (CLIENT, _CAFE)


def test_probes_are_bounded() -> None:
    """A list of addresses of third parties makes no flood of a client whose path has gone silent."""
    pair = _pair()
    pair.server.request(ExchangeType.INFORMATIONAL, [_four(f"203.0.113.{n}") for n in range(1, 60)], pair.now)
    pair.move(pair.server)
    pair.take(pair.client)
    pair.client.endpoint.check_alive(1, pair.now)
    sent: list[tuple[bytes, Path]] = []
    most = 0
    while not pair.client.told(ConnectionDown):
        pair.wait(0.5, flush=False)
        burst = pair.take(pair.client)
        most = max(most, len(burst))
        sent += burst
    assert most <= 1 + PROBES_AT_ONCE
    assert len(sent) < 10 * (1 + PROBES_AT_ONCE)
    assert {path.remote.ip for _, path in sent} > {SERVER, "203.0.113.1", "203.0.113.16"}


# NAT


def test_the_answer_tells_what_the_sender_looks_like() -> None:
    """RFC 4555 section 3.8: in every answer to a request that asks so, also to one without an update."""
    pair = _pair()
    sa = pair.client.ike.sa
    natd = [
        Notify.of(kind, natd_hash(sa.spi_i, sa.spi_r, address))
        for kind, address in (
            (NotifyType.NAT_DETECTION_SOURCE_IP, UdpAddress(CLIENT, 4500)),
            (NotifyType.NAT_DETECTION_DESTINATION_IP, UdpAddress(SERVER, 4500)),
        )
    ]
    told = _ask(pair, natd, _from(_VICTIM, 77))
    seen = natd_hash(sa.spi_i, sa.spi_r, UdpAddress(_VICTIM, 77))
    assert Notify.of(NotifyType.NAT_DETECTION_DESTINATION_IP, seen) in told
    assert not pair.server.told(PathChanged)


def test_a_peer_without_nat_detection_is_followed_as_well() -> None:
    pair = _pair()
    assert _ask(pair, [_UPDATE], _from(_CAFE)) == []
    assert pair.server.connection.ike_path.remote.ip == _CAFE
