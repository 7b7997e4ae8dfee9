"""Whoever can write to our ports, and what the wire shows of us: whole tunnels under attack."""

from collections import defaultdict
from random import Random

import pytest

from espudp.ike.config import LifetimeConfig, Timers
from espudp.ike.events import ConnectionDown, ConnectionUp, Diagnostic, PathChanged, PeerRefused
from espudp.ike.identity import Identity
from espudp.tunnel import PATH_MTUS_MAX, Tunnel
from espudp.wire import natt
from espudp.wire.address import Path, UdpAddress
from espudp.wire.ikev2.constants import PayloadType
from espudp.wire.ikev2.header import HEADER_OCTETS, Header
from tests.scenario.lab import CLIENT_IP, FOREVER, SERVER_IP, Lab, Terms, is_esp
from tests.sim.host import IKE_PORT, NATT_PORT, Host
from tests.sim.link import Datagram, Quality

_GENERIC_HEADER = 4


def _established(lab: Lab) -> Host:
    client = lab.client()
    lab.connect(client)
    return client


def _fine(lab: Lab, client: Host) -> bool:
    return all(flow.tally.perfect for flow in lab.exchange(client)) and not client.told(ConnectionDown)


# What anybody can send


def test_junk_costs_nothing_but_its_own_time() -> None:
    """Random octets, and what was on the wire, damaged, on either port and from anywhere: no answer but a
    bounded few, no state, no news but a bounded few.
    """
    lab = Lab()
    client = _established(lab)
    seen: list[bytes] = []
    client.on_send.append(lambda datagram: seen.append(datagram.payload))
    lab.exchange(client)
    client.do(lambda tunnel: tunnel.rekey_ike(client.connection, lab.world.now))
    lab.world.run(5.0)
    told, chance, tunnel, now = len(lab.server.events), Random(7), lab.server.tunnel, lab.world.now
    states = len(tunnel._ike._hub.states)
    answers = 0
    for number in range(4000):
        junk = bytearray(chance.choice(seen) if number % 2 else chance.randbytes(chance.randrange(200)))
        for _ in range(min(len(junk), 3)):
            junk[chance.randrange(len(junk))] = chance.randrange(256)
        stranger = UdpAddress(f"192.0.2.{number % 250}", chance.randrange(1, 65536))
        port = chance.choice([IKE_PORT, NATT_PORT])
        tunnel.receive_datagrams([bytes(junk)], Path(UdpAddress(SERVER_IP, port), stranger), now)
        assert tunnel.packets_to_deliver() == []
        answers += len(tunnel.datagrams_to_send(now))
    assert answers <= 60
    assert len(tunnel._ike._hub.states) == states
    news = []
    while (event := tunnel.next_event()) is not None:
        news.append(event)
    assert len(news) <= 10
    assert all(isinstance(event, Diagnostic) for event in news)
    assert len(lab.server.events) == told
    assert sum(tunnel.snapshot(now).drops.values()) >= 4000 - answers
    assert _fine(lab, client)


def test_a_flood_of_requests_leaves_room_for_an_honest_peer() -> None:
    """IKE_SA_INIT from everywhere, each with SPIs and nonces of its own: a few key pairs, then cookies."""
    terms = Terms(timers=Timers(half_open_timeout=10.0, ike_lifetime=FOREVER))
    lab = Lab(terms=terms)
    stranger = lab.client("stranger", number=66)
    requests: list[Datagram] = []
    stranger.on_send.append(requests.append)
    stranger.connect(terms.connection(), SERVER_IP)
    (template,) = requests
    chance, tunnel, now = Random(3), lab.server.tunnel, lab.world.now
    received = sent = 0
    for number in range(3000):
        request = chance.randbytes(8) + template.payload[8:]
        source = UdpAddress(f"10.{number >> 8}.{number & 255}.1", IKE_PORT)
        tunnel.receive_datagrams([request], Path(UdpAddress(SERVER_IP, IKE_PORT), source), now)
        received += len(request)
        sent += sum(len(d) for _, train, _ in tunnel.datagrams_to_send(now) for d in train)
    hub = tunnel._ike._hub
    limits = terms.limits
    assert len(hub.states) == hub.admission.half_open == limits.cookie_threshold
    assert len(hub.timers._live) == limits.cookie_threshold
    assert sent < received / 2
    assert tunnel.next_event() is None
    stranger.die()
    _established(lab)
    lab.world.run(11.0)
    assert hub.admission.half_open == 0
    assert len(hub.states) == 1


def test_keepalives_from_elsewhere_change_nothing() -> None:
    lab = Lab()
    client = lab.client(behind=lab.nat())
    lab.connect(client)
    attacker = lab.client("attacker", number=66)
    for payload in (natt.KEEPALIVE, natt.NON_ESP_MARKER, b"", bytes(3), bytes(8)):
        attacker.inject(payload, SERVER_IP)
    lab.world.run(1.0)
    assert not lab.server.told(PathChanged)
    assert _fine(lab, client)


