"""What a status display shows of IKE. Plain values, and never a key."""

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from espudp.ike.events import NatStatus
from espudp.ike.v2.established import Established
from espudp.wire.address import Path

if TYPE_CHECKING:
    from espudp.ike.v2.connection import Connection
    from espudp.ike.v2.hub import Hub


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


def snapshot_of(hub: "Hub", now: float) -> list[ConnectionSnapshot]:
    """All connections of an endpoint, in the order of their numbers."""
    dialling = [ConnectionSnapshot(number, Phase.CONNECTING, initiator=True) for number in hub.dialling]
    established = [_connection(connection, now) for connection in hub.connections.values()]
    return sorted([*dialling, *established], key=lambda s: s.connection)


def _connection(connection: "Connection", now: float) -> ConnectionSnapshot:
    ike = connection.current
    alive = ike is not None and ike.is_alive and ike.farewell is None
    return ConnectionSnapshot(
        connection.number,
        Phase.ESTABLISHED if alive else Phase.CLOSING,
        connection.dialled,
        str(connection.policy.local_identity),
        str(connection.peer.identity),
        connection.path,
        connection.peer.nat,
        connection.addresses,
        connection.peer.addresses,
        spi_i="" if ike is None else ike.sa.spi_i.hex(),
        spi_r="" if ike is None else ike.sa.spi_r.hex(),
        suite="" if ike is None else ike.sa.suite.name,
        established_for=now - connection.established_at,
        silent_for=now - connection.last_inbound,
        rekey_in=None if ike is None else _left(ike.rekey_at, now),
        expires_in=None if ike is None else _left(ike.expires_at, now),
        waiting=0 if ike is None else _waiting(ike),
        children=tuple(
            ChildSnapshot(
                c.spi_in,
                c.spi_out,
                c.suite.name,
                tuple(map(str, c.local)),
                tuple(map(str, c.remote)),
                c.rekeying,
                c.deleting,
                connection.hub.resource_of(c.spi_in),
            )
            for c in connection.children.values()
        ),
    )


def _left(at: float, now: float) -> float | None:
    return None if at == float("inf") else max(0.0, at - now)


def _waiting(ike: Established) -> int:
    return (ike.task is not None) + len(ike.tasks) + len(ike.later)
