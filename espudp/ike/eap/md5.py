"""EAP-MD5 (RFC 3748 section 5.4): proves the client alone, and makes no keys."""

from typing import Final

from espudp.crypto.auth import equal
from espudp.crypto.chap import chap_md5
from espudp.crypto.random import Rng, draw
from espudp.errors import AuthenticationFailed, WireError
from espudp.ike.eap.users import UserTable
from espudp.wire.buffer import Reader
from espudp.wire.eap import EapType

CHALLENGE_OCTETS: Final = 16
# RFC 3748 section 5.4: the Value-Size of a response, as MD5 makes it
RESPONSE_OCTETS: Final = 16


def _value(data: bytes) -> bytes:
    """What the Value-Size counts (RFC 1994 section 4.1). The name behind it is ignored."""
    reader = Reader(data)
    value = reader.take(reader.u8())
    if not value:
        raise WireError("an MD5 challenge without a value")
    return value


class Md5Peer:
    """The client, with its password."""

    type: Final = EapType.MD5_CHALLENGE
    msk: Final = None
    error: Final = None

    def __init__(self, password: bytes) -> None:
        self._password = password
        self.complete = False

    def respond(self, identifier: int, data: bytes) -> bytes:
        if self.complete:
            raise WireError("a second MD5 challenge")
        response = chap_md5(identifier, self._password, _value(data))
        self.complete = True
        return bytes([len(response)]) + response


class Md5Server:
    """The server. The NT hash of a password is not enough here: such a user is refused."""

    type: Final = EapType.MD5_CHALLENGE
    msk: Final = None
    error: Final = None

    def __init__(self, users: UserTable, name: bytes, rng: Rng) -> None:
        self._user, self._known = users.find(name)
        self._challenge = draw(rng, CHALLENGE_OCTETS)

    def request(self, identifier: int) -> bytes:
        return bytes([len(self._challenge)]) + self._challenge

    def receive(self, identifier: int, data: bytes) -> bytes | None:
        response = _value(data)
        if len(response) != RESPONSE_OCTETS:
            raise WireError(f"an MD5 response of {len(response)} octets")
        # A hash is no password, yet takes the same time to be refused
        secret = self._user.password if self._user.password is not None else self._user.nt_hash
        right = equal(response, chap_md5(identifier, secret, self._challenge))
        if not right or not self._known or self._user.password is None:
            raise AuthenticationFailed("wrong user name or password (EAP-MD5)")
        return None
