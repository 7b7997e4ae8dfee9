"""What is said in XAUTH (draft-beaulieu-ike-xauth-02 section 6): attributes in and out, and a verdict.

gateway                                     client
REQUEST type, name, password         ->
                                     <-     REPLY   type, name, password
SET     status                       ->
                                     <-     ACK
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from espudp.crypto.auth import equal
from espudp.crypto.chap import chap_md5
from espudp.crypto.random import Rng, draw
from espudp.errors import AuthenticationFailed
from espudp.ike.eap.users import User
from espudp.ike.v1.unity import banner_text
from espudp.ike.xauth import XauthLogin, XauthUsers
from espudp.wire.ikev1.attributes import Attribute
from espudp.wire.ikev1.constants import CfgAttribute, XauthStatus, XauthType
from espudp.wire.ikev1.payloads import Attributes

CHALLENGE_OCTETS: Final = 16
# As RADIUS has it (RFC 2865 section 5.3): the CHAP identifier, and the response of 16 octets
CHAP_OCTETS: Final = 17

# Our bounds: rounds in which a gateway asks for what was left out, and in which a client answers at all; and
# the octets of a name or a password.
MAX_ROUNDS: Final = 3
MAX_TEXT: Final = 1024

_PASSWORDS = (CfgAttribute.XAUTH_USER_PASSWORD, CfgAttribute.XAUTH_PASSCODE)


class Verdict(Enum):
    """On one REPLY."""

    PASSED = auto()
    REFUSED = auto()
    UNABLE = auto()
    """The client says itself that it cannot answer."""
    INCOMPLETE = auto()


class LoginServer:
    """The gateway: asks, and judges what comes. Whoever is not known is refused as one with a wrong password
    is, and in the same time.
    """

    def __init__(self, users: XauthUsers, rng: Rng) -> None:
        self._users = users
        self._challenge = draw(rng, CHALLENGE_OCTETS) if users.chap else b""
        self._rounds = 0
        self.user = b""
        """Who has logged in, once somebody has."""

    def request(self) -> tuple[Attribute, ...]:
        """What a client is asked for."""
        self._rounds += 1
        kind = XauthType.RADIUS_CHAP if self._users.chap else XauthType.GENERIC
        asked = [
            Attribute.of(CfgAttribute.XAUTH_TYPE, kind),
            Attribute(CfgAttribute.XAUTH_USER_NAME, b""),
            Attribute(CfgAttribute.XAUTH_USER_PASSWORD, b""),
        ]
        if self._challenge:
            asked.append(Attribute(CfgAttribute.XAUTH_CHALLENGE, self._challenge))
        return tuple(asked)

    def judge(self, reply: Attributes) -> Verdict:
        """What a REPLY proves. There is one try at a password, and MAX_ROUNDS for those that have none."""
        if reply.number(CfgAttribute.XAUTH_STATUS) == XauthStatus.FAIL:
            return Verdict.UNABLE
        name, password = _first(reply, (CfgAttribute.XAUTH_USER_NAME,)), _first(reply, _PASSWORDS)
        if not name or not password:
            return Verdict.INCOMPLETE if self._rounds < MAX_ROUNDS else Verdict.REFUSED
        domain = _first(reply, (CfgAttribute.XAUTH_DOMAIN,))
        user, is_known = self._users.users.find(domain + b"\\" + name if domain else name)
        is_right = self._has_answered(user, password) if self._users.chap else user.has_password(password)
        if not is_right or not is_known or max(len(name), len(password)) > MAX_TEXT:
            return Verdict.REFUSED
        self.user = user.name
        return Verdict.PASSED

    def _has_answered(self, user: User, response: bytes) -> bool:
        # A hash is no password, yet takes the same time to be refused
        secret = user.password if user.password is not None else user.nt_hash
        if len(response) != CHAP_OCTETS:
            return False
        is_right = equal(response[1:], chap_md5(response[0], secret, self._challenge))
        return is_right and user.password is not None


def status(*, passed: bool) -> tuple[Attribute, ...]:
    """Of a SET: how it went."""
    return (Attribute.of(CfgAttribute.XAUTH_STATUS, XauthStatus.OK if passed else XauthStatus.FAIL),)


@dataclass(frozen=True, slots=True)
class Answer:
    """To a REQUEST. With `trouble` there is none that could please the gateway."""

    attributes: tuple[Attribute, ...]
    trouble: AuthenticationFailed | None = None


class LoginClient:
    """The client: answers what a gateway asks, once each, for there is nobody to be asked for another."""

    def __init__(self, login: XauthLogin) -> None:
        self._login = login
        self._rounds = 0
        self._is_told = False  # the gateway has had the password
        self.message = ""
        """What the gateway said last, in lines that can be shown."""

    def answer(self, request: Attributes) -> Answer:
        """What a REPLY says."""
        self._rounds += 1
        self.message = banner_text(b"\n".join(request.values(CfgAttribute.XAUTH_MESSAGE))) or self.message
        try:
            return Answer(tuple(self._attributes(request)))
        except AuthenticationFailed as trouble:
            # Section 6.2: a client that cannot do what it is asked for says so
            return Answer(status(passed=False), trouble)

    def refused(self) -> AuthenticationFailed:
        """Why there is no connection, as far as one can know."""
        said = f", and says: {self.message}" if self.message else ""
        return AuthenticationFailed(
            f"the peer refuses the XAUTH user {self._login.user}{said}",
            remedy="Check --xauth-user and the password, and whether the account may use this gateway.",
        )

    def _attributes(self, request: Attributes) -> Iterable[Attribute]:
        kind = request.number(CfgAttribute.XAUTH_TYPE) or XauthType.GENERIC
        asked = dict.fromkeys(attribute.type for attribute in request.attributes)
        if kind not in (XauthType.GENERIC, XauthType.RADIUS_CHAP):
            raise _impossible(f"a one-time password (XAUTH type {kind})")
        if CfgAttribute.XAUTH_NEXT_PIN in asked:
            raise _impossible("a new PIN")
        secrets = [each for each in asked if each in (*_PASSWORDS, CfgAttribute.XAUTH_ANSWER)]
        if self._rounds > MAX_ROUNDS or (secrets and self._is_told):
            raise self.refused()
        secret = self._response(request) if kind == XauthType.RADIUS_CHAP else self._login.password.encode()
        values = {
            CfgAttribute.XAUTH_USER_NAME: self._login.user.encode(),
            CfgAttribute.XAUTH_DOMAIN: self._login.domain.encode(),
            # Which of them it is, gateways call as they like; a password is told once, to the first
            **dict.fromkeys(secrets[:1], secret),
        }
        self._is_told = self._is_told or bool(secrets)
        if CfgAttribute.XAUTH_TYPE in asked:
            yield Attribute.of(CfgAttribute.XAUTH_TYPE, kind)
        for each in asked:
            if each in values:
                yield Attribute(each, values[CfgAttribute(each)])

    def _response(self, request: Attributes) -> bytes:
        challenge = next(iter(request.values(CfgAttribute.XAUTH_CHALLENGE)), b"")
        if not challenge:
            raise _impossible("an answer to a challenge that it does not tell")
        identifier = request.identifier & 0xFF
        return bytes([identifier]) + chap_md5(identifier, self._login.password.encode(), challenge)


def _impossible(what: str) -> AuthenticationFailed:
    return AuthenticationFailed(
        f"the peer asks for {what}, which is not possible here",
        remedy="Ask whoever runs the gateway for an account with a name and a password.",
    )


def _first(reply: Attributes, kinds: Iterable[int]) -> bytes:
    """Some clients end their texts with a zero octet."""
    found = (value for kind in kinds for value in reply.values(kind))
    return next(found, b"").removesuffix(b"\0")
