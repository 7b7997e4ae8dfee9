"""The client of an EAP conversation (RFC 3748): answers requests until the server is done with it."""

from collections.abc import Callable, Mapping
from typing import Final

from espudp.errors import AuthenticationFailed, EspudpError, WireError
from espudp.ike.eap.method import MAX_OCTETS, MAX_ROUNDS, Outcome, PeerMethod
from espudp.wire.eap import EapCode, EapPacket, EapType

# RFC 3748 section 5.2: texts for a person, of which a few are kept
_MAX_NOTIFICATIONS: Final = 4
_MAX_NOTIFICATION_OCTETS: Final = 256
# RFC 3748 section 5.3.1: "no desired alternative"
_NO_METHOD: Final = 0


class EapPeer:
    """One conversation. `methods` makes the method of a type when it is asked for, in our order of liking.

    `outcome` tells how it stands, and after FAILURE `error` why. `msk` is there after SUCCESS with a method
    that makes keys.
    """

    def __init__(self, identity: bytes, methods: Mapping[int, Callable[[], PeerMethod]]) -> None:
        self._identity = identity
        self._methods = methods
        self._method: PeerMethod | None = None
        self._rounds = 0
        self._octets = 0
        self.outcome = Outcome.RUNNING
        self.error: AuthenticationFailed | None = None
        self.notifications: list[str] = []

    @property
    def msk(self) -> bytes | None:
        """64 octets, or None where the method makes no keys (RFC 7296 section 2.16 then uses SK_pi/SK_pr)."""
        succeeded = self.outcome is Outcome.SUCCESS and self._method is not None
        return self._method.msk if succeeded and self._method else None

    @property
    def method(self) -> EapType | None:
        """The method that both sides agreed on."""
        return self._method.type if self._method else None

    def receive(self, packet: bytes) -> bytes | None:
        """The response to a packet of the server; None where there is none, and `outcome` says why."""
        if self.outcome is not Outcome.RUNNING:
            return None
        try:
            return self._receive(packet)
        except WireError as error:
            self._fail(f"the gateway's EAP is wrong: {error}")
        except AuthenticationFailed as error:
            self.outcome, self.error = Outcome.FAILURE, error
        except EspudpError as error:
            self._fail(f"EAP failed: {error}", error.remedy)
        return None

    def _receive(self, octets: bytes) -> bytes | None:
        self._rounds += 1
        self._octets += len(octets)
        if self._rounds > MAX_ROUNDS or self._octets > MAX_OCTETS:
            raise WireError(f"no end after {self._rounds} rounds and {self._octets} octets")
        packet = EapPacket.parse(octets)
        if packet.code == EapCode.REQUEST and packet.type is not None:
            type_, data = self._respond(packet.identifier, packet.type, packet.data)
            return EapPacket(EapCode.RESPONSE, packet.identifier, type_, data).emit()
        if packet.code == EapCode.SUCCESS:
            self._succeed()
        elif packet.code == EapCode.FAILURE:
            self._fail(
                "the gateway refused the login, and does not say why",
                "Check the user name, the password or the certificate, and the gateway's log.",
            )
            if self._method and self._method.error:
                self.error = self._method.error
        else:
            raise WireError("a response, where only a server's packets can come")
        return None

    def _respond(self, identifier: int, type_: int, data: bytes) -> tuple[int, bytes]:
        if type_ == EapType.NOTIFICATION:
            self._note(data)
            return type_, b""
        if type_ == EapType.IDENTITY:
            if self._method:
                raise WireError("the identity is asked for within a method")
            return type_, self._identity
        if self._method is None:
            make = self._methods.get(type_)
            if make is None:
                return EapType.NAK, bytes(self._methods) or bytes([_NO_METHOD])
            self._method = make()
        if type_ != self._method.type:
            # RFC 3748 section 2.1: one method and no other
            raise WireError(f"EAP type {type_} within method {self._method.type}")
        return type_, self._method.respond(identifier, data)

    def _note(self, data: bytes) -> None:
        text = data[:_MAX_NOTIFICATION_OCTETS].decode("utf-8", "replace")
        if len(self.notifications) < _MAX_NOTIFICATIONS:
            self.notifications.append("".join(c if c.isprintable() else " " for c in text))

    def _succeed(self) -> None:
        # RFC 3748 section 4.2: a success that comes before the method's own end is not believed
        if self._method is None or not self._method.complete:
            raise WireError("success before the method's end")
        self.outcome = Outcome.SUCCESS

    def _fail(self, message: str, remedy: str = "") -> None:
        self.outcome = Outcome.FAILURE
        self.error = AuthenticationFailed(message, remedy=remedy)
