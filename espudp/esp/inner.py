"""What the data path reads off inner packets, one by one and by columns."""

from espudp.offload import Rows
from espudp.wire import ip
from espudp.wire.buffer import Buffer

# IP and TCP without options (RFC 9293 section 3.7.1)
_IPV4_TCP_OCTETS = 40
_IPV6_TCP_OCTETS = 60

# RFC 9293 section 3.1: SYN among the flags, and the octets that lack it
_SYN = 0x02
_FLAGS = 13
_WITHOUT_SYN = bytes(flags for flags in range(256) if not flags & _SYN)

# Where each version of IP has the protocol, and the addresses.
_PROTOCOL = {ip.IPV4: 9, ip.IPV6: 6}
_ADDRESSES = {ip.IPV4: slice(12, 20), ip.IPV6: slice(8, 40)}
# From the version to the length: of IPv6 the flow label is in there as well.
_OPENING = {ip.IPV4: 4, ip.IPV6: 6}


def clamped(packet: Buffer, inner_mtu: int) -> Buffer:
    """A TCP SYN says no larger segments than fit into the tunnel."""
    headers = _IPV4_TCP_OCTETS if packet[0] >> 4 == ip.IPV4 else _IPV6_TCP_OCTETS
    return ip.clamp_mss(packet, max(inner_mtu - headers, 0))


def version_of(rows: Rows) -> int:
    """The IP version of packets that may be judged by the first of them; 0 if each must be looked at.

    They are whole, agree in all that their lengths and their traffic class depend on, and none is a TCP SYN
    as far as can be seen without following extension headers.
    """
    matrix, size, last = rows.matrix, rows.size, rows.last
    count = len(rows) if last == size else len(rows) - 1
    first = bytes(matrix[0, : ip.IPV6_HEADER_OCTETS])
    if size < ip.IPV4_HEADER_OCTETS or ip.inner_octets(first, size) != size:
        return 0
    version = first[0] >> 4
    opening = _OPENING[version]
    if matrix[:count, :opening].tobytes() != first[:opening] * count:
        return 0
    if last != size:
        tail = bytes(matrix[count, : ip.IPV6_HEADER_OCTETS])
        if tail[:2] != first[:2] or ip.inner_octets(tail, last) != last:
            return 0
    return 0 if _may_be_syn(rows, version, first) else version


def _may_be_syn(rows: Rows, version: int, first: bytes) -> bool:
    protocols = set(rows.matrix[:, _PROTOCOL[version]].tobytes())
    if version == ip.IPV6 and not protocols.isdisjoint(ip.EXTENSIONS):
        return True
    if ip.TCP not in protocols:
        return False
    at = ip.IPV6_HEADER_OCTETS if version == ip.IPV6 else (first[0] & 0x0F) * 4
    if at + _FLAGS >= rows.size:
        return False
    # A last packet too short for flags has whatever lies behind it there, and may be called a SYN.
    return bool(rows.matrix[:, at + _FLAGS].tobytes().translate(None, _WITHOUT_SYN))


def addresses_of(rows: Rows, version: int) -> set[bytes]:
    """Source and destination, packed one behind the other: all pairs that there are."""
    where = _ADDRESSES[version]
    octets = where.stop - where.start
    packed = rows.matrix[:, where].tobytes()
    first = packed[:octets]
    if packed == first * len(rows):
        return {first}
    return {packed[at : at + octets] for at in range(0, len(packed), octets)}
