"""How ESP travels: in UDP, or as an IP protocol of its own (RFC 3948, RFC 7296 section 2.23)."""

from enum import Enum

from espudp.errors import ConfigError
from espudp.ike.natd import NatStatus
from espudp.wire.address import Path, UdpAddress


class Encapsulation(Enum):
    """When ESP goes in UDP. Both kinds are received at any time."""

    AUTO = "auto"
    """Where a NAT is between, or this host can do no other."""
    ALWAYS = "always"
    """The peer is made to believe in a NAT, so that it does the same."""
    NEVER = "never"
    """And where a NAT is seen the peer is refused: it would hardly be reached."""


def check(wish: Encapsulation, *, plain_esp: bool) -> None:
    """Raises ConfigError. `plain_esp`: whether this host can send and receive ESP without UDP."""
    if wish is Encapsulation.NEVER and not plain_esp:
        raise ConfigError(
            "this host cannot send ESP without UDP",
            field="encap",
            remedy="Let it use raw sockets (CAP_NET_RAW), or choose --encap auto.",
        )


def claims_nat(wish: Encapsulation, *, plain_esp: bool) -> bool:
    """Whether the peer has to believe in a NAT, so that we get no ESP but that in UDP."""
    return wish is Encapsulation.ALWAYS or not plain_esp


def is_in_udp(wish: Encapsulation, nat: NatStatus, *, plain_esp: bool) -> bool:
    """Whether we send ESP in UDP to a peer."""
    return nat.found or nat.claimed or claims_nat(wish, plain_esp=plain_esp)


def forbids(wish: Encapsulation, nat: NatStatus) -> bool:
    """Whether the peer cannot be reached as the user wishes."""
    return wish is Encapsulation.NEVER and (nat.found or nat.claimed)


BEYOND_NAT_REMEDY = "Choose --encap auto."


def beyond_nat(nat: NatStatus) -> str:
    """Why it is forbidden, for a person."""
    where = f"a NAT is between ({nat})" if nat.found else "the peer wants ESP in UDP"
    return f"{where}, and ESP is not to go in UDP"


def plain(path: Path) -> Path:
    """The same path for ESP without UDP: there are no ports."""
    return Path(UdpAddress(path.local.ip, 0), UdpAddress(path.remote.ip, 0))
