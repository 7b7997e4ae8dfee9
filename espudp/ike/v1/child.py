"""A pair of ESP SAs that quick mode has made, and their keys."""

from dataclasses import dataclass, field

from espudp.crypto.aead import CipherKeys
from espudp.crypto.ikev1keys import derive_child_keys
from espudp.crypto.suites import Dh, EspSuite
from espudp.ike.config import ChildConfig
from espudp.ike.v1.life import Life
from espudp.ike.v1.sa import IsakmpSa
from espudp.wire.address import Path
from espudp.wire.ikev1.constants import ProtocolId
from espudp.wire.selectors import TrafficSelector, at_host
from espudp.wire.transport import Transport

Selectors = tuple[TrafficSelector, ...]


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one quick mode is about: one selector on either side, as its identifiers say."""

    local: TrafficSelector
    remote: TrafficSelector
    transport: bool = False

    def at(self, path: Path) -> "Traffic":
        """The same protocols and ports between the two ends of a path."""
        (local,), (remote,) = at_host((self.local,), path.local.ip), at_host((self.remote,), path.remote.ip)
        return Traffic(local, remote, self.transport)

    def __str__(self) -> str:
        return f"{self.local} and {self.remote}"


@dataclass(slots=True, eq=False)
class Child:
    """A pair of ESP SAs that exists. SPIs as integers."""

    spi_in: int
    spi_out: int
    suite: EspSuite
    traffic: Traffic
    local: Selectors
    remote: Selectors
    """What it carries: its traffic, or of that what a gateway has named (split include)."""
    config: ChildConfig
    life: Life
    """What was agreed on, which may be less than we ask for."""
    made_at: float
    group: Dh | None = None
    """Of its perfect forward secrecy."""
    transport: Transport | None = None
    confirmed: bool = True
    """The peer is known to have it."""
    successor: "Child | None" = None
    """What has taken its place; this one is about to be deleted, or to expire."""
    rekeying: bool = False
    """We are at it."""
    deleting: bool = False
    """It is over for us, and goes as soon as what is on the way has arrived."""

    @property
    def is_going(self) -> bool:
        """Not to be rekeyed any more."""
        return self.deleting or self.successor is not None

    @property
    def spi_in_octets(self) -> bytes:
        """As Delete payloads of ours name it."""
        return self.spi_in.to_bytes(4)


@dataclass(frozen=True, slots=True)
class NewChild:
    """What a quick mode has come to."""

    child: Child
    keys_in: CipherKeys = field(repr=False)
    keys_out: CipherKeys = field(repr=False)


@dataclass(frozen=True, slots=True)
class Nonces:
    """Ni_b and Nr_b of a quick mode."""

    initiator: bytes
    responder: bytes


def keyed(sa: IsakmpSa, child: Child, nonces: Nonces, shared: bytes) -> NewChild:
    """The keys of both directions (RFC 2409 section 5.5): each is made with the SPI of who receives.

    `shared` is the secret of the quick mode's own key exchange; empty without PFS. Raises CryptoError.
    """
    keys_in, keys_out = (
        derive_child_keys(
            sa.suite.hash,
            sa.keys.d,
            child.suite,
            ProtocolId.ESP,
            spi.to_bytes(4),
            nonces.initiator,
            nonces.responder,
            shared,
        )
        for spi in (child.spi_in, child.spi_out)
    )
    return NewChild(child, keys_in, keys_out)
