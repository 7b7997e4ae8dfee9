"""RADIUS (RFC 2865) as the gateway of EAP speaks it (RFC 3579): one question at a time, over asyncio.

Every question and every answer has a Message-Authenticator, the answer checked by pyrad together with the
response authenticator, so that nobody without the secret gets a word in (CVE-2024-3596).
"""

import asyncio
import io
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from pyrad.dictionary import Dictionary
from pyrad.packet import AccessAccept, AccessChallenge, AccessReject, AccessRequest, AuthPacket, PacketError

from espudp.errors import ConfigError, HostError
from espudp.ike.eap.passthrough import BackendAnswer, BackendQuestion, Verdict

PORT: Final = 1812

# RFC 2865 section 5, RFC 3579 section 3
_USER_NAME, _SERVICE_TYPE, _FRAMED_MTU, _REPLY_MESSAGE, _STATE = 1, 6, 12, 18, 24
_CALLING_STATION, _NAS_IDENTIFIER, _NAS_PORT_TYPE, _EAP_MESSAGE = 31, 32, 61, 79
_FRAMED, _VIRTUAL = 2, 5
# RFC 2865 section 5: what fits in one attribute; longer EAP is cut (RFC 3579 section 3.1)
_ATTRIBUTE_OCTETS: Final = 253
# RFC 2865 section 3
_MAX_PACKET_OCTETS: Final = 4096
# What EAP methods of the server keep their fragments to (RFC 3579 section 2.4): fits in IKE in 1,280 octets
_FRAGMENT_OCTETS: Final = 1_024

# RFC 2548 sections 2.4.2 and 2.4.3: the two halves of the MSK, hidden with the secret
_DICTIONARY: Final = """
VENDOR Microsoft 311
BEGIN-VENDOR Microsoft
ATTRIBUTE MS-MPPE-Send-Key 16 octets encrypt=2
ATTRIBUTE MS-MPPE-Recv-Key 17 octets encrypt=2
END-VENDOR Microsoft
"""
_SEND_KEY, _RECEIVE_KEY = "MS-MPPE-Send-Key", "MS-MPPE-Recv-Key"

# Seconds from a question to its repetitions, and from the last to giving the server up (RFC 5080 2.2.1)
_WAITS: Final = (1.0, 2.0, 3.0)
# A server that gave no answer is asked after the others for so many seconds
_DEAD_SECONDS: Final = 60.0
# Questions on the way at a time; more wait for their turn
_MAX_QUESTIONS: Final = 256


@dataclass(frozen=True, slots=True)
class RadiusServer:
    """Where a server listens, and the secret that it shares with us."""

    host: str
    port: int = PORT
    secret: bytes = field(default=b"", repr=False)

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if not self.secret:
            raise ConfigError(
                f"there is no secret for the RADIUS server {self.host}",
                field="radius-secret-file",
                remedy="Write the secret that the server has for this client into a file of mode 0600.",
            )

    def __str__(self) -> str:
        return f"{self.host} port {self.port}"


