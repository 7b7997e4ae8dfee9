"""Who may log in with EAP or XAUTH and with which secret, read from a file of lines `NAME:PASSWORD`."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from espudp.crypto.auth import equal
from espudp.crypto.mschapv2 import NT_HASH_OCTETS, nt_hash, without_domain
from espudp.crypto.random import Rng, draw
from espudp.errors import ConfigError
from espudp.ike.eap.method import MAX_IDENTITY_OCTETS

# How a line says that it has the NT hash and not the password, as password files elsewhere mark it
NT_PREFIX: Final = "$NT$"
# RFC 2759 section 4: a password has at most 256 characters
MAX_PASSWORD_CHARACTERS: Final = 256


@dataclass(frozen=True, slots=True)
class User:
    """A name and what proves it. `password` is None where only the NT hash is known."""

    name: bytes
    password: bytes | None = field(repr=False)
    nt_hash: bytes = field(repr=False)

    @classmethod
    def of_password(cls, name: str, password: str) -> "User":
        """A user whose password is known, as every method needs."""
        return cls(name.encode(), password.encode(), nt_hash(password))

    @classmethod
    def of_nt_hash(cls, name: str, hash_: bytes) -> "User":
        """A user of whom only the NT hash is known: enough for MSCHAPv2 and GTC, not for MD5."""
        return cls(name.encode(), None, hash_)

    def has_password(self, password: bytes) -> bool:
        """Whether this is the password, in a time that says nothing of how much of it is right."""
        return equal(nt_hash(password.decode("utf-8", "surrogateescape")), self.nt_hash)


class UserTable:
    """Users by name. A stranger gets the treatment of a user whom nobody can be: in the same time, in as
    many rounds, to the same refusal, so that trying names tells nothing."""

    def __init__(self, users: Iterable[User], rng: Rng) -> None:
        self._users = {user.name: user for user in users}
        # Hexadecimal digits of chance: a password like any other, that nobody has
        self._nobody = User.of_password("", draw(rng, 16).hex())

    def __len__(self) -> int:
        return len(self._users)

    def find(self, name: bytes) -> tuple[User, bool]:
        r"""The user of that name, or else of that account (`user` for `DOMAIN\user`); whether there is one.

        With False, the user is one whose password nobody has. Whatever that one proves, refuse it.
        """
        found = self._users.get(name) or self._users.get(without_domain(name))
        return (found, True) if found else (self._nobody, False)


def parse_users(content: bytes) -> tuple[User, ...]:
    """Users from lines of `NAME:PASSWORD` or `NAME:$NT$` and 32 hex digits; `#` begins a comment line.

    The password is all that follows the first colon. Raises ConfigError, which never has a secret in it.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise _wrong("is not UTF-8", "Save it as UTF-8.") from None
    users: dict[bytes, User] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        user = _user(number, line)
        if user.name in users:
            raise _wrong(f"has the user of line {number} twice", "Remove one of the two lines.")
        users[user.name] = user
    if not users:
        raise _wrong("names nobody", "Write a line NAME:PASSWORD for each user.")
    return tuple(users.values())


def _user(number: int, line: str) -> User:
    name, colon, secret = line.partition(":")
    name = name.strip()
    if not colon or not name or not secret:
        raise _wrong(f"has no NAME:PASSWORD in line {number}", "Write the name, a colon and the password.")
    if len(name.encode()) > MAX_IDENTITY_OCTETS or len(secret) > MAX_PASSWORD_CHARACTERS:
        raise _wrong(
            f"has a name or a password in line {number} that is too long",
            f"A name has at most {MAX_IDENTITY_OCTETS} octets, a password {MAX_PASSWORD_CHARACTERS} "
            "characters.",
        )
    if not secret.startswith(NT_PREFIX):
        return User.of_password(name, secret)
    try:
        hash_ = bytes.fromhex(secret.removeprefix(NT_PREFIX))
    except ValueError:
        hash_ = b""
    if len(hash_) != NT_HASH_OCTETS:
        raise _wrong(
            f"has no NT hash after {NT_PREFIX} in line {number}",
            f"An NT hash is {2 * NT_HASH_OCTETS} hexadecimal digits.",
        )
    return User.of_nt_hash(name, hash_)


def _wrong(what: str, remedy: str) -> ConfigError:
    return ConfigError(f"the file of users {what}", field="users", remedy=remedy)
