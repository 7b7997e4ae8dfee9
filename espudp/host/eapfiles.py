"""What EAP and XAUTH read from files: who may log in, with which password we do, and what RADIUS shares."""

import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from espudp.crypto.signatures import PrivateKey
from espudp.crypto.tls import TlsIdentity
from espudp.errors import ConfigError
from espudp.host.keyfiles import read_secret
from espudp.host.radius import PORT, RadiusServer
from espudp.ike.credentials import Trust
from espudp.ike.eap.tls import TlsSetup
from espudp.ike.eap.users import MAX_PASSWORD_CHARACTERS, UserTable, parse_users

_MAX_PORT = 0xFFFF
# An IPv6 address is in brackets where a port follows
_SERVER = re.compile(
    r"(?P<ipv6>[\da-fA-F.]*:[\da-fA-F.]*:[\da-fA-F:.]*)"
    r"|(?:\[(?P<inside>[\da-fA-F:.]+)\]|(?P<host>[^:\[\]\s]+))(?::(?P<port>\d{1,5}))?"
)


def read_users(path: Path) -> UserTable:
    """The users of a file of mode 0600, lines `NAME:PASSWORD`. Raises ConfigError."""
    return UserTable(parse_users(read_secret(path, what="file of users")), os.urandom)


def no_users() -> UserTable:
    """For servers whose users all have certificates."""
    return UserTable((), os.urandom)


def read_password(path: Path) -> str:
    """The password in a file of mode 0600: its first and only line. Raises ConfigError."""
    content = read_secret(path, what="password file")
    try:
        text = content.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise _no_password(path, "is not UTF-8") from None
    if not text or "\n" in text:
        raise _no_password(path, "is empty" if not text else "has more than one line")
    if len(text) > MAX_PASSWORD_CHARACTERS:
        raise _no_password(path, f"has more than {MAX_PASSWORD_CHARACTERS} characters")
    return text


def _no_password(path: Path, what: str) -> ConfigError:
    return ConfigError(
        f"the password file {path} {what}",
        field="password-file",
        remedy="Write the password into it, as one line.",
    )


def read_radius(servers: Iterable[str], secret_file: Path) -> tuple[RadiusServer, ...]:
    """Servers written as HOST, HOST:PORT or [IPv6]:PORT, and the secret that all of them share with us.

    Raises ConfigError.
    """
    secret = read_secret(secret_file, what="RADIUS secret file").strip()
    return tuple(RadiusServer(*_host_and_port(text.strip()), secret) for text in servers)


def _host_and_port(text: str) -> tuple[str, int]:
    found = _SERVER.fullmatch(text)
    port = int(found["port"] or PORT) if found else 0
    if found is None or not 0 < port <= _MAX_PORT:
        raise ConfigError(
            f"--radius: '{text}' is not a server",
            field="radius",
            remedy="Write HOST or HOST:PORT, such as 192.0.2.5:1812 or [2001:db8::5]:1812",
        )
    return found["ipv6"] or found["inside"] or found["host"], port


def tls_setup(
    key: PrivateKey,
    certificates: tuple[bytes, ...],
    trust: Trust,
    *,
    authorities: tuple[bytes, ...] = (),
    server_name: str | None = None,
) -> TlsSetup:
    """EAP-TLS by the clock of this host."""
    return TlsSetup(
        identity=TlsIdentity(certificates=certificates, key=key),
        trust=trust,
        clock=lambda: datetime.now(UTC),
        server_name=server_name,
        authorities=authorities,
    )