class Radius:
    """The servers, in the order in which they are asked."""

    def __init__(
        self, servers: Sequence[RadiusServer], nas: str = "espudp", *, waits: tuple[float, ...] = _WAITS
    ) -> None:
        """`nas` is what we call ourselves (NAS-Identifier)."""
        if not servers:
            raise ConfigError("no RADIUS server", field="radius", remedy="Name one: --radius HOST")
        self._servers = tuple(servers)
        self._nas = nas.encode()[:_ATTRIBUTE_OCTETS]
        self._waits = waits
        self._dictionary = Dictionary(io.StringIO(_DICTIONARY))
        self._turn = asyncio.Semaphore(_MAX_QUESTIONS)
        self._dead: dict[int, float] = {}

    async def ask(self, question: BackendQuestion, client: str) -> BackendAnswer:
        """The answer to a question about the client at that address. Never raises but CancelledError."""
        silent = []
        async with self._turn:
            for index in self._order(question):
                try:
                    answer = await self._ask(index, question, client)
                except HostError as error:
                    silent.append(str(error))
                    self._dead[index] = asyncio.get_running_loop().time()
                else:
                    self._dead.pop(index, None)
                    return answer
        return BackendAnswer(verdict=Verdict.SILENCE, reason="; ".join(silent))

    def _order(self, question: BackendQuestion) -> list[int]:
        """A conversation stays with the server that it began with; others begin with one that is alive."""
        if question.state is not None:
            return [question.state[0]]
        recently = asyncio.get_running_loop().time() - _DEAD_SECONDS
        return sorted(range(len(self._servers)), key=lambda i: self._dead.get(i, recently) > recently)

    async def _ask(self, index: int, question: BackendQuestion, client: str) -> BackendAnswer:
        """Raises HostError for a server that does not answer."""
        server = self._servers[index]
        request = self._request(server, question, client)
        octets = request.RequestPacket()
        loop = asyncio.get_running_loop()
        answers: asyncio.Queue[bytes] = asyncio.Queue(maxsize=16)
        try:
            # A socket of its own for each question: its port is one more thing that a stranger has to guess
            transport, _ = await loop.create_datagram_endpoint(
                lambda: _Answers(answers), remote_addr=(server.host, server.port)
            )
        except OSError as error:
            raise HostError(f"the RADIUS server {server} cannot be reached: {error.strerror}") from None
        try:
            for wait in self._waits:
                transport.sendto(octets)
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        return await self._answer(index, request, answers)
        finally:
            transport.close()
        raise HostError(f"the RADIUS server {server} does not answer")

    async def _answer(
        self, index: int, request: AuthPacket, answers: "asyncio.Queue[bytes]"
    ) -> BackendAnswer:
        """The first answer that is one. Others are passed over, whoever sent them."""
        while True:
            octets = await answers.get()
            # What pyrad raises for garbage is not of one kind
            with suppress(PacketError, ValueError, KeyError, IndexError, TypeError):
                reply = request.CreateReply(packet=octets)
                if request.VerifyReply(reply, enforce_ma=True):
                    # What the keys in it are hidden with, beside the secret (RFC 2548 section 2.4.2)
                    reply.request_authenticator = request.authenticator
                    return _read(index, reply)

    def _request(self, server: RadiusServer, question: BackendQuestion, client: str) -> AuthPacket:
        request = AuthPacket(AccessRequest, secret=server.secret, dict=self._dictionary)
        request.add_message_authenticator()
        request[_USER_NAME] = [question.identity]
        request[_NAS_IDENTIFIER] = [self._nas]
        request[_NAS_PORT_TYPE] = [_VIRTUAL.to_bytes(4)]
        request[_SERVICE_TYPE] = [_FRAMED.to_bytes(4)]
        request[_FRAMED_MTU] = [_FRAGMENT_OCTETS.to_bytes(4)]
        request[_CALLING_STATION] = [client.encode()]
        request[_EAP_MESSAGE] = [
            question.packet[at : at + _ATTRIBUTE_OCTETS]
            for at in range(0, len(question.packet), _ATTRIBUTE_OCTETS)
        ]
        if question.state is not None and question.state[1]:
            request[_STATE] = [question.state[1]]
        return request


class _Answers(asyncio.DatagramProtocol):
    """Puts what arrives into a queue; what does not fit there is lost, as on any wire."""

    def __init__(self, answers: "asyncio.Queue[bytes]") -> None:
        self._answers = answers

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if len(data) <= _MAX_PACKET_OCTETS and not self._answers.full():
            self._answers.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        """A port that nobody listens on is as silent as a server that is down, and may soon be up."""


_VERDICTS: Final = {
    AccessAccept: Verdict.ACCEPT,
    AccessChallenge: Verdict.CHALLENGE,
    AccessReject: Verdict.REJECT,
}


def _read(index: int, reply: AuthPacket) -> BackendAnswer:
    """Raises ValueError for an answer of another kind, and what pyrad raises for attributes that lie."""
    if reply.code not in _VERDICTS:
        raise ValueError
    verdict = _VERDICTS[reply.code]
    states = reply.get(_STATE, [])
    users = reply.get(_USER_NAME, [])
    return BackendAnswer(
        verdict=verdict,
        packet=b"".join(reply.get(_EAP_MESSAGE, [])),
        state=(index, states[0] if states else b""),
        msk=_msk(reply) if verdict is Verdict.ACCEPT else None,
        user=users[0] if users else None,
        reason=_reason(reply) if verdict is Verdict.REJECT else "",
    )


def _msk(reply: AuthPacket) -> bytes | None:
    """RFC 2548 sections 2.4.2 and 2.4.3: what we receive with is the first half of the MSK."""
    keys = [reply.get(name, []) for name in (_RECEIVE_KEY, _SEND_KEY)]
    return keys[0][0] + keys[1][0] if all(keys) else None


def _reason(reply: AuthPacket) -> str:
    """What the server would like the user to read (RFC 2865 section 5.18)."""
    text = b" ".join(reply.get(_REPLY_MESSAGE, []))[:_ATTRIBUTE_OCTETS].decode("utf-8", "replace")
    shown = "".join(char if char.isprintable() else " " for char in text).strip()
    return f"RADIUS refused it{f' ({shown})' if shown else ''}"
