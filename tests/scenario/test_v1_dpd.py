"""IKEv1: peers that fall silent (RFC 3706), hang up, or lose one of the two phases."""

from dataclasses import replace
from functools import partial

import pytest

from espudp.ike.config import Timers
from espudp.ike.events import ChildInstalled, ConnectionDown, Fault, IkeRekeyed
from espudp.ike.v1 import informational
from espudp.ike.v1.connection import Connection
from espudp.wire.address import Path
from espudp.wire.ikev1.constants import ExchangeType, NotifyType, ProtocolId
from espudp.wire.ikev1.header import Header
from espudp.wire.ikev1.message import emit_message
from espudp.wire.ikev1.payloads import Delete, Notification, Payload
from tests.scenario.lab import FOREVER, Lab, is_esp
from tests.scenario.lab_v1 import TermsV1, lab_v1
from tests.sim.host import IKE_PORT, Host
from tests.sim.link import Datagram

TIMERS = Timers(ike_lifetime=FOREVER, dpd_interval=10.0)


def connected(**more: object) -> tuple[Lab, Host]:
    lab = lab_v1(terms=TermsV1(timers=TIMERS), **more)  # type: ignore[arg-type]
    client = lab.client(behind=lab.nat())
    lab.connect(client)
    lab.world.run(1.0)
    return lab, client


def connection_of(host: Host) -> Connection:
    """What IKE has of the only connection."""
    negotiator = host.tunnel._ike._v1
    assert negotiator is not None
    (connection,) = negotiator._hub.connections.values()
    return connection


def forget_phase_1(lab: Lab, host: Host) -> None:
    """As when the peer has deleted the ISAKMP SA, and no child SA."""
    connection, now = connection_of(host), lab.world.now
    established = connection.current
    assert established is not None
    host.do(lambda _: established.gone(now))
    host.do(lambda _: connection.lost(established, now))


def ike_sent(host: Host) -> list[Datagram]:
    """What it sends from now on, keepalives and ESP left out."""
    sent: list[Datagram] = []

    def tap(datagram: Datagram) -> None:
        if not is_esp(datagram) and len(datagram.payload) > 1:
            sent.append(datagram)

    host.on_send.append(tap)
    return sent


def exchange_of(datagram: Datagram) -> int:
    at = 0 if datagram.source.port == IKE_PORT else 4
    return Header.parse(datagram.payload[at:]).exchange


def test_silence_is_asked_about_and_answered() -> None:
    lab, client = connected()
    sent = ike_sent(client), ike_sent(lab.server)
    lab.world.run(120.0)
    assert {exchange_of(d) for d in [*sent[0], *sent[1]]} == {ExchangeType.INFORMATIONAL}
    assert 8 <= len(sent[0]) <= 30
    assert len(sent[0]) == len(sent[1])
    ids = [Header.parse(d.payload[4:]).message_id for d in [*sent[0], *sent[1]]]
    assert len(set(ids)) == len(ids), "each exchange has a message ID of its own"
    assert 0 not in ids
    assert not client.told(ConnectionDown)


def test_traffic_is_an_answer() -> None:
    lab, client = connected()
    flows = lab.flows(client, interval=1.0)
    for flow in flows:
        flow.start()
    sent = ike_sent(client), ike_sent(lab.server)
    lab.world.run(100.0)
    assert sent == ([], [])


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_dead_peer_is_noticed(who: str) -> None:
    lab, client = connected()
    dead, left = (client, lab.server) if who == "client" else (lab.server, client)
    dead.die()
    lab.world.run_until(lambda: bool(left.told(ConnectionDown)), within=120.0)
    (down,) = left.told(ConnectionDown)
    assert (down.fault, down.retry) == (Fault.TIMEOUT, True)
    assert left.children() == []


def test_our_own_messages_that_come_back_are_not_the_peers() -> None:
    """HASH(1) has no direction: our question, repeated to us, would be the peer's, and our answer to that the
    answer to our question.
    """
    lab, client = connected()
    lab.server.die()

    def reflect(datagram: Datagram) -> None:
        path, octets = Path(datagram.source, datagram.destination), datagram.payload
        again = partial(client.tunnel.receive_datagrams, [octets], path)
        lab.world.call_later(0.02, lambda: client.do(lambda _: again(lab.world.now)))

    client.on_send.append(reflect)
    sent = ike_sent(client)
    lab.world.run_until(lambda: bool(client.told(ConnectionDown)), within=120.0)
    assert client.told(ConnectionDown)[0].fault is Fault.TIMEOUT
    assert {exchange_of(d) for d in sent} == {ExchangeType.INFORMATIONAL}
    assert len(sent) == TIMERS.retransmit_tries + 1, "questions, and not one answer"


def test_questions_may_get_lost() -> None:
    lab, client = connected()
    lab.quality.loss = 0.4
    lab.world.run(600.0)
    assert not client.told(ConnectionDown)
    assert not lab.server.told(ConnectionDown)


