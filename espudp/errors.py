"""The one exception tree: whose fault it was, and what goes on the wire because of it.

Every error carries two sentences for a person: what happened (`str(error)`) and what to do about it
(`error.remedy`, empty where nothing can be done). No error ever contains a key, a PSK or a password.
"""

from enum import Enum


class EspudpError(Exception):
    """Whatever espudp raises on purpose."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class WireError(EspudpError):
    """Octets that cannot be parsed: dropped, or answered with INVALID_SYNTAX once authenticated."""


class CryptoError(EspudpError):
    """A cryptographic operation failed; the SA it was for must not come into being."""


class IntegrityError(CryptoError):
    """An ICV did not verify. The message is dropped as if it had never arrived."""


class PeerError(EspudpError):
    """A message that parses, and is wrong. `notify` is what tells the peer (RFC 7296 section 3.10.1)."""

    def __init__(self, message: str, *, notify: int, data: bytes = b"", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.notify = notify
        self.data = data


class BadPublicValue(PeerError):
    """A Diffie-Hellman value that no honest peer sends (RFC 6989)."""

    # RFC 7296 section 3.10.1: INVALID_SYNTAX
    NOTIFY = 7

    def __init__(self, message: str) -> None:
        super().__init__(message, notify=self.NOTIFY)


class AuthenticationFailed(PeerError):
    """The peer did not prove the identity it claims, or we are told that we did not."""

    # RFC 7296 section 3.10.1: AUTHENTICATION_FAILED
    NOTIFY = 24

    def __init__(self, message: str, *, remedy: str = "", reason: Enum | None = None) -> None:
        super().__init__(message, notify=self.NOTIFY, remedy=remedy)
        # What is wrong with the proof, to be counted; None: nothing more is known.
        self.reason = reason


class ConfigError(EspudpError):
    """The user's mistake: says the field and the value, and what would be right."""

    def __init__(self, message: str, *, field: str = "", remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.field = field


class HostError(EspudpError):
    """The operating system refused: says the missing permission or device, and how to get it."""
