"""USE_TRANSPORT_MODE: peers that do not agree, or lie about whom it is for (RFC 7296 1.3.1, 2.23.1)."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from espudp.errors import ConfigError
from espudp.ike.config import DYNAMIC, ChildConfig, Mode
from espudp.ike.events import ChildInstalled, ConnectionDown, Diagnostic, PeerRefused
from espudp.ike.narrowing import Dynamic
from espudp.ike.v2.sa import IkeSa
from espudp.wire.ikev2.constants import NotifyType
from espudp.wire.ikev2.payloads import Notify, Payload, TsInitiator, TsResponder
from espudp.wire.selectors import TrafficSelector, at_host
from espudp.wire.transport import Transport
from tests.unit.ike.pair import CLIENT, ESP, FOREVER, SERVER, Pair, client_config, server_config

Change = Callable[[list[Payload]], list[Payload]]

CHILD = ChildConfig(
    local=(DYNAMIC,), remote=(DYNAMIC,), proposals=(ESP,), lifetime=FOREVER, mode=Mode.TRANSPORT
)
OTHER = ip_address("192.0.2.99")


def pair(child: ChildConfig = CHILD, server: ChildConfig = CHILD) -> Pair:
    return Pair(
        client_config(child=child, addresses=(), mobike=False),
        replace(server_config(), child=server, pool=()),
    )


def host(address: str) -> TrafficSelector:
    one = ip_address(address)
    return TrafficSelector(one, one)


def tamper(monkeypatch: pytest.MonkeyPatch, method: str, change: Change) -> None:
    """What one of the two sides says under protection is something else than it means."""
    honest: Any = getattr(IkeSa, method)

    def dishonest(sa: IkeSa, first: Any, second: Any, *rest: Any) -> Any:
        return honest(sa, first, change(list(second)), *rest)

    monkeypatch.setattr(IkeSa, method, dishonest)


def without_mode(payloads: list[Payload]) -> list[Payload]:
    return [p for p in payloads if not _is_mode(p)]


def with_mode(payloads: list[Payload]) -> list[Payload]:
    return [Notify.of(NotifyType.USE_TRANSPORT_MODE), *payloads]


def _is_mode(payload: Payload) -> bool:
    return isinstance(payload, Notify) and payload.type == NotifyType.USE_TRANSPORT_MODE


def selecting(kind: type[TsInitiator] | type[TsResponder], *selectors: TrafficSelector) -> Change:
    def change(payloads: list[Payload]) -> list[Payload]:
        return [kind(selectors) if isinstance(p, kind) else p for p in payloads]

    return change


def test_both_agree() -> None:
    two = pair().connect()
    (here,), (there,) = two.client.told(ChildInstalled), two.server.told(ChildInstalled)
    assert here.transport == Transport(CLIENT, SERVER, CLIENT, SERVER)
    assert there.transport == Transport(SERVER, CLIENT, SERVER, CLIENT)
    assert (here.local, here.remote) == ((host(CLIENT),), (host(SERVER),))
    assert (there.local, there.remote) == (here.remote, here.local)


def test_protocols_and_ports_are_narrowed() -> None:
    ours = replace(CHILD, local=(Dynamic(17),), remote=(Dynamic(17, 1000, 2000),))
    theirs = replace(CHILD, local=(Dynamic(17, 1701, 1701),), remote=(Dynamic(17),))
    two = pair(ours, theirs).connect()
    (here,) = two.client.told(ChildInstalled)
    assert [str(s) for s in (*here.local, *here.remote)] == [
        f"{CLIENT}/32[udp/any]",
        f"{SERVER}/32[udp/1701]",
    ]


@pytest.mark.parametrize("who", ["client", "server"])
def test_rekeys_keep_the_mode(who: str) -> None:
    two = pair().connect()
    side = two.client if who == "client" else two.server
    (child,) = side.children
    side.endpoint.rekey_child(1, child.spi_in, two.now)
    two.flush()
    for each in (two.client, two.server):
        first, second = each.told(ChildInstalled)
        assert second.transport == first.transport
        assert second.replaces == first.spi_in


def refused(two: Pair) -> tuple[list[str], list[str]]:
    """Why the client gives up, and what the server says."""
    two.dial()
    two.flush()
    assert not two.client.told(ChildInstalled)
    return (
        [down.reason for down in two.client.told(ConnectionDown)],
        [refusal.reason for refusal in two.server.told(PeerRefused)],
    )


def test_an_answer_that_declines(monkeypatch: pytest.MonkeyPatch) -> None:
    tamper(monkeypatch, "respond", without_mode)
    (down,), _ = refused(pair())
    assert "the peer takes tunnel mode" in down


def test_an_answer_with_a_mode_that_was_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    tamper(monkeypatch, "respond", with_mode)
    tunnel = replace(CHILD, mode=Mode.TUNNEL)
    (down,), _ = refused(pair(tunnel, tunnel))
    assert "transport mode, which we did not offer" in down


@pytest.mark.parametrize("kind", [TsInitiator, TsResponder])
def test_an_answer_for_several_hosts(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tamper(monkeypatch, "respond", selecting(kind, TrafficSelector.from_network("192.0.2.0/24")))
    (down,), _ = refused(pair())
    assert "subnets" in down


@pytest.mark.parametrize(
    ("kind", "selector"),
    [
        (TsInitiator, host("192.0.2.99")),  # not behind a NAT, and not its own address
        (TsResponder, host("192.0.2.99")),
        (TsInitiator, TrafficSelector.from_network("0.0.0.0/0")),
        (TsResponder, TrafficSelector.from_network("2001:db8::/64")),
    ],
)
def test_a_request_for_somebody_else(
    kind: Any, selector: TrafficSelector, monkeypatch: pytest.MonkeyPatch
) -> None:
    tamper(monkeypatch, "request", selecting(kind, selector))
    (down,), (why,) = refused(pair())
    assert "TS_UNACCEPTABLE" in down
    assert "no common subnet" in why or "more than the two hosts" in why


PORTS = [TrafficSelector(ip_address(CLIENT), ip_address(CLIENT), 17, port, port) for port in range(7)]


@pytest.mark.parametrize("side", ["request", "respond"])
def test_more_ports_than_the_host_can_have_rules_for(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pair is one: 255 on either side would be 65,025."""

    def many(payloads: list[Payload]) -> list[Payload]:
        here = selecting(TsInitiator, *at_host(PORTS, CLIENT))(payloads)
        return selecting(TsResponder, *at_host(PORTS, SERVER))(here)

    tamper(monkeypatch, side, many)
    (down,), whys = refused(pair())
    assert ("TS_UNACCEPTABLE" if side == "request" else "7 x 7 protocols and ports") in down
    assert side == "respond" or "7 x 7 protocols and ports" in whys[0]


