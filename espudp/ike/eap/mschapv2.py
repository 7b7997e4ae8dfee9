"""EAP-MSCHAPv2 (draft-kamath-pppext-eap-mschapv2): both sides prove to know the password, and get keys.

What the password is tried with at the server is the hash of it (`User.nt_hash`).
"""

import re
from enum import IntEnum
from typing import Final

from espudp.crypto import mschapv2 as ms
from espudp.crypto.auth import equal
from espudp.crypto.random import Rng, draw
from espudp.errors import AuthenticationFailed, WireError
from espudp.ike.eap.method import MAX_IDENTITY_OCTETS
from espudp.ike.eap.users import UserTable
from espudp.wire.buffer import Reader, Writer
from espudp.wire.eap import EapType


class OpCode(IntEnum):
    """Section 2 of the draft."""

    CHALLENGE = 1
    RESPONSE = 2
    SUCCESS = 3
    FAILURE = 4


# Section 2.2: peer challenge, 8 reserved octets, NT response, flags
_RESPONSE_VALUE_OCTETS: Final = ms.CHALLENGE_OCTETS + 8 + ms.NT_RESPONSE_OCTETS + 1
# Section 2: the op code, the id and the length
_HEADER_OCTETS: Final = 4
# RFC 2759 section 6: a failure's message is for a person, and one line
_MAX_TEXT_OCTETS: Final = 512

# RFC 2759 section 6, with what helps
_WRONG_PASSWORD: Final = 691
# Passwords that a client may try in one conversation
TRIES: Final = 2
_REFUSALS: Final = {
    646: ("login is not permitted at this hour", "Try again later, or ask who runs the gateway."),
    647: ("the account is disabled", "Ask who runs the gateway."),
    648: ("the password has expired", "Change it where the account is kept; that is not done from here."),
    649: ("the account may not dial in", "Ask who runs the gateway."),
    _WRONG_PASSWORD: ("wrong user name or password", "Check both; some gateways want DOMAIN\\NAME."),
}
_ERROR_CODE: Final = re.compile(rb"\bE=(\d{1,10})\b")


def _packet(opcode: OpCode, identifier: int, body: bytes) -> bytes:
    writer = Writer()
    writer.u8(opcode)
    writer.u8(identifier)
    # MS-Length counts from the op code (section 2 of the draft)
    with writer.length16(include=_HEADER_OCTETS):
        writer.put(body)
    return writer.getvalue()


def _parse(data: bytes) -> tuple[int, int, Reader]:
    """Op code, id and body. Raises WireError for a length that lies."""
    reader = Reader(data)
    opcode, identifier, length = reader.u8(), reader.u8(), reader.u16()
    body = reader.sub(length - _HEADER_OCTETS)
    reader.expect_end()
    return opcode, identifier, body


def _name(reader: Reader) -> bytes:
    name = reader.rest()
    if len(name) > MAX_IDENTITY_OCTETS:
        raise WireError(f"a name of {len(name)} octets")
    return name


class MsChapV2Peer:
    """The client. It goes on only with a server that knows the password as well."""

    type: Final = EapType.MSCHAPV2

    def __init__(self, name: bytes, password: str, rng: Rng) -> None:
        self._name = name
        self._hash = ms.nt_hash(password)
        self._rng = rng
        self._expected: bytes | None = None
        self._msk: bytes | None = None
        self.complete = False
        self.error: AuthenticationFailed | None = None

    @property
    def msk(self) -> bytes | None:
        return self._msk if self.complete else None

    def respond(self, identifier: int, data: bytes) -> bytes:
        opcode, ms_identifier, body = _parse(data)
        if self.complete or self.error:
            raise WireError("MSCHAPv2 goes on after its end")
        if opcode == OpCode.CHALLENGE and self._expected is None:
            return self._answer(ms_identifier, body)
        if opcode == OpCode.SUCCESS and self._expected is not None:
            self._verify(body.rest())
            return bytes([OpCode.SUCCESS])
        if opcode == OpCode.FAILURE and self._expected is not None:
            self.error = _refusal(body.rest())
            # Section 2.6: to a failure that could be retried, too: there is no other password
            return bytes([OpCode.FAILURE])
        raise WireError(f"MSCHAPv2 op code {opcode} out of order")

    def _answer(self, ms_identifier: int, body: Reader) -> bytes:
        """Section 2.2."""
        challenge = body.take(body.u8())
        if len(challenge) != ms.CHALLENGE_OCTETS:
            raise WireError(f"an MSCHAPv2 challenge of {len(challenge)} octets")
        own = draw(self._rng, ms.CHALLENGE_OCTETS)
        response = ms.nt_response(self._hash, challenge, own, self._name)
        self._expected = ms.authenticator_response(self._hash, response, challenge, own, self._name)
        self._msk = ms.msk(self._hash, response)
        value = own + bytes(8) + response + b"\x00"
        return _packet(OpCode.RESPONSE, ms_identifier, bytes([len(value)]) + value + self._name)

    def _verify(self, message: bytes) -> None:
        """RFC 2759 section 5: `S=` and 40 hex digits, then perhaps a text."""
        expected = self._expected or b""
        if not equal(message[: len(expected)].upper(), expected):
            raise AuthenticationFailed(
                "the gateway does not know the user's password",
                remedy="Check the password; if it is right, this is not the gateway that it belongs to.",
            )
        self.complete = True


