"""What a side proves its identity with, and what it takes from the other side for proof. Plain values.

The two need not be of one kind (RFC 7296 section 2.15): a gateway may prove itself by certificate and ask
its clients for a pre-shared key, or for EAP.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from espudp.crypto.random import Rng
from espudp.crypto.signatures import PrivateKey, PublicKey
from espudp.errors import AuthenticationFailed, ConfigError
from espudp.ike.eap.method import Outcome
from espudp.ike.eap.passthrough import BackendQuestion
from espudp.ike.identity import Identity

WallClock = Callable[[], datetime]
"""The time of day, with its zone: what certificates are judged by."""


def no_clock() -> datetime:
    """For endpoints that were given none. Raises AuthenticationFailed."""
    raise AuthenticationFailed(
        "no certificate can be judged without a clock",
        remedy="Give Tunnel its wall_clock: lambda: datetime.now(UTC).",
    )


class Trust(Protocol):
    """Who vouches for certificates; see crypto/x509.py."""

    @property
    def wants_ocsp(self) -> bool:
        """Whether peers are to send OCSP responses with their certificates."""

    def verify(
        self,
        chain: Sequence[bytes],
        identity_type: int,
        identity: bytes,
        at: datetime,
        ocsp: Sequence[bytes] = (),
    ) -> PublicKey:
        """The key of a certificate that is good for this identity. Raises AuthenticationFailed."""

    def authorities(self) -> tuple[bytes, ...]:
        """For CERTREQ: SHA-1 of each anchor's SubjectPublicKeyInfo."""

    def subjects(self) -> tuple[bytes, ...]:
        """For CERTREQ of IKEv1: the DN of each anchor in DER."""


class EapPeer(Protocol):
    """The client's half of one EAP conversation; see eap/peer.py."""

    @property
    def outcome(self) -> Outcome: ...

    @property
    def error(self) -> AuthenticationFailed | None:
        """Why it failed."""

    @property
    def msk(self) -> bytes | None:
        """The key that the method has made, if it makes one."""

    def receive(self, packet: bytes) -> bytes | None:
        """The answer to a packet; None: there is none."""


class EapServer(Protocol):
    """The server's half of one EAP conversation; see eap/server.py."""

    @property
    def outcome(self) -> Outcome: ...

    @property
    def error(self) -> AuthenticationFailed | None:
        """Why it failed."""

    @property
    def msk(self) -> bytes | None:
        """The key that the method has made, if it makes one."""

    @property
    def identity(self) -> bytes:
        """Whom the conversation has proved, once it is over."""

    @property
    def question(self) -> BackendQuestion | None:
        """What another server is to be asked before the conversation goes on."""

    def start(self) -> bytes: ...

    def receive(self, packet: bytes) -> bytes | None:
        """The next packet; None: there is a question."""


class EapLogin(Protocol):
    """What a client logs in with; see eap/login.py."""

    def peer(self, rng: Rng, *, gateway_proven: bool) -> EapPeer:
        """Begins a conversation. Not `gateway_proven`: only by methods that prove both sides."""


class EapUsers(Protocol):
    """Whom a server lets log in; see eap/login.py and eap/passthrough.py."""

    def server(self, rng: Rng) -> EapServer:
        """Begins a conversation."""


# What we prove ourselves with


@dataclass(frozen=True, slots=True)
class Psk:
    """A key that both sides have."""

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        _require_psk(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class SignKey:
    """A private key, with what makes its other half known: certificates, or the bare public key."""

    private_key: PrivateKey
    certificates: tuple[bytes, ...] = field(default=(), repr=False)
    """DER, our own first, then those between it and an authority. None: a raw public key (RFC 7670)."""

    ocsp: tuple[bytes, ...] = field(default=(), repr=False)
    """OCSP responses about them, DER, to hand over with them (RFC 4806)."""

    pss: bool = False
    """Sign with RSA-PSS. PKCS#1 v1.5 is what every peer understands."""

    sha1: bool = False
    """Sign with RSA and SHA-1 for peers without RFC 7427, some of which take nothing else."""


@dataclass(frozen=True, slots=True)
class EapClient:
    """A name, and what goes with it (RFC 7296 section 2.16)."""

    login: EapLogin


@dataclass(frozen=True, slots=True)
class NoProof:
    """Nothing: we stay anonymous (RFC 7619)."""


@dataclass(frozen=True, slots=True)
class ByEap:
    """For either side, of the one that is EAP's server: the method proves it as well (RFC 5998)."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """The keys of a session that goes on (RFC 5723)."""


Proof = Resumed | Psk | SignKey | EapClient | NoProof | ByEap


# What the peer has to prove itself with


@dataclass(frozen=True, slots=True)
class PskOf:
    """The key that both sides have."""

    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        _require_psk(self.key)


@dataclass(frozen=True, slots=True)
class CertificateOf:
    """A certificate that somebody trusted vouches for, in the name that the peer gives itself."""

    trust: Trust
    sha1: bool = False
    """Take a signature with RSA and SHA-1 from peers without RFC 7427."""


@dataclass(frozen=True, slots=True)
class RawKeyOf:
    """The other half of this very key, whatever the peer calls itself (RFC 7670)."""

    key: PublicKey


@dataclass(frozen=True, slots=True)
class EapOf:
    """A name that somebody knows, and what goes with it (RFC 7296 section 2.16)."""

    users: EapUsers


@dataclass(frozen=True, slots=True)
class NoDemand:
    """Nothing: whoever comes is let in, and remains anonymous (RFC 7619)."""


@dataclass(frozen=True, slots=True)
class ResumedAs:
    """The keys of a session that goes on, of the peer that was there (RFC 5723)."""

    claimed: Identity
    """What it called itself, and must again."""

    known: Identity
    """Whom it had proved to be."""


Demand = ResumedAs | PskOf | CertificateOf | RawKeyOf | EapOf | NoDemand | ByEap


def _require_psk(key: bytes) -> None:
    if not key:
        raise ConfigError(
            "the PSK is empty", field="psk", remedy="Use a long random one: openssl rand -base64 32"
        )
