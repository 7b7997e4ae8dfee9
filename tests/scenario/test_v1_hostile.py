"""Whoever can write to our ports, where IKEv1 is spoken: what it costs, and what comes of it."""

from dataclasses import replace
from random import Random

import pytest

from espudp.crypto import dh
from espudp.crypto.dh import KeyPair
from espudp.crypto.random import Rng
from espudp.crypto.suites import Dh
from espudp.ike.config import Limits, Timers
from espudp.ike.drop import Drop
from espudp.ike.events import ConnectionDown, ConnectionUp, Diagnostic, Fault
from espudp.ike.ikev1_config import Mode
from espudp.ike.pad import PadEntry
from espudp.ike.v1 import reception
from espudp.ike.v1.hub import AGGRESSIVE_AT_ONCE
from espudp.tunnel import Tunnel
from espudp.wire.address import Path, UdpAddress
from espudp.wire.ikev1.constants import ExchangeType, NotifyType, ProtocolId
from espudp.wire.ikev1.header import Header
from espudp.wire.ikev1.message import emit_message, parse_message
from espudp.wire.ikev1.payloads import Fragment, KeyExchange, Nonce, Notification, Payload
from tests.scenario.credentials import CLIENT, SERVER, person, trust
from tests.scenario.lab import FOREVER, SERVER_IP, Lab
from tests.scenario.lab_v1 import TermsV1, lab_v1
from tests.sim.host import IKE_PORT, NATT_PORT, Host
from tests.sim.link import Datagram, Quality

SHORT = Timers(half_open_timeout=10.0, ike_lifetime=FOREVER)
MODES = pytest.mark.parametrize("mode", Mode)


@pytest.fixture
def key_pairs(monkeypatch: pytest.MonkeyPatch) -> list[Dh]:
    """The groups of all key pairs that responders make."""
    made: list[Dh] = []

    def counted(group: Dh, rng: Rng) -> KeyPair:
        made.append(group)
        return dh.generate(group, rng)

    monkeypatch.setattr(reception, "generate", counted)
    return made


def _sent_by(host: Host) -> list[Datagram]:
    sent: list[Datagram] = []
    host.on_send.append(sent.append)
    return sent


def _first_message(lab: Lab) -> bytes:
    """What a client would begin with; it gets no further."""
    stranger = lab.client("stranger", number=66)
    sent = _sent_by(stranger)
    stranger.connect(lab.terms.connection(), SERVER_IP)
    stranger.die()
    return sent[0].payload


def _path(number: int, port: int = IKE_PORT) -> Path:
    source = UdpAddress(f"192.0.{number // 250 % 250}.{number % 250 + 1}", 1024 + number % 60000)
    return Path(UdpAddress(SERVER_IP, port), source)


def _with_cookie(message: bytes, chance: Random) -> bytes:
    return chance.randbytes(8) + message[8:]


def _answers(tunnel: Tunnel, message: bytes, path: Path, now: float) -> list[bytes]:
    tunnel.receive_datagrams([message], path, now)
    return [bytes(octets) for train in tunnel.datagrams_to_send(now) for octets in train.datagrams]


def _fine(lab: Lab, client: Host) -> bool:
    lab.world.run(1.0)
    return all(flow.tally.perfect for flow in lab.exchange(client, 0.5)) and not client.told(ConnectionDown)


def test_a_flood_of_first_messages_costs_no_key_pair_and_keeps_nobody_out(key_pairs: list[Dh]) -> None:
    terms = TermsV1(timers=SHORT, limits=Limits(half_open_max=100))
    lab = lab_v1(terms=terms)
    message, chance, tunnel = _first_message(lab), Random(3), lab.server.tunnel
    hub = tunnel._ike._v1._hub  # type: ignore[union-attr]
    answered = 0
    for number in range(3000):
        octets = sum(map(len, _answers(tunnel, _with_cookie(message, chance), _path(number), lab.world.now)))
        answered += octets
    assert len(hub.states) <= 100
    assert answered <= 3000 * len(message)  # no amplifier
    assert key_pairs == []
    client = lab.client()
    lab.connect(client)
    assert len(key_pairs) == 1
    assert _fine(lab, client)
    lab.world.run(20.0)
    assert len(hub.states) == 1


