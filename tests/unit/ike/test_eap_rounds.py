"""IKE_AUTH in several rounds (RFC 7296 section 2.16): EAP, further proofs, and peers that break the rules."""

import itertools
from dataclasses import replace
from random import Random

import pytest

from espudp.errors import ConfigError
from espudp.ike.config import ConnectionConfig, Identity
from espudp.ike.credentials import (
    ByEap,
    Demand,
    EapClient,
    EapOf,
    NoDemand,
    NoProof,
    Proof,
    Psk,
    PskOf,
)
from espudp.ike.eap.login import EapLogin, EapUsers
from espudp.ike.eap.passthrough import BackendAnswer, EapRadius, Verdict
from espudp.ike.eap.users import UserTable, parse_users
from espudp.ike.events import BackendAsked, ConnectionDown, ConnectionUp, Fault, PeerRefused
from espudp.ike.pad import PadEntry, Pattern
from espudp.ike.v2.auth_initiator import AuthSent
from espudp.ike.v2.auth_responder import AwaitAuth
from espudp.wire.eap import EapCode, EapPacket, EapType
from espudp.wire.ikev2.constants import AuthMethod, ExchangeType, NotifyType
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.payloads import (
    Authentication,
    Eap,
    IdInitiator,
    Notify,
    Payload,
)
from tests.scenario.credentials import SERVER as SERVER_NAME
from tests.scenario.credentials import person, trust
from tests.unit.ike.pair import CLIENT_ID, Pair, client_config, mirrored, path_to_server, server_config

METHODS = [EapType.MSCHAPV2, EapType.MD5_CHALLENGE, EapType.GTC]
GATEWAY = person("P-256", SERVER_NAME)


def _login(password: str = "secret", *methods: EapType, user: str = "alice") -> EapClient:
    return EapClient(EapLogin(user=user, password=password, methods=methods))


def _users(*methods: EapType) -> EapOf:
    table = UserTable(parse_users(b"alice:secret\nbob@example.org:hidden\n"), Random(1).randbytes)
    return EapOf(EapUsers(users=table, methods=methods))


def _entry(demand: Demand, *further: Demand, proof: Proof = GATEWAY.proof) -> PadEntry:
    return PadEntry(proof=proof, demand=demand, further=further)


def _client(proof: Proof | None = None, demand: Demand | None = None) -> ConnectionConfig:
    return client_config(proof=proof or _login(), demand=demand or trust())


def _pair(client: ConnectionConfig, *entries: PadEntry) -> Pair:
    return Pair(client, server_config(pad=entries))


def _refused(pair: Pair) -> tuple[ConnectionDown, str]:
    """How it ends on both sides: at the client, and what the server says."""
    pair.dial()
    pair.flush()
    assert not pair.client.told(ConnectionUp)
    (down,) = pair.client.told(ConnectionDown)
    refusals = pair.server.told(PeerRefused)
    return down, " ".join(f"{r.reason} {r.detail}" for r in refusals)


# What works


@pytest.mark.parametrize("method", METHODS)
def test_a_login(method: EapType) -> None:
    """With a key of the method (MSCHAPv2), and without one."""
    pair = _pair(_client(), _entry(_users(method))).connect()
    pair.client.endpoint.check_alive(1, pair.now)
    pair.flush()
    assert str(pair.server.connection.peer.identity) == "keyid:alice"
    assert str(pair.client.connection.peer.identity) == SERVER_NAME


def test_users_are_known_by_their_login() -> None:
    """Not by IDi, which is anybody's word."""
    login = _login("hidden", user="bob@example.org")
    pair = _pair(_client(login), _entry(_users())).connect()
    assert pair.server.connection.peer.identity == Identity.parse("bob@example.org")


def test_several_ways_in_beside_eap() -> None:
    entries = _entry(PskOf(b"psk"), proof=Psk(b"psk")), _entry(_users())
    _pair(_client(), *entries).connect()
    _pair(_client(Psk(b"psk"), PskOf(b"psk")), *entries).connect()


