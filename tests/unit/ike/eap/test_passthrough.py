"""A conversation that another server holds: what is asked, and what is made of the answers."""

import pytest

from espudp.ike.eap.method import MAX_ROUNDS, Outcome
from espudp.ike.eap.passthrough import BackendAnswer, BackendQuestion, EapRadius, PassThrough, Verdict
from espudp.ike.eap.server import EapServer
from espudp.wire.eap import EapCode, EapPacket, EapType
from tests.unit.ike.eap.talk import chance, login, service

SUCCESS = EapPacket(EapCode.SUCCESS, 9).emit()
FAILURE = EapPacket(EapCode.FAILURE, 9).emit()
REQUEST = EapPacket(EapCode.REQUEST, 9, EapType.GTC, b"Password:").emit()


def _begun(identity: bytes = b"alice") -> PassThrough:
    gateway = EapRadius().server(chance())
    identifier = EapPacket.parse(gateway.start()).identifier
    answer = EapPacket(EapCode.RESPONSE, identifier, EapType.IDENTITY, identity).emit()
    assert gateway.receive(answer) is None
    return gateway


class Backend:
    """Our own server, as another host has it."""

    def __init__(self, server: EapServer) -> None:
        self._server = server
        self._states: list[bytes] = []

    def answer(self, question: BackendQuestion) -> BackendAnswer:
        packet = EapPacket.parse(question.packet)
        if question.state is None:
            # The question for the identity was the gateway's
            self._server._identifier = packet.identifier
        else:
            assert question.state == (0, self._states[-1])
        said = self._server.receive(question.packet) or b""
        self._states.append(b"state %d" % len(self._states))
        verdict = {Outcome.RUNNING: Verdict.CHALLENGE, Outcome.SUCCESS: Verdict.ACCEPT}.get(
            self._server.outcome, Verdict.REJECT
        )
        return BackendAnswer(verdict=verdict, packet=said, state=(0, self._states[-1]), msk=self._server.msk)


@pytest.mark.parametrize("method", [EapType.MD5_CHALLENGE, EapType.GTC, EapType.MSCHAPV2])
@pytest.mark.parametrize(("password", "good"), [("correct horse", True), ("guess", False)])
def test_a_conversation_by_way_of_the_gateway(method: EapType, password: str, good: bool) -> None:
    peer, gateway, backend = login("alice", password), EapRadius().server(chance()), Backend(service(method))
    said: bytes | None = gateway.start()
    while said is not None and (answer := peer.receive(said)) is not None:
        assert gateway.receive(answer) is None
        assert gateway.question is not None
        assert gateway.question.identity == b"alice"
        said = gateway.provide(backend.answer(gateway.question))
    outcome = Outcome.SUCCESS if good else Outcome.FAILURE
    assert (peer.outcome, gateway.outcome) == (outcome, outcome)
    assert peer.msk == gateway.msk


def test_short_keys_get_zeros() -> None:
    """As those of MSCHAPv2 have in the other half."""
    gateway = _begun()
    gateway.provide(BackendAnswer(verdict=Verdict.ACCEPT, packet=SUCCESS, msk=b"k" * 32))
    assert gateway.msk == b"k" * 32 + bytes(32)


def test_the_other_server_knows_the_name_better() -> None:
    gateway = _begun(b"anonymous@example.org")
    gateway.provide(BackendAnswer(verdict=Verdict.ACCEPT, packet=SUCCESS, user=b"alice@example.org"))
    assert gateway.identity == b"alice@example.org"


@pytest.mark.parametrize(
    ("verdict", "packet"),
    [
        pytest.param(Verdict.ACCEPT, FAILURE, id="accept with failure"),
        pytest.param(Verdict.ACCEPT, REQUEST, id="accept with a request"),
        pytest.param(Verdict.ACCEPT, b"", id="accept without EAP"),
        pytest.param(Verdict.CHALLENGE, SUCCESS, id="a challenge with success"),
        pytest.param(Verdict.CHALLENGE, b"", id="a challenge without EAP"),
        pytest.param(Verdict.CHALLENGE, b"\x01\x01\xff\xff\x01", id="a challenge with garbage"),
        pytest.param(Verdict.REJECT, SUCCESS, id="reject with success"),
        pytest.param(Verdict.REJECT, b"", id="reject without EAP"),
        pytest.param(Verdict.REJECT, b"\x04\x01", id="reject with garbage"),
        pytest.param(Verdict.SILENCE, b"", id="no answer"),
    ],
)
def test_nobody_is_let_in_by(verdict: Verdict, packet: bytes) -> None:
    """RFC 3579 section 2.6.3."""
    gateway = _begun()
    said = gateway.provide(BackendAnswer(verdict=verdict, packet=packet, msk=b"k" * 64))
    assert EapPacket.parse(said).code == EapCode.FAILURE
    assert gateway.outcome is Outcome.FAILURE
    assert gateway.msk is None
    assert gateway.error is not None
    assert gateway.error.remedy


def test_the_other_server_s_failure_is_passed_on() -> None:
    gateway = _begun()
    assert gateway.provide(BackendAnswer(verdict=Verdict.REJECT, packet=FAILURE)) == FAILURE


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(b"\x02\x01\xff\xff\x01abc", id="a length that lies"),
        pytest.param(EapPacket(EapCode.REQUEST, 0, EapType.IDENTITY).emit(), id="a request"),
        pytest.param(EapPacket(EapCode.RESPONSE, 0, EapType.GTC, b"x").emit(), id="no identity"),
        pytest.param(EapPacket(EapCode.RESPONSE, 0, EapType.IDENTITY).emit(), id="an empty one"),
        pytest.param(EapPacket(EapCode.RESPONSE, 0, EapType.IDENTITY, b"a" * 254).emit(), id="a long one"),
        pytest.param(EapPacket(EapCode.RESPONSE, 1, EapType.IDENTITY, b"a").emit(), id="another identifier"),
        pytest.param(
            EapPacket(EapCode.RESPONSE, 0, EapType.IDENTITY, b"a" * 65_000).emit(), id="65,000 octets"
        ),
    ],
)
def test_nobody_is_asked_about(packet: bytes) -> None:
    gateway = PassThrough(lambda octets: bytes(octets))
    gateway.start()
    assert EapPacket.parse(gateway.receive(packet) or b"").code == EapCode.FAILURE
    assert gateway.question is None
    assert gateway.outcome is Outcome.FAILURE


def test_one_question_at_a_time() -> None:
    gateway = _begun()
    question = gateway.question
    again = EapPacket(EapCode.RESPONSE, gateway._identifier, EapType.IDENTITY, b"mallory").emit()
    assert gateway.receive(again) is None
    assert gateway.question is question
    assert gateway.identity == b"alice"


def test_a_conversation_without_end_is_ended() -> None:
    gateway = _begun()
    response = EapPacket(EapCode.RESPONSE, 9, EapType.GTC, b"x").emit()
    for _ in range(2 * MAX_ROUNDS):
        if gateway.outcome is Outcome.RUNNING:
            gateway.provide(BackendAnswer(verdict=Verdict.CHALLENGE, packet=REQUEST, state=(0, b"")))
            gateway.receive(response)
    assert gateway.outcome is Outcome.FAILURE


def test_no_secret_is_shown() -> None:
    gateway = _begun()
    answer = BackendAnswer(verdict=Verdict.ACCEPT, packet=SUCCESS, msk=b"the key " * 8)
    assert "the key" not in repr(answer)
    assert "alice" not in repr(BackendQuestion(identity=b"a", packet=b"alice's password"))
    gateway.provide(answer)
    assert "the key" not in repr(gateway)
