"""What IKE tells the rest. Each event belongs to one connection, by its number."""

from dataclasses import dataclass, field
from enum import Enum

from espudp.crypto.aead import CipherKeys
from espudp.crypto.suites import EspSuite
from espudp.ike.eap.passthrough import BackendQuestion
from espudp.ike.handout import TrustAnchor
from espudp.ike.identity import Identity
from espudp.ike.lifetimes import ChildLifetime
from espudp.ike.natd import NatStatus
from espudp.wire.address import Path
from espudp.wire.selectors import TrafficSelector
from espudp.wire.transport import Transport

__all__ = [
    "AddressAssigned",
    "BackendAsked",
    "ChildConfirmed",
    "ChildInstalled",
    "ChildLifetime",
    "ChildRemoved",
    "ConnectionDown",
    "ConnectionUp",
    "Diagnostic",
    "Event",
    "Fault",
    "IkeRekeyed",
    "NatStatus",
    "PathChanged",
    "PeerAddressAssigned",
    "PeerRefused",
]


class Fault(Enum):
    """Why a connection is down."""

    LOCAL_REQUEST = "closed by us"
    PEER_REQUEST = "closed by the peer"
    TIMEOUT = "the peer does not answer"
    AUTHENTICATION = "authentication failed"
    PROPOSAL = "no common proposal"
    SELECTORS = "no common subnet"
    PROTOCOL = "protocol error"


@dataclass(frozen=True, slots=True)
class ConnectionUp:
    """The IKE SA is authenticated. `suite_name` is that of IKE, `path` where the connection goes on."""

    connection: int
    initiator: bool
    local_identity: Identity
    remote_identity: Identity
    suite_name: str
    path: Path
    nat: NatStatus
    resumed: bool = False
    """By a ticket of the session before (RFC 5723)."""

    ike_version: int = 2


@dataclass(frozen=True, slots=True)
class ChildInstalled:
    """A pair of ESP SAs with its keys.

    `replaces` is the inbound SPI of the SA that this one is the rekeying of, or that it follows after the
    peer has authenticated anew, over another connection. With `standby` the peer may not know the new SA
    yet: outbound traffic stays on the old one until something arrives on the new
    (RFC 7296 section 2.8), or ChildConfirmed; without an old one there is none until then. `resource` is the
    worker that the SAs are for: `spi_in` modulo their number, None where there is only one. A peer may have
    several for the same traffic (RFC 9611), and more than one of them at the same worker.
    """

    connection: int
    spi_in: int
    spi_out: int
    suite: EspSuite
    keys_in: CipherKeys = field(repr=False)
    keys_out: CipherKeys = field(repr=False)
    local: tuple[TrafficSelector, ...]
    remote: tuple[TrafficSelector, ...]
    path: Path
    lifetime: ChildLifetime
    replaces: int | None = None
    standby: bool = False
    replay_window: int = 1024
    resource: int | None = None
    transport: Transport | None = None
    """None: tunnel mode."""


@dataclass(frozen=True, slots=True)
class ChildConfirmed:
    """The peer has the child SA: there is no need to stand by any longer."""

    connection: int
    spi_in: int


@dataclass(frozen=True, slots=True)
class ChildRemoved:
    """A pair of ESP SAs is over. The inbound one lives `linger` seconds on, for what is still on the way."""

    connection: int
    spi_in: int
    spi_out: int
    linger: float = 0.0


@dataclass(frozen=True, slots=True)
class AddressAssigned:
    """Our virtual addresses, as initiator; before the ChildInstalled that uses them.

    `domains` is what the DNS servers are for, none: everything (RFC 8598). `subnets` is what the peer says it
    protects, and `application` what it says it is; nothing follows from either.
    """

    connection: int
    addresses: tuple[str, ...]
    dns: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    trust_anchors: tuple[TrustAnchor, ...] = ()
    subnets: tuple[str, ...] = ()
    application: str = ""
    banner: str = ""
    """What people are to read, in lines without control characters."""


@dataclass(frozen=True, slots=True)
class PeerAddressAssigned:
    """The virtual addresses that we gave to the peer, as responder."""

    connection: int
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PathChanged:
    """The peer, or we, are somewhere else now, or behind another NAT. `nat` None: as it was."""

    connection: int
    path: Path
    nat: NatStatus | None = None


@dataclass(frozen=True, slots=True)
class IkeRekeyed:
    """The IKE SA was replaced by a new one, children and all."""

    connection: int
    suite_name: str = ""


@dataclass(frozen=True, slots=True)
class ConnectionDown:
    """The end of a connection, its child SAs included.

    `reason` says what happened, `remedy` what to do about it; `retry`: the same again may well work.
    `redirect`: the address or name of the gateway to connect to instead, with the same configuration but for
    `redirected_from` (RFC 5685).
    """

    connection: int
    reason: str
    remedy: str
    fault: Fault
    retry: bool
    redirect: str = ""


@dataclass(frozen=True, slots=True)
class PeerRefused:
    """A peer that never became a connection, or that got no child SA. `detail` may have several lines: both
    sides' offers.
    """

    path: Path
    reason: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class BackendAsked:
    """A peer says something in EAP that another server is to be asked about, such as one of RADIUS.

    What that says goes to `Endpoint.backend_answered`, under the same `handle`; the peer waits for it.
    """

    handle: int
    question: BackendQuestion
    path: Path


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One line for the log."""

    connection: int | None
    text: str


Event = (
    ConnectionUp
    | ChildInstalled
    | ChildConfirmed
    | ChildRemoved
    | AddressAssigned
    | PeerAddressAssigned
    | PathChanged
    | IkeRekeyed
    | ConnectionDown
    | PeerRefused
    | BackendAsked
    | Diagnostic
)
