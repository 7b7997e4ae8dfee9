"""What a client logs in with, and what a server lets clients log in by; and conversations of these."""

from dataclasses import dataclass, field
from functools import partial
from typing import Final

from espudp.crypto.random import Rng
from espudp.errors import ConfigError
from espudp.ike.eap.gtc import GtcPeer, GtcServer
from espudp.ike.eap.md5 import Md5Peer, Md5Server
from espudp.ike.eap.method import MAX_IDENTITY_OCTETS, PeerMethod
from espudp.ike.eap.mschapv2 import MsChapV2Peer, MsChapV2Server
from espudp.ike.eap.peer import EapPeer
from espudp.ike.eap.server import EapServer, MakeMethod
from espudp.ike.eap.tls import TlsPeer, TlsServer, TlsSetup
from espudp.ike.eap.users import UserTable
from espudp.wire.eap import EapType

# Best first: mutual and key-making, one-way, the password itself
PASSWORD_METHODS: Final = (EapType.MSCHAPV2, EapType.MD5_CHALLENGE, EapType.GTC)
# RFC 5998 section 4: mutual, key-making and safe from dictionaries, so that no certificate of the gateway
# is needed beside them
SAFE_METHODS: Final = frozenset({EapType.TLS})
METHODS_BY_NAME: Final = {
    "tls": EapType.TLS,
    "mschapv2": EapType.MSCHAPV2,
    "md5": EapType.MD5_CHALLENGE,
    "gtc": EapType.GTC,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EapLogin:
    """A client's name, and what proves it: a password, a certificate for EAP-TLS, or both."""

    user: str
    password: str | None = field(default=None, repr=False)
    tls: TlsSetup | None = None
    methods: tuple[EapType, ...] = ()
    """In the order of liking. Empty: all that can be spoken with what is there, TLS first."""

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if not 0 < len(self.user.encode()) <= MAX_IDENTITY_OCTETS:
            raise ConfigError(
                f"an EAP user name has 1 to {MAX_IDENTITY_OCTETS} octets",
                field="eap-user",
                remedy="Write the name that the gateway knows, such as alice or alice@example.org.",
            )
        if self.password is None and (self.tls is None or set(self.methods) & set(PASSWORD_METHODS)):
            raise ConfigError(
                "logging in with EAP takes a password",
                field="eap-password-file",
                remedy="Write it into a file of mode 0600, and name that with --eap-password-file.",
            )
        if self.tls is None and EapType.TLS in self.methods:
            raise _no_certificate()

    def peer(self, rng: Rng, *, gateway_proven: bool) -> EapPeer:
        """A conversation as the client. `gateway_proven`: whether the gateway's own AUTH was verified; if
        not, only methods that prove it as well are spoken (RFC 5998)."""
        able = (*((EapType.TLS,) if self.tls else ()), *(PASSWORD_METHODS if self.password else ()))
        methods = [m for m in self.methods or able if gateway_proven or m in SAFE_METHODS]
        return EapPeer(self.user.encode(), {method: partial(self._method, method, rng) for method in methods})

    def _method(self, type_: EapType, rng: Rng) -> PeerMethod:
        password = self.password or ""
        if type_ is EapType.TLS and self.tls:
            return TlsPeer(self.tls)
        if type_ is EapType.MSCHAPV2:
            return MsChapV2Peer(self.user.encode(), password, rng)
        if type_ is EapType.GTC:
            return GtcPeer(password.encode())
        return Md5Peer(password.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class EapUsers:
    """A server's own users, by password, and by certificate where there is `tls`."""

    users: UserTable
    tls: TlsSetup | None = None
    server_name: str = "espudp"
    """What MSCHAPv2 calls the server. Clients ignore it, or show it."""

    methods: tuple[EapType, ...] = ()
    """In the order in which clients are asked for them. Empty: all that can be spoken with what is there,
    passwords first, for most clients have one."""

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if self.tls is None and EapType.TLS in self.methods:
            raise _no_certificate()

    def server(self, rng: Rng) -> EapServer:
        """A conversation as the server."""
        makers: dict[EapType, MakeMethod] = {
            EapType.MSCHAPV2: lambda name: MsChapV2Server(self.users, name, self.server_name.encode(), rng),
            EapType.MD5_CHALLENGE: lambda name: Md5Server(self.users, name, rng),
            EapType.GTC: lambda name: GtcServer(self.users, name),
        }
        passwords = PASSWORD_METHODS if len(self.users) else ()
        able = passwords
        if tls := self.tls:
            makers[EapType.TLS] = lambda name: TlsServer(tls, name)
            able = (*passwords, EapType.TLS)
        return EapServer({method: makers[method] for method in self.methods or able}, rng)


def _no_certificate() -> ConfigError:
    return ConfigError(
        "EAP-TLS takes a certificate, its key and the CA of the other side",
        field="eap-method",
        remedy="Name them with --cert, --key and --ca, or leave TLS out.",
    )
