"""Quick crash detection (RFC 6290), and what unprotected messages may set off."""

from dataclasses import replace

import pytest

from espudp.errors import ConfigError
from espudp.ike.config import ListenerConfig
from espudp.ike.drop import Drop
from espudp.ike.events import ConnectionDown
from espudp.wire.ikev2.constants import ExchangeType, NotifyType, PayloadType, ProtocolId
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import emit_message, parse_message
from espudp.wire.ikev2.payloads import Notify
from tests.unit.ike.pair import Datagram, Pair, Side, mirrored, path_to_server, server_config

_SECRET = bytes(range(32))
_INFORMATIONAL = ExchangeType.INFORMATIONAL


def _listener() -> ListenerConfig:
    return replace(server_config(), secret=_SECRET)


def _connected() -> Pair:
    return Pair(server=_listener()).connect()


def _crash(pair: Pair, secret: bytes = _SECRET) -> None:
    """The listener is another process from now on."""
    pair.server = Side("another life", replace(server_config(), secret=secret))


def _ask(pair: Pair) -> Datagram:
    """A request of the client's, and what a listener says that knows nothing of its IKE SA."""
    pair.client.endpoint.check_alive(1, pair.now)
    pair.move(pair.client)
    (answer,) = pair.take(pair.server)
    return answer


def _notifies(datagram: Datagram) -> list[int]:
    return [n.type for n in parse_message(datagram[0]).notifies()]


def _unprotected(pair: Pair, *notifies: Notify, **changes: object) -> Datagram:
    """What anybody can say to the client."""
    sa = pair.client.ike.sa
    header = Header(sa.spi_i, sa.spi_r, 0, _INFORMATIONAL, False, True, 2)
    changed = replace(header, **changes)  # type: ignore[arg-type]
    return emit_message(changed, notifies), mirrored(path_to_server(4500))


def test_who_gets_its_token_back_knows_at_once() -> None:
    pair = _connected()
    token = pair.client.ike.sa.token
    assert len(token) == 32
    _crash(pair)
    answer = _ask(pair)
    assert _notifies(answer) == [NotifyType.INVALID_IKE_SPI, NotifyType.QUICK_CRASH_DETECTION]
    notify = parse_message(answer[0]).notify(NotifyType.QUICK_CRASH_DETECTION)
    assert notify == Notify(ProtocolId.IKE, b"", NotifyType.QUICK_CRASH_DETECTION, token)
    pair.give(pair.client, answer)
    (down,) = pair.client.told(ConnectionDown)
    assert down.retry
    assert "restarted" in down.reason
    assert not pair.client.states
    assert not pair.take(pair.client)


def test_the_token_of_another_secret_means_nothing() -> None:
    pair = _connected()
    _crash(pair, bytes(32))
    pair.give(pair.client, _ask(pair))
    assert not pair.client.told(ConnectionDown)
    assert pair.client.endpoint.drops == {Drop.UNPROTECTED: 1}


def test_a_listener_without_a_secret_makes_no_tokens() -> None:
    pair = Pair().connect()
    assert pair.client.ike.sa.token == b""
    pair.server = Side("another life", server_config())
    assert _notifies(_ask(pair)) == [NotifyType.INVALID_IKE_SPI]
    pair.give(pair.client, _unprotected(pair, _token(b""), Notify.of(NotifyType.INVALID_IKE_SPI)))
    assert not pair.client.told(ConnectionDown)


def test_a_secret_that_can_be_guessed() -> None:
    with pytest.raises(ConfigError, match="guessed"):
        replace(server_config(), secret=b"short")
    assert _SECRET.hex() not in repr(_listener())
    assert repr(_SECRET) not in repr(_listener())


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_rekeyed_ike_sa_has_a_token_of_its_own(who: str) -> None:
    """RFC 6290 section 4.3: in the answer, or in an exchange of its own."""
    pair = _connected()
    before = pair.client.ike.sa.token
    getattr(pair, who).endpoint.rekey_ike(1, pair.now)
    pair.flush()
    after = pair.client.ike.sa.token
    assert after
    assert after != before
    _crash(pair)
    pair.give(pair.client, _ask(pair))
    assert pair.client.told(ConnectionDown)


def _token(token: bytes) -> Notify:
    return Notify.of(NotifyType.QUICK_CRASH_DETECTION, token, ProtocolId.IKE)


def test_a_new_token_may_come_at_any_time() -> None:
    """RFC 6290 section 4.4."""
    pair = _connected()
    pair.server.request(_INFORMATIONAL, [_token(bytes(16))], pair.now)
    pair.flush()
    assert pair.client.ike.sa.token == bytes(16)


@pytest.mark.parametrize("octets", [0, 15, 129, 5000])
def test_tokens_that_are_none(octets: int) -> None:
    pair = _connected()
    before = pair.client.ike.sa.token
    pair.server.request(_INFORMATIONAL, [_token(bytes(octets))], pair.now)
    pair.flush()
    assert pair.client.ike.sa.token == before


# What a listener never gives away


