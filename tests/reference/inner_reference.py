"""What a tunnel does to one inner packet, in its plainest form; shares no code with espudp.

Written from RFC 791, RFC 8200, RFC 1071, RFC 6040, RFC 792, RFC 4443 and RFC 9293. Every function takes whole
packets and makes new ones; a checksum is summed up word by word.
"""

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

Address = IPv4Address | IPv6Address

TCP, ICMP, ICMPV6, IPV6_FRAGMENT = 6, 1, 58, 44
EXTENSIONS = {0, 43, 44, 60}
MOST_EXTENSIONS = 8
WITH_PORTS = {6, 17, 33, 132, 136}
MOBILITY = 135


def u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "big")


def put16(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + value.to_bytes(2, "big") + data[at + 2 :]


def ones_sum(data: bytes) -> int:
    """RFC 1071: the 16-bit one's complement sum, an odd octet padded with zero."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def is_whole(packet: bytes) -> bool:
    """An IP packet of exactly the octets that are there."""
    return inner_length(packet) == len(packet) > 0


def inner_length(data: bytes) -> int:
    """What the header at the front says the packet has; 0 if that, or the header, is not there."""
    if len(data) >= 20 and data[0] >> 4 == 4:
        header, length = (data[0] & 15) * 4, u16(data, 2)
        return length if 20 <= header <= length <= len(data) else 0
    if len(data) >= 40 and data[0] >> 4 == 6:
        length = 40 + u16(data, 4)
        return length if length <= len(data) else 0
    return 0


def addresses(packet: bytes) -> tuple[Address, Address]:
    if packet[0] >> 4 == 4:
        return ip_address(packet[12:16]), ip_address(packet[16:20])
    return ip_address(packet[8:24]), ip_address(packet[24:40])


@dataclass
class Upper:
    """What selectors may look at. None: it cannot be seen. Ports of ICMP: type * 256 + code, and "none"."""

    protocol: int | None
    ports: tuple[int | None, int | str | None]
    at: int


def upper_layer(packet: bytes) -> Upper | None:
    """None for what hides its protocol: extension headers beyond the end, or an overlapping TCP fragment."""
    if packet[0] >> 4 == 4:
        header, protocol, offset = (packet[0] & 15) * 4, packet[9], u16(packet, 6) & 0x1FFF
        if offset == 0:
            return Upper(protocol, _ports(packet, protocol, header), header)
        return None if offset == 1 and protocol == TCP else Upper(protocol, (None, None), header)
    protocol, at = packet[6], 40
    for _ in range(MOST_EXTENSIONS):
        if protocol not in EXTENSIONS:
            return Upper(protocol, _ports(packet, protocol, at), at)
        if at + 8 > len(packet):
            return None
        following = packet[at]
        if protocol == IPV6_FRAGMENT:
            if u16(packet, at + 2) >> 3:
                return Upper(None if following in EXTENSIONS else following, (None, None), at + 8)
            at += 8
        else:
            at += 8 + 8 * packet[at + 1]
        protocol = following
    return None


def _ports(packet: bytes, protocol: int, at: int) -> tuple[int | None, int | str | None]:
    if at + 4 > len(packet):
        return None, None
    if protocol in WITH_PORTS:
        return u16(packet, at), u16(packet, at + 2)
    if protocol in (ICMP, ICMPV6):
        return u16(packet, at), "none"
    if protocol == MOBILITY:
        return packet[at + 2] * 256, "none"
    return None, None


# TCP maximum segment size


def clamped(packet: bytes, inner_mtu: int) -> bytes:
    """A SYN's MSS option lowered to what fits into the tunnel; the checksum as right or wrong as before."""
    upper = upper_layer(packet)
    if upper is None or upper.protocol != TCP or upper.ports == (None, None):
        return packet
    at = upper.at
    if at + 20 > len(packet) or not packet[at + 13] & 0x02:
        return packet
    most = max(inner_mtu - (40 if packet[0] >> 4 == 4 else 60), 0)
    end = min(at + (packet[at + 12] >> 4) * 4, len(packet))
    option = at + 20
    while option + 4 <= end and packet[option] != 0:
        kind, octets = packet[option], packet[option + 1]
        if kind == 1:
            option += 1
            continue
        if octets < 2:
            break
        if kind == 2 and octets == 4:
            if u16(packet, option + 2) <= most:
                return packet
            return _with_same_error(packet, put16(packet, option + 2, most), at)
        option += octets
    return packet


def _with_same_error(before: bytes, after: bytes, tcp: int) -> bytes:
    """`after` with a TCP checksum that is wrong by as much as that of `before`; lengths do not change."""
    return put16(after, tcp + 16, _filling(before[tcp:], put16(after, tcp + 16, 0)[tcp:]))


def _filling(before: bytes, blank: bytes) -> int:
    """What makes `blank`, with 0 in its checksum field, sum up to what `before` does (0, not 0xFFFF)."""
    return (ones_sum(before) - ones_sum(blank)) % 0xFFFF


# IPv4 fragmentation (RFC 791 section 3.2)


def may_fragment(packet: bytes) -> bool:
    return packet[0] >> 4 == 4 and not packet[6] & 0x40


def fragments(packet: bytes, mtu: int) -> list[bytes]:
    header, field = (packet[0] & 15) * 4, u16(packet, 6)
    data = packet[header:]
    pieces: list[bytes] = []
    done = 0
    while done < len(data):
        head = packet[:header] if done == 0 else packet[:20] + _copied_options(packet[20:header])
        octets = max((mtu - len(head)) // 8 * 8, 8)
        piece = data[done : done + octets]
        more = 0x2000 if done + octets < len(data) else field & 0x2000
        head = bytes([0x40 | len(head) // 4]) + head[1:]
        head = put16(head, 2, len(head) + len(piece))
        head = put16(head, 6, more | (field & 0x1FFF) + done // 8)
        head = put16(head, 10, 0)
        pieces.append(put16(head, 10, 0xFFFF - ones_sum(head)) + piece)
        done += len(piece)
    return pieces


def _copied_options(options: bytes) -> bytes:
    kept = b""
    at = 0
    while at < len(options) and options[at] != 0:
        octets = 1 if options[at] == 1 else options[at + 1] if at + 1 < len(options) else 0
        if octets < 1 or (octets == 1 and options[at] != 1):
            break
        if options[at] & 0x80:
            kept += options[at : at + octets]
        at += octets
    return kept + bytes(-len(kept) % 4)


# ICMP "too big"


def too_big(packet: bytes, mtu: int) -> bytes | None:
    """RFC 1191 section 4, RFC 4443 section 3.2, from the packet's own destination."""
    source, destination = addresses(packet)
    upper = upper_layer(packet)
    if upper is None or may_fragment(packet) or not (_is_host(source) and _is_host(destination)):
        return None
    kind = None if upper.ports[0] is None else upper.ports[0] >> 8
    if packet[0] >> 4 == 4:
        # RFC 1122 section 3.2.2: not for errors, nor for later fragments
        is_error = upper.protocol == ICMP and kind in (None, 3, 4, 5, 11, 12)
        if is_error or u16(packet, 6) & 0x1FFF:
            return None
        body = bytes([3, 4, 0, 0, 0, 0]) + mtu.to_bytes(2, "big") + packet[:548]
        body = put16(body, 2, 0xFFFF - ones_sum(body))
        head = bytes([0x45, 0]) + (20 + len(body)).to_bytes(2, "big") + bytes([0, 0, 0x40, 0, 64, ICMP, 0, 0])
        head += destination.packed + source.packed
        return put16(head, 10, 0xFFFF - ones_sum(head)) + body
    # RFC 4443 section 2.4 (e)
    if upper.protocol is None:
        return None
    if upper.protocol == ICMPV6 and (kind is None or kind < 128 or kind == 137):
        return None
    body = bytes([2, 0, 0, 0]) + mtu.to_bytes(4, "big") + packet[:1232]
    pseudo = destination.packed + source.packed + len(body).to_bytes(4, "big") + ICMPV6.to_bytes(4, "big")
    body = put16(body, 2, 0xFFFF - ones_sum(pseudo + body))
    head = bytes([0x60, 0, 0, 0]) + len(body).to_bytes(2, "big") + bytes([ICMPV6, 64])
    return head + destination.packed + source.packed + body


def _is_host(address: Address) -> bool:
    first = address.packed[0]
    if address.version == 4:
        return 0 < first < 224 and first != 127
    return first != 0xFF and int(address) > 0xFF


# DSCP and ECN


def tos(packet: bytes) -> int:
    return packet[1] if packet[0] >> 4 == 4 else u16(packet, 0) >> 4 & 0xFF


def outer_tos(packet: bytes, dscp: int | None) -> int:
    """RFC 6040 section 4.1, normal mode."""
    return tos(packet) if dscp is None else dscp * 4 + tos(packet) % 4


def with_ecn(packet: bytes, outer: int) -> bytes | None:
    """RFC 6040 section 4.2; None: to be dropped. A wrong header checksum is as wrong afterwards."""
    not_ect, ect1, ect0, ce = range(4)
    inner, seen = tos(packet) % 4, outer % 4
    if inner == not_ect:
        if seen == ce:
            return None
        new = not_ect
    elif ce in (inner, seen):
        new = ce
    else:
        new = ect1 if ect1 in (inner, seen) else ect0
    if packet[0] >> 4 == 6:
        return put16(packet, 0, u16(packet, 0) & ~0x30 | new << 4)
    header = (packet[0] & 15) * 4
    after = bytes([packet[0], packet[1] & ~3 | new]) + packet[2:]
    if after == packet:
        return packet
    return put16(after, 10, _filling(packet[:header], put16(after, 10, 0)[:header]))
