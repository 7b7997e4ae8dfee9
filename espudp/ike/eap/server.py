"""The server of an EAP conversation (RFC 3748): asks who is there, and has a method find out."""

from collections.abc import Callable, Mapping

from espudp.crypto.random import Rng, draw
from espudp.errors import AuthenticationFailed, EspudpError, WireError
from espudp.ike.eap.method import MAX_IDENTITY_OCTETS, MAX_OCTETS, MAX_ROUNDS, Outcome, ServerMethod
from espudp.wire.eap import EapCode, EapPacket, EapType

# A method for the one who has this identity
MakeMethod = Callable[[bytes], ServerMethod]


class EapServer:
    """One conversation. `methods` makes the method of a type for an identity; the first is asked for first.

    `outcome` tells how it stands, and `error` what was wrong: after FAILURE for good, while RUNNING so far,
    for clients that go away instead of mending it. `identity` is what the client said (empty
    before it did), proven with SUCCESS. `msk` is there after SUCCESS with a method that makes keys.
    """

    def __init__(self, methods: Mapping[int, MakeMethod], rng: Rng) -> None:
        self._methods = dict(methods)
        self._method: ServerMethod | None = None
        self._agreed = False
        self._identifier = draw(rng, 1)[0]
        self._rounds = 0
        self._octets = 0
        self.identity = b""
        self.question: None = None
        """Nobody else has to be asked, as PassThrough does."""
        self.outcome = Outcome.RUNNING
        self.error: AuthenticationFailed | None = None

    @property
    def msk(self) -> bytes | None:
        """64 octets, or None where the method makes no keys."""
        succeeded = self.outcome is Outcome.SUCCESS and self._method is not None
        return self._method.msk if succeeded and self._method else None

    @property
    def method(self) -> EapType | None:
        """The method that both sides agreed on, or that was asked for last."""
        return self._method.type if self._method else None

    def start(self) -> bytes:
        """The first packet: who is there?"""
        return EapPacket(EapCode.REQUEST, self._identifier, EapType.IDENTITY).emit()

    def receive(self, packet: bytes) -> bytes | None:
        """The packet that follows the client's: a request, a success or a failure. None after the end."""
        if self.outcome is not Outcome.RUNNING:
            return None
        try:
            return self._receive(packet)
        except WireError as error:
            self.error = AuthenticationFailed(f"the client's EAP is wrong: {error}")
        except AuthenticationFailed as error:
            self.error = error
        except EspudpError as error:
            self.error = AuthenticationFailed(f"EAP failed: {error}", remedy=error.remedy)
        self.outcome = Outcome.FAILURE
        return EapPacket(EapCode.FAILURE, self._identifier).emit()

    def _receive(self, octets: bytes) -> bytes:
        self._rounds += 1
        self._octets += len(octets)
        if self._rounds > MAX_ROUNDS or self._octets > MAX_OCTETS:
            raise WireError(f"no end after {self._rounds} rounds and {self._octets} octets")
        packet = EapPacket.parse(octets)
        if packet.code != EapCode.RESPONSE:
            raise WireError(f"code {packet.code.name} from a client")
        # RFC 3748 section 4.1: a response has the identifier of its request
        if packet.identifier != self._identifier:
            raise WireError("a response to another request")
        if self._method is None:
            return self._identify(packet)
        if packet.type == EapType.NAK and not self._agreed:
            return self._begin(self._wanted(packet.data))
        if packet.type != self._method.type:
            raise WireError(f"EAP type {packet.type} in answer to {self._method.type}")
        self._agreed = True
        data = self._method.receive(self._identifier, packet.data)
        self.error = self._method.error
        if data is not None:
            return self._request(self._method, data)
        self.outcome = Outcome.SUCCESS
        return EapPacket(EapCode.SUCCESS, self._identifier).emit()

    def _identify(self, packet: EapPacket) -> bytes:
        if packet.type != EapType.IDENTITY:
            raise WireError(f"EAP type {packet.type} in answer to the question for the identity")
        if not 0 < len(packet.data) <= MAX_IDENTITY_OCTETS:
            raise WireError(f"an identity of {len(packet.data)} octets")
        self.identity = packet.data
        return self._begin(next(iter(self._methods)))

    def _wanted(self, alternatives: bytes) -> int:
        """The first type that the client names in its Nak and that was not asked for yet."""
        if self._method:
            del self._methods[self._method.type]
        for type_ in alternatives:
            if type_ in self._methods:
                return type_
        raise AuthenticationFailed(
            "the client has none of the EAP methods that are offered here",
            remedy="Let the client use MSCHAPv2, or allow the method that it has.",
        )

    def _begin(self, type_: int) -> bytes:
        self._method = self._methods[type_](self.identity)
        return self._request(self._method, None)

    def _request(self, method: ServerMethod, data: bytes | None) -> bytes:
        """The next request: with `data`, or with what the method begins with."""
        self._identifier = (self._identifier + 1) % 256
        body = method.request(self._identifier) if data is None else data
        return EapPacket(EapCode.REQUEST, self._identifier, method.type, body).emit()
