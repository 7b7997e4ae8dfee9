"""What a peer may be configured with beside addresses (RFC 7296 section 3.15.1, RFC 8598). Plain values."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

# RFC 1035 section 2.3.4: a name's octets on the wire, less the root label and the first length.
_MAX_DOMAIN = 253

# RFC 8598 section 4.1: presentation format of A-labels. Underscores stand in names that people use.
_LABEL = re.compile(rb"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")


@dataclass(frozen=True, slots=True)
class TrustAnchor:
    """INTERNAL_DNSSEC_TA (RFC 8598 section 4.2): a DS record for a domain. Shown, and never installed: that
    takes a list of domains that somebody has agreed to (section 6).
    """

    domain: str
    key_tag: int
    algorithm: int
    digest_type: int
    digest: bytes
    """In presentation format."""


@dataclass(frozen=True, slots=True)
class Handout:
    """What a listener tells peers that ask."""

    dns: tuple[str, ...] = ()
    """Addresses of DNS servers."""

    domains: tuple[str, ...] = ()
    """What the DNS servers are for; none: everything."""

    subnets: tuple[IPv4Network | IPv6Network, ...] = ()
    """What is behind us, as far as peers should know."""

    pools: tuple[IPv4Network | IPv6Network, ...] = ()
    """Where the addresses come from: their netmask is that of these."""


def domain_name(octets: bytes) -> str | None:
    """A domain in small letters and without the dot at its end; None for what is none, and for the root."""
    name = octets.lower().removesuffix(b".")
    if not name or len(name) > _MAX_DOMAIN:
        return None
    if not all(_LABEL.fullmatch(label) for label in name.split(b".")):
        return None
    return name.decode()
