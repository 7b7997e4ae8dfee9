"""What shares a NAT traversal port (4500): ESP, IKE behind a marker, and keepalives (RFC 3948)."""

from collections.abc import Set
from enum import Enum, auto

from espudp.wire.address import Path
from espudp.wire.buffer import Buffer

# RFC 3948 section 2.2: four zero octets where ESP has its SPI, which is never zero
NON_ESP_MARKER = bytes(4)
# draft-ietf-ipsec-udp-encaps-00 and -01: eight of them on IKE's own port, where an IKE header has the
# initiator's cookie, which is never zero; ESP is behind them.
NON_IKE_MARKER = bytes(8)
# RFC 768
UDP_HEADER_OCTETS = 8
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


def esp_behind_marker(data: Buffer) -> Buffer | None:
    """The ESP in a datagram on IKE's own port, from the SPI on; None: it is no ESP."""
    octets = len(NON_IKE_MARKER)
    return data[octets:] if len(data) > octets and data[:octets] == NON_IKE_MARKER else None


def octets_before_esp(path: Path, ike_ports: Set[int]) -> int:
    """Between the IP header and the SPI: of UDP, and the non-IKE marker on IKE's own ports; none over a path
    without ports.
    """
    if not path.local.port:
        return 0
    return UDP_HEADER_OCTETS + (len(NON_IKE_MARKER) if path.local.port in ike_ports else 0)


def is_keepalive(data: Buffer) -> bool:
    """On any port."""
    return len(data) == 1 and data[0] == _KEEPALIVE_OCTET


def spi_of(data: Buffer) -> int:
    """The SPI of an ESP datagram that `classify` has seen (RFC 4303 section 2.1)."""
    return int.from_bytes(data[:4], "big")
