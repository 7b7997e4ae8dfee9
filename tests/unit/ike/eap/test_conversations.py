"""EAP between our client and our server: each method, each way to fail, and those who break the rules."""

from collections.abc import Callable
from importlib import import_module
from operator import attrgetter

import pytest

from espudp.errors import ConfigError
from espudp.ike.eap.login import EapLogin
from espudp.ike.eap.method import MAX_ROUNDS, Outcome
from espudp.ike.eap.peer import EapPeer
from espudp.ike.eap.server import EapServer
from espudp.wire.eap import EapCode, EapPacket, EapType
from espudp.wire.ikev2.payloads import Eap
from tests.unit.ike.eap.talk import PASSWORD, chance, login, packets, service, talk

MD5, GTC, MSCHAPV2 = EapType.MD5_CHALLENGE, EapType.GTC, EapType.MSCHAPV2
METHODS = (MD5, GTC, MSCHAPV2)
REQUEST, RESPONSE = EapCode.REQUEST, EapCode.RESPONSE


def _request(identifier: int, type_: int, data: bytes = b"") -> bytes:
    return EapPacket(REQUEST, identifier, type_, data).emit()


def _response(identifier: int, type_: int, data: bytes = b"") -> bytes:
    return EapPacket(RESPONSE, identifier, type_, data).emit()


def _failed(side: EapPeer | EapServer) -> str:
    assert side.outcome is Outcome.FAILURE
    assert side.msk is None
    assert side.error is not None
    return str(side.error)


# --- as it should be --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("user", "password"), [("alice", PASSWORD), ("jürgen", "schön€")])
def test_a_login(method: EapType, user: str, password: str) -> None:
    peer, server = login(user, password), service(method)
    said = talk(peer, server)
    assert (peer.outcome, server.outcome) == (Outcome.SUCCESS, Outcome.SUCCESS)
    assert server.identity == user.encode()
    assert peer.method == server.method == method
    assert peer.msk == server.msk
    assert (peer.msk is not None) == (method == MSCHAPV2)
    # A response has its request's identifier, and no two requests in a row have the same
    pairs = list(zip(said[::2], said[1::2], strict=False))
    assert all(request.identifier == response.identifier for request, response in pairs)
    assert len({request.identifier for request, _ in pairs}) == len(pairs)


def test_keys_are_fresh_with_each_conversation() -> None:
    keys = set()
    for seed in range(3):
        server = service(MSCHAPV2)
        server._identifier = seed
        peer = EapLogin(user="alice", password=PASSWORD).peer(chance(seed), gateway_proven=True)
        talk(peer, server)
        keys.add(peer.msk)
    assert len(keys) == 3


@pytest.mark.parametrize("method", [GTC, MSCHAPV2])
def test_an_nt_hash_is_enough(method: EapType) -> None:
    peer, server = login("norbert"), service(method)
    talk(peer, server)
    assert peer.outcome is server.outcome is Outcome.SUCCESS


def test_an_nt_hash_is_not_enough_for_md5() -> None:
    peer, server = login("norbert"), service(MD5)
    talk(peer, server)
    assert "wrong user name or password" in _failed(server)


def test_a_domain_before_the_name() -> None:
    peer, server = login("CORP\\alice"), service(MSCHAPV2)
    talk(peer, server)
    assert peer.outcome is server.outcome is Outcome.SUCCESS
    assert server.identity == b"CORP\\alice"


def test_both_agree_on_a_method_that_both_have() -> None:
    peer, server = login("alice", PASSWORD, GTC), service(MSCHAPV2, MD5, GTC)
    said = talk(peer, server)
    assert EapPacket(RESPONSE, said[3].identifier, EapType.NAK, bytes([GTC])) in said
    assert peer.outcome is server.outcome is Outcome.SUCCESS
    assert server.method == GTC


def test_no_method_in_common() -> None:
    peer, server = login("alice", PASSWORD, GTC), service(MSCHAPV2, MD5)
    talk(peer, server)
    assert "none of the EAP methods" in _failed(server)
    assert "refused the login" in _failed(peer)


def test_a_nak_of_what_was_refused_before() -> None:
    server = service(MSCHAPV2, MD5)
    packet = EapPacket.parse(server.start())
    packet = EapPacket.parse(server.receive(_response(packet.identifier, EapType.IDENTITY, b"alice")) or b"")
    packet = EapPacket.parse(server.receive(_response(packet.identifier, EapType.NAK, bytes([MD5]))) or b"")
    assert packet.type == MD5
    server.receive(_response(packet.identifier, EapType.NAK, bytes([MSCHAPV2, MD5])))
    assert "none of the EAP methods" in _failed(server)