def test_one_address_has_only_so_many_key_pairs_of_ours(key_pairs: list[Dh]) -> None:
    """It has sent our cookies back, so it can be counted."""
    lab = lab_v1(terms=TermsV1(timers=SHORT, limits=Limits(half_open_per_address=5)))
    nat = lab.nat()
    receive = lab.server.receive
    lab.server.receive = (  # type: ignore[method-assign]
        lambda datagram: None if datagram.destination.port == NATT_PORT else receive(datagram)
    )
    clients = [lab.client(f"c{n}", behind=nat, number=10 + n) for n in range(20)]
    for client in clients:
        client.connect(lab.terms.connection(client.name), SERVER_IP)
    lab.world.run(5.0)
    assert len(key_pairs) == 5
    assert lab.server.tunnel._ike.drops[Drop.HALF_OPEN] >= 15


def test_aggressive_mode_is_counted_out(key_pairs: list[Dh]) -> None:
    lab = lab_v1(terms=TermsV1(exchange=Mode.AGGRESSIVE, timers=SHORT))
    message, chance, tunnel = _first_message(lab), Random(3), lab.server.tunnel
    for number in range(1000):
        _answers(tunnel, _with_cookie(message, chance), _path(number), lab.world.now)
    assert len(key_pairs) == AGGRESSIVE_AT_ONCE
    lab.world.run(20.0)
    assert len(tunnel._ike._v1._hub.states) == 0  # type: ignore[union-attr]
    client = lab.client()
    lab.connect(client)
    assert _fine(lab, client)


@MODES
def test_a_first_message_that_comes_again_gets_the_same_answer(mode: Mode, key_pairs: list[Dh]) -> None:
    lab = lab_v1(terms=TermsV1(exchange=mode))
    message, tunnel, now = _first_message(lab), lab.server.tunnel, lab.world.now
    first = _answers(tunnel, message, _path(1), now)
    again = [_answers(tunnel, message, _path(1), now + n / 10) for n in range(30)]
    assert len(first) == 1
    assert again[:9] == [first] * 9
    assert again[-1] == []  # not for ever
    assert len(key_pairs) == (mode is Mode.AGGRESSIVE)


def test_a_cookie_of_ours_is_good_only_where_it_was_sent(key_pairs: list[Dh]) -> None:
    lab = lab_v1()
    client = lab.client()
    sent = _sent_by(client)
    client.connect(lab.terms.connection(), SERVER_IP)
    lab.world.run_until(lambda: len(sent) == 2, 5.0)
    elsewhere = Path(UdpAddress(SERVER_IP, IKE_PORT), UdpAddress("192.0.2.9", IKE_PORT))
    assert _answers(lab.server.tunnel, sent[1].payload, elsewhere, lab.world.now) == []
    assert key_pairs == []
    lab.world.run_until(lambda: client.up, 10.0)


_BAD_VALUES = {
    "zero": bytes(256),
    "one": bytes(255) + b"\x01",
    "short": b"\x02",
    "long": b"\x02" * 300,
    "all ones": b"\xff" * 256,
}


@MODES
@pytest.mark.parametrize("value", _BAD_VALUES)
@pytest.mark.parametrize("to_server", [False, True])
def test_bad_public_values_come_to_nothing(mode: Mode, value: str, to_server: bool) -> None:
    """RFC 6989; of the group with elements of 256 octets."""
    lab = lab_v1(terms=TermsV1(exchange=mode, ike=("aes128-sha256-modp2048",)))
    client = lab.client()
    victim = lab.server if to_server else client

    def changed(datagram: Datagram) -> Datagram:
        if datagram.source.port != IKE_PORT:
            return datagram
        message = parse_message(datagram.payload)
        payloads: list[Payload] = [
            KeyExchange(_BAD_VALUES[value]) if isinstance(p, KeyExchange) else p for p in message.payloads
        ]
        return datagram._replace(payload=emit_message(message.header, payloads))

    receive = victim.receive
    victim.receive = lambda datagram: receive(changed(datagram))  # type: ignore[method-assign]
    client.connect(lab.terms.connection(), SERVER_IP)
    lab.world.run(200.0)
    assert not client.told(ConnectionUp)
    assert not lab.server.told(ConnectionUp)
    drops = victim.tunnel._ike.drops
    assert drops[Drop.BAD_KEY_EXCHANGE] + drops[Drop.RATE] > 0 or value in ("short", "long")