def _refusal(message: bytes) -> AuthenticationFailed:
    found = _ERROR_CODE.search(message[:_MAX_TEXT_OCTETS])
    code = int(found[1]) if found else _WRONG_PASSWORD
    text, remedy = _REFUSALS.get(code, (f"error {code}", "Ask who runs the gateway."))
    return AuthenticationFailed(f"the gateway refused the login: {text}", remedy=remedy)


class MsChapV2Server:
    """The server. After a wrong password the client may try again while there are `tries`, in which Windows
    asks its user. After the last EAP-Failure says it all: a failure that must not be retried is one that
    Windows does not answer."""

    type: Final = EapType.MSCHAPV2

    def __init__(
        self, users: UserTable, name: bytes, server_name: bytes, rng: Rng, *, tries: int = TRIES
    ) -> None:
        self._users = users
        self._expected_user, _ = users.find(name)
        self._server_name = server_name
        self._rng = rng
        self._tries = tries
        self._challenge = draw(rng, ms.CHALLENGE_OCTETS)
        self._awaited = OpCode.RESPONSE
        self._msk: bytes | None = None
        self.msk: bytes | None = None
        self.error: AuthenticationFailed | None = None

    def request(self, identifier: int) -> bytes:
        value = bytes([len(self._challenge)]) + self._challenge
        return _packet(OpCode.CHALLENGE, identifier, value + self._server_name)

    def receive(self, identifier: int, data: bytes) -> bytes | None:
        opcode = data[0] if data else None
        if self._awaited == OpCode.RESPONSE and opcode == OpCode.RESPONSE:
            return self._check(data)
        if self._awaited == OpCode.SUCCESS and opcode == OpCode.SUCCESS:
            self.msk = self._msk
            return None
        if opcode == OpCode.FAILURE:
            # The end after our failure; or the client could not verify us (section 2.5)
            raise AuthenticationFailed(
                "the client does not believe that we know its password (EAP-MSCHAPv2)"
                if self._awaited == OpCode.SUCCESS
                else "wrong user name or password (EAP-MSCHAPv2)"
            )
        raise WireError(f"MSCHAPv2 op code {opcode} out of order")

    def _check(self, data: bytes) -> bytes:
        _, ms_identifier, body = _parse(data)
        value = body.sub(body.u8())
        if value.remaining != _RESPONSE_VALUE_OCTETS:
            raise WireError(f"an MSCHAPv2 response of {value.remaining} octets")
        own = value.take(ms.CHALLENGE_OCTETS)
        value.skip(8)
        response = value.take(ms.NT_RESPONSE_OCTETS)
        name = _name(body)
        user, known = self._users.find(name)
        right = equal(response, ms.nt_response(user.nt_hash, self._challenge, own, name))
        # The user who logs in is the one that the identity spoke of
        if not right or not known or user.name != self._expected_user.name:
            return self._refuse(ms_identifier)
        self._msk = ms.msk(user.nt_hash, response)
        self._awaited = OpCode.SUCCESS
        proof = ms.authenticator_response(user.nt_hash, response, self._challenge, own, name)
        return _packet(OpCode.SUCCESS, ms_identifier, proof + b" M=OK")

    def _refuse(self, ms_identifier: int) -> bytes:
        """Section 2.4 and RFC 2759 section 6: E the error, R whether to try again, C the challenge for that,
        V the version, M a text."""
        self._tries -= 1
        self.error = AuthenticationFailed("wrong user name or password (EAP-MSCHAPv2)")
        if self._tries <= 0:
            raise self.error
        self._challenge = draw(self._rng, ms.CHALLENGE_OCTETS)
        message = (
            f"E={_WRONG_PASSWORD} R=1 C={self._challenge.hex().upper()} V=3 M=Wrong user name or password"
        )
        return _packet(OpCode.FAILURE, ms_identifier, message.encode())