def test_no_token_of_an_ike_sa_that_exists() -> None:
    """RFC 6290 section 9.2: whatever a stranger does to the SPIs and flags of one."""
    pair = _connected()
    sa = pair.server.ike.sa
    token = pair.client.ike.sa.token
    for spi_i, spi_r in ((sa.spi_i, sa.spi_r), (sa.spi_r, sa.spi_i)):
        for is_initiator in (False, True):
            for is_response in (False, True):
                for next_payload in (PayloadType.SK, PayloadType.SKF, PayloadType.NOTIFY):
                    header = Header(
                        spi_i, spi_r, next_payload, _INFORMATIONAL, is_initiator, is_response, 2, 40
                    )
                    data = header.emit() + bytes([0, 0, 0, 12]) + bytes(8)
                    pair.give(pair.server, (data, path_to_server(4500)))
    for data, _ in pair.take(pair.server):
        assert token not in data
        assert NotifyType.QUICK_CRASH_DETECTION not in _notifies((data, path_to_server(4500)))


def test_tokens_for_strangers_are_few() -> None:
    """RFC 6290 section 9.3."""
    pair = _connected()
    pair.take(pair.server)
    for number in range(1, 1001):
        header = Header(
            number.to_bytes(8, "little"), b"elsewhen", PayloadType.SK, _INFORMATIONAL, True, False, 2, 32
        )
        pair.give(pair.server, (header.emit() + bytes([0, 0, 0, 4]), path_to_server(4500)))
    assert len(pair.take(pair.server)) <= 50
    assert pair.server.endpoint.drops[Drop.RATE] >= 950


# What a client does not believe


@pytest.mark.parametrize(
    "changes",
    [
        {"is_response": False},
        {"is_initiator": True},
        {"spi_i": b"elsewhen", "is_initiator": True},
        {"spi_r": b"elsewhen"},
    ],
)
def test_the_right_token_in_the_wrong_place(changes: dict[str, object]) -> None:
    pair = _connected()
    invalid = Notify.of(NotifyType.INVALID_IKE_SPI)
    token = _token(pair.client.ike.sa.token)
    pair.give(pair.client, _unprotected(pair, invalid, token, **changes))
    assert not pair.client.told(ConnectionDown)


def test_a_token_without_the_news_that_it_is_for() -> None:
    pair = _connected()
    pair.give(pair.client, _unprotected(pair, _token(pair.client.ike.sa.token)))
    assert not pair.client.told(ConnectionDown)


@pytest.mark.parametrize(("place", "heard"), [(0, True), (3, True), (4, False)])
def test_four_tokens_are_looked_at(place: int, heard: bool) -> None:
    """RFC 6290 section 4.5."""
    pair = _connected()
    tokens = [_token(bytes([n]) * 32) for n in range(5)]
    tokens[place] = _token(pair.client.ike.sa.token)
    pair.give(pair.client, _unprotected(pair, Notify.of(NotifyType.INVALID_IKE_SPI), *tokens))
    assert bool(pair.client.told(ConnectionDown)) is heard


def test_guesses_are_counted_out() -> None:
    pair = _connected()
    for number in range(1000):
        guess = _token(number.to_bytes(32))
        pair.give(pair.client, _unprotected(pair, Notify.of(NotifyType.INVALID_IKE_SPI), guess))
    assert pair.client.endpoint.drops[Drop.UNPROTECTED] == 1000
    assert pair.client.endpoint.drops[Drop.RATE] == 950
    assert not pair.take(pair.client)


# Rumours


def test_a_rumour_hastens_the_question_whether_the_peer_lives() -> None:
    """RFC 7296 section 2.4: a hint, and no more; asked once, and not of a peer that was heard just now."""
    pair = _connected()
    rumour = _unprotected(pair, Notify.of(NotifyType.INVALID_IKE_SPI))
    pair.give(pair.client, rumour)
    assert not pair.take(pair.client)
    pair.wait(6.0)
    for _ in range(3):
        pair.give(pair.client, rumour)
    assert len(pair.take(pair.client)) == 1
    assert not pair.client.told(ConnectionDown)


def test_a_forgotten_child_sa() -> None:
    """RFC 7296 section 1.5: INVALID_SPI outside of any IKE SA, from the very peer, does the same."""
    pair = _connected()
    (child,) = pair.client.children
    pair.wait(6.0)
    pair.server.endpoint.unknown_spi(child.spi_out, mirrored(path_to_server(4500)), pair.now)
    ((data, path),) = pair.take(pair.server)
    elsewhere = path._replace(local=path.local._replace(ip="192.0.2.66"))
    bent = data[:-4] + bytes(4)
    for other in ((data, elsewhere), (bent, path), (data[:-1], path)):
        pair.give(pair.client, other)
        assert not pair.take(pair.client)
    pair.give(pair.client, (data, path))
    ((asked, _),) = pair.take(pair.client)
    assert Header.parse(asked).exchange == _INFORMATIONAL


def test_message_id_synchronization_is_none_of_our_business() -> None:
    """RFC 6311: who says that it could gets no harm done; a message for it, out of the window, is dropped."""
    pair = _connected()
    pair.server.request(_INFORMATIONAL, [Notify.of(NotifyType.IKEV2_MESSAGE_ID_SYNC_SUPPORTED)], pair.now)
    pair.flush()
    sa = pair.server.ike.sa
    header = sa._header(_INFORMATIONAL, 0, is_response=False)
    sync = Notify.of(NotifyType.IKEV2_MESSAGE_ID_SYNC, bytes(12))
    pair.give(pair.client, (sa._protection.seal(header, [sync]), mirrored(path_to_server(4500))))
    assert pair.client.endpoint.drops == {Drop.OUT_OF_WINDOW: 1}
    pair.agree()
