"""The ESP trailer: padding, pad length, next header (RFC 4303 sections 2.4 to 2.6)."""

from functools import cache

from espudp.wire.ip import IPV4, IPV6

# IANA "Assigned Internet Protocol Numbers"
NEXT_HEADER_IPV4 = 4
NEXT_HEADER_IPV6 = 41
# RFC 4303 section 2.6: "no next header", a dummy packet
NEXT_HEADER_NONE = 59

# Pad length and next header
TRAILER_OCTETS = 2
MAX_PADDING_OCTETS = 255

# RFC 4303 section 2.4: 1, 2, 3, ... Indexed by how many octets.
PADDING: tuple[bytes, ...] = tuple(bytes(range(1, octets + 1)) for octets in range(MAX_PADDING_OCTETS + 1))

_NEXT_HEADERS = {IPV4: NEXT_HEADER_IPV4, IPV6: NEXT_HEADER_IPV6}


@cache
def trailers(block: int) -> dict[int, tuple[bytes, ...]]:
    """By IP version: the shortest trailer for an inner packet, indexed by its octets modulo `block`."""
    return {version: trailers_of(header, block) for version, header in _NEXT_HEADERS.items()}


@cache
def trailers_of(next_header: int, block: int) -> tuple[bytes, ...]:
    """The shortest trailer for a payload of one protocol, indexed by its octets modulo `block`."""
    return tuple(_trailer(-(octets + TRAILER_OCTETS) % block, next_header) for octets in range(block))


def _trailer(padding: int, next_header: int) -> bytes:
    return PADDING[padding] + bytes([padding, next_header])


def payload_octets(plaintext: bytes) -> int:
    """The octets in front of the padding, TFC padding included; -1 if the padding is wrong.

    Called once the ICV has been verified, so that what it finds tells an attacker nothing.
    """
    if len(plaintext) < TRAILER_OCTETS:
        return -1
    padding = plaintext[-2]
    end = len(plaintext) - TRAILER_OCTETS - padding
    return end if end >= 0 and plaintext[end:-2] == PADDING[padding] else -1
