"""Packets as a TUN device hands them over: super-packets of one flow, and single ones."""

import os
import struct
from ipaddress import ip_address

from espudp.offload import segment
from espudp.wire.vnet import (
    GSO_NONE,
    GSO_TCPV4,
    GSO_TCPV6,
    GSO_UDP_L4,
    NEEDS_CSUM,
    Frame,
    VnetHeader,
)

# As many packets of 1,400 octets as one UDP_SEGMENT send carries in ESP.
SEGMENTS = 45
PACKET_OCTETS = 1400

HERE, THERE = "10.0.0.1", "10.0.0.2"
HERE6, THERE6 = "fd00::1", "fd00::2"

TCP, UDP = 6, 17
_ACK = 0x10
# RFC 9293: the data offset counts 32-bit words. RFC 7323 section 3.2: timestamps behind two NOPs.
_TCP_WORDS = 8
_TIMESTAMPS = bytes.fromhex("0101080a") + bytes(8)
_CHECKSUM_OFFSET = {TCP: 16, UDP: 6}
_GSO = {(4, TCP): GSO_TCPV4, (6, TCP): GSO_TCPV6, (4, UDP): GSO_UDP_L4, (6, UDP): GSO_UDP_L4}


def ip_header(protocol: int, payload: int, source: str = HERE, destination: str = THERE) -> bytes:
    """RFC 791 or RFC 8200, whatever the addresses are; IPv4's checksum included."""
    addresses = ip_address(source).packed + ip_address(destination).packed
    if ip_address(source).version == 6:
        return struct.pack("!IHBB", 6 << 28, payload, protocol, 64) + addresses
    front = struct.pack("!BBHHHBB", 0x45, 0, 20 + payload, 1, 0x4000, 64, protocol)
    return front + (0xFFFF - _sum(front + addresses)).to_bytes(2) + addresses


def super_packet(version: int = 4, protocol: int = TCP, segments: int = SEGMENTS) -> Frame:
    """So many segments of PACKET_OCTETS each, and the work that the kernel left undone."""
    source, destination = (HERE, THERE) if version == 4 else (HERE6, THERE6)
    headers = (20 if version == 4 else 40) + (4 * _TCP_WORDS if protocol == TCP else 8)
    size = PACKET_OCTETS - headers
    frame = _unfinished(protocol, os.urandom(size * segments), source, destination)
    header = frame.header._replace(gso_type=_GSO[version, protocol], hdr_len=headers, gso_size=size)
    return frame._replace(header=header)


def acknowledgement() -> Frame:
    """TCP's 52 octets, their checksum not yet filled in."""
    return _unfinished(TCP, b"", HERE, THERE)


def plain_packets(version: int = 4, protocol: int = TCP, count: int = SEGMENTS) -> list[bytes]:
    """The packets of a super-packet, whole."""
    return list(segment(super_packet(version, protocol, count)))


def single_packet(octets: int = PACKET_OCTETS, destination: str = THERE, source: str = HERE) -> bytes:
    """Of protocol 253, which is for experiments (RFC 3692) and which nothing here looks into."""
    return ip_header(253, octets - 20, source, destination) + os.urandom(octets - 20)


def _unfinished(protocol: int, payload: bytes, source: str, destination: str) -> Frame:
    if protocol == TCP:
        l4 = struct.pack("!HHIIBBHHH", 40_000, 443, 1, 1, _TCP_WORDS << 4, _ACK, 512, 0, 0) + _TIMESTAMPS
    else:
        l4 = struct.pack("!HHHH", 40_000, 443, 8 + len(payload), 0)
    octets = len(l4) + len(payload)
    ip = ip_header(protocol, octets, source, destination)
    addresses = ip_address(source).packed + ip_address(destination).packed
    offset = _CHECKSUM_OFFSET[protocol]
    pseudo = _sum(addresses + struct.pack("!II", protocol, octets))
    l4 = l4[:offset] + pseudo.to_bytes(2) + l4[offset + 2 :]
    header = VnetHeader(NEEDS_CSUM, GSO_NONE, len(ip) + len(l4), 0, len(ip), offset)
    return Frame(header, [memoryview(ip + l4 + payload)])


def _sum(octets: bytes) -> int:
    """Ones' complement (RFC 1071)."""
    return (int.from_bytes(octets) - 1) % 0xFFFF + 1
