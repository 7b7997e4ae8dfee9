"""IKE fragmentation (RFC 7383): messages that go out in pieces, and pieces that become messages again.

IP fragments get lost where firewalls and NATs know no ports in them, so a message that is too large for one
packet is cut up before it is sealed, and each piece stands for itself:

    HDR, SK{...}  -->  HDR, SKF 1 of 3 {...}   HDR, SKF 2 of 3 {...}   HDR, SKF 3 of 3 {...}

What gets no answer is cut into smaller pieces (section 2.5.2), and the larger total tells the peer that they
are of another set. Only authentic pieces are kept: few, not for long, and of one message at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from espudp.ike.drop import Drop
from espudp.ike.protect import Content, Protection
from espudp.ike.v2.hub import Datagram, Hub
from espudp.wire import natt
from espudp.wire.address import Path
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.payloads import EncryptedFragment

# RFC 7383 section 2.5.1: what every IPv6 path carries, and what is safe to assume of IPv4. In octets of IP
# packets, as all sizes here that are called so.
_IPV6_MTU = 1280
SMALLEST_IP_OCTETS = 576

# Our bound: a path may be said to carry next to nothing, and a fragment must hold something.
_LEAST_IP_OCTETS = 256

# RFC 791, RFC 8200, RFC 768
_IPV4_HEADERS = 20 + 8
_IPV6_HEADERS = 40 + 8

# RFC 7383 section 2.5.2: a few tries of each size. A request that got no answer to so many further ones is
# cut into smaller fragments, and so is an answer that was asked for so often again.
TRIES_OF_ONE_SIZE = 1

# RFC 7383 section 5: our bounds on what one IKE SA makes us keep, each way, authenticated or not. Ten long
# certificates fit.
MAX_FRAGMENTS = 128
MAX_OCTETS = 32 * 1024

# Our choice: as long a peer may take to send all fragments of a message, some of them again.
REASSEMBLY_SECONDS = 60.0


def _overhead(path: Path) -> int:
    """What is in an IP packet beside the IKE message, a marker included."""
    return (_IPV6_HEADERS if ":" in path.remote.ip else _IPV4_HEADERS) + len(natt.NON_ESP_MARKER)


def ip_octets_of(datagram: Datagram) -> int:
    """The size of the IP packet that it came in, give or take a marker."""
    return len(datagram.data) + _overhead(datagram.path)


def sizes_for(path_mtu: int | None, at_most: int | None) -> list[int]:
    """The IP packets to try, largest first. `path_mtu` is None as long as nobody knows."""
    largest = max(_LEAST_IP_OCTETS, min(path_mtu or _IPV6_MTU, at_most or path_mtu or _IPV6_MTU))
    return [largest, *(size for size in (_IPV6_MTU, SMALLEST_IP_OCTETS) if size < largest)]


class Letter:
    """A message of ours in the form in which it goes out: whole, or in fragments of one size."""

    def __init__(
        self, protection: Protection, header: Header, content: Content, path: Path, sizes: Sequence[int]
    ) -> None:
        """`sizes` are the IP packets to try, largest first; none: the peer takes no fragments."""
        self._protection = protection
        self._header = header
        self._content = content
        self._path = path
        self._sizes = list(sizes)
        self.ip_octets: int | None = self._sizes.pop(0) if sizes else None
        """The largest IP packet that it fills; None: however large it gets."""
        self.datagrams = self._cut(self.ip_octets)

    def shrink(self) -> bool:
        """Cuts it into more and smaller fragments. False: it stays as it is."""
        while self._sizes:
            size = self._sizes.pop(0)
            smaller = self._cut(size)
            # RFC 7383 section 2.5.2: the total must really grow.
            if len(smaller) > len(self.datagrams):
                self.ip_octets, self.datagrams = size, smaller
                return True
        return False

    def _cut(self, ip_octets: int | None) -> Sequence[bytes]:
        protection, header, content = self._protection, self._header, self._content
        room = None if ip_octets is None else ip_octets - _overhead(self._path)
        if room is None or protection.octets_of_whole(content) <= room:
            return [protection.seal_whole(header, content)]
        return protection.seal_fragments(header, content, room)


@dataclass(frozen=True, slots=True)
class Assembled:
    """A whole message again, and the largest IP packet that a fragment of it came in."""

    content: Content
    ip_octets: int


class Reassembly:
    """One message of the peer that is on its way in fragments."""

    __slots__ = ("_first_payload", "_hub", "_ip_octets", "_message", "_octets", "_parts", "_total")

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._message: tuple[int, int] | None = None
        self._total = 0
        self._first_payload = 0
        self._parts: dict[int, bytes] = {}
        self._octets = 0
        self._ip_octets = 0

    def misfit(self, header: Header, fragment: EncryptedFragment) -> Drop | None:
        """Why a fragment is not even looked at (RFC 7383 section 2.6); None: it may be of use."""
        if fragment.total > MAX_FRAGMENTS:
            return Drop.FRAGMENTS_TOO_MANY
        if _message_of(header) != self._message or fragment.total > self._total:
            return None
        if fragment.total < self._total:
            return Drop.FRAGMENT
        return Drop.FRAGMENT_REPEATED if fragment.number in self._parts else None

    def add(self, datagram: Datagram, fragment: EncryptedFragment, content: Content) -> Assembled | None:
        """An authentic fragment that is no misfit; returns the whole message when it was the last one."""
        message = _message_of(datagram.header)
        if message != self._message or fragment.total > self._total:
            self.clear()
            self._message, self._total = message, fragment.total
            self._hub.reassemblies.set(self, datagram.at + REASSEMBLY_SECONDS)
        self._parts[fragment.number] = content.data
        self._octets += len(content.data)
        self._ip_octets = max(self._ip_octets, ip_octets_of(datagram))
        if fragment.number == 1:
            self._first_payload = content.first_payload
        if self._octets > MAX_OCTETS:
            self._hub.drop(Drop.FRAGMENTS_TOO_MANY)
            self.clear()
            return None
        return self._whole() if len(self._parts) == self._total else None

    def _whole(self) -> Assembled:
        data = b"".join(self._parts[number] for number in range(1, self._total + 1))
        whole = Assembled(Content(self._first_payload, data), self._ip_octets)
        self.clear()
        return whole

    def clear(self) -> None:
        """Forgets what there is of a message; told in the counters unless it is complete."""
        if len(self._parts) < self._total:
            self._hub.drop(Drop.FRAGMENTS_MISSING)
        self._hub.reassemblies.discard(self)
        self._message = None
        self._total = self._first_payload = self._octets = self._ip_octets = 0
        self._parts.clear()


def _message_of(header: Header) -> tuple[int, int]:
    return header.exchange, header.message_id
