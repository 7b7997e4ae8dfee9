"""What a status display shows of IKE. Plain values, and never a key."""

from dataclasses import dataclass
from enum import Enum

from espudp.ike.events import NatStatus
from espudp.wire.address import Path


class Phase(Enum):
    """Where a connection stands."""

    CONNECTING = "connecting"
    ESTABLISHED = "established"
    CLOSING = "closing"


@dataclass(frozen=True, slots=True)
class ChildSnapshot:
    """A pair of ESP SAs, as IKE knows it; its counters are ESP's to tell."""

    spi_in: int
    spi_out: int
    suite: str
    local: tuple[str, ...]
    remote: tuple[str, ...]
    rekeying: bool
    deleting: bool
    resource: int | None = None
    """The worker that has it; None where there is only one."""


@dataclass(frozen=True, slots=True)
class ConnectionSnapshot:
    """One connection. Times in seconds: since it was established, since the peer was heard, until rekey and
    expiry.

    What does not exist yet while it is being dialled is empty or None.
    """

    connection: int
    phase: Phase
    initiator: bool
    local_identity: str = ""
    remote_identity: str = ""
    path: Path | None = None
    nat: NatStatus | None = None
    addresses: tuple[str, ...] = ()
    peer_addresses: tuple[str, ...] = ()
    spi_i: str = ""
    spi_r: str = ""
    suite: str = ""
    established_for: float | None = None
    silent_for: float | None = None
    rekey_in: float | None = None
    expires_in: float | None = None
    waiting: int = 0
    """Requests of ours that are under way or wait for their turn."""
    children: tuple[ChildSnapshot, ...] = ()
    ike_version: int = 2
    exchange: str = ""
    """Of phase 1, with IKEv1: "main" or "aggressive"."""
    nat_traversal: str = ""
    """The version that both speak, with IKEv1, such as "RFC 3947"; empty: none."""
    vendor_ids: tuple[str, ...] = ()
    """What the peer says that it is and speaks, with IKEv1, such as "strongSwan", "DPD"."""


def left(at: float, now: float) -> float | None:
    """Seconds until then; None: never."""
    return None if at == float("inf") else max(0.0, at - now)
