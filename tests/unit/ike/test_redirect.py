"""REDIRECT (RFC 5685): what is written, what is read, and what is not believed."""

from dataclasses import replace

import pytest

from espudp.errors import ConfigError, WireError
from espudp.ike.drop import Drop
from espudp.ike.events import ConnectionDown
from espudp.wire.ikev2.constants import ExchangeType, NotifyType
from espudp.wire.ikev2.message import parse_message
from espudp.wire.ikev2.payloads import Nonce, Notify
from espudp.wire.ikev2.redirect import Redirection, is_gateway
from tests.unit.ike.pair import Datagram, Pair, client_config, rewritten, server_config

_NONCE = bytes(range(32))


@pytest.mark.parametrize(
    ("gateway", "octets"),
    [
        ("192.0.2.1", "0104c0000201"),
        ("2001:db8::1", "021020010db8000000000000000000000001"),
        ("gw.example.org", "030e" + b"gw.example.org".hex()),
    ],
)
@pytest.mark.parametrize("nonce", [b"", _NONCE])
def test_gateways(gateway: str, octets: str, nonce: bytes) -> None:
    """Section 9.2."""
    there = Redirection(gateway, nonce)
    assert there.emit() == bytes.fromhex(octets) + nonce
    assert Redirection.parse(there.emit()) == there


@pytest.mark.parametrize(
    "octets",
    [
        "",
        "01",
        "0104c00002",
        "0105c000020100",
        "0100",
        "020420010db8",
        "0000",
        "0403616263",
        "f0036f7267",
        "0300",
        "03022d61",
        "03032e2e2e",
        "0304612e2e62",
        "03036120" + "62",
        "0303" + b"a\nb".hex(),
        "0303" + b"a/b".hex(),
        "0304" + "c3a46f6f",
        "0340" + b"a".hex() * 64,
        "03fe" + (b"a." * 127).hex(),
    ],
)
def test_gateways_that_are_none(octets: str) -> None:
    with pytest.raises(WireError):
        Redirection.parse(bytes.fromhex(octets))


@pytest.mark.parametrize("text", ["", "a b", "-a.example", "a..b", "[::1]", "192.0.2.1:500", "x" * 64])
def test_no_listener_sends_anybody_there(text: str) -> None:
    assert not is_gateway(text)
    with pytest.raises(ConfigError, match="neither an address nor a host name"):
        replace(server_config(), redirect_to=(text,))
    with pytest.raises(ConfigError, match="neither an address nor a host name"):
        Pair().connect().server.endpoint.redirect(1, text, 1000.0)


# What anybody can write into an answer to IKE_SA_INIT


def _asked(*, follow: bool = True) -> tuple[Pair, Datagram, bytes]:
    pair = Pair(replace(client_config(), follow_redirects=follow))
    pair.dial()
    (request,) = pair.take(pair.client)
    nonce = parse_message(request[0]).get(Nonce)
    assert nonce is not None
    pair.give(pair.server, request)
    (answer,) = pair.take(pair.server)
    return pair, answer, nonce.data


def _redirect(answer: Datagram, data: bytes) -> Datagram:
    return rewritten(answer, Notify.of(NotifyType.REDIRECT, data), spi_r=bytes(8))


def test_our_nonce_shows_that_our_request_was_read() -> None:
    pair, answer, nonce = _asked()
    pair.give(pair.client, _redirect(answer, Redirection("192.0.2.9", nonce).emit()))
    (down,) = pair.client.told(ConnectionDown)
    assert down.redirect == "192.0.2.9"


@pytest.mark.parametrize("bend", [lambda n: b"", lambda n: bytes(32), lambda n: n[:-1], lambda n: n + b"x"])
def test_without_our_nonce_it_is_nothing(bend) -> None:  # type: ignore[no-untyped-def]
    pair, answer, nonce = _asked()
    pair.give(pair.client, _redirect(answer, Redirection("192.0.2.9", bend(nonce)).emit()))
    assert pair.client.endpoint.drops == {Drop.UNSOLICITED: 1}
    pair.give(pair.client, answer)
    pair.flush()
    pair.agree()


def test_who_follows_nobody_says_nothing_and_ignores_it() -> None:
    pair, answer, nonce = _asked(follow=False)
    assert not any(
        n.type in (NotifyType.REDIRECT_SUPPORTED, NotifyType.REDIRECTED_FROM)
        for n in parse_message(pair.wire[0][0]).notifies()
    )
    pair.give(pair.client, _redirect(answer, Redirection("192.0.2.9", nonce).emit()))
    assert not pair.client.told(ConnectionDown)


def test_where_a_client_comes_from_is_said() -> None:
    pair = Pair(replace(client_config(), redirected_from="192.0.2.7"))
    pair.dial()
    ((data, _),) = pair.take(pair.client)
    notify = parse_message(data).notify(NotifyType.REDIRECTED_FROM)
    assert notify is not None
    assert notify.data == bytes([1, 4, 192, 0, 2, 7])


def test_a_client_cannot_send_its_gateway_elsewhere() -> None:
    """Section 10."""
    pair = Pair().connect()
    notify = Notify.of(NotifyType.REDIRECT, Redirection("192.0.2.9").emit())
    pair.client.request(ExchangeType.INFORMATIONAL, [notify], pair.now)
    pair.flush()
    pair.agree()


@pytest.mark.parametrize("data", [b"", Redirection("192.0.2.9", _NONCE).emit(), b"\x09\x01a"])
def test_nonsense_in_a_session(data: bytes) -> None:
    """Section 9.2: no nonce in there."""
    pair = Pair().connect()
    notify = Notify.of(NotifyType.REDIRECT, data)
    pair.server.request(ExchangeType.INFORMATIONAL, [notify], pair.now)
    pair.flush()
    pair.agree()


def test_an_unable_client_is_never_asked() -> None:
    client = replace(client_config(), follow_redirects=False)
    pair = Pair(client, replace(server_config(), redirect_to=("a",))).connect()
    pair.server.endpoint.redirect(1, "192.0.2.9", pair.now)
    assert not pair.take(pair.server)
