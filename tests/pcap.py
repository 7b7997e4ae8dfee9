"""A reader of pcap and pcapng captures, as far as ours need: UDP over IPv4 on a few link layers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

# https://www.tcpdump.org/linktypes.html: octets in front of the IP header
LINK_OCTETS = {0: 4, 1: 14, 101: 0, 113: 16, 228: 0}

PCAPNG_SECTION = 0x0A0D0D0A
PCAPNG_INTERFACE = 1
PCAPNG_ENHANCED_PACKET = 6

UDP = 17

Order = Literal["big", "little"]


class UdpDatagram(NamedTuple):
    """One datagram of a capture."""

    source: str
    sport: int
    destination: str
    dport: int
    data: bytes


def ip_packets(path: Path) -> Iterator[bytes]:
    """Every packet of a capture, from its IP header on."""
    data = path.read_bytes()
    return _pcapng(data) if int.from_bytes(data[:4], "big") == PCAPNG_SECTION else _pcap(data)


def udp_datagrams(path: Path) -> Iterator[UdpDatagram]:
    """Every unfragmented UDP datagram over IPv4 of a capture; whatever else is in it is passed over."""
    for packet in ip_packets(path):
        if packet[0] >> 4 != 4 or packet[9] != UDP or int.from_bytes(packet[6:8], "big") & 0x3FFF:
            continue
        udp = packet[(packet[0] & 15) * 4 : int.from_bytes(packet[2:4], "big")]
        source, destination = (".".join(map(str, packet[at : at + 4])) for at in (12, 16))
        sport, dport, length = (int.from_bytes(udp[at : at + 2], "big") for at in (0, 2, 4))
        yield UdpDatagram(source, sport, destination, dport, udp[8:length])


def _pcap(data: bytes) -> Iterator[bytes]:
    order = _order(data[:4] in (b"\xa1\xb2\xc3\xd4", b"\xa1\xb2\x3c\x4d"))
    skip = LINK_OCTETS[_uint(data, 20, order) & 0xFFFF]
    at = 24
    while at < len(data):
        octets = _uint(data, at + 8, order)
        yield data[at + 16 + skip : at + 16 + octets]
        at += 16 + octets


def _pcapng(data: bytes) -> Iterator[bytes]:
    order = _order(data[8:12] == b"\x1a\x2b\x3c\x4d")
    links: list[int] = []
    at = 0
    while at < len(data):
        kind, octets = _uint(data, at, order), _uint(data, at + 4, order)
        if kind == PCAPNG_INTERFACE:
            links.append(int.from_bytes(data[at + 8 : at + 10], order))
        elif kind == PCAPNG_ENHANCED_PACKET:
            skip = LINK_OCTETS[links[_uint(data, at + 8, order)]]
            yield data[at + 28 + skip : at + 28 + _uint(data, at + 20, order)]
        at += octets


def _order(big: bool) -> Order:
    return "big" if big else "little"


def _uint(data: bytes, at: int, order: Order) -> int:
    return int.from_bytes(data[at : at + 4], order)
