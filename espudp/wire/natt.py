"""What shares a NAT traversal port (4500): ESP, IKE behind a marker, and keepalives (RFC 3948)."""

from enum import Enum, auto

from espudp.wire.buffer import Buffer

# RFC 3948 section 2.2: four zero octets where ESP has its SPI, which is never zero
NON_ESP_MARKER = bytes(4)
# RFC 3948 section 2.3
KEEPALIVE = b"\xff"
# RFC 3948 section 2.1: an ESP header is an SPI and a sequence number
MIN_ESP_OCTETS = 8

_KEEPALIVE_OCTET = KEEPALIVE[0]


class Kind(Enum):
    """What a datagram on a NAT traversal port is."""

    KEEPALIVE = auto()
    """Keeps a NAT mapping open; ignored, and no sign that the peer is alive (RFC 3948 section 4)."""
    IKE = auto()
    """An IKE message behind `NON_ESP_MARKER`, which the receiver strips."""
    ESP = auto()
    """From the SPI on."""
    RUNT = auto()
    """Too short to be any of these."""


def classify(data: Buffer) -> Kind:
    """Tells what a datagram is by its first octets and its length; looks no further, and never fails."""
    octets = len(data)
    if octets >= MIN_ESP_OCTETS:
        return Kind.IKE if data[:4] == NON_ESP_MARKER else Kind.ESP
    if octets == 1 and data[0] == _KEEPALIVE_OCTET:
        return Kind.KEEPALIVE
    if octets >= len(NON_ESP_MARKER) and data[:4] == NON_ESP_MARKER:
        return Kind.IKE
    return Kind.RUNT


def spi_of(data: Buffer) -> int:
    """The SPI of an ESP datagram that `classify` has seen (RFC 4303 section 2.1)."""
    return int.from_bytes(data[:4], "big")
