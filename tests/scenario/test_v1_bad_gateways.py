"""Gateways that want more of a client than they should get, and some that only pose as one."""

from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address

import pytest

from espudp.ike.config import Identity
from espudp.ike.credentials import NoDemand, NoProof, Psk, PskOf, SignKey
from espudp.ike.events import AddressAssigned, ChildInstalled, ConnectionDown, ConnectionUp, Diagnostic
from espudp.ike.ikev1_config import Mode
from espudp.ike.lifetimes import LifetimeConfig
from espudp.ike.pad import PadEntry
from espudp.ike.v1 import configuration, login
from espudp.ike.v1.life import Life
from espudp.ike.xauth import XauthLogin
from espudp.wire.ikev1.attributes import Attribute
from espudp.wire.ikev1.constants import (
    AuthMethod,
    CfgAttribute,
    CfgType,
    ExchangeType,
    NotifyType,
    ProtocolId,
    XauthType,
)
from espudp.wire.ikev1.header import Header
from espudp.wire.ikev1.message import emit_message, parse_message
from espudp.wire.ikev1.payloads import Attributes, Delete, Notification, Payload, SecurityAssociation
from espudp.wire.selectors import TrafficSelector
from tests.scenario.credentials import CLIENT as NAME
from tests.scenario.credentials import SERVER as SERVER_NAME
from tests.scenario.credentials import person, trust
from tests.scenario.strangers_v1 import (
    ESP,
    client_v1,
    connection_of,
    offer,
    pair_v1,
    said,
    server_v1,
    states_of,
    transform,
    users,
)
from tests.unit.ike.pair import PSK, Pair, client_child

ALICE = XauthLogin(user="alice", password="open sesame")
MODES = pytest.mark.parametrize("mode", [pytest.param(mode, id=mode.value) for mode in Mode])


