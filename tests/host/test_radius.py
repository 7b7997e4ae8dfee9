"""RADIUS over real sockets on loopback, with servers that answer late, wrongly, or not at all."""

import asyncio
import io
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from pyrad.dictionary import Dictionary
from pyrad.packet import AccessAccept, AccessChallenge, AccessReject, AccountingResponse, AuthPacket

from espudp.errors import ConfigError
from espudp.host import radius
from espudp.host.radius import Radius, RadiusServer
from espudp.ike.eap.passthrough import BackendAnswer, BackendQuestion, Verdict
from espudp.wire.eap import EapCode, EapPacket, EapType

SECRET = b"between us"
WAITS = (0.1, 0.1, 0.1)
PACKET = EapPacket(EapCode.RESPONSE, 1, EapType.IDENTITY, b"alice").emit()
LONG = EapPacket(EapCode.RESPONSE, 2, EapType.TLS, bytes(range(256)) * 5).emit()
REQUEST = EapPacket(EapCode.REQUEST, 2, EapType.GTC, b"?" * 600).emit()
QUESTION = BackendQuestion(identity=b"alice", packet=PACKET)

# What a server makes of the octets that it gets: those that it sends
Reply = Callable[[bytes], list[bytes]]


class Server(asyncio.DatagramProtocol):
    """A server; `asked` is what it got."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self.asked: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.asked.append(data)
        for answer in self._reply(data):
            self._transport.sendto(answer, addr)


def parsed(octets: bytes, secret: bytes = SECRET) -> AuthPacket:
    return AuthPacket(packet=octets, secret=secret, dict=Dictionary(io.StringIO(radius._DICTIONARY)))


def answered(code: int, secret: bytes = SECRET, *, signed: bool = True, **attributes: Any) -> Reply:
    def reply(octets: bytes) -> list[bytes]:
        request = parsed(octets, secret)
        answer = request.CreateReply(message_authenticator=signed)
        answer.code = code
        for number, values in attributes.items():
            answer[int(number.removeprefix("a"))] = values
        return [answer.ReplyPacket()]

    return reply


def chunks(octets: bytes) -> list[bytes]:
    return [octets[at : at + 253] for at in range(0, len(octets), 253)]


def _self(server: Server) -> Server:
    return server


def ask(
    *replies: Reply, questions: tuple[BackendQuestion, ...] = (QUESTION,)
) -> tuple[list[BackendAnswer], list[Server]]:
    """The answers of several servers to several questions, and the servers afterwards."""

    async def run() -> tuple[list[BackendAnswer], list[Server]]:
        loop = asyncio.get_running_loop()
        servers = [Server(reply) for reply in replies]
        transports = [
            (await loop.create_datagram_endpoint(partial(_self, server), local_addr=("127.0.0.1", 0)))[0]
            for server in servers
        ]
        ports = [transport.get_extra_info("sockname")[1] for transport in transports]
        places = [RadiusServer("127.0.0.1", port, SECRET) for port in ports]
        client = Radius(places, waits=WAITS)
        answers = [await client.ask(question, "192.0.2.7") for question in questions]
        for transport in transports:
            transport.close()
        return answers, servers

    return asyncio.run(run())


def silent(octets: bytes) -> list[bytes]:
    return []


accept = answered(AccessAccept, a79=chunks(EapPacket(EapCode.SUCCESS, 1).emit()))
challenge = answered(AccessChallenge, a79=chunks(REQUEST), a24=[b"remember"])


def test_a_challenge() -> None:
    (answer,), (server,) = ask(challenge)
    assert answer == BackendAnswer(verdict=Verdict.CHALLENGE, packet=REQUEST, state=(0, b"remember"))
    request = parsed(server.asked[0])
    assert request.verify_message_authenticator(secret=SECRET)
    assert request[1] == [b"alice"]
    assert request[79] == [PACKET]
    assert request[31] == [b"192.0.2.7"]
    assert 24 not in request


def test_long_packets_are_cut_and_joined() -> None:
    question = BackendQuestion(identity=b"alice", packet=LONG, state=(0, b"remember"))
    (answer,), (server,) = ask(challenge, questions=(question,))
    assert answer.packet == REQUEST
    request = parsed(server.asked[0])
    assert len(request[79]) > 5
    assert b"".join(request[79]) == LONG
    assert request[24] == [b"remember"]


def test_keys_come_hidden() -> None:
    def reply(octets: bytes) -> list[bytes]:
        request = parsed(octets)
        answer = request.CreateReply()
        answer.code = AccessAccept
        answer[79] = chunks(EapPacket(EapCode.SUCCESS, 1).emit())
        answer.request_authenticator = request.authenticator
        answer["MS-MPPE-Recv-Key"] = b"R" * 32
        answer["MS-MPPE-Send-Key"] = b"S" * 32
        octets = answer.ReplyPacket()
        assert b"RRRR" not in octets
        return [octets]

    (answer,), _ = ask(reply)
    assert answer.verdict is Verdict.ACCEPT
    assert answer.msk == b"R" * 32 + b"S" * 32


def test_a_refusal_with_a_reason() -> None:
    (answer,), _ = ask(answered(AccessReject, a18=[b"account\x1b[2J locked"], a25=[b"class"]))
    assert answer.verdict is Verdict.REJECT
    assert answer.reason == "RADIUS refused it (account [2J locked)"


def test_a_question_is_repeated_octet_by_octet() -> None:
    heard = []

    def late(octets: bytes) -> list[bytes]:
        heard.append(octets)
        return accept(octets) if len(heard) == 3 else []

    (answer,), (server,) = ask(late)
    assert answer.verdict is Verdict.ACCEPT
    assert len(server.asked) == 3
    assert len(set(server.asked)) == 1


def test_the_next_server_is_asked_and_the_silent_one_left_out() -> None:
    answers, (first, second) = ask(silent, accept, questions=(QUESTION, QUESTION))
    assert [answer.verdict for answer in answers] == [Verdict.ACCEPT, Verdict.ACCEPT]
    assert (len(first.asked), len(second.asked)) == (len(WAITS), 2)
    assert answers[0].state == (1, b"")


def test_a_conversation_stays_with_its_server() -> None:
    going_on = BackendQuestion(identity=b"alice", packet=PACKET, state=(0, b"remember"))
    (answer,), (first, second) = ask(silent, accept, questions=(going_on,))
    assert answer.verdict is Verdict.SILENCE
    assert "does not answer" in answer.reason
    assert first.asked
    assert not second.asked


def test_nobody_answers() -> None:
    (answer,), _ = ask(silent, silent)
    assert answer.verdict is Verdict.SILENCE
    assert answer.reason.count("does not answer") == 2


def _bent(octets: bytes) -> list[bytes]:
    (answer,) = accept(octets)
    return [answer[:-1] + bytes([answer[-1] ^ 1])]


def _of_another_question(octets: bytes) -> list[bytes]:
    return accept(octets[:4] + bytes(16) + octets[20:])


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(lambda _: [b""], id="nothing"),
        pytest.param(lambda _: [b"\x02"], id="an octet"),
        pytest.param(lambda _: [bytes(20)], id="zeros"),
        pytest.param(lambda octets: [octets], id="its own question"),
        pytest.param(lambda octets: [b"\x02" + octets[1:20] + b"\x50\x00"], id="an attribute of no length"),
        pytest.param(
            lambda octets: [b"\x02" + octets[1:2] + b"\xff\xff" + bytes(16)], id="a length that lies"
        ),
        pytest.param(_bent, id="a bent answer"),
        pytest.param(_of_another_question, id="an answer to another question"),
        pytest.param(answered(AccessAccept, b"another secret"), id="another secret"),
        pytest.param(answered(AccessAccept, signed=False), id="no Message-Authenticator"),
        pytest.param(answered(AccountingResponse), id="another kind of answer"),
        pytest.param(answered(AccessAccept, a33=[b"proxy"]), id="a Proxy-State that was not sent"),
    ],
)
def test_what_is_no_answer(reply: Reply) -> None:
    (answer,), _ = ask(reply)
    assert answer.verdict is Verdict.SILENCE


def test_strangers_do_not_keep_the_answer_away() -> None:
    (answer,), _ = ask(lambda octets: [*_bent(octets), b"x", *accept(octets)])
    assert answer.verdict is Verdict.ACCEPT


def test_keys_that_lie_are_no_answer() -> None:
    """Salt and a length that is not of 16 octets (RFC 2548 section 2.4.2)."""
    value = b"\x00\x00\x01\x37\x11\x05abc"  # Microsoft, MS-MPPE-Recv-Key, 5 octets
    other = b"\x00\x00\x01\x37\x10\x05abc"
    (answer,), _ = ask(
        answered(AccessAccept, a79=chunks(EapPacket(EapCode.SUCCESS, 1).emit()), a26=[value, other])
    )
    assert answer.verdict is Verdict.SILENCE


@contextmanager
def refusing_port() -> Iterator[int]:
    """A port of UDP where nobody listens: the kernel says so at once."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    yield port


def test_a_server_that_is_not_there() -> None:
    async def run(port: int) -> BackendAnswer:
        return await Radius([RadiusServer("127.0.0.1", port, SECRET)], waits=(0.05, 0.05)).ask(
            QUESTION, "::1"
        )

    with refusing_port() as port:
        answer = asyncio.run(run(port))
    assert answer.verdict is Verdict.SILENCE


def test_configurations_that_could_never_work() -> None:
    with pytest.raises(ConfigError, match="no secret"):
        RadiusServer("127.0.0.1")
    with pytest.raises(ConfigError, match="no RADIUS server"):
        Radius([])
    assert "between" not in repr(RadiusServer("127.0.0.1", 1812, SECRET))
