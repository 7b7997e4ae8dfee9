"""NAT traversal in the versions that were shipped: RFC 3947 and the drafts before it.

    version         NAT-D  NAT-OA  encapsulation modes  after a NAT was found
    RFC 3947        20     21      3, 4                 on port 4500, with the non-ESP marker
    draft 04 to 08  15     16      3, 4                 the same
    draft 02, 03    130    131     61443, 61444         the same
    no number       15     none    3, 4                 the same
    draft 00, 01    130    131     61443, 61444         on port 500, ESP behind the non-IKE marker

The draft without a number is Apple's, from before the RFC was one, and has its two NAT-D in the other order.
Each side names those that it speaks by vendor id, and the best one that both name counts. A payload that has
the number of another version means nothing. What came before draft 00 (Stenberg's drafts, and Huttunen's),
draft 09 and the trials of the RFC are known by name alone, which status shows: nobody is known to speak only
these.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from espudp.crypto.auth import equal
from espudp.crypto.ikev1keys import Hash, digest
from espudp.ike.ikev1_config import NatTraversal
from espudp.ike.natd import NatStatus, found_but_claimed
from espudp.wire.address import Path, UdpAddress
from espudp.wire.ikev1 import vendor_ids as known
from espudp.wire.ikev1.constants import Encapsulation, PayloadType
from espudp.wire.ikev1.message import Message
from espudp.wire.ikev1.payloads import NatDiscovery

# The port that we claim to have when a NAT is to be detected where there is none. Nobody sends from it, and
# behind a real NAT the address is another one besides.
_NO_PORT = 0

# Our bound: a peer may have several addresses (RFC 3947 section 3.2), but not any number.
_MAX_HASHES = 16


@dataclass(frozen=True, slots=True)
class Flavour:
    """One version of NAT traversal."""

    version: NatTraversal
    vendor_id: bytes
    nat_d: int
    nat_oa: int | None
    """None: nobody is told of original addresses."""
    tunnel: int
    """The encapsulation mode of ESP in UDP, tunnel mode; the next is that of transport mode."""
    transport: int
    floats: bool
    """To port 4500, once a NAT is found."""
    peer_first: bool = True
    """The first NAT-D is about whom it is sent to, the second about who sends it."""


def _flavour(
    version: NatTraversal,
    vendor: known.Known,
    nat_d: int,
    nat_oa: int | None,
    *,
    private: bool = False,
    floats: bool = True,
    peer_first: bool = True,
) -> Flavour:
    tunnel, transport = (
        (Encapsulation.UDP_TUNNEL_DRAFT, Encapsulation.UDP_TRANSPORT_DRAFT)
        if private
        else (Encapsulation.UDP_TUNNEL, Encapsulation.UDP_TRANSPORT)
    )
    return Flavour(version, vendor.octets, nat_d, nat_oa, tunnel, transport, floats, peer_first)


def _rfc(version: NatTraversal, vendor: known.Known) -> Flavour:
    return _flavour(version, vendor, PayloadType.NAT_D, PayloadType.NAT_OA)


def _late(version: NatTraversal, vendor: known.Known) -> Flavour:
    return _flavour(version, vendor, PayloadType.NAT_D_DRAFT_04, PayloadType.NAT_OA_DRAFT_04)


def _early(version: NatTraversal, vendor: known.Known, *, floats: bool = True) -> Flavour:
    numbers = PayloadType.NAT_D_DRAFT, PayloadType.NAT_OA_DRAFT
    return _flavour(version, vendor, *numbers, private=True, floats=floats)


FLAVOURS = {
    flavour.version: flavour
    for flavour in (
        _rfc(NatTraversal.RFC_3947, known.RFC_3947),
        _late(NatTraversal.DRAFT_08, known.DRAFT_08),
        _late(NatTraversal.DRAFT_07, known.DRAFT_07),
        _late(NatTraversal.DRAFT_06, known.DRAFT_06),
        _late(NatTraversal.DRAFT_05, known.DRAFT_05),
        _late(NatTraversal.DRAFT_04, known.DRAFT_04),
        _early(NatTraversal.DRAFT_03, known.DRAFT_03),
        _early(NatTraversal.DRAFT_02, known.DRAFT_02),
        _early(NatTraversal.DRAFT_02_NEWLINE, known.DRAFT_02_NEWLINE),
        _flavour(
            NatTraversal.DRAFT_UNNUMBERED,
            known.DRAFT_UNNUMBERED,
            PayloadType.NAT_D_DRAFT_04,
            None,
            peer_first=False,
        ),
        _early(NatTraversal.DRAFT_01, known.DRAFT_01, floats=False),
        _early(NatTraversal.DRAFT_00, known.DRAFT_00, floats=False),
    )
}


def best(vendor_ids: Iterable[bytes], ours: Sequence[NatTraversal]) -> Flavour | None:
    """The best version that the peer names as well, by the order of `ours`; None: it names none."""
    theirs = set(vendor_ids)
    return next((f for version in ours if (f := FLAVOURS[version]).vendor_id in theirs), None)


@dataclass(frozen=True, slots=True)
class Sight:
    """What the hashes of one ISAKMP SA are made of (RFC 3947 section 3.2): the hash that was agreed on."""

    hash: Hash
    cookie_i: bytes
    cookie_r: bytes

    def of(self, address: UdpAddress) -> bytes:
        """HASH = HASH(CKY-I | CKY-R | IP | Port)"""
        packed = ip_address(address.ip).packed + address.port.to_bytes(2)
        return digest(self.hash, self.cookie_i + self.cookie_r + packed)

    def payloads(self, flavour: Flavour, path: Path, *, claim: bool = False) -> list[NatDiscovery]:
        """What we see: the peer's address and ours. With `claim` ours is one that cannot be, so that the peer
        finds a NAT.
        """
        ours = _claimed(path.local) if claim else path.local
        both = (path.remote, ours) if flavour.peer_first else (ours, path.remote)
        return [NatDiscovery(self.of(address), flavour.nat_d) for address in both]

    def detect(self, flavour: Flavour, message: Message, paths: Sequence[Path]) -> NatStatus | None:
        """Where the NATs are, by what the peer sees; None: it says nothing.

        `paths` are the ways that its message may have been meant for, seen from here: in aggressive mode it
        is the third one that may already come from another port.
        """
        hashes = [p.hash for p in message.all(NatDiscovery) if p.type == flavour.nat_d][:_MAX_HASHES]
        if len(hashes) < 2:
            return None
        of_us, of_them = (hashes[0], hashes[1:]) if flavour.peer_first else (hashes[1], hashes[:1])
        found = NatStatus(
            local=self._differs([of_us], [p.local for p in paths]),
            remote=self._differs(of_them, [p.remote for p in paths]),
        )
        only_claimed = not self._differs(of_them, [_claimed(p.remote) for p in paths])
        return found_but_claimed(found) if only_claimed else found

    def _differs(self, hashes: Sequence[bytes], addresses: Sequence[UdpAddress]) -> bool:
        return not any(equal(self.of(address), hash_) for address in addresses for hash_ in hashes)


def _claimed(address: UdpAddress) -> UdpAddress:
    return UdpAddress(address.ip, _NO_PORT)