@pytest.fixture
def passwords(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Whom a client has told its password."""
    told: list[str] = []
    answer = login.LoginClient._attributes

    def noted(self: login.LoginClient, request: Attributes) -> list[Attribute]:
        answers = list(answer(self, request))
        told.extend("told" for each in answers if each.type == CfgAttribute.XAUTH_USER_PASSWORD)
        return answers

    monkeypatch.setattr(login.LoginClient, "_attributes", noted)
    return told


def _logged_in() -> Pair:
    """A client by XAUTH, and a gateway that knows it."""
    entry = PadEntry(proof=Psk(PSK), demand=PskOf(PSK), xauth=users(alice=ALICE.password))
    return pair_v1(client_v1(Mode.AGGRESSIVE, login=ALICE), server_v1(entry))


# Before it has proved anything


@MODES
def test_a_gateway_without_the_certificate_gets_no_password(mode: Mode, passwords: list[str]) -> None:
    """Hybrid authentication: it signs with a key of its own, which nobody vouches for as the gateway's."""
    genuine, of_another = person("RSA", SERVER_NAME).proof, person("RSA", NAME).proof
    assert isinstance(genuine, SignKey)
    assert isinstance(of_another, SignKey)
    client = client_v1(mode, login=ALICE, proof=NoProof(), demand=trust(), remote_identity=None)
    client = replace(client, remote_identity=Identity.parse(SERVER_NAME))
    forged = replace(of_another, certificates=genuine.certificates)  # the right certificate, another key
    for proof in (of_another, forged):
        entry = PadEntry(proof=proof, demand=NoDemand(), xauth=users(alice=ALICE.password))
        pair = pair_v1(client, server_v1(entry))
        pair.dial()
        pair.wait(100.0)
        assert not pair.client.told(ConnectionUp)
        assert passwords == []
    entry = PadEntry(proof=genuine, demand=NoDemand(), xauth=users(alice=ALICE.password))
    assert pair_v1(client, server_v1(entry, local_identity=Identity.parse(SERVER_NAME))).connect()
    assert passwords == ["told"]


@MODES
@pytest.mark.parametrize("step", range(1, 6))
def test_who_asks_before_phase_1_is_over_gets_no_password(
    mode: Mode, step: int, passwords: list[str]
) -> None:
    """In the clear, with the right cookies, under any exchange and message ID."""
    pair = _logged_in()
    pair.dial(replace(client_v1(mode, login=ALICE)))
    ask = Attributes(CfgType.REQUEST, 1, (Attribute(CfgAttribute.XAUTH_USER_PASSWORD, b""),))
    sides = [pair.client, pair.server]
    for number in range(step):
        for datagram in pair.take(sides[number % 2]):
            pair.give(sides[1 - number % 2], datagram)
    heard = passwords.copy()
    (_, path) = pair.wire[0]
    seen = Header.parse(pair.wire[-1][0])
    for kind in (ExchangeType.TRANSACTION, ExchangeType.INFORMATIONAL, seen.exchange):
        for message_id in (0, 77):
            header = Header(seen.cookie_i, seen.cookie_r, 0, kind, message_id)
            pair.client.endpoint.receive_datagram(emit_message(header, [ask]), path, pair.now)
    assert passwords == heard


_ANSWERS: dict[str, Callable[[], SecurityAssociation]] = {
    "another cipher": lambda: offer(transform(encryption=5)),
    "no cipher": lambda: offer(transform(encryption=0)),
    "DES": lambda: offer(transform(encryption=1)),
    "a shorter key": lambda: offer(transform(key_length=40)),
    "a longer key": lambda: offer(transform(key_length=256)),
    "MD5": lambda: offer(transform(hash=1)),
    "another group": lambda: offer(transform(group=2)),
    "no login": lambda: offer(transform(authentication=AuthMethod.PSK)),
    "hybrid": lambda: offer(transform(authentication=AuthMethod.HYBRID_INIT_RSA)),
    "signatures": lambda: offer(transform(authentication=AuthMethod.RSA_SIGNATURE)),
    "two at once": lambda: offer(transform(1, authentication=65001), transform(2, authentication=65001)),
}


@MODES
@pytest.mark.parametrize("answer", _ANSWERS)
def test_a_choice_that_was_not_offered_is_not_taken(mode: Mode, answer: str, passwords: list[str]) -> None:
    pair = _logged_in()
    pair.dial(client_v1(mode, login=ALICE))
    for _ in range(3):
        pair.move(pair.client)
        for data, path in pair.take(pair.server):
            message = parse_message(data) if not Header.parse(data).encrypted else None
            if message is not None:
                changed: list[Payload] = [
                    _ANSWERS[answer]() if isinstance(p, SecurityAssociation) else p for p in message.payloads
                ]
                data = emit_message(message.header, changed)
            pair.give(pair.client, (data, path))
    assert not pair.client.told(ConnectionUp)
    assert len(pair.take(pair.client)) <= 1
    assert passwords == []


# After it has


def test_a_password_is_told_to_a_gateway_once_at_a_time(passwords: list[str]) -> None:
    """And what it says while it asks again goes to the log a few times, not for ever."""
    pair = _logged_in().connect()
    assert passwords == ["told"]
    pair.client.forget()
    for number in range(200):
        asked = (
            Attribute(CfgAttribute.XAUTH_MESSAGE, f"hello {number}".encode()),
            Attribute(CfgAttribute.XAUTH_USER_PASSWORD, b""),
        )
        pair.give(
            pair.client,
            said(pair.server, ExchangeType.TRANSACTION, Attributes(CfgType.REQUEST, number, asked)),
        )
        pair.take(pair.client)
        pair.now += 0.01
        pair.client.endpoint.handle_timer(pair.now)
        if pair.client.told(ConnectionDown):
            break
    assert len(pair.client.told(Diagnostic)) <= 60


def test_no_one_time_password_is_made_up() -> None:
    """Of the types that XAUTH has, two are spoken here; for the others nothing is said that could help."""
    for kind in (XauthType.OTP, XauthType.S_KEY, 77):
        client = login.LoginClient(ALICE)
        asked = (
            Attribute.of(CfgAttribute.XAUTH_TYPE, kind),
            Attribute(CfgAttribute.XAUTH_USER_NAME, b""),
            Attribute(CfgAttribute.XAUTH_USER_PASSWORD, b""),
        )
        answer = client.answer(Attributes(CfgType.REQUEST, 1, asked))
        assert answer.trouble is not None
        assert ALICE.password.encode() not in b"".join(a.value for a in answer.attributes)


def _packed(address: str) -> bytes:
    return ip_address(address).packed


def _pushes(pair: Pair, monkeypatch: pytest.MonkeyPatch, *attributes: Attribute) -> list[AddressAssigned]:
    """What a client makes of a gateway that says this beside an address that will do."""
    given = Attribute(CfgAttribute.INTERNAL_IP4_ADDRESS, _packed("10.99.0.2"))
    monkeypatch.setattr(configuration, "reply", lambda *_: (given, *attributes))
    pair.dial()
    pair.flush()
    return pair.client.told(AddressAssigned)


def test_what_a_gateway_says_has_nothing_that_moves_a_cursor(monkeypatch: pytest.MonkeyPatch) -> None:
    evil = b"a\x1b[2J\x07\r\nnameserver 192.0.2.66\n\xe2\x80\xae" + b"x" * 2000
    kinds = [
        CfgAttribute.UNITY_BANNER,
        CfgAttribute.UNITY_DEFAULT_DOMAIN,
        CfgAttribute.UNITY_SPLIT_DNS,
        CfgAttribute.UNITY_BACKUP_SERVERS,
        CfgAttribute.APPLICATION_VERSION,
        CfgAttribute.INTERNAL_IP4_DNS,
        CfgAttribute.INTERNAL_IP4_SUBNET,
        CfgAttribute.INTERNAL_IP4_NETMASK,
        CfgAttribute.XAUTH_MESSAGE,
    ]
    (told,) = _pushes(pair_v1(), monkeypatch, *(Attribute(kind, evil) for kind in kinds))
    for text in (told.application, *told.domains, *told.dns, *told.subnets, *told.banner.split("\n")):
        assert text.isprintable()
    assert not any(" " in domain or "\n" in domain for domain in told.domains)
    assert len(told.banner) <= 4096
    assert not told.dns


def test_lists_without_end_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    servers = [Attribute(CfgAttribute.INTERNAL_IP4_DNS, bytes([10, 0, 0, n])) for n in range(1, 101)]
    networks = b"".join(bytes([10, n, 0, 0, 255, 255, 0, 0]) + bytes(6) for n in range(200))
    names = ",".join(f"n{n}.example.org" for n in range(500)).encode()
    subnets = [
        Attribute(CfgAttribute.INTERNAL_IP4_SUBNET, bytes([10, n, 0, 0, 255, 255, 0, 0])) for n in range(100)
    ]
    (told,) = _pushes(
        pair_v1(),
        monkeypatch,
        *servers,
        *subnets,
        Attribute(CfgAttribute.UNITY_SPLIT_INCLUDE, networks),
        Attribute(CfgAttribute.UNITY_SPLIT_DNS, names),
    )
    assert (len(told.dns), len(told.domains), len(told.subnets)) == (8, 32, 64)


@pytest.mark.parametrize(
    "include", ["0.0.0.0/0", "0.0.0.0/1", "192.168.0.0/16", "198.51.100.0/24", "127.0.0.0/8", "192.0.2.1/32"]
)
def test_a_gateway_gets_no_more_than_was_asked_for(monkeypatch: pytest.MonkeyPatch, include: str) -> None:
    """Split include makes less of what the user wants to have carried, never more."""
    network = TrafficSelector.from_network(include)
    value = network.first.packed + network.networks()[0].netmask.packed + bytes(6)
    pair = pair_v1()
    _pushes(pair, monkeypatch, Attribute(CfgAttribute.UNITY_SPLIT_INCLUDE, value))
    (child,) = pair.client.told(ChildInstalled)
    wanted = TrafficSelector.from_network("10.1.0.0/16")
    assert all(wanted.contains(part) for part in child.remote)
    assert [str(part) for part in child.local] == ["10.99.0.2/32"]


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"])
def test_no_address_that_a_host_cannot_have(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    only = Attribute(CfgAttribute.INTERNAL_IP4_ADDRESS, _packed(address))
    monkeypatch.setattr(configuration, "reply", lambda *_: (only,))
    pair = pair_v1()
    pair.dial()
    pair.flush()
    assert not any(address in told.addresses for told in pair.client.told(AddressAssigned))


@pytest.mark.parametrize("seconds", [0, 1, 2])
def test_lifetimes_of_a_moment_make_no_storm(seconds: int) -> None:
    """Of both phases, as the gateway chooses them: nothing is renewed more often than once in 50 s."""
    for config in (LifetimeConfig(), LifetimeConfig(soft_seconds=None, hard_seconds=None)):
        limited = Life(seconds, seconds).limit(config)
        assert limited.hard_seconds is not None
        assert limited.soft_seconds is not None
        assert limited.hard_seconds >= 60
        assert limited.soft_seconds >= 50
        assert (limited.hard_bytes or 0) >= 1 << 20


def test_a_child_sa_that_is_deleted_again_and_again_is_asked_for_ever_less() -> None:
    """By Delete or INVALID-SPI, as soon as it is there."""
    pair = pair_v1().connect()
    made = len(pair.client.told(ChildInstalled))
    for _ in range(300):
        for child in pair.server.children:
            spi = child.spi_in.to_bytes(4)
            pair.give(
                pair.client, said(pair.server, ExchangeType.INFORMATIONAL, Delete(ProtocolId.ESP, (spi,)))
            )
            invalid = Notification(ProtocolId.ESP, spi, NotifyType.INVALID_SPI, spi)
            pair.give(pair.client, said(pair.server, ExchangeType.INFORMATIONAL, invalid))
            (number,) = {up.connection for up in pair.server.told(ConnectionUp)}
            pair.server.endpoint.delete_child(number, child.spi_in, pair.now)
        pair.wait(2.0)
    assert len(pair.client.told(ChildInstalled)) - made <= 12


def test_questions_of_a_gateway_leave_nothing_behind() -> None:
    pair = pair_v1().connect()
    pair.wait(200.0)
    before = states_of(pair.client)
    for number in range(500):
        asked = Notification(ProtocolId.ISAKMP, b"", NotifyType.R_U_THERE, (1 << 31 | number).to_bytes(4))
        pair.give(pair.client, said(pair.server, ExchangeType.INFORMATIONAL, asked))
        assert len(pair.take(pair.client)) == 1
    assert states_of(pair.client) == before
    assert connection_of(pair.client).current is not None


@pytest.mark.parametrize("remote", ["0.0.0.0/0", "10.2.0.0/16", "192.168.0.0/16", "10.1.0.0/15"])
def test_a_gateway_asks_for_no_more_than_the_client_wants(remote: str) -> None:
    """A quick mode of the gateway's own, for more of its side, and for all of the client's."""
    pair = pair_v1().connect()
    (up,) = pair.server.told(ConnectionUp)
    behind = "10.1.0.0/16"
    for ours, theirs in ((remote, "10.99.0.2/32"), (behind, "0.0.0.0/0"), (behind, "192.168.0.0/16")):
        child = replace(client_child(ESP), local=_selectors(ours), remote=_selectors(theirs))
        pair.server.endpoint.create_child(up.connection, child, pair.now)
        pair.flush()
    mine, wanted = _selectors("10.99.0.2/32", behind)
    for made in pair.client.children:
        assert all(mine.contains(part) for part in made.local)
        assert all(wanted.contains(part) for part in made.remote)


def test_child_sas_of_a_gateway_without_end_are_not_kept() -> None:
    pair = pair_v1().connect()
    (up,) = pair.server.told(ConnectionUp)
    child = replace(client_child(ESP), local=_selectors("10.1.0.0/16"), remote=_selectors("10.99.0.2/32"))
    for _ in range(300):
        pair.server.endpoint.create_child(up.connection, child, pair.now)
        pair.flush()
    assert len(pair.client.children) <= 4 * 32


def _selectors(*texts: str) -> tuple[TrafficSelector, ...]:
    return tuple(TrafficSelector.from_network(text) for text in texts)


def test_nobody_but_who_is_called_answers(passwords: list[str]) -> None:
    """A gateway that has the key of the group, and is another than the one that was meant."""
    entry = PadEntry(proof=Psk(PSK), demand=PskOf(PSK), xauth=users(alice=ALICE.password))
    server = server_v1(entry, local_identity=Identity.parse("evil.example.org"))
    for mode in Mode:
        pair = pair_v1(client_v1(mode, login=ALICE), server)
        pair.dial()
        pair.wait(60.0)
        assert not pair.client.told(ConnectionUp)
    assert passwords == []


def test_the_key_of_a_group_is_good_for_a_gateway_of_no_name(passwords: list[str]) -> None:
    """What README warns of: who has it, and is not asked for a name, gets the password of who calls."""
    entry = PadEntry(proof=Psk(PSK), demand=PskOf(PSK), xauth=users(alice="whatever"))
    server = server_v1(entry, local_identity=Identity.parse("evil.example.org"))
    pair = pair_v1(client_v1(Mode.AGGRESSIVE, login=ALICE, remote_identity=None), server)
    pair.dial()
    pair.flush()
    assert passwords == ["told"]
