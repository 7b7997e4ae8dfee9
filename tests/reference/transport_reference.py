"""Transport mode in its plainest form, from RFC 4303 section 3.1.1, RFC 3948 section 3.1.2 and RFC 8200.

Checksums are looked at as what is left when everything is summed up: nothing where they are right. What is
left must be the same for the sender's addresses and for the receiver's, whatever it is.
"""

from ipaddress import ip_address
from typing import NamedTuple

from espudp.wire.transport import Transport

HOP_BY_HOP, TCP, UDP, DCCP, ROUTING, FRAGMENT, ICMPV6, NONE, OPTIONS, MOBILITY, LITE = (
    *(0, 6, 17, 33, 43, 44, 58, 59, 60, 135, 136),
)
CHECKSUM_AT = {TCP: 16, UDP: 6, DCCP: 6, LITE: 6}
CHECKSUM_AT_IN_IPV6 = {**CHECKSUM_AT, ICMPV6: 2, MOBILITY: 4}


class Carried(NamedTuple):
    """What is in ESP: a protocol, and its octets."""

    next_header: int
    payload: bytes


def words(octets: bytes) -> list[int]:
    padded = octets + bytes(len(octets) % 2)
    return [padded[at] * 256 + padded[at + 1] for at in range(0, len(padded), 2)]


def outgoing(transport: Transport, packet: bytes) -> Carried | None:
    """None: not to be carried."""
    if packet[0] // 16 == 4:
        flags = words(packet[6:8])[0]
        if flags & 0x2000 or flags & 0x1FFF or packet[9] in (HOP_BY_HOP, ROUTING, FRAGMENT, OPTIONS, NONE):
            return None
        carried = Carried(packet[9], packet[packet[0] % 16 * 4 :])
    else:
        outside = _without_outer_extensions(Carried(packet[6], packet[40:]))
        if outside is None:
            return None
        carried = outside
    if upper_layer(carried) is None:
        return None
    before, after = _sum(transport.shown), _sum(transport.remote)
    return _moved(carried, after - before, ipv6=":" in transport.local)


def incoming(transport: Transport, carried: Carried) -> Carried | None:
    """As this host is to see it, if the peer's addresses are known."""
    if ":" not in transport.local and carried.next_header in (HOP_BY_HOP, ROUTING, FRAGMENT, OPTIONS):
        return None
    if upper_layer(carried) is None:
        return None
    before = _sum(transport.local_there) + _sum(transport.remote_there)
    after = _sum(transport.local) + _sum(transport.shown)
    return _moved(carried, after - before, ipv6=":" in transport.local)


def upper_layer(carried: Carried) -> tuple[int, int] | None:
    """The protocol behind destination options, and where it begins. None: none that may be there."""
    protocol, at = carried.next_header, 0
    for _ in range(8):
        if protocol != OPTIONS:
            break
        if at + 8 > len(carried.payload):
            return None
        protocol, at = carried.payload[at], at + 8 + carried.payload[at + 1] * 8
    wrong = (HOP_BY_HOP, ROUTING, FRAGMENT, OPTIONS, NONE)
    return None if protocol in wrong or at > len(carried.payload) else (protocol, at)


def _without_outer_extensions(carried: Carried) -> Carried | None:
    for _ in range(8):
        kind, octets = carried
        if kind not in (HOP_BY_HOP, FRAGMENT):
            return carried
        if len(octets) < 8:
            return None
        if kind == FRAGMENT and words(octets[2:4])[0] & ~0x0006:
            return None
        length = 8 if kind == FRAGMENT else 8 + octets[1] * 8
        carried = Carried(octets[0], octets[length:])
        if length > len(octets):
            return None
    return None


def _sum(address: str) -> int:
    return sum(words(ip_address(address).packed))


def _moved(carried: Carried, by: int, *, ipv6: bool) -> Carried:
    """The sum of the addresses has grown: the checksum takes it up."""
    upper = upper_layer(carried)
    assert upper is not None
    protocol, at = upper
    offset = (CHECKSUM_AT_IN_IPV6 if ipv6 else CHECKSUM_AT).get(protocol)
    if offset is None or at + offset + 2 > len(carried.payload) or by % 0xFFFF == 0:
        return carried
    field = at + offset
    old = words(carried.payload[field : field + 2])[0]
    if protocol in (UDP, LITE) and old == 0:
        return carried
    new = (old - by) % 0xFFFF
    if new == 0 and protocol in (UDP, LITE):
        new = 0xFFFF
    payload = carried.payload[:field] + new.to_bytes(2, "big") + carried.payload[field + 2 :]
    return Carried(carried.next_header, payload)