def test_without_a_proven_gateway_no_password_is_used() -> None:
    peer = EapLogin(user="alice", password=PASSWORD).peer(chance(), gateway_proven=False)
    server = service()
    said = talk(peer, server)
    assert EapPacket(RESPONSE, said[3].identifier, EapType.NAK, b"\x00") in said
    assert _failed(peer)


def test_a_notification_is_kept_for_the_user() -> None:
    peer = login()
    answer = peer.receive(_request(7, EapType.NOTIFICATION, b"password expires\x1b[2J soon"))
    assert answer == _response(7, EapType.NOTIFICATION)
    assert peer.notifications == ["password expires [2J soon"]


# --- wrong passwords --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("user", "password"), [("alice", "guess"), ("mallory", PASSWORD)])
def test_a_wrong_name_or_password(method: EapType, user: str, password: str) -> None:
    peer, server = login(user, password), service(method)
    talk(peer, server)
    assert "wrong user name or password" in _failed(server)
    assert "refused the login" in _failed(peer)
    assert PASSWORD not in f"{server.error}{peer.error}"


@pytest.mark.parametrize("method", METHODS)
def test_strangers_cost_what_users_cost(method: EapType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same calculations for both, so that the time that an answer takes says nothing either."""
    work: list[str] = []

    def counted(name: str, honest: Callable[..., object]) -> Callable[..., object]:
        def count(*given: object, **named: object) -> object:
            work.append(name)
            return honest(*given, **named)

        return count

    for module, name in (
        ("crypto.mschapv2", "nt_hash"),
        ("crypto.mschapv2", "nt_response"),
        ("ike.eap.users", "nt_hash"),
        ("ike.eap.users", "equal"),
        ("ike.eap.mschapv2", "equal"),
        ("ike.eap.md5", "chap_md5"),
        ("ike.eap.md5", "equal"),
    ):
        path = f"espudp.{module}.{name}"
        monkeypatch.setattr(path, counted(name, attrgetter(name)(import_module(f"espudp.{module}"))))
    costs = []
    for user in ("alice", "mable"):
        peer, server = login(user, "guess"), service(method)
        work.clear()
        talk(peer, server)
        costs.append(list(work))
    assert costs[0] == costs[1] != []


@pytest.mark.parametrize("method", METHODS)
def test_strangers_are_treated_as_users_are(method: EapType) -> None:
    """As many rounds of the same size: nobody learns which names there are."""
    shapes = []
    for user in ("alice", "mable"):
        said = talk(login(user, "guess"), service(method))
        shapes.append([(packet.code, packet.type, len(packet.data)) for packet in said])
    assert shapes[0] == shapes[1]


def test_the_reason_of_a_refusal_reaches_the_user() -> None:
    peer = login("alice", "guess")
    said = talk(peer, service(MSCHAPV2))
    assert "wrong user name or password" in _failed(peer)
    # RFC 2759 section 6, and what Windows reads
    (failure,) = [p for p in said if p.code == REQUEST and p.data[:1] == b"\x04"]
    assert failure.data[4:].startswith(b"E=691 R=1 C=")


def _retrying(password: str, then: str) -> tuple[EapServer, bytes | None]:
    """A client such as Windows, which asks its user again; the server's last packet."""
    server = service(MSCHAPV2)
    said: bytes | None = None
    for packet in packets(login("alice", password), server):
        said = packet.emit()
        if packet.data[:1] == b"\x04":
            break
    # RFC 2759 section 6: the challenge for the next try
    challenge = bytes.fromhex(packet.data.partition(b"C=")[2][:32].decode())
    method = EapLogin(user="alice", password=then).peer(chance(9), gateway_proven=True)
    data = b"\x01\x02\x00\x15\x10" + challenge
    said = method.receive(_request(packet.identifier, MSCHAPV2, data))
    return server, server.receive(said or b"")


def test_a_second_password_may_be_right() -> None:
    server, said = _retrying("guess", PASSWORD)
    assert EapPacket.parse(said or b"").data[:1] == b"\x03"
    identifier = EapPacket.parse(said or b"").identifier
    assert server.receive(_response(identifier, MSCHAPV2, b"\x03")) is not None
    assert server.outcome is Outcome.SUCCESS
    assert server.msk


def test_two_wrong_passwords_are_enough() -> None:
    """After the last there is no failure within the method, which Windows would not answer."""
    server, said = _retrying("guess", "another")
    assert EapPacket.parse(said or b"").code == EapCode.FAILURE
    assert "wrong user name or password" in _failed(server)


def test_a_client_must_not_log_in_as_another_than_it_said() -> None:
    """The identity says alice, the name in MSCHAPv2 norbert, who has the same password."""
    peer, server = login("norbert"), service(MSCHAPV2)
    peer._identity = b"alice"
    talk(peer, server)
    assert _failed(server)


def test_a_gateway_that_does_not_know_the_password() -> None:
    peer, server = login(), service(MSCHAPV2)
    for packet in packets(peer, server):
        if packet.type == MSCHAPV2 and packet.code == RESPONSE:
            break
    lie = b"S=" + b"0" * 40
    peer.receive(_request(9, MSCHAPV2, b"\x03\x00" + (4 + len(lie)).to_bytes(2, "big") + lie))
    assert "does not know the user's password" in _failed(peer)


# --- out of order, lies, floods ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_success_before_the_end(method: EapType) -> None:
    """An attacker who sends success after any of the packets gets in nowhere, but for where it is due."""
    length = len(talk(login(), service(method)))
    for cut in range(0, length - 2, 2):
        peer = login()
        for index, _ in enumerate(packets(peer, service(method))):
            if index == cut - 1:
                break
        if peer._method and peer._method.complete:
            continue
        assert peer.receive(EapPacket(EapCode.SUCCESS, 1).emit()) is None
        assert "success before" in _failed(peer)


def test_nothing_follows_the_end() -> None:
    peer, server = login(), service(MD5)
    talk(peer, server)
    assert peer.receive(_request(1, EapType.IDENTITY)) is None
    assert server.receive(_response(1, EapType.IDENTITY, b"mallory")) is None
    assert server.identity == b"alice"
    assert peer.outcome is server.outcome is Outcome.SUCCESS


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x01\x01\x00", id="half a header"),
        pytest.param(b"\x01\x01\x00\x04", id="a request without a type"),
        pytest.param(b"\x01\x01\x00\x09\x01", id="longer than it is"),
        pytest.param(b"\x01\x01\x00\x05\x01xyz", id="shorter than it is"),
        pytest.param(b"\x09\x01\x00\x05\x01", id="an unknown code"),
        pytest.param(b"\x03\x01\x00\x05\x01", id="success with something in it"),
        pytest.param(_response(1, EapType.IDENTITY, b"x"), id="a response"),
        pytest.param(_request(1, MD5), id="MD5 without a challenge"),
        pytest.param(_request(1, MD5, b"\x00"), id="MD5 with an empty challenge"),
        pytest.param(_request(1, MD5, b"\xff" + bytes(20)), id="MD5 with a challenge that is not there"),
        pytest.param(_request(1, MSCHAPV2), id="MSCHAPv2 without anything"),
        pytest.param(_request(1, MSCHAPV2, b"\x03\x01\x00\x2eS=" + b"0" * 40), id="MSCHAPv2 success first"),
        pytest.param(_request(1, MSCHAPV2, b"\x01\x01\x00\x02"), id="MSCHAPv2 shorter than its header"),
        pytest.param(_request(1, MSCHAPV2, b"\x01\x01\x00\x0d\x08" + bytes(8)), id="MSCHAPv2 with 8 octets"),
        pytest.param(_request(1, MD5, bytes(65_000)), id="65,000 octets"),
    ],
)
def test_bad_packets_end_the_clients_conversation(packet: bytes) -> None:
    peer = login()
    assert peer.receive(packet) is None
    assert "gateway's EAP is wrong" in _failed(peer)


