"""ICMP "too big": how the sender of an inner packet learns what the tunnel carries."""

import struct

from espudp.wire import ip
from espudp.wire.buffer import Buffer

# RFC 792 and RFC 1191 section 4: destination unreachable, fragmentation needed and DF set
_UNREACHABLE = 3
_FRAGMENTATION_NEEDED = 4
# RFC 4443 section 3.2
_PACKET_TOO_BIG = 2

# RFC 1122 section 3.2.2: the ICMPv4 error messages, which are never answered with another
_ICMP_ERRORS = frozenset({3, 4, 5, 11, 12})
# RFC 4443 section 2.1: errors have the high bit of the type clear
_ICMPV6_INFORMATIONAL = 128
_ICMPV6_REDIRECT = 137

# RFC 1812 section 4.3.2.3: as much of the packet as keeps the message within this
_MAX_ICMP_OCTETS = 576
# RFC 8200 section 5, and RFC 4443 section 2.4 (c) for the message's size
MIN_IPV6_MTU = 1280

_ICMP_HEADER_OCTETS = 8


def too_big(packet: Buffer, mtu: int) -> bytes | None:
    """The ICMP message that tells the sender of `packet` to send at most `mtu` octets.

    It comes from the packet's own destination: that address is routed back into the tunnel, so that it
    passes the reverse path check of whoever receives the message, which one of this host's own would not.
    None where RFC 1122 section 3.2.2 and RFC 4443 section 2.4 (e) forbid an answer, and where the packet
    could have been fragmented instead.
    """
    flow = ip.parse_flow(packet)
    if flow is None or ip.may_fragment(packet) or not (_is_host(flow.src) and _is_host(flow.dst)):
        return None
    return _icmp(packet, flow, mtu) if flow.version == ip.IPV4 else _icmpv6(packet, flow, mtu)


def _icmp(packet: Buffer, flow: ip.Flow, mtu: int) -> bytes | None:
    if packet[6] & 0x1F or packet[7]:
        return None
    if flow.protocol == ip.ICMP and (flow.sport == ip.OPAQUE or flow.sport >> 8 in _ICMP_ERRORS):
        return None
    room = _MAX_ICMP_OCTETS - ip.IPV4_HEADER_OCTETS - _ICMP_HEADER_OCTETS
    quoted = bytes(packet[: min(flow.length, room)])
    head = struct.pack("!BBHHH", _UNREACHABLE, _FRAGMENTATION_NEEDED, 0, 0, mtu)
    total = ip.checksum(head + quoted)
    return ip.build_ip(flow.dst, flow.src, ip.ICMP, head[:2] + total.to_bytes(2, "big") + head[4:] + quoted)


def _icmpv6(packet: Buffer, flow: ip.Flow, mtu: int) -> bytes | None:
    if flow.protocol == ip.OPAQUE:
        return None
    if flow.protocol == ip.ICMPV6:
        kind = flow.sport >> 8
        if flow.sport == ip.OPAQUE or kind < _ICMPV6_INFORMATIONAL or kind == _ICMPV6_REDIRECT:
            return None
    room = MIN_IPV6_MTU - ip.IPV6_HEADER_OCTETS - _ICMP_HEADER_OCTETS
    quoted = bytes(packet[: min(flow.length, room)])
    head = struct.pack("!BBHI", _PACKET_TOO_BIG, 0, 0, mtu)
    pseudo = ip.pseudo_header(flow.dst, flow.src, ip.ICMPV6, len(head) + len(quoted))
    total = ip.checksum(pseudo + head + quoted)
    return ip.build_ip(flow.dst, flow.src, ip.ICMPV6, head[:2] + total.to_bytes(2, "big") + head[4:] + quoted)


def _is_host(address: bytes) -> bool:
    """One host that can be written to: no multicast, broadcast, loopback or unspecified address."""
    if len(address) == 4:
        # RFC 1122 section 3.2.1.3
        return 0 < address[0] < 224 and address[0] != 127
    # RFC 4291 section 2.4: ::, ::1 and ff00::/8
    return address[0] != 0xFF and address[:15] != bytes(15)
