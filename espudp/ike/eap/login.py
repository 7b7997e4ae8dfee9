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
from espudp.ike.eap.users import UserTable
from espudp.wire.eap import EapType

# Best first: mutual and key-making, one-way, the password itself
PASSWORD_METHODS: Final = (EapType.MSCHAPV2, EapType.MD5_CHALLENGE, EapType.GTC)
# RFC 5998 section 4: mutual, key-making and safe from dictionaries, so that no certificate of the gateway
# is needed beside them
SAFE_METHODS: Final = frozenset({EapType.TLS})


@dataclass(frozen=True, slots=True, kw_only=True)
class EapLogin:
    """A client's name and secret. `methods` in the order of liking."""

    user: str
    password: str | None = field(default=None, repr=False)
    methods: tuple[EapType, ...] = PASSWORD_METHODS

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if not 0 < len(self.user.encode()) <= MAX_IDENTITY_OCTETS:
            raise ConfigError(
                f"an EAP user name has 1 to {MAX_IDENTITY_OCTETS} octets",
                field="eap-user",
                remedy="Write the name that the gateway knows, such as alice or alice@example.org.",
            )
        if self.password is None and set(self.methods) & set(PASSWORD_METHODS):
            raise ConfigError(
                "logging in with EAP takes a password",
                field="eap-password-file",
                remedy="Write it into a file of mode 0600, and name that.",
            )

    def peer(self, rng: Rng, *, gateway_proven: bool) -> EapPeer:
        """A conversation as the client. `gateway_proven`: whether the gateway's own AUTH was verified; if
        not, only methods that prove it as well are spoken (RFC 5998)."""
        methods = [m for m in self.methods if gateway_proven or m in SAFE_METHODS]
        return EapPeer(self.user.encode(), {method: partial(self._method, method, rng) for method in methods})

    def _method(self, type_: EapType, rng: Rng) -> PeerMethod:
        password = self.password or ""
        if type_ is EapType.MSCHAPV2:
            return MsChapV2Peer(self.user.encode(), password, rng)
        if type_ is EapType.GTC:
            return GtcPeer(password.encode())
        return Md5Peer(password.encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class EapUsers:
    """A server's own users. `methods` in the order in which clients are asked for them."""

    users: UserTable
    server_name: str = "espudp"
    """What MSCHAPv2 calls the server. Clients ignore it, or show it."""

    methods: tuple[EapType, ...] = PASSWORD_METHODS

    def server(self, rng: Rng) -> EapServer:
        """A conversation as the server."""
        makers: dict[EapType, MakeMethod] = {
            EapType.MSCHAPV2: lambda name: MsChapV2Server(self.users, name, self.server_name.encode(), rng),
            EapType.MD5_CHALLENGE: lambda name: Md5Server(self.users, name, rng),
            EapType.GTC: lambda name: GtcServer(self.users, name),
        }
        return EapServer({method: makers[method] for method in self.methods}, rng)
