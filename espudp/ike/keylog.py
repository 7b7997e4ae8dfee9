"""What a key log gets to see: only where a test asks for it, to decrypt a capture (never in a log of
ours).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from espudp.crypto.aead import CipherKeys
from espudp.crypto.ikekeys import IkeKeys, IkeSuite
from espudp.crypto.suites import EspSuite
from espudp.wire.address import Path


@dataclass(frozen=True, slots=True)
class IkeKeyLog:
    """One IKE SA: SPIs of 8 octets, and the keys whose SK_ei, SK_er, SK_ai and SK_ar Wireshark's IKEv2 table
    takes.
    """

    spi_i: bytes
    spi_r: bytes
    suite: IkeSuite
    keys: IkeKeys = field(repr=False)


@dataclass(frozen=True, slots=True)
class IsakmpKeyLog:
    """One ISAKMP SA of IKEv1: the initiator's cookie, 8 octets, and the key that Wireshark's ISAKMP table
    takes.
    """

    cookie_i: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ChildKeyLog:
    """One pair of ESP SAs, as Wireshark's ESP table takes them. `spi_in` is the one that we receive on."""

    path: Path
    spi_in: int
    spi_out: int
    suite: EspSuite
    keys_in: CipherKeys = field(repr=False)
    keys_out: CipherKeys = field(repr=False)


KeyLogEntry = IkeKeyLog | IsakmpKeyLog | ChildKeyLog
KeyLog = Callable[[KeyLogEntry], None]
