"""What a user decides about IKEv1, beside what holds for both versions. Plain values."""

from dataclasses import dataclass
from enum import Enum

from espudp.errors import ConfigError
from espudp.ike.xauth import XauthLogin

# Our choice: what people may read before they close it
MAX_BANNER_OCTETS = 4096
# Our choice: they go out in one message.
MAX_TOLD_NETWORKS = 512


class Mode(Enum):
    """How phase 1 goes (RFC 2409 section 5)."""

    MAIN = "main"
    AGGRESSIVE = "aggressive"


class NatTraversal(Enum):
    """The versions of NAT traversal that were shipped, best first; see v1/natt.py for how they differ."""

    RFC_3947 = "RFC 3947"
    DRAFT_08 = "draft-08"
    DRAFT_07 = "draft-07"
    DRAFT_06 = "draft-06"
    DRAFT_05 = "draft-05"
    DRAFT_04 = "draft-04"
    DRAFT_03 = "draft-03"
    DRAFT_02 = "draft-02"
    DRAFT_02_NEWLINE = "draft-02 with a newline"
    DRAFT_UNNUMBERED = "draft without a number"
    DRAFT_01 = "draft-01"
    DRAFT_00 = "draft-00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ikev1Config:
    """For a connection that we initiate."""

    mode: Mode = Mode.MAIN
    nat_traversal: tuple[NatTraversal, ...] = tuple(NatTraversal)
    """Those that we offer, best first; empty: none, and ESP goes without UDP."""

    fragments: bool = True
    """Send what is large in pieces, if the peer can put them together."""

    xauth: XauthLogin | None = None
    """What we log in with after phase 1; with no proof of our own in that, it is hybrid authentication."""

    pushed: bool = False
    """Wait for the gateway to tell our virtual address unasked, and do not ask for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ikev1Policy:
    """For those who connect to us."""

    modes: frozenset[Mode] = frozenset({Mode.MAIN})
    nat_traversal: tuple[NatTraversal, ...] = tuple(NatTraversal)
    """Those that we take, best first; the best one that the peer knows too counts."""

    fragments: bool = True

    push: bool = False
    """Tell clients their virtual address without being asked: some wait for that."""

    banner: str = ""
    """What the users of clients are to read (Cisco Unity)."""

    save_password: bool = False
    """Whether clients may keep their users' passwords (Cisco Unity)."""

    backup_servers: tuple[str, ...] = ()
    """Where clients go when we do not answer (Cisco Unity)."""

    def __post_init__(self) -> None:
        """Raises ConfigError."""
        if not self.modes:
            raise ConfigError(
                "IKEv1 without a mode lets nobody in", field="ikev1", remedy="Name main, aggressive or both."
            )
        if len(self.banner.encode()) > MAX_BANNER_OCTETS:
            raise ConfigError(
                f"a banner has at most {MAX_BANNER_OCTETS} octets", field="banner", remedy="Write less."
            )