def test_closing_ends_both() -> None:
    lab, client = connected()
    sent = ike_sent(client)
    client.do(lambda tunnel: tunnel.close_all(lab.world.now))
    lab.world.run(2.0)
    headers = [Header.parse(d.payload[4:]) for d in sent]
    assert {header.exchange for header in headers} == {ExchangeType.INFORMATIONAL}
    ids = {header.message_id for header in headers}
    assert len(ids) == len(headers) == 2, "each Delete has a message ID of its own"
    assert 0 not in ids
    assert client.told(ConnectionDown)[0].fault is Fault.LOCAL_REQUEST
    assert lab.server.told(ConnectionDown)[0].fault is Fault.PEER_REQUEST
    assert lab.server.children() == []


def test_phase_1_alone_is_deleted_and_comes_back_when_needed() -> None:
    """Child SAs go on without it, and no packet is lost meanwhile."""
    lab, client = connected()
    flows = lab.flows(client, interval=0.1)
    for flow in flows:
        flow.start()
    server = connection_of(lab.server)
    assert server.current is not None
    established, cookies = server.current, server.current.sa.cookie_i + server.current.sa.cookie_r
    lab.server.do(lambda _: informational.send(established, [Delete(ProtocolId.ISAKMP, (cookies,))]))
    forget_phase_1(lab, lab.server)
    lab.world.run(30.0)
    assert connection_of(client).current is None
    assert not client.told(ConnectionDown)
    children = client.children()
    client.do(lambda tunnel: tunnel.rekey_child(client.connection, children[-1].spi_in, lab.world.now))
    lab.world.run(20.0)
    assert connection_of(client).current is not None
    assert len(client.told(ChildInstalled)) == 2
    assert len(client.children()) == 1
    for flow in flows:
        flow.stop()
    lab.world.run(2.0)
    assert all(flow.tally.perfect for flow in flows)


def test_phase_1_alone_is_deleted_and_then_there_is_silence() -> None:
    """Who dialled looks whether the peer lives; who was called takes it that it has hung up."""
    lab, client = connected()
    for host in (lab.server, client):
        forget_phase_1(lab, host)
    lab.world.run(60.0)
    assert client.told(IkeRekeyed)
    assert not client.told(ConnectionDown)
    client.die()
    forget_phase_1(lab, lab.server)
    lab.world.run_until(lambda: bool(lab.server.told(ConnectionDown)), within=200.0)


def test_a_child_that_the_peer_does_not_know_is_made_anew() -> None:
    """INVALID-SPI, under protection: the peer has forgotten one child SA."""
    lab, client = connected()
    server = connection_of(lab.server)
    (child,) = server.children.values()
    old = client.children()[0]
    lab.server.do(lambda _: server.remove(child, lab.world.now))
    flow, _ = lab.flows(client, interval=0.5)
    flow.start()
    lab.world.run(60.0)
    flow.stop()
    lab.world.run(2.0)
    assert old.spi_in not in {c.spi_in for c in client.children()}
    assert len(client.children()) == len(lab.server.children()) == 1
    assert flow.tally.received > 0


def test_who_dialled_keeps_the_tunnel_up() -> None:
    lab, client = connected()
    (child,) = lab.server.children()
    lab.server.do(lambda tunnel: tunnel.delete_child(child.connection, child.spi_in, lab.world.now))
    lab.world.run(60.0)
    assert len(client.children()) == len(lab.server.children()) == 1
    assert all(flow.tally.perfect for flow in lab.exchange(client))


def test_a_restarted_server_is_found_out() -> None:
    lab, client = connected()
    client.on_event.append(lambda _: None)
    lab.server.die()
    lab.server.revive()
    lab.world.run_until(lambda: bool(client.told(ConnectionDown)), within=150.0)
    assert client.told(ConnectionDown)[0].retry


@pytest.mark.parametrize("kind", [NotifyType.INVALID_COOKIE, NotifyType.INVALID_SPI])
def test_what_is_not_protected_only_makes_us_ask(kind: NotifyType) -> None:
    lab, client = connected()
    sa = connection_of(client).phase1.sa
    header = replace(sa.header(ExchangeType.INFORMATIONAL, 77), encrypted=False)
    cookies = sa.cookie_i + sa.cookie_r
    lies: list[Payload] = [
        Notification(ProtocolId.ISAKMP, cookies, kind),
        Delete(ProtocolId.ISAKMP, (cookies,)),
    ]
    path, sent = lab.server.told(ChildInstalled)[0].path, ike_sent(client)
    for _ in range(100):
        lab.server._send(Datagram(*path, bytes(4) + emit_message(header, lies)))
    lab.world.run(5.0)
    assert len(sent) == 1, "one question, whatever comes"
    assert not client.told(ConnectionDown)
    assert client.children()