def test_nobody_is_led_away_where_there_is_no_nat() -> None:
    """Every packet of the client reaches the server from the attacker's address first, IKE and ESP alike."""
    lab = Lab()
    client = _established(lab)
    thief = UdpAddress("198.51.100.66", NATT_PORT)
    here = Path(UdpAddress(SERVER_IP, NATT_PORT), thief)
    client.on_send.append(
        lambda datagram: lab.server.do(
            lambda tunnel: tunnel.receive_datagrams([datagram.payload], here, lab.world.now)
        )
    )
    stolen: list[Datagram] = []
    lab.server.on_send.append(lambda d: stolen.append(d) if d.destination == thief else None)
    there, back = lab.flows(client)
    there.start()
    back.start()
    client.do(lambda tunnel: tunnel.check_alive(client.connection, lab.world.now))
    lab.world.run(10.0)
    assert not lab.server.told(PathChanged)
    assert back.tally.received > 90
    # Answers to where the request came from, and questions who is there: the keys are not.
    assert len(stolen) < 10
    assert not any(map(is_esp, stolen))
    assert not client.told(ConnectionDown) + lab.server.told(ConnectionDown)


# What is printed


@pytest.mark.parametrize("psk", [b"wrong", Terms().psk])
@pytest.mark.parametrize("id_type", [2, 3, 9, 11, 200])
def test_nothing_of_a_peer_gets_at_the_terminal(psk: bytes, id_type: int) -> None:
    """Identities with escape sequences, before and after authentication."""
    lab = Lab()
    client = lab.client()
    config = Terms(psk=psk).connection()
    escape = Identity(id_type, b"\x1b]0;owned\x07\r\n\xe2\x80\xae[bold]\x9b2J\x00")
    object.__setattr__(config, "local_identity", escape)
    client.connect(config, SERVER_IP)
    lab.world.run(5.0)
    shown = [str(up.remote_identity) for up in lab.server.told(ConnectionUp)]
    shown += [line for no in lab.server.told(PeerRefused) for line in (no.reason, *no.detail.splitlines())]
    snapshot = lab.server.tunnel.snapshot(lab.world.now)
    shown += [connection.remote_identity for connection in snapshot.connections]
    assert shown
    assert all(text.isprintable() and text.isascii() for text in shown)


# What the wire shows of us


def _sealed(datagram: Datagram) -> tuple[bytes, bytes] | None:
    """The name of the SA and the IV of a datagram of an AEAD; None for what is not sealed."""
    payload = datagram.payload
    if datagram.source.port == NATT_PORT:
        if natt.classify(payload) is natt.Kind.ESP:
            return payload[:4], payload[8:16]
        if natt.classify(payload) is not natt.Kind.IKE:
            return None
        payload = payload[len(natt.NON_ESP_MARKER) :]
    header = Header.parse(payload)
    if header.next_payload != PayloadType.SK:
        return None
    iv = payload[HEADER_OCTETS + _GENERIC_HEADER :][:8]
    return header.spi_i + header.spi_r + bytes([header.is_initiator]), iv


def test_no_nonce_comes_twice_whatever_is_lost_and_rekeyed() -> None:
    """A retransmission is the same octets; anything else has an IV of its own under its key."""
    lifetime = LifetimeConfig(soft_packets=60, hard_packets=10_000)
    lab = Lab(seed=5, terms=Terms(lifetime=lifetime), quality=Quality(loss=0.1, jitter=0.05, duplicate=0.1))
    client = lab.client()
    sent: dict[tuple[str, bytes], dict[bytes, set[bytes]]] = defaultdict(lambda: defaultdict(set))

    def note(side: str, datagram: Datagram) -> None:
        if (sealed := _sealed(datagram)) is not None:
            sent[side, sealed[0]][sealed[1]].add(datagram.payload)

    client.on_send.append(lambda datagram: note("client", datagram))
    lab.server.on_send.append(lambda datagram: note("server", datagram))
    lab.connect(client, within=120.0)
    flows = lab.flows(client, interval=0.05)
    for flow in flows:
        flow.start()
    for _ in range(8):
        lab.world.run(5.0)
        lab.server.do(lambda tunnel: tunnel.rekey_ike(lab.server.connection, lab.world.now))
        client.do(lambda tunnel: tunnel.check_alive(client.connection, lab.world.now))
    for flow in flows:
        flow.stop()
    assert len(sent) > 20
    assert all(len(octets) == 1 for ivs in sent.values() for octets in ivs.values())


# What does not fit


def test_a_child_sa_that_there_is_no_room_for_is_deleted_again() -> None:
    lab = Lab()
    first = _established(lab)
    lab.server.tunnel._esp._children.sad._max_sas = 1
    second = lab.client("second", number=8)
    second.connect(lab.terms.connection("second"), SERVER_IP)
    lab.world.run(5.0)
    assert any("no room" in event.text for event in lab.server.told(Diagnostic))
    number = lab.server.told(ConnectionUp)[-1].connection
    assert lab.server.children(number) == []
    assert second.children() == []
    assert all(flow.tally.perfect for flow in lab.exchange(first))


def test_the_paths_of_peers_that_have_moved_on_are_forgotten() -> None:
    lab = Lab()
    client = _established(lab)
    lab.server.do(lambda tunnel: _ask_about_many_paths(tunnel))
    assert len(lab.server.tunnel._path_mtu) < PATH_MTUS_MAX
    assert lab.server.tunnel._path_mtu[CLIENT_IP] == 1400
    assert _fine(lab, client)


def _ask_about_many_paths(tunnel: Tunnel) -> None:
    tunnel.set_path_mtu(CLIENT_IP, 1400)
    for number in range(PATH_MTUS_MAX + 10):
        tunnel.set_path_mtu(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1400)