def test_bad_public_values_cost_no_more_than_a_few_key_pairs(key_pairs: list[Dh]) -> None:
    """However often they come, from who owns its address; and it keeps no more than its places for that."""
    lab = lab_v1(terms=TermsV1(timers=SHORT, limits=Limits(half_open_per_address=2)))
    tunnel, now = lab.server.tunnel, lab.world.now
    path, chance, first = _path(1), Random(4), _first_message(lab)
    for _ in range(4):
        (second,) = _answers(tunnel, _with_cookie(first, chance), path, now)
        header = replace(Header.parse(second), next_payload=0)
        for _ in range(50):
            payloads: list[Payload] = [KeyExchange(bytes(32)), Nonce(chance.randbytes(32))]
            assert _answers(tunnel, emit_message(header, payloads), path, now) == []
    assert len(key_pairs) == 2 * 5
    assert tunnel._ike.drops[Drop.BAD_KEY_EXCHANGE] == len(key_pairs)


@pytest.mark.parametrize(("keys", "most"), [(1, 250), (64, 32)])
def test_noise_in_place_of_a_proof_is_tried_only_so_often(keys: int, most: int) -> None:
    pad = tuple(PadEntry.of_psk(b"key %d" % n) for n in range(keys))
    lab = lab_v1(terms=TermsV1(timers=SHORT, psk=b"key 0", pad=pad))
    client = lab.client()
    sent = _sent_by(client)
    client.connect(lab.terms.connection(), SERVER_IP)
    lab.world.run_until(lambda: len(sent) == 3, 5.0)
    client.die()
    tunnel, chance, path = lab.server.tunnel, Random(4), _path(1, NATT_PORT)
    lab.world.run(0.001)
    header = sent[2].payload[: 4 + 28]
    for _ in range(2 * most):
        noise = header + chance.randbytes(len(sent[2].payload) - len(header))
        _answers(tunnel, noise, path, lab.world.now)
    assert not tunnel._ike._v1._hub.states  # type: ignore[union-attr]
    tried = tunnel._ike.drops[Drop.BAD_ICV]
    assert 0.9 * most * keys <= tried <= most * keys


def test_an_error_is_no_reason_once_something_better_has_come() -> None:
    lab = lab_v1()
    client = lab.client()
    sent = _sent_by(client)
    client.connect(lab.terms.connection(), SERVER_IP)
    header = Header(sent[0].payload[:8], bytes(8), 0, ExchangeType.INFORMATIONAL, 0)
    lie = emit_message(header, [Notification(ProtocolId.ISAKMP, b"", NotifyType.NO_PROPOSAL_CHOSEN)])
    path = Path(UdpAddress(client.ip, IKE_PORT), UdpAddress(SERVER_IP, IKE_PORT))
    client.do(lambda tunnel: tunnel.receive_datagrams([lie], path, lab.world.now))
    lab.world.run_until(lambda: len(sent) == 2, 5.0)
    lab.server.die()
    lab.world.run_until(lambda: bool(client.told(ConnectionDown)), 120.0)
    assert len(sent) == 2 + SHORT.retransmit_tries
    assert client.told(ConnectionDown)[0].fault is Fault.TIMEOUT


