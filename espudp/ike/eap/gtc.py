"""EAP-GTC, the generic token card (RFC 3748 section 5.6): a prompt, and what the user types, as it is."""

from typing import Final

from espudp.errors import AuthenticationFailed, WireError
from espudp.ike.eap.users import MAX_PASSWORD_CHARACTERS, UserTable
from espudp.wire.eap import EapType

PROMPT: Final = b"Password:"
# A character of UTF-8 has at most four octets
_MAX_PASSWORD_OCTETS: Final = 4 * MAX_PASSWORD_CHARACTERS
# RFC 3748 section 5.6 gives no number: gateways ask for a password, then perhaps for a code
_MAX_PROMPTS: Final = 2


class GtcPeer:
    """The client, which says its password to a gateway that has proven itself."""

    type: Final = EapType.GTC
    msk: Final = None
    error: Final = None

    def __init__(self, password: bytes) -> None:
        self._password = password
        self._prompts = 0

    @property
    def complete(self) -> bool:
        return self._prompts > 0

    def respond(self, identifier: int, data: bytes) -> bytes:
        self._prompts += 1
        if self._prompts > _MAX_PROMPTS:
            raise AuthenticationFailed(
                "the gateway asks for something else than the password",
                remedy="Use a method other than GTC: one-time codes are not asked for here.",
            )
        return self._password


class GtcServer:
    """The server, which asks once."""

    type: Final = EapType.GTC
    msk: Final = None
    error: Final = None

    def __init__(self, users: UserTable, name: bytes) -> None:
        self._user, self._known = users.find(name)

    def request(self, identifier: int) -> bytes:
        return PROMPT

    def receive(self, identifier: int, data: bytes) -> bytes | None:
        if not 0 < len(data) <= _MAX_PASSWORD_OCTETS:
            raise WireError(f"a password of {len(data)} octets")
        right = self._user.has_password(data)
        if not right or not self._known:
            raise AuthenticationFailed("wrong user name or password (EAP-GTC)")
        return None
