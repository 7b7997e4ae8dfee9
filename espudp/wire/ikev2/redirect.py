"""Where a gateway sends its client: the data of REDIRECT and REDIRECTED_FROM (RFC 5685 sections 9.2 and 9.3).

GW Ident Type (1 octet) | GW Ident Len (1) | identity | nonce data, in an IKE_SA_INIT response
"""

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Self

from espudp.errors import WireError
from espudp.wire.buffer import Reader

# RFC 1035 section 2.3.4
_MAX_NAME_OCTETS: Final = 253
_MAX_LABEL_OCTETS: Final = 63
_LABEL: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


class GatewayType(IntEnum):
    """RFC 5685 section 12."""

    IPV4 = 1
    IPV6 = 2
    FQDN = 3


_ADDRESS_OCTETS: Final[dict[int, int]] = {GatewayType.IPV4: 4, GatewayType.IPV6: 16}


@dataclass(frozen=True, slots=True)
class Redirection:
    """`gateway` is an IPv4 or IPv6 address or a host name, as a person would write it."""

    gateway: str
    nonce: bytes = b""
    """That of the client, in IKE_SA_INIT; empty elsewhere."""

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Raises WireError for a gateway of another type, and for one that is no address and no host name."""
        reader = Reader(data)
        type_, octets = reader.u8(), reader.u8()
        identity = reader.take(octets)
        nonce = reader.rest()
        if type_ == GatewayType.FQDN:
            name = identity.decode("ascii", "replace")
            if not is_host_name(name):
                raise WireError("a gateway whose name is no host name")
            return cls(name, nonce)
        if len(identity) != _ADDRESS_OCTETS.get(type_):
            raise WireError(f"a gateway of type {type_} in {octets} octets")
        return cls(str(ip_address(identity)), nonce)

    def emit(self) -> bytes:
        """Raises WireError for a gateway that is no address and no host name."""
        type_, identity = _encoded(self.gateway)
        return bytes([type_, len(identity)]) + identity + self.nonce


def is_gateway(text: str) -> bool:
    """Whether a client can be sent there: to an address or a host name."""
    try:
        _encoded(text)
    except WireError:
        return False
    return True


def is_host_name(name: str) -> bool:
    """Whether this may be looked up: labels of letters, digits, - and _, with dots between them."""
    labels = name.removesuffix(".").split(".")
    fits = len(name) <= _MAX_NAME_OCTETS and all(1 <= len(label) <= _MAX_LABEL_OCTETS for label in labels)
    return fits and all(set(label) <= _LABEL and not label.startswith("-") for label in labels)


def _encoded(gateway: str) -> tuple[GatewayType, bytes]:
    try:
        address: IPv4Address | IPv6Address = ip_address(gateway)
    except ValueError:
        if not is_host_name(gateway):
            raise WireError("a gateway that is no address and no host name") from None
        return GatewayType.FQDN, gateway.encode()
    return (GatewayType.IPV4 if address.version == 4 else GatewayType.IPV6), address.packed
