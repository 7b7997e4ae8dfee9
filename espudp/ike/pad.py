"""The peer authorization database (RFC 4301 section 4.4.3): who may come, how, and to what."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING, Self

from espudp.ike.credentials import Demand, Proof, Psk, PskOf
from espudp.ike.identity import Identity
from espudp.wire.ikev2.constants import IdType

if TYPE_CHECKING:
    from espudp.ike.config import ChildConfig

# The text before the rest of a name, which may be anything.
_WILDCARD = "*"
_ANYBODY = ("*", "%any")

_NONE, _ANY, _WILD, _EXACT = range(4)


@dataclass(frozen=True, slots=True)
class Pattern:
    """Which identities are meant: one, all names or addresses that end alike, or all."""

    identity: Identity | None = None
    """None: every one."""

    wild: bool = False
    """Whatever ends in `identity`, and is longer."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """`*` or `%any`; `*.example.org`, `*@example.org`; or an identity. Raises ConfigError."""
        text = text.strip()
        if text in _ANYBODY:
            return cls()
        if text.startswith(_WILDCARD):
            one = Identity.parse(f"x{text.removeprefix(_WILDCARD)}")
            return cls(Identity(one.type, one.data[1:]), wild=True)
        return cls(Identity.parse(text))

    def fit(self, identity: Identity) -> int:
        """0 for an identity that is not meant; more, the more closely it is."""
        if self.identity is None:
            return _ANY
        if identity == self.identity:
            return _NONE if self.wild else _EXACT
        alike = self.wild and identity.type == self.identity.type
        return _WILD if alike and identity.data.endswith(self.identity.data) else _NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class PadEntry:
    """One way in. What is None here is as the listener has it."""

    proof: Proof
    """What we prove ourselves with to those who come this way."""

    demand: Demand
    """What they prove themselves with."""

    peers: tuple[Pattern, ...] = (Pattern(),)
    """Who may call itself what; with EAP, in IDi."""

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Where they come from; empty: anywhere."""

    name: str = ""
    """For people."""

    local_identity: Identity | None = None
    child: "ChildConfig | None" = None

    @classmethod
    def of_psk(cls, key: bytes, peer: Identity | None = None) -> Self:
        """Both sides have a key; `peer` has it for itself, or everybody the same one. Raises ConfigError."""
        return cls(proof=Psk(key), demand=PskOf(key), peers=(Pattern(peer),))

    def fit(self, peer: Identity, ip: str) -> int:
        """How closely this entry is meant for a peer of that name at that address; 0: not at all."""
        if self.networks and not any(ip_address(ip) in network for network in self.networks):
            return _NONE
        return max((pattern.fit(peer) for pattern in self.peers), default=_NONE)


def candidates(
    entries: Sequence[PadEntry], peer: Identity, ip: str, wanted: Identity | None, ours: Identity
) -> Iterator[PadEntry]:
    """The entries for a peer, the closest first, and those before others that have the identity that the peer
    wants of us. `ours` is our identity where an entry has none.
    """
    fits = [(entry.fit(peer, ip), entry) for entry in entries]

    def rank(item: tuple[int, PadEntry]) -> tuple[bool, int, bool]:
        fit, entry = item
        is_wanted = wanted is not None and (entry.local_identity or ours) == wanted
        return is_wanted, fit, bool(entry.networks)

    return (entry for fit, entry in sorted((f for f in fits if f[0]), key=rank, reverse=True))


def is_anonymous(identity: Identity) -> bool:
    """RFC 7619 section 2.2."""
    return identity.type == IdType.NULL