@MODES
@pytest.mark.parametrize(
    "notify", [NotifyType.NO_PROPOSAL_CHOSEN, NotifyType.INVALID_COOKIE, NotifyType.AUTHENTICATION_FAILED]
)
def test_errors_that_anybody_can_send_end_nothing_by_themselves(mode: Mode, notify: NotifyType) -> None:
    lab = lab_v1(terms=TermsV1(exchange=mode), quality=Quality(latency=0.05))
    client = lab.client()
    path = Path(UdpAddress(client.ip, IKE_PORT), UdpAddress(SERVER_IP, IKE_PORT))

    def lie(datagram: Datagram) -> None:
        if datagram.source.port == IKE_PORT:
            cookie = datagram.payload[:8]
            header = Header(cookie, bytes(8), 0, ExchangeType.INFORMATIONAL, 0)
            message = emit_message(header, [Notification(ProtocolId.ISAKMP, b"", notify)])
            lab.world.call_later(
                0.001, lambda: client.tunnel.receive_datagrams([message], path, lab.world.now)
            )

    client.on_send.append(lie)
    lab.connect(client)
    assert _fine(lab, client)


def test_junk_and_replays_cost_nothing_but_their_own_time() -> None:
    lab = lab_v1()
    client = lab.client(behind=lab.nat())
    seen: list[bytes] = []
    for host in (client, lab.server):
        host.on_send.append(lambda datagram: seen.append(datagram.payload))
    lab.connect(client)
    client.do(lambda tunnel: tunnel.rekey_ike(client.connection, lab.world.now))
    lab.world.run(5.0)
    told, chance, tunnel, now = len(lab.server.events), Random(7), lab.server.tunnel, lab.world.now
    hub = tunnel._ike._v1._hub  # type: ignore[union-attr]
    states, answers = len(hub.states), 0
    for number in range(3000):
        junk = bytearray(chance.choice(seen) if number % 3 else chance.randbytes(chance.randrange(200)))
        for _ in range(min(len(junk), number % 4)):
            junk[chance.randrange(len(junk))] = chance.randrange(256)
        stranger = UdpAddress(f"192.0.2.{number % 250}", chance.randrange(1, 65536))
        port = chance.choice([IKE_PORT, NATT_PORT])
        answers += len(_answers(tunnel, bytes(junk), Path(UdpAddress(SERVER_IP, port), stranger), now))
    assert answers <= 700  # mostly of first messages, a few of each
    assert len(hub.states) <= states + 1000
    assert tunnel.packets_to_deliver() == []
    news = []
    while (event := tunnel.next_event()) is not None:
        news.append(event)
    assert not any(isinstance(event, ConnectionDown) for event in news)
    assert sum(not isinstance(event, Diagnostic) for event in news) <= 60
    assert len(lab.server.events) == told
    assert _fine(lab, client)


def test_fragments_without_end() -> None:
    """Of an ISAKMP SA that is there, and of none: nothing grows."""
    lab = lab_v1()
    client = lab.client()
    sent = _sent_by(client)
    lab.connect(client)
    header = Header.parse(sent[0].payload)
    later = Header.parse(sent[2].payload[4:])
    hub, chance = lab.server.tunnel._ike._v1._hub, Random(5)  # type: ignore[union-attr]
    for number in range(2000):
        whose = later if number % 2 else replace(header, cookie_r=chance.randbytes(8))
        part = Fragment(number // 8, 1 + number % 8, is_last=False, data=chance.randbytes(600))
        octets = emit_message(whose, [part])
        path = Path(UdpAddress(SERVER_IP, NATT_PORT), UdpAddress(client.ip, NATT_PORT))
        _answers(lab.server.tunnel, bytes(4) + octets, path, lab.world.now)
    assert sum(r.octets for r in hub._reassemblies.values()) <= 33_000
    assert _fine(lab, client)


@MODES
def test_certificates_go_in_fragments_where_the_wire_carries_none(mode: Mode) -> None:
    server, client_proof = person("RSA", SERVER), person("RSA", CLIENT)
    chain = replace(server.proof, certificates=server.proof.certificates * 3)
    terms = TermsV1(
        exchange=mode,
        proof=replace(client_proof.proof, certificates=client_proof.proof.certificates * 3),
        demand=trust(),
        pad=(PadEntry(proof=chain, demand=trust()),),
    )
    lab = lab_v1(terms=terms, quality=Quality(mtu=1280, fragments=False))
    client = lab.client(behind=lab.nat())
    sent = _sent_by(client)
    lab.connect(client)
    assert any(d.payload[4 + 16] == 132 for d in sent if d.source.port == NATT_PORT)
    assert _fine(lab, client)
