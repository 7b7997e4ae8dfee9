"""The peer authorization database (RFC 4301 section 4.4.3): who may come, how, and to what."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING, Self

from espudp.crypto.digest import sha1
from espudp.ike.credentials import Demand, EapOf, Proof, Psk, PskOf
from espudp.ike.identity import Identity
from espudp.wire.ikev2.constants import IdType

if TYPE_CHECKING:
    from espudp.ike.config import ChildConfig
    from espudp.ike.xauth import XauthUsers

# The text before the rest of a name, which may be anything.
_WILDCARD = "*"
_ANYBODY = ("*", "%any")

# Of SHA-1
MARK_OCTETS = 20

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
        if self.identity.means(identity):
            return _NONE if self.wild else _EXACT
        alike = self.wild and identity.type == self.identity.type
        return _WILD if alike and identity.folded.data.endswith(self.identity.folded.data) else _NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class PadEntry:
    """One way in. What is None here is as the listener has it."""

    proof: Proof
    """What we prove ourselves with to those who come this way."""

    demand: Demand
    """What they prove themselves with."""

    further: tuple[Demand, ...] = ()
    """What they prove themselves with besides, one after the other (RFC 4739)."""

    peers: tuple[Pattern, ...] = (Pattern(),)
    """Who may come, by what it calls itself and has proved to be. With EAP the first is IDi, which leads to
    an entry, and the second the name of the user, which has to fit as well: see `entry_of_user`.
    """

    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Where they come from; empty: anywhere."""

    name: str = ""
    """For people."""

    local_identity: Identity | None = None
    child: "ChildConfig | None" = None
    pool: tuple[IPv4Network | IPv6Network, ...] = ()
    """Those of the listener's networks that its virtual addresses are from; empty: all."""

    xauth: "XauthUsers | None" = None
    """Who comes this way logs in as one of these besides, which takes IKEv1: it is closed to IKEv2. Then
    `demand` is NoDemand for those who prove nothing else (hybrid authentication).
    """

    redirect_to: str = ""
    """The gateway, by address or name, to which who comes this way is sent if it would go (RFC 5685)."""

    @classmethod
    def of_psk(cls, key: bytes, peer: Identity | None = None) -> Self:
        """Both sides have a key; `peer` has it for itself, or everybody the same one. Raises ConfigError."""
        return cls(proof=Psk(key), demand=PskOf(key), peers=(Pattern(peer),))

    @property
    def mark(self) -> bytes:
        """By which a ticket knows the entry again, `MARK_OCTETS`. Entries that were changed, or stand at
        another place after a restart, are not taken for one another. No secret is in it.
        """
        kinds = [type(demand).__name__ for demand in (self.demand, *self.further)]
        child = None if self.child is None else (self.child.local, self.child.remote)
        known = self.name, self.peers, self.networks, self.local_identity, child, self.pool
        return sha1(repr((kinds, known)).encode())

    def names(self, peer: Identity) -> bool:
        """Whether it is for one peer, and that is this one: not for all whose DN has anything somewhere."""
        only = self.peers[0] if len(self.peers) == 1 else Pattern()
        return only.fit(peer) == _EXACT and only.identity is not None and peer.means(only.identity)

    def fit(self, peer: Identity, ip: str) -> int:
        """How closely this entry is meant for a peer of that name at that address; 0: not at all."""
        if self.networks and not any(ip_address(ip) in network for network in self.networks):
            return _NONE
        return max((pattern.fit(peer) for pattern in self.peers), default=_NONE)

    def fit_user(self, name: bytes, ip: str) -> int:
        """As `fit`, for a user of EAP at that address, with or without the domain that Windows puts first."""
        kinds = (IdType.RFC822_ADDR, IdType.FQDN, IdType.KEY_ID)
        names = (name, name.rpartition(b"\\")[2])
        return max(self.fit(Identity(kind, known), ip) for kind in kinds for known in names)


def entry_of_user(entries: Sequence[PadEntry], came_by: PadEntry, name: bytes, ip: str) -> PadEntry | None:
    """The entry for a user who has logged in by EAP, `came_by` one that was chosen by what the user's client
    calls itself; None: there is no such entry.

    RFC 7296 section 2.16: that may be anything, and what somebody gets is by the name that was proved. It may
    be another entry's with the same users, but not that of others.
    """
    fits = [(entry.fit_user(name, ip), entry) for entry in entries if isinstance(entry.demand, EapOf)]
    best = max((fit for fit, _ in fits), default=_NONE)
    meant = [entry for fit, entry in fits if fit == best and fit and entry.demand == came_by.demand]
    return next((entry for entry in meant if entry is came_by), meant[0] if meant else None)


def candidates(
    entries: Sequence[PadEntry], peer: Identity, ip: str, wanted: Identity | None, ours: Identity
) -> list[PadEntry]:
    """The entries that a peer may come by, best first.

    They are those that fit it most closely: who is named in one does not come in by another that is for
    everybody, where somebody else might take its name. Of these come first those with the identity that the
    peer `wanted` of us, then those for where it is. `ours` is our identity where an entry has none.
    """
    fits = [(entry.fit(peer, ip), entry) for entry in entries]
    best = max((fit for fit, _ in fits), default=_NONE)
    meant = [entry for fit, entry in fits if fit == best and fit]
    return sorted(meant, key=lambda entry: ((entry.local_identity or ours) != wanted, not entry.networks))
