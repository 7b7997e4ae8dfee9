"""Logging in after phase 1 of IKEv1 (draft-beaulieu-ike-xauth-02): who does, and who may. Plain values."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from espudp.errors import ConfigError
from espudp.ike.eap.method import MAX_IDENTITY_OCTETS

if TYPE_CHECKING:
    from espudp.ike.eap.users import UserTable


@dataclass(frozen=True, slots=True, kw_only=True)
class XauthLogin:
    """A client's name and password."""

    user: str
    password: str = field(repr=False)
    domain: str = ""
    """For gateways that ask for one."""

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if not 0 < len(self.user.encode()) <= MAX_IDENTITY_OCTETS:
            raise ConfigError(
                f"an XAUTH user name has 1 to {MAX_IDENTITY_OCTETS} octets",
                field="xauth-user",
                remedy="Write the name that the gateway knows, such as alice.",
            )
        if not self.password:
            raise ConfigError(
                "logging in with XAUTH takes a password",
                field="xauth-password-file",
                remedy="Write it into a file of mode 0600, and name that with --xauth-password-file.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class XauthUsers:
    """A gateway's own users."""

    users: "UserTable"
    chap: bool = False
    """Ask for the response to a challenge (RADIUS-CHAP), and not for the password. Few clients can."""
