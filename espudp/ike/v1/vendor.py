"""Vendor ids: what we say that we speak beside the RFCs, and what a peer says (RFC 2408 section 3.16)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from espudp.ike.ikev1_config import NatTraversal
from espudp.ike.v1.natt import FLAVOURS, Flavour, best
from espudp.wire.ikev1 import vendor_ids as known
from espudp.wire.ikev1.message import Message
from espudp.wire.ikev1.payloads import VendorId

# Our bounds: more than any peer sends, and longer than any that has a name here.
_MAX_VENDOR_IDS = 40
_MAX_NAMED_OCTETS = 64


@dataclass(frozen=True, slots=True)
class Abilities:
    """What both sides speak."""

    dpd: bool = False
    xauth: bool = False
    unity: bool = False
    fragments: bool = False
    flavour: Flavour | None = None
    """Of NAT traversal; None: none."""
    theirs: tuple[bytes, ...] = ()
    """All that the peer says of itself, whether it is ours too or not: for people to read, by `names`."""

    @property
    def names(self) -> tuple[str, ...]:
        """What the peer is and speaks, as far as anybody here knows."""
        return tuple(known.named(self.theirs))

    @classmethod
    def of(cls, message: Message, nat_traversal: Sequence[NatTraversal], *, fragments: bool) -> Self:
        """What the vendor ids of a message say, as far as it is ours too."""
        ids = [v.data for v in message.all(VendorId)[:_MAX_VENDOR_IDS]]
        return cls(
            dpd=any(map(known.DPD.matches, ids)),
            xauth=any(map(known.XAUTH.matches, ids)),
            unity=any(map(known.UNITY.matches, ids)),
            fragments=fragments and any(map(known.says_fragmentation, ids)),
            flavour=best(ids, nat_traversal),
            theirs=tuple(data for data in ids if len(data) <= _MAX_NAMED_OCTETS),
        )

    def also(self, message: Message, *, fragments: bool) -> Self:
        """With what a later message of phase 1 says: Cisco's gateways name most of it beside their public
        value. NAT traversal is agreed on before that.
        """
        more = self.of(message, (), fragments=fragments)
        return replace(
            self,
            dpd=self.dpd or more.dpd,
            xauth=self.xauth or more.xauth,
            unity=self.unity or more.unity,
            fragments=self.fragments or more.fragments,
            theirs=tuple(dict.fromkeys(self.theirs + more.theirs))[:_MAX_VENDOR_IDS],
        )


def offered(nat_traversal: Sequence[NatTraversal], *, fragments: bool) -> list[VendorId]:
    """What an initiator says: everything."""
    flavours = [VendorId(FLAVOURS[version].vendor_id) for version in nat_traversal]
    return [*_always(fragments), *flavours]


def agreed(abilities: Abilities, *, fragments: bool) -> list[VendorId]:
    """What a responder says: of NAT traversal the one version that counts."""
    flavour = [] if abilities.flavour is None else [VendorId(abilities.flavour.vendor_id)]
    return [*_always(fragments), *flavour]


def _always(fragments: bool) -> list[VendorId]:
    pieces = [VendorId(known.FRAGMENTATION_MAIN_AND_AGGRESSIVE)] if fragments else []
    return [
        VendorId(known.XAUTH.octets),
        VendorId(known.DPD_1_0),
        VendorId(known.UNITY_1_0),
        *pieces,
    ]
