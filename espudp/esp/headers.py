"""The IP headers that transport mode leaves out, and what depends on them (RFC 4303 section 3.1.1).

Out: a packet of this host's loses its IP header. Options of IPv4 and hop-by-hop options of IPv6 would stay
outside of ESP, where a UDP socket has no place for them: they are left out. Destination options go with the
packet, inside. In: a header is built of the two addresses as this host sees them.
"""

import struct
from ipaddress import ip_address
from typing import NamedTuple

from espudp.esp.drops import Drop
from espudp.esp.padding import NEXT_HEADER_NONE
from espudp.esp.quoted import Quoted
from espudp.wire import ip
from espudp.wire.buffer import Buffer
from espudp.wire.transport import Transport

# Where a checksum lies that is of the addresses, too, counted from the protocol's header (RFC 9293 section
# 3.1, RFC 768, RFC 3828 section 3.1, RFC 4340 section 5.1; RFC 4443 section 2.3, RFC 6275 section 6.1.1).
_CHECKSUM = {ip.TCP: 16, ip.UDP: 6, ip.UDP_LITE: 6, ip.DCCP: 6}
_CHECKSUM_IN_IPV6 = _CHECKSUM | {ip.ICMPV6: 2, ip.MOBILITY: 4}
# Those which cover what there is from their header on, so that one can be made anew.
_SIMPLE = frozenset({ip.TCP, ip.UDP, ip.ICMPV6})
# A checksum of 0 means that there is none (RFC 768), or is not to be sent (RFC 3828 section 3.1).
_NEVER_ZERO = frozenset({ip.UDP, ip.UDP_LITE})

_UDP_LENGTH = 4
_UDP_HEADER_OCTETS = 8

# RFC 791 section 3.1: more fragments, and the offset. RFC 8200 section 4.5: the same of IPv6.
_IPV4_FRAGMENT = 0x3FFF
_IPV6_FRAGMENT = 0xFFF9

_MAX_OCTETS = 0xFFFF


class _Parts(NamedTuple):
    """Of a packet or a payload: what ESP carries, from where on, and the protocol behind options."""

    next_header: int
    start: int
    protocol: int
    upper: int


class Headers:
    """Takes IP headers off, and puts them onto, the packets of one child SA in transport mode."""

    __slots__ = (
        *("_added_in", "_added_out", "_fields", "_icmp", "_local", "_quoted_in", "_quoted_out"),
        *("_remote", "octets"),
    )

    def __init__(self, transport: Transport) -> None:
        """Raises ValueError for what are no addresses."""
        self._local = ip_address(transport.local).packed
        self._remote = ip_address(transport.shown).packed
        is_ipv4 = len(self._local) == 4
        self.octets = ip.IPV4_HEADER_OCTETS if is_ipv4 else ip.IPV6_HEADER_OCTETS
        self._fields = _CHECKSUM if is_ipv4 else _CHECKSUM_IN_IPV6
        here = _sum(transport.local) + _sum(transport.shown)
        known = transport.local_there and transport.remote_there
        there = _sum(transport.local_there) + _sum(transport.remote_there) if known else 0
        self._added_in = (here - there) % 0xFFFF if known else None
        """To the sum that a checksum is of; None: it cannot be known."""
        self._added_out = (_sum(transport.remote) - _sum(transport.shown)) % 0xFFFF
        self._icmp = ip.ICMP if is_ipv4 else ip.ICMPV6
        sent, sent_here = _packed(transport.local_there, transport.remote_there), self._local + self._remote
        same = sent == sent_here or len(sent) != len(sent_here)
        self._quoted_in = None if same else Quoted(sent, sent_here)
        """Of errors about what this host has sent."""
        got, got_here = _packed(transport.remote, transport.local), self._remote + self._local
        self._quoted_out = None if got == got_here else Quoted(got_here, got)
        """Of errors about what this host has got."""

    # Out

    def carries(self, packet: Buffer) -> bool:
        """Whether transport mode has a way for the packet, whose IP header is whole."""
        return _parts_of(packet) is not None

    def strip(self, packet: Buffer) -> tuple[int, Buffer]:
        """The next header, and what ESP carries of a packet that `carries` has let through."""
        parts = _parts_of(packet)
        if parts is None:
            return NEXT_HEADER_NONE, b""
        payload, upper, added = packet[parts.start :], parts.upper - parts.start, self._added_out
        if parts.protocol == self._icmp and self._quoted_out is not None:
            payload, more = self._quoted_out.change(payload, parts.protocol, upper)
            added = (added + more) % 0xFFFF
        if added:
            payload = self._shifted(payload, parts.protocol, upper, added)
        return parts.next_header, payload

    # In

    def dress(self, next_header: int, payload: bytes, tos: int) -> bytes | Drop:
        """The packet for this host. `tos` is the traffic class octet that it came with."""
        parts = _parts_of_payload(next_header, payload, is_ipv4=len(self._local) == 4)
        if parts is None:
            return Drop.NEXT_HEADER
        body = self._as_here(payload, parts.protocol, parts.upper)
        if self.octets + len(body) > _MAX_OCTETS:
            return Drop.INNER_HEADER
        return ip.build_ip(self._remote, self._local, next_header, body, tos=tos)

    def _as_here(self, payload: bytes, protocol: int, upper: int) -> bytes:
        """With what depends on addresses as this host has them."""
        added = self._added_in
        if added is None:
            return self._summed_anew(payload, protocol, upper)
        if protocol == self._icmp and self._quoted_in is not None:
            payload, more = self._quoted_in.change(payload, protocol, upper)
            added = (added + more) % 0xFFFF
        return self._shifted(payload, protocol, upper, added) if added else payload

    # Checksums

    def _shifted(self, payload: Buffer, protocol: int, upper: int, added: int) -> bytes:
        """RFC 1624 section 3: a checksum that was wrong stays wrong, and none stays none."""
        offset = self._fields.get(protocol)
        if offset is None or upper + offset + 2 > len(payload):
            return bytes(payload)
        field = upper + offset
        old = payload[field] << 8 | payload[field + 1]
        if not old and protocol in _NEVER_ZERO:
            return bytes(payload)
        total = 0xFFFF - old + added
        return _with_checksum(payload, protocol, field, 0xFFFF - (total + (total >> 16) & 0xFFFF))

    def _summed_anew(self, payload: bytes, protocol: int, upper: int) -> bytes:
        """RFC 3948 section 3.1.2, the second way: the ICV has vouched for the packet already."""
        offset = self._fields.get(protocol)
        end = len(payload)
        if offset is None or upper + offset + 2 > end or protocol not in _SIMPLE:
            return payload
        field = upper + offset
        if protocol == ip.UDP:
            if payload[field : field + 2] == bytes(2):
                return payload
            said = upper + int.from_bytes(payload[upper + _UDP_LENGTH : upper + _UDP_LENGTH + 2], "big")
            end = said if upper + _UDP_HEADER_OCTETS <= said <= end else end
        summed = bytearray(payload[upper:end])
        summed[offset : offset + 2] = bytes(2)
        pseudo = ip.pseudo_header(self._remote, self._local, protocol, len(summed))
        return _with_checksum(payload, protocol, field, ip.checksum(pseudo + summed))