LONG_NAME = b"\x02\x01\x01\x62\x31" + bytes(49) + b"a" * 300


def _asked(method: EapType) -> tuple[EapServer, int]:
    """A server that has asked for a method, and the identifier that it awaits."""
    server = service(method)
    question = EapPacket.parse(server.start())
    request = server.receive(_response(question.identifier, EapType.IDENTITY, b"alice"))
    assert request is not None
    return server, EapPacket.parse(request).identifier


@pytest.mark.parametrize(
    ("method", "type_", "data"),
    [
        pytest.param(MD5, EapType.IDENTITY, b"alice", id="the identity again"),
        pytest.param(MD5, GTC, PASSWORD.encode(), id="another method"),
        pytest.param(MD5, EapType.NAK, b"", id="a Nak without an alternative"),
        pytest.param(MD5, MD5, b"", id="MD5 without a response"),
        pytest.param(MD5, MD5, b"\x0f" + bytes(15), id="MD5 with 15 octets"),
        pytest.param(MD5, MD5, b"\x10" + bytes(15), id="MD5 with an octet too few"),
        pytest.param(GTC, GTC, b"", id="GTC with nothing"),
        pytest.param(GTC, GTC, bytes(2_000), id="GTC with 2,000 octets"),
        pytest.param(GTC, GTC, b"\xff\xfe", id="GTC with what is no text"),
        pytest.param(MSCHAPV2, MSCHAPV2, b"", id="MSCHAPv2 without anything"),
        pytest.param(MSCHAPV2, MSCHAPV2, b"\x03", id="MSCHAPv2 success before the response"),
        pytest.param(MSCHAPV2, MSCHAPV2, b"\x04", id="MSCHAPv2 failure before the response"),
        pytest.param(MSCHAPV2, MSCHAPV2, b"\x02\x01\x00\x05\x31", id="MSCHAPv2, a value that is not there"),
        pytest.param(
            MSCHAPV2, MSCHAPV2, b"\x02\x01\xff\xff\x31" + bytes(49), id="MSCHAPv2, a length that lies"
        ),
        pytest.param(MSCHAPV2, MSCHAPV2, b"\x02\x01\x00\x26\x21" + bytes(33), id="MSCHAPv2 with 33 octets"),
        pytest.param(MSCHAPV2, MSCHAPV2, LONG_NAME, id="MSCHAPv2 with a name of 300 octets"),
    ],
)
def test_bad_responses_get_a_failure(method: EapType, type_: int, data: bytes) -> None:
    server, identifier = _asked(method)
    answer = server.receive(_response(identifier, type_, data))
    assert answer == EapPacket(EapCode.FAILURE, identifier).emit()
    assert _failed(server)


