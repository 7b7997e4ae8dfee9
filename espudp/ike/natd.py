"""NAT detection (RFC 7296 section 2.23): each side hashes what it sees, the other compares."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_address

from espudp.crypto.auth import equal
from espudp.crypto.digest import sha1
from espudp.wire.address import Path, UdpAddress
from espudp.wire.ikev2.constants import NotifyType
from espudp.wire.ikev2.message import Message

# What the source is claimed to be when a NAT is to be detected where there is none. Nobody sends from it.
_NOWHERE = UdpAddress("0.0.0.0", 0)


@dataclass(frozen=True, slots=True)
class NatStatus:
    """Which side sits behind a NAT: `local` is us, `remote` the peer."""

    local: bool = False
    remote: bool = False
    claimed: bool = False
    """There is none, and the peer says that there is, since it wants ESP in UDP."""

    @property
    def found(self) -> bool:
        """Whether there is any NAT between the two."""
        return self.local or self.remote

    def __str__(self) -> str:
        if self.local and self.remote:
            return "both sides"
        return "this side" if self.local else "the peer" if self.remote else "none"


def natd_hash(spi_i: bytes, spi_r: bytes, address: UdpAddress) -> bytes:
    """SHA-1 of both SPIs, the address (4 or 16 octets) and the port (2): 20 octets.

    In the first message of IKE_SA_INIT `spi_r` is eight zero octets.
    """
    # RFC 7296 section 2.23: HASH(SPIs | IP address | port), all in network byte order.
    return sha1(spi_i + spi_r + ip_address(address.ip).packed + address.port.to_bytes(2))


def natd_data(spi_i: bytes, spi_r: bytes, path: Path, *, force_encap: bool = False) -> tuple[bytes, bytes]:
    """The data of our NAT_DETECTION_SOURCE_IP and NAT_DETECTION_DESTINATION_IP notifications.

    With `force_encap` the source is one that cannot be, so the peer finds a NAT and encapsulates in UDP.
    """
    source = _NOWHERE if force_encap else path.local
    return natd_hash(spi_i, spi_r, source), natd_hash(spi_i, spi_r, path.remote)


def detect(
    spi_i: bytes, spi_r: bytes, path: Path, sources: Iterable[bytes], destinations: Iterable[bytes]
) -> NatStatus | None:
    """Compare the peer's hashes with the path its message came by; `path` is ours: `remote` is the peer.

    A peer with several addresses sends several sources, one of which must match (RFC 7296 section 2.23).
    None: the peer sent no hashes and so does not speak NAT traversal.
    """
    sources, destinations = list(sources), list(destinations)
    if not sources or not destinations:
        return None
    seen_source = natd_hash(spi_i, spi_r, path.remote)
    seen_destination = natd_hash(spi_i, spi_r, path.local)
    return NatStatus(
        local=not any(equal(seen_destination, data) for data in destinations),
        remote=not any(equal(seen_source, data) for data in sources),
    )


def found_by(message: Message, spi_i: bytes, spi_r: bytes, path: Path) -> NatStatus:
    """What the hashes of a peer's answer show; nothing, if there are none in it."""
    notifies = message.notifies()
    sources = [n.data for n in notifies if n.type == NotifyType.NAT_DETECTION_SOURCE_IP]
    destinations = [n.data for n in notifies if n.type == NotifyType.NAT_DETECTION_DESTINATION_IP]
    found = detect(spi_i, spi_r, path, sources, destinations) or NatStatus()
    return found_but_claimed(found) if only_claimed(spi_i, spi_r, sources) else found


def found_but_claimed(found: NatStatus) -> NatStatus:
    """The same where the peer's NAT is nothing but its claim."""
    return replace(found, remote=False, claimed=True)


def only_claimed(spi_i: bytes, spi_r: bytes, sources: Iterable[bytes]) -> bool:
    """Whether a peer of our own kind has sent one of these hashes with `force_encap`."""
    return natd_hash(spi_i, spi_r, _NOWHERE) in sources
