"""Transport mode in its plainest form, from RFC 4303 (3.1.1, 3.3.4), RFC 3948 (3.1.2), RFC 791 and RFC 8200.

Checksums are looked at as what is left when everything is summed up: nothing where they are right. What is
left must be the same for the sender's addresses and for the receiver's, whatever it is.
"""

from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import NamedTuple

from espudp.wire.transport import Transport
from tests.reference.inner_reference import addresses, ones_sum, put16, u16

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
    carried, more = _requoted(
        carried, (transport.shown, transport.local), (transport.remote, transport.local)
    )
    return _moved(carried, after - before + more, ipv6=":" in transport.local)


def incoming(transport: Transport, carried: Carried) -> Carried | None:
    """As this host is to see it."""
    if ":" not in transport.local and carried.next_header in (HOP_BY_HOP, ROUTING, FRAGMENT, OPTIONS):
        return None
    if upper_layer(carried) is None:
        return None
    if not (transport.local_there and transport.remote_there):
        return _summed(transport, carried)
    before = _sum(transport.local_there) + _sum(transport.remote_there)
    after = _sum(transport.local) + _sum(transport.shown)
    carried, more = _requoted(
        carried, (transport.local_there, transport.remote_there), (transport.local, transport.shown)
    )
    return _moved(carried, after - before + more, ipv6=":" in transport.local)


def dressed(transport: Transport, carried: Carried, tos: int) -> bytes | None:
    """With the IP header that this host is to see; None: there is no header for so much."""
    ends = ip_address(transport.shown).packed + ip_address(transport.local).packed
    octets = len(carried.payload)
    if len(ends) == 32:
        first = (6 << 28 | tos << 20).to_bytes(4)
        header = first + min(octets, 0xFFFF).to_bytes(2) + bytes([carried.next_header, 64]) + ends
    else:
        header = bytes([0x45, tos]) + min(20 + octets, 0xFFFF).to_bytes(2) + bytes([0, 0, 0x40, 0])
        header += bytes([64, carried.next_header, 0, 0]) + ends
        header = put16(header, 10, 0xFFFF - ones_sum(header))
    return header + carried.payload if len(header) + octets <= 0xFFFF else None


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


def _requoted(carried: Carried, before: tuple[str, str], after: tuple[str, str]) -> tuple[Carried, int]:
    """An ICMP error, and the packet in it as the other side has to know it; by how much the sum has grown."""
    upper = upper_layer(carried)
    assert upper is not None
    protocol, at = upper
    old, new = (b"".join(ip_address(end).packed for end in ends) for ends in (before, after))
    message = carried.payload[at:]
    quoted = message[8:]
    ipv4 = len(old) == len(new) == 8
    if len(old) != len(new) or not message or protocol != (1 if ipv4 else ICMPV6):
        return carried, 0
    place = slice(12, 20) if ipv4 else slice(8, 40)
    is_error = message[0] in (3, 4, 5, 11, 12) if ipv4 else message[0] < 128
    if not is_error or quoted[place] != old or quoted[0] // 16 != (4 if ipv4 else 6):
        return carried, 0
    grown = sum(words(new)) - sum(words(old))
    if ipv4 and old != new:
        quoted = put16(quoted, 10, (u16(quoted, 10) - grown) % 0xFFFF)
    quoted = quoted[: place.start] + new + quoted[place.stop :]
    return Carried(carried.next_header, carried.payload[: at + 8] + quoted), 0 if ipv4 else grown


def _summed(transport: Transport, carried: Carried) -> Carried:
    """Nobody knows what the sender has summed up: made anew where all that is covered is there."""
    upper = upper_layer(carried)
    assert upper is not None
    ipv6 = ":" in transport.local
    protocol, at = upper
    segment = carried.payload[at:]
    field_at = {TCP: 16, UDP: 6, **({ICMPV6: 2} if ipv6 else {})}.get(protocol)
    if field_at is None or field_at + 2 > len(segment):
        return carried
    covered = segment
    if protocol == UDP:
        if u16(segment, 6) == 0:
            return carried
        said = u16(segment, 4)
        covered = segment[:said] if 8 <= said <= len(segment) else segment
    ends = ip_address(transport.shown).packed + ip_address(transport.local).packed
    pseudo = ends + len(covered).to_bytes(4) + protocol.to_bytes(4)
    total = 0xFFFF - ones_sum(pseudo + put16(covered, field_at, 0))
    if total == 0 and protocol == UDP:
        total = 0xFFFF
    return Carried(carried.next_header, carried.payload[:at] + put16(segment, field_at, total))


