"""What may be known of a product. Plain values: nothing here does anything."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """One product. Whatever the user names explicitly counts instead."""

    title: str
    """As its maker calls it."""

    ike: tuple[str, ...]
    """Proposals for IKE that it takes, best first, none of them weak."""

    esp: tuple[str, ...]
    """The same for ESP. A group, with `none` behind it, is one that it may want for PFS at the rekey, and
    leaves out in IKE_AUTH, where a mismatch does not show.
    """

    weak: tuple[str, ...] = ()
    """IKE proposals that it has unless somebody has configured it, and that we take only when named."""

    ikev1_only: bool = False
    """It speaks nothing newer than IKEv1."""

    site: bool = False
    """It joins networks, and gives no virtual address."""

    any_to_any: bool = False
    """It takes nothing but 0.0.0.0/0 on both sides: what goes into the tunnel, routes decide."""

    single_pair: bool = False
    """It knows one selector on either side of a child SA."""

    start_on_4500: bool = False
    """It wants the first message on UDP port 4500 (RFC 7296 section 2.23 lets the initiator)."""

    force_encap: bool = True
    """It has ESP in UDP only where it sees a NAT (RFC 7296 section 2.23), as nearly all have."""

    advice: str = ""
    """What to do at its side, in one line."""