def test_a_lost_message_in_the_middle() -> None:
    pair = _pair(_client(), _entry(_users()))
    pair.dial()
    sent = itertools.count()
    for _ in range(40):
        pair.move(pair.client, lose=lambda _: next(sent) % 2 == 0)
        pair.move(pair.server)
        pair.wait(1.0, flush=False)
    assert pair.client.told(ConnectionUp)


@pytest.mark.parametrize(("second", "left"), [("laptop", 2), ("phone", 1)])
def test_one_user_at_two_hosts(second: str, left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """INITIAL_CONTACT of others speaks for what calls itself the same in IDi, not for all of one name."""
    monkeypatch.setattr(AuthSent, "_is_only_contact", lambda self: True)
    configs = [replace(_client(), local_identity=Identity.parse(name)) for name in ("phone", second)]
    pair = _pair(configs[0], _entry(_users())).connect()
    other = Pair(configs[1], seed=1)
    other.server = pair.server
    other.dial(source=40_000)
    other.flush()
    assert len(pair.server.endpoint._hub.connections) == left


# What does not


@pytest.mark.parametrize("method", METHODS)
def test_the_wrong_password(method: EapType) -> None:
    down, said = _refused(_pair(_client(_login("wrong")), _entry(_users(method))))
    assert (down.fault, down.retry) == (Fault.AUTHENTICATION, False)
    assert "password" in down.reason + down.remedy
    assert "wrong user name or password" in said


def test_a_user_that_is_not() -> None:
    down, said = _refused(_pair(_client(_login(user="mallory")), _entry(_users())))
    assert down.fault is Fault.AUTHENTICATION
    assert "wrong user name or password" in said


def test_no_eap_for_this_peer() -> None:
    _, said = _refused(_pair(_client(), _entry(PskOf(b"x"), proof=Psk(b"x"))))
    assert "--eap-users" in said


def test_a_peer_without_eap_where_it_is_wanted() -> None:
    down, said = _refused(_pair(_client(Psk(b"x")), _entry(_users())))
    assert down.fault is Fault.AUTHENTICATION
    assert "not by EAP" in said


def test_a_gateway_that_proves_itself_by_something_else() -> None:
    """Nothing is said to it in EAP: the password is not for strangers."""
    pair = _pair(_client(demand=trust("CN=Another")), _entry(_users(EapType.GTC)))
    down, _ = _refused(pair)
    assert down.fault is Fault.AUTHENTICATION
    assert len(pair.wire) == 5  # IKE_SA_INIT, one IKE_AUTH, and the refusal


def test_weak_methods_do_not_prove_a_gateway() -> None:
    """RFC 5998 section 4: without its certificate, MSCHAPv2 is not spoken."""
    pair = _pair(_client(demand=ByEap()), _entry(_users(EapType.MSCHAPV2), proof=ByEap()))
    down, said = _refused(pair)
    assert down.fault is Fault.AUTHENTICATION
    assert "none of the EAP methods" in said


def test_eap_only_takes_two() -> None:
    _, said = _refused(_pair(_client(), _entry(_users(), proof=ByEap())))
    assert "RFC 5998" in said
    with pytest.raises(ConfigError, match="EAP cannot prove"):
        client_config(demand=ByEap())


# Hostile peers


def _sas(pair: Pair) -> tuple[AuthSent, AwaitAuth]:
    (client,), (server,) = pair.client.states, pair.server.states
    assert isinstance(client, AuthSent)
    assert isinstance(server, AwaitAuth)
    return client, server


def _begun() -> Pair:
    """The server has proved itself, and asks who is there."""
    pair = _pair(_client(), _entry(_users()))
    pair.dial()
    for _ in range(2):
        pair.move(pair.client)
        pair.move(pair.server)
    return pair


def _ask(pair: Pair, message_id: int, *payloads: Payload) -> None:
    """A request to the server that the client would not make."""
    sa = _sas(pair)[0]._sa
    header = Header(sa.spi_i, sa.spi_r, 0, ExchangeType.IKE_AUTH, True, False, message_id)
    sealed = sa._protection.seal(header, payloads)
    pair.give(pair.server, (sealed, path_to_server(4500)))


def _answer(pair: Pair, message_id: int, *payloads: Payload) -> None:
    """An answer to the client that the server would not give."""
    sa = _sas(pair)[1]._sa
    header = Header(sa.spi_i, sa.spi_r, 0, ExchangeType.IKE_AUTH, False, True, message_id)
    sealed = sa._protection.seal(header, payloads)
    pair.give(pair.client, (sealed, mirrored(path_to_server(4500))))


SUCCESS = Eap(EapPacket(EapCode.SUCCESS, 1).emit())
FORGED = Authentication(AuthMethod.SHARED_KEY, bytes(32))


@pytest.mark.parametrize(
    "payloads",
    [
        (FORGED,),
        (Eap(b"\x02\x01\x00\x05\x01"), FORGED),
        (IdInitiator(2, b"alice"), FORGED),
        (IdInitiator(2, b"alice"),),
        (),
        (Notify.of(NotifyType.INITIAL_CONTACT),),
    ],
)
def test_who_does_not_finish_eap_gets_nothing(payloads: tuple[Payload, ...]) -> None:
    pair = _begun()
    _ask(pair, 2, *payloads)
    (refused,) = pair.server.told(PeerRefused)
    assert refused.reason
    assert not pair.server.told(ConnectionUp)
    assert "Established" not in pair.server.state_names


@pytest.mark.parametrize("packet", [SUCCESS.data, b"\x02\x63\x00\x05\x01", b"\x02\x00\x00\x04", bytes(4)])
def test_eap_that_is_none_ends_it(packet: bytes) -> None:
    pair = _begun()
    _ask(pair, 2, Eap(packet))
    assert len(pair.server.told(PeerRefused)) == 1
    assert not pair.server.told(ConnectionUp)


def test_an_identity_of_64_kilobytes() -> None:
    pair = _begun()
    packet = b"\x02\x00" + (60_000).to_bytes(2) + b"\x01" + b"x" * 59_995
    _ask(pair, 2, Eap(packet))
    assert len(pair.server.told(PeerRefused)) == 1


def test_success_before_the_method_ends() -> None:
    pair = _pair(_client(), _entry(_users()))
    pair.dial()
    pair.move(pair.client)
    pair.move(pair.server)
    pair.move(pair.client)  # IKE_AUTH
    pair.move(pair.server)  # who is there?
    pair.take(pair.client)
    _answer(pair, 2, SUCCESS)
    (down,) = pair.client.told(ConnectionDown)
    assert down.fault is Fault.AUTHENTICATION
    assert "success before" in down.reason


@pytest.mark.parametrize(
    "payloads",
    [(), (FORGED,), (Eap(b"\x01\x01\x00\x05\x01"), FORGED), (Eap(b"\x01\x01\x00\x05\x01"), SUCCESS)],
)
def test_answers_that_are_no_eap(payloads: tuple[Payload, ...]) -> None:
    pair = _begun()
    pair.take(pair.client)
    _answer(pair, 2, *payloads)
    (down,) = pair.client.told(ConnectionDown)
    assert down.fault in (Fault.PROTOCOL, Fault.AUTHENTICATION)


def test_who_was_between_the_two_does_not_get_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 7296 section 2.16: AUTH at the end is from the key of the method."""
    from espudp.ike.eap.peer import EapPeer

    monkeypatch.setattr(EapPeer, "msk", property(lambda self: bytes(64)))
    down, said = _refused(_pair(_client(), _entry(_users(EapType.MSCHAPV2))))
    assert down.fault is Fault.AUTHENTICATION
    assert "not the one that has spoken EAP" in said


def test_a_server_without_the_key_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = _pair(_client(), _entry(_users(EapType.MSCHAPV2)))
    pair.dial()
    for _ in range(12):
        pair.move(pair.client)
        sent = pair.take(pair.server)
        client = next((s for s in pair.client.states if isinstance(s, AuthSent)), None)
        if client is not None and client._turns[0].proves:
            sa = pair.server.ike.sa
            last = sa.incoming.expected_id - 1
            header = Header(sa.spi_i, sa.spi_r, 0, ExchangeType.IKE_AUTH, False, True, last)
            forged = sa._protection.seal(header, [FORGED])
            sent = [(forged, mirrored(path_to_server(4500)))]
        for datagram in sent:
            pair.give(pair.client, datagram)
    assert not pair.client.told(ConnectionUp)
    assert pair.client.told(ConnectionDown)[0].fault is Fault.AUTHENTICATION


def test_patience_has_an_end() -> None:
    """Who answers each round at the last moment does not hold a half-open IKE SA for ever."""
    pair = _begun()
    server = _sas(pair)[1]
    assert server.deadline <= server._latest
    pair.wait(400.0, flush=False)
    assert pair.server.states == []


# A RADIUS server decides


def test_somebody_else_decides() -> None:
    pair = _pair(_client(_login("secret", EapType.GTC)), _entry(EapOf(EapRadius())))
    pair.dial()
    pair.flush()
    (asked,) = pair.server.told(BackendAsked)
    assert asked.question.identity == b"alice"
    request = next(
        d for d in reversed(pair.wire) if d[1].remote.port == 4500 and d[1].local.ip == "198.51.100.7"
    )
    sent = len(pair.wire)
    pair.give(pair.server, request)  # once more: it has to wait, and nobody is asked twice
    pair.flush()
    assert len(pair.wire) == sent
    assert len(pair.server.told(BackendAsked)) == 1
    identifier = asked.question.packet[1]

    def decide(verdict: Verdict, packet: EapPacket) -> None:
        answer = BackendAnswer(verdict=verdict, packet=packet.emit(), state=(0, b""))
        pair.server.endpoint.backend_answered(pair.server.told(BackendAsked)[-1].handle, answer, pair.now)
        pair.flush()

    decide(Verdict.CHALLENGE, EapPacket(EapCode.REQUEST, identifier + 1, EapType.GTC, b"Password:"))
    assert len(pair.server.told(BackendAsked)) == 2
    assert b"secret" in pair.server.told(BackendAsked)[-1].question.packet
    decide(Verdict.ACCEPT, EapPacket(EapCode.SUCCESS, identifier + 1))
    assert pair.client.told(ConnectionUp)
    assert pair.server.told(ConnectionUp)
    decide(Verdict.ACCEPT, EapPacket(EapCode.SUCCESS, identifier + 1))  # too late: nothing happens
    pair.server.endpoint.backend_answered(0, BackendAnswer(verdict=Verdict.REJECT), pair.now)


def test_somebody_else_refuses() -> None:
    pair = _pair(_client(), _entry(EapOf(EapRadius())))
    pair.dial()
    pair.flush()
    handle = pair.server.told(BackendAsked)[0].handle
    pair.server.endpoint.backend_answered(handle, BackendAnswer(verdict=Verdict.REJECT), pair.now)
    pair.flush()
    assert pair.client.told(ConnectionDown)[0].fault is Fault.AUTHENTICATION
    assert "not let in" in pair.server.told(PeerRefused)[0].reason


# Several proofs (RFC 4739)


CLIENT = person("P-256", "client@example.org")


def test_a_certificate_and_a_login() -> None:
    config = replace(_client(CLIENT.proof), further=((Identity.parse("alice"), _login()),))
    config = replace(config, local_identity=Identity.parse("client@example.org"))
    pair = _pair(config, _entry(trust(), _users())).connect()
    assert pair.server.connection.peer.identity == Identity.parse("client@example.org")
    pair.client.endpoint.check_alive(1, pair.now)
    pair.flush()


def test_a_login_and_a_psk() -> None:
    config = replace(_client(), further=((CLIENT_ID, Psk(b"second")),))
    _pair(config, _entry(_users(), PskOf(b"second"))).connect()


@pytest.mark.parametrize(
    ("further", "wanted", "said"),
    [
        ((), (PskOf(b"second"),), "gives one proof, and is to give 2"),
        (((CLIENT_ID, Psk(b"wrong")),), (PskOf(b"second"),), "does not know the PSK"),
        (((CLIENT_ID, _login()),), (PskOf(b"second"),), "wants EAP"),
        (((CLIENT_ID, Psk(b"second")),), (_users(),), "not by EAP"),
    ],
)
def test_the_second_proof_counts(
    further: tuple[tuple[Identity, Proof], ...], wanted: tuple[Demand, ...], said: str
) -> None:
    config = replace(_client(Psk(b"first")), further=further)
    down, told = _refused(_pair(config, _entry(PskOf(b"first"), *wanted)))
    assert down.fault is Fault.AUTHENTICATION
    assert said in told


def test_a_second_proof_that_nobody_takes() -> None:
    config = replace(_client(Psk(b"first")), further=((CLIENT_ID, Psk(b"second")),))
    pair = _pair(config, _entry(PskOf(b"first")))
    pair.dial()
    pair.wait(10.0)
    (down,) = pair.client.told(ConnectionDown)
    assert "takes one proof" in down.reason


# Nothing at all (RFC 7619)


def test_anonymous_clients() -> None:
    pair = _pair(_client(NoProof()), _entry(NoDemand())).connect()
    assert pair.server.connection.peer.identity.is_nobody
    assert str(pair.client.connection.peer.identity) == SERVER_NAME


def test_anonymous_on_both_sides() -> None:
    config = replace(_client(NoProof(), NoDemand()), remote_identity=None)
    pair = _pair(config, _entry(NoDemand(), proof=NoProof())).connect()
    assert pair.client.connection.peer.identity.is_nobody


def test_strangers_do_not_take_each_others_place() -> None:
    """RFC 7619 section 2.3: INITIAL_CONTACT of one of them says nothing of the others."""
    pair = _pair(_client(NoProof()), _entry(NoDemand())).connect()
    pair.dial(source=40_000)
    pair.flush()
    assert len(pair.server.endpoint._hub.connections) == 2


@pytest.mark.parametrize("demand", [PskOf(b"x"), trust(), GATEWAY.raw_demand, _users()])
def test_nobody_is_let_in_who_was_not_asked_to_be_nobody(demand: Demand) -> None:
    down, _ = _refused(_pair(_client(NoProof()), _entry(demand)))
    assert down.fault is Fault.AUTHENTICATION


def test_a_server_that_proves_nothing_is_not_believed() -> None:
    pair = _pair(_client(Psk(b"x"), PskOf(b"x")), _entry(PskOf(b"x"), proof=NoProof()))
    pair.dial()
    pair.flush()
    assert pair.client.told(ConnectionDown)[0].fault is Fault.AUTHENTICATION


def test_nobody_with_a_name_is_nobody() -> None:
    """An entry for one name does not make a stranger of that name its owner."""
    entry = replace(_entry(NoDemand()), peers=(Pattern(CLIENT_ID),))
    down, said = _refused(_pair(_client(NoProof()), entry))
    assert down.fault is Fault.AUTHENTICATION
    assert "nobody is expected" in said


def test_the_child_sa_of_the_first_request() -> None:
    """It is asked for at first, and answered at last."""
    pair = _pair(_client(), _entry(_users()))
    pair.dial()
    pair.flush()
    pair.agree()
    assert pair.client.children