# Fragments of this host's


def is_fragment(packet: bytes) -> bool:
    if packet[0] // 16 == 4:
        return u16(packet, 6) & 0x3FFF != 0
    return packet[6] == FRAGMENT


@dataclass
class _Datagram:
    since: float
    pieces: list[tuple[range, bytes]] = field(default_factory=list)
    """Where in the datagram, behind its IP header."""
    header: bytes = b""
    size: int | None = None


@dataclass
class Pieces:
    """Fragments that wait for the rest: of 16 datagrams at most, 128 of each, for a second."""

    waiting: dict[tuple[object, ...], _Datagram] = field(default_factory=dict)

    def add(self, packet: bytes, now: float) -> tuple[bytes | None, int]:
        """The datagram, if it is whole now; and of how many fragments nothing will come."""
        lost = 0
        for key, waiting in list(self.waiting.items()):
            if now - waiting.since >= 1.0:
                lost += len(self.waiting.pop(key).pieces)
        found = _piece(packet)
        if found is None:
            return None, lost + 1
        key, start, more, header, data = found
        datagram = self.waiting.setdefault(key, _Datagram(now))
        place = range(start, start + len(data))
        if not _fits(datagram, place, more=more):
            return None, lost + 1 + len(self.waiting.pop(key).pieces)
        datagram.pieces = [piece for piece in datagram.pieces if piece[0].start != start] + [(place, data)]
        datagram.header = header if start == 0 else datagram.header
        datagram.size = datagram.size if more else place.stop
        covered = {octet for piece, _ in datagram.pieces for octet in piece}
        if datagram.header and datagram.size is not None and covered == set(range(datagram.size)):
            del self.waiting[key]
            ordered = sorted(datagram.pieces, key=lambda piece: piece[0].start)
            return _whole(datagram.header, b"".join(data for _, data in ordered)), lost
        if len(self.waiting) > 16:
            lost += len(self.waiting.pop(next(iter(self.waiting))).pieces)
        return None, lost


def _fits(datagram: _Datagram, place: range, *, more: bool) -> bool:
    """RFC 8200 section 4.5: in units of 8 octets, none twice, and nothing behind the end."""
    if place.stop > 0xFFFF - 256 or len(datagram.pieces) == 128 or (more and len(place) % 8):
        return False
    if datagram.size is not None and (not more or place.stop > datagram.size):
        return False
    return not any(set(place) & set(piece) for piece, _ in datagram.pieces)


def _piece(packet: bytes) -> tuple[tuple[object, ...], int, bool, bytes, bytes] | None:
    """To which datagram it belongs, from where on, whether more follows, and a header for the whole."""
    if packet[0] // 16 == 4:
        end, field_ = packet[0] % 16 * 4, u16(packet, 6)
        key = (*addresses(packet), packet[9], u16(packet, 4))
        return key, field_ % 0x2000 * 8, bool(field_ & 0x2000), packet[:end], packet[end:]
    if len(packet) < 48:
        return None
    field_ = u16(packet, 42)
    header = packet[:6] + packet[40:41] + packet[7:40]
    return (*addresses(packet), packet[44:48]), field_ & 0xFFF8, bool(field_ & 1), header, packet[48:]


def _whole(header: bytes, data: bytes) -> bytes:
    if header[0] // 16 == 6:
        return put16(header, 4, len(data)) + data
    header = put16(put16(put16(header, 2, len(header) + len(data)), 6, 0), 10, 0)
    return put16(header, 10, 0xFFFF - ones_sum(header)) + data