def _with_checksum(payload: Buffer, protocol: int, field: int, checksum: int) -> bytes:
    changed = bytearray(payload)
    struct.pack_into("!H", changed, field, checksum or (0xFFFF if protocol in _NEVER_ZERO else 0))
    return bytes(changed)


def _packed(source: str, destination: str) -> bytes:
    """One behind the other; nothing if they are not known."""
    return b"".join(ip_address(address).packed for address in (source, destination) if address)


def _sum(address: str) -> int:
    """Its share in the sum of 16-bit words that a checksum is of."""
    return int.from_bytes(ip_address(address).packed, "big") % 0xFFFF


def _parts_of(packet: Buffer) -> _Parts | None:
    """None for a fragment, which transport mode must not carry (RFC 4303 section 3.3.4), and for what is not
    addressed to its destination yet (a Routing header).
    """
    if packet[0] >> 4 == ip.IPV4:
        if (packet[6] << 8 | packet[7]) & _IPV4_FRAGMENT:
            return None
        start, protocol = (packet[0] & 0x0F) * 4, packet[9]
        if protocol in ip.EXTENSIONS or protocol == NEXT_HEADER_NONE:
            return None
        return _Parts(protocol, start, protocol, start)
    protocol, at = packet[6], ip.IPV6_HEADER_OCTETS
    for _ in range(ip.MAX_EXTENSION_HEADERS):
        if protocol not in (ip.HOP_BY_HOP, ip.FRAGMENT):
            return _behind_options(packet, protocol, at)
        if at + 8 > len(packet):
            return None
        following = packet[at]
        if protocol == ip.FRAGMENT:
            if (packet[at + 2] << 8 | packet[at + 3]) & _IPV6_FRAGMENT:
                return None
            at += 8
        else:
            at += (packet[at + 1] + 1) * 8
        protocol = following
    return None


def _parts_of_payload(next_header: int, payload: Buffer, *, is_ipv4: bool) -> _Parts | None:
    """None for headers that have no place inside of ESP, as those of fragments."""
    if is_ipv4 and next_header in ip.EXTENSIONS:
        return None
    return _behind_options(payload, next_header, 0)


def _behind_options(octets: Buffer, next_header: int, start: int) -> _Parts | None:
    protocol, at = next_header, start
    for _ in range(ip.MAX_EXTENSION_HEADERS):
        if protocol != ip.DESTINATION_OPTIONS:
            known = protocol not in ip.EXTENSIONS and protocol != NEXT_HEADER_NONE
            return _Parts(next_header, start, protocol, at) if known and at <= len(octets) else None
        if at + 8 > len(octets):
            return None
        protocol, at = octets[at], at + (octets[at + 1] + 1) * 8
    return None