def test_more_ports_than_anybody_may_ask_for() -> None:
    some = tuple(Dynamic(6, port, port) for port in range(6))
    assert len(replace(CHILD, local=some[:5], remote=some).local) == 5
    with pytest.raises(ConfigError, match="more than 32 pairs"):
        replace(CHILD, local=some, remote=some)


def test_a_rekey_in_the_other_mode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    two = pair().connect()
    (child,) = two.client.children
    tamper(monkeypatch, "request", without_mode)
    two.client.endpoint.rekey_child(1, child.spi_in, two.now)
    two.flush()
    assert len(two.client.told(ChildInstalled)) == len(two.server.told(ChildInstalled)) == 1
    assert any("refuses to rekey" in note.text for note in two.client.told(Diagnostic))


def test_a_further_child_that_is_declined_is_deleted_there(monkeypatch: pytest.MonkeyPatch) -> None:
    two = pair().connect()
    tamper(monkeypatch, "respond", without_mode)
    two.client.endpoint.create_child(1, replace(CHILD, local=(Dynamic(6),)), two.now)
    two.flush()
    assert len(two.client.told(ChildInstalled)) == 1
    assert len(two.server.children) == 1
    assert any("the peer takes tunnel mode" in note.text for note in two.client.told(Diagnostic))
    assert not two.client.told(ConnectionDown)
