"""What phase 1 leaves for all that follows: an ISAKMP SA, and who is at its other end."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from espudp.ike.config import ConnectionConfig, ListenerConfig
from espudp.ike.identity import Identity
from espudp.ike.natd import NatStatus
from espudp.ike.pad import PadEntry
from espudp.ike.v1.exchange import Turn
from espudp.ike.v1.natt import Flavour
from espudp.ike.v1.sa import IsakmpSa
from espudp.ike.v1.ways import Way
from espudp.wire.address import Path

if TYPE_CHECKING:
    from espudp.ike.v1.connection import Connection
    from espudp.ike.v1.established import Established

Policy = ConnectionConfig | ListenerConfig


@dataclass(slots=True, kw_only=True)
class Phase1:
    """How it ended."""

    policy: Policy
    """A ListenerConfig is that of the entry by which the peer came."""

    sa: IsakmpSa
    turn: Turn
    """Our last message of phase 1, if the peer may not have got it."""

    path: Path
    """Where it goes on, on port 4500 perhaps."""

    outer: str
    """The IP address that the peer has shown to be its own: it has gone on with what we sent there. Its last
    message may have come from anywhere else.
    """

    nat: NatStatus
    encapsulates: bool
    """ESP goes in UDP."""

    way: Way
    """How the two sides have proved themselves."""

    local_identity: Identity
    remote_identity: Identity
    lifetime_seconds: float | None
    """As the initiator offered it."""

    began_at: float
    """When the first message was sent, or came."""

    entry: PadEntry | None = None
    """By which the peer came; None: we have called it."""

    number: int | None = None
    """Of the connection, if it has one already."""

    replaces: "Connection | None" = None
    """The connection whose ISAKMP SA this is the new one of."""

    initial_contact: bool = False
    """The peer says that it knows of no other connection between us."""

    @property
    def flavour(self) -> Flavour | None:
        """Of NAT traversal."""
        return self.sa.abilities.flavour


class Step(Protocol):
    """One of the things to be done, one after the other, before traffic flows.

    When it is done it lets `established.next_step` follow, or `established.fail`.
    """

    def begin(self, established: "Established", now: float) -> None: ...
