"""What the three ways of running a peer need to be told, and how they tell what happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipaddress import IPv4Network, IPv6Network

    from espudp.host.radius import RadiusServer
    from espudp.ike.config import ConnectionConfig, ListenerConfig
    from espudp.manual import ManualConfig

# RFC 7296 section 2.23, RFC 3948 section 2: plain IKE, and IKE and ESP together behind a NAT.
IKE_PORT = 500
NATT_PORT = 4500

DEFAULT_DEVICE = "esp%d"

# Processes of one peer; far more than one device's queue in the kernel has use for.
WORKERS_MAX = 64


class Severity(Enum):
    """How much a person should care about a report."""

    DETAIL = "detail"  # shown with --verbose
    INFO = "info"
    WARNING = "warning"  # goes on, but not as asked for
    ERROR = "error"  # ends the run, or the peer's attempt


@dataclass(frozen=True, slots=True)
class Report:
    """Something that happened: one line of what, and for trouble one line of what to do about it."""

    text: str
    severity: Severity = Severity.INFO
    remedy: str = ""
    event: object | None = None  # the tunnel's own typed event behind it, where there is one


Reporter = Callable[[Report], None]
"""Called from the event loop: must not block for long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOptions:
    """What every way of running has in common."""

    bind: str | None = None
    """Local address of the sockets; None: every address, IPv4 and IPv6."""

    device: str = DEFAULT_DEVICE
    """Name of the TUN device; `%d` becomes the first free number."""

    name: str | None = None
    """Name on the control socket; None: the device's, made unique."""

    mark: int | None = None
    """SO_MARK of outer packets, one bit, and with the device's index the number of our routing table; None:
    0x20000000. Processes that share it leave each other's outer packets alone."""

    mtu: int | None = None
    """MTU of the TUN device in octets; None: worked out from the path and the suite."""

    dscp: int | None = None
    """DSCP of outer packets that carry inner ones; None: copied from them (RFC 4301 section 5.1.2)."""

    workers: int = 1
    """Processes that share the SAs, up to `WORKERS_MAX`; 0: one for each core that this one may use."""

    routes: tuple[IPv4Network | IPv6Network, ...] | None = None
    """What of the negotiated subnets goes into the tunnel; None: all of them."""

    confined_port: int | None = None
    """A UDP port of this host, from which nothing goes but into the tunnel, whether there is one or not."""

    rehearsal: bool = True
    """Keep the way of single packets warm with packets of our own, for a moment after each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions(HostOptions):
    """`espudp connect`: one IKEv2 connection, kept up."""

    host: str
    """Name or address of the responder; names are looked up again at each reconnect."""

    config: ConnectionConfig

    port: int = NATT_PORT
    """The responder's UDP port for IKE with the non-ESP marker and ESP."""

    ike_port: int | None = IKE_PORT
    """The responder's UDP port for IKE_SA_INIT; None: start at `port` (`--port` alone)."""

    dns: bool = True
    """Use the DNS servers that the peer offers, for as long as the connection is up."""

    dns_domains: tuple[str, ...] = ()
    """What they are used for, whatever the peer says (RFC 8598 section 3.2); none: as it says."""

    retry: bool = True
    """Connect again, with back-off, when the peer vanishes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenOptions(HostOptions):
    """`espudp listen`: any number of peers. The pool's first addresses (`config.pool`) are our own."""

    config: ListenerConfig
    port: int = NATT_PORT
    ike_port: int | None = IKE_PORT
    """Local UDP port for plain IKE; None: none, everything arrives at `port`."""

    forward: bool = True
    """Switch IP forwarding on (restored at exit), so that clients reach each other and the subnets."""

    radius: tuple[RadiusServer, ...] = ()
    """Who decides on logins by EAP that `config` leaves to RADIUS (EapRadius), in the order of asking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManualOptions(HostOptions):
    """`--manual FILE`: both SAs from a file, no IKE. Ports and peers are in the file."""

    config: ManualConfig
    forward: bool = False

    plain: bool = False
    """ESP goes without UDP, and the ports in the file mean nothing."""
