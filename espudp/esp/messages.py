"""What the workers of one data path tell each other.

`Command`s go from the front to the others, `Report`s come back, and whoever meets traffic that belongs to
another hands it over as an `Astray`. All are plain values, for a host to move from process to process, and
none shows a key in its `repr`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from espudp.esp.drops import Drop
from espudp.esp.events import Event
from espudp.esp.sa import ChildKeys
from espudp.esp.snapshot import SaSnapshot
from espudp.wire.address import Path
from espudp.wire.buffer import Buffer
from espudp.wire.selectors import TrafficSelector
from espudp.wire.vnet import Frame

# Commands: the first six are `DataPath`'s methods of these names, to the owner of the SAs.


@dataclass(frozen=True, slots=True)
class Install:
    child: ChildKeys
    now: float
    standby: bool


@dataclass(frozen=True, slots=True)
class Confirm:
    spi_in: int


@dataclass(frozen=True, slots=True)
class Remove:
    spi_in: int
    now: float
    linger: float


@dataclass(frozen=True, slots=True)
class RemoveConnection:
    connection: int
    now: float


@dataclass(frozen=True, slots=True)
class Move:
    connection: int
    path: Path


@dataclass(frozen=True, slots=True)
class SetInnerMtu:
    connection: int
    mtu: int


@dataclass(frozen=True, slots=True)
class Announce:
    """To everybody else: a child SA has an owner, who wants the packets that it is for."""

    spi_in: int
    connection: int
    owner: int
    local: tuple[TrafficSelector, ...]
    remote: tuple[TrafficSelector, ...]
    hosts: bytes = b""
    """In transport mode the two addresses of what goes out, packed one behind the other."""


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The child SA takes no packets any more."""

    spi_in: int


@dataclass(frozen=True, slots=True)
class Steer:
    """For the host: how packets should find the worker that sends them.

    `by_return`: to the one that last received a packet of the same flow, for it has the SA. Otherwise by a
    hash of the flow, always to the same: each has an SA for them, and with the first rule the two ends may
    run after one another for ever, and reorder the flow.
    """

    by_return: bool


@dataclass(frozen=True, slots=True)
class Ask:
    """For a `Status`."""


Command = (
    Install | Confirm | Remove | RemoveConnection | Move | SetInnerMtu | Announce | Withdraw | Steer | Ask
)


# Reports


@dataclass(frozen=True, slots=True)
class Heard:
    """Connections that have sent something authentic, each with when it last did."""

    connections: list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Status:
    """How things stand. The drops are counted from the start."""

    sas: list[SaSnapshot]
    drops: Counter[Drop]
    handed_over: int


Report = Event | Heard | Status


# Hand-over


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A packet from the TUN device, for an SA of the receiver's. Borrowed, as `Frame.parts` are."""

    packet: Buffer | Frame


@dataclass(frozen=True, slots=True)
class Incoming:
    """Datagrams for an SA of the receiver's, or for IKE. Borrowed, as the pieces of a burst are."""

    datagrams: Sequence[Buffer]
    path: Path
    tos: int


Astray = Outgoing | Incoming
