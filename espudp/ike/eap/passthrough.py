"""A server that leaves the conversation to another (RFC 3748 section 2.3): RADIUS speaks EAP with the client.

Sans-IO: what has to be asked is `question`, what came back is given to `provide`. How it travels is
host/radius.py's affair.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from espudp.crypto.random import Rng, draw
from espudp.errors import AuthenticationFailed, WireError
from espudp.ike.eap.method import MAX_IDENTITY_OCTETS, MAX_OCTETS, MAX_ROUNDS, Outcome
from espudp.wire.eap import EapCode, EapPacket, EapType

# What IKE signs with: shorter keys get zeros behind them, as those of MSCHAPv2 have (RFC 3748 section 7.10)
MSK_OCTETS: Final = 64


class Verdict(Enum):
    """What the other server says."""

    CHALLENGE = "it asks on"
    ACCEPT = "the client is let in"
    REJECT = "the client is refused"
    SILENCE = "there is no answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendQuestion:
    """A client's packet for the other server."""

    identity: bytes
    packet: bytes = field(repr=False)
    """EAP, whole."""

    state: tuple[int, bytes] | None = None
    """What came with its last challenge: from which of the servers, and what it wants to see again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendAnswer:
    """What came back, already found to be from who shares a secret with us."""

    verdict: Verdict
    packet: bytes = field(default=b"", repr=False)
    """EAP, whole; may be empty when refused."""

    state: tuple[int, bytes] | None = None
    msk: bytes | None = field(default=None, repr=False)
    user: bytes | None = None
    """The user's name where it is another than the identity (RFC 2865 section 5.1)."""

    reason: str = ""
    """After REJECT and SILENCE, for a person."""


class PassThrough:
    """One conversation. `identity` is the client's own word until SUCCESS, and then the other server's."""

    def __init__(self, rng: Rng) -> None:
        self._identifier = draw(rng, 1)[0]
        self._state: tuple[int, bytes] | None = None
        self._rounds = 0
        self._octets = 0
        self._msk: bytes | None = None
        self.question: BackendQuestion | None = None
        self.identity = b""
        self.outcome = Outcome.RUNNING
        self.error: AuthenticationFailed | None = None

    @property
    def msk(self) -> bytes | None:
        """64 octets, or None where the method made no keys."""
        return self._msk if self.outcome is Outcome.SUCCESS else None

    def start(self) -> bytes:
        """The first packet: who is there? The same for every server (RFC 3579 section 2.1)."""
        return EapPacket(EapCode.REQUEST, self._identifier, EapType.IDENTITY).emit()

    def receive(self, packet: bytes) -> bytes | None:
        """A failure at once, or None: then there is a `question`. None after the end."""
        if self.outcome is not Outcome.RUNNING or self.question is not None:
            return None
        try:
            self._ask(packet)
        except WireError as error:
            return self._fail(f"the client's EAP is wrong: {error}")
        return None

    def _ask(self, octets: bytes) -> None:
        self._count(octets)
        packet = EapPacket.parse(octets)
        if packet.code != EapCode.RESPONSE or packet.identifier != self._identifier:
            raise WireError("not a response to the last request")
        if not self.identity:
            if packet.type != EapType.IDENTITY or not 0 < len(packet.data) <= MAX_IDENTITY_OCTETS:
                raise WireError(f"no identity, but type {packet.type} with {len(packet.data)} octets")
            self.identity = packet.data
        self.question = BackendQuestion(identity=self.identity, packet=octets, state=self._state)

    def _count(self, octets: bytes) -> None:
        self._rounds += 1
        self._octets += len(octets)
        # Requests and responses are counted together
        if self._rounds > 2 * MAX_ROUNDS or self._octets > 2 * MAX_OCTETS:
            raise WireError(f"no end after {self._rounds // 2} rounds and {self._octets} octets")

    def provide(self, answer: BackendAnswer) -> bytes:
        """The packet for the client: the next request, success or failure."""
        self.question = None
        if answer.verdict not in (Verdict.CHALLENGE, Verdict.ACCEPT):
            return self._fail(answer.reason or answer.verdict.value, answer.packet)
        try:
            self._count(answer.packet)
            packet = EapPacket.parse(answer.packet)
        except WireError as error:
            return self._fail(f"the RADIUS server's EAP is wrong: {error}")
        if answer.verdict is Verdict.CHALLENGE and packet.code == EapCode.REQUEST:
            self._identifier, self._state = packet.identifier, answer.state
            return answer.packet
        # RFC 3579 section 2.6.3: a verdict of RADIUS and another of EAP let nobody in
        if answer.verdict is not Verdict.ACCEPT or packet.code != EapCode.SUCCESS:
            return self._fail("the RADIUS server contradicts itself")
        self.outcome = Outcome.SUCCESS
        self.identity = answer.user or self.identity
        self._msk = answer.msk.ljust(MSK_OCTETS, b"\x00")[:MSK_OCTETS] if answer.msk else None
        return answer.packet

    def _fail(self, reason: str, packet: bytes = b"") -> bytes:
        """EAP-Failure: the other server's own, if it is one."""
        self.outcome = Outcome.FAILURE
        self.error = AuthenticationFailed(
            f"the user was not let in: {reason}",
            remedy="Look into the log of the RADIUS server.",
        )
        failure = EapPacket(EapCode.FAILURE, self._identifier)
        try:
            theirs = EapPacket.parse(packet) if packet else failure
        except WireError:
            return failure.emit()
        return (theirs if theirs.code == EapCode.FAILURE else failure).emit()


@dataclass(frozen=True, slots=True)
class EapRadius:
    """A server that asks RADIUS about everybody."""

    def server(self, rng: Rng) -> PassThrough:
        """A conversation."""
        return PassThrough(rng)