@pytest.mark.parametrize("size", [0, 254, 16_000, 65_000])
def test_identities_that_are_none(size: int) -> None:
    server = service()
    question = EapPacket.parse(server.start())
    server.receive(_response(question.identifier, EapType.IDENTITY, b"a" * size))
    assert _failed(server)
    assert server.identity == b""


def test_a_method_before_the_identity() -> None:
    server = service()
    question = EapPacket.parse(server.start())
    server.receive(_response(question.identifier, MD5, bytes(17)))
    assert "answer to the question for the identity" in _failed(server)


def test_an_answer_to_another_question() -> None:
    server = service()
    question = EapPacket.parse(server.start())
    server.receive(_response((question.identifier + 1) % 256, EapType.IDENTITY, b"alice"))
    assert "another request" in _failed(server)


def test_a_request_from_a_client() -> None:
    server = service()
    server.receive(_request(EapPacket.parse(server.start()).identifier, EapType.IDENTITY))
    assert "from a client" in _failed(server)


def test_a_gateway_that_never_ends() -> None:
    peer = login()
    for _ in range(MAX_ROUNDS):
        assert peer.receive(_request(1, EapType.IDENTITY)) is not None
    assert peer.receive(_request(1, EapType.IDENTITY)) is None
    assert "no end after" in _failed(peer)


def test_a_gateway_that_says_too_much() -> None:
    peer = login()
    for _ in range(10):
        peer.receive(_request(1, EapType.NOTIFICATION, bytes(16_000)))
    assert "no end after" in _failed(peer)
    assert all(len(text) <= 256 for text in peer.notifications)


def test_a_second_method_within_the_first() -> None:
    peer = login()
    peer.receive(_request(1, MD5, b"\x04abcd"))
    assert peer.receive(_request(2, GTC, b"Password:")) is None
    assert _failed(peer)


def test_an_identity_asked_for_within_a_method() -> None:
    peer = login()
    peer.receive(_request(1, MD5, b"\x04abcd"))
    assert peer.receive(_request(2, EapType.IDENTITY)) is None
    assert _failed(peer)


def test_a_password_is_said_twice_at_most() -> None:
    peer = login()
    assert peer.receive(_request(1, GTC, b"Password:"))
    assert peer.receive(_request(2, GTC, b"Again:"))
    assert peer.receive(_request(3, GTC, b"One-time code:")) is None
    assert "something else than the password" in _failed(peer)


# --- secrets and configurations ---------------------------------------------------------------------------


def test_no_secret_is_shown() -> None:
    config = EapLogin(user="alice", password=PASSWORD)
    packet = EapPacket(RESPONSE, 1, GTC, PASSWORD.encode())
    assert PASSWORD not in f"{config} {login()} {service()} {packet} {Eap(packet.emit())}"


@pytest.mark.parametrize(
    ("user", "password", "field"),
    [("", "x", "eap-user"), ("a" * 254, "x", "eap-user"), ("alice", None, "eap-password-file")],
)
def test_a_login_that_could_never_be(user: str, password: str | None, field: str) -> None:
    with pytest.raises(ConfigError) as error:
        EapLogin(user=user, password=password)
    assert error.value.field == field
    assert error.value.remedy
