"""The packets that ICMP errors quote, in transport mode: with addresses that who gets the error knows.

A NAT would see to that on its way (RFC 5508 section 4.2), but sees nothing inside of ESP. Who sent the quoted
packet finds its socket by the addresses in it, so that these have to be what it has sent them with.
"""

import struct

from espudp.wire import ip
from espudp.wire.buffer import Buffer

# RFC 792, RFC 4443: what is quoted is behind type, code, checksum and four more octets.
_QUOTED_AT = 8

# RFC 1122 section 3.2.2; RFC 4443 section 2.1: errors have the high bit of the type clear.
_IS_ERROR = {
    ip.ICMP: bytes(kind in (3, 4, 5, 11, 12) for kind in range(256)),
    ip.ICMPV6: bytes(kind < 128 for kind in range(256)),
}


class Quoted:
    """Changes the addresses of quoted packets between two hosts."""

    __slots__ = ("_added", "_after", "_before", "_ipv4")

    def __init__(self, before: bytes, after: bytes) -> None:
        """Source and destination, packed one behind the other, both of the same version of IP."""
        self._before = before
        self._after = after
        self._ipv4 = len(after) == 8
        self._added = (int.from_bytes(after) - int.from_bytes(before)) % 0xFFFF

    def change(self, payload: Buffer, protocol: int, upper: int) -> tuple[bytes, int]:
        """`payload` has ICMP from `upper` on; what it is now, and what is added to the sum that ICMP's
        checksum is of. Unchanged if it quotes nothing of these two.
        """
        at = upper + _QUOTED_AT
        addresses = at + (12 if self._ipv4 else 8)
        end = addresses + len(self._before)
        if end > len(payload) or not _IS_ERROR[protocol][payload[upper]]:
            return bytes(payload), 0
        if payload[at] >> 4 != (ip.IPV4 if self._ipv4 else ip.IPV6) or payload[addresses:end] != self._before:
            return bytes(payload), 0
        changed = bytearray(payload)
        changed[addresses:end] = self._after
        if not self._ipv4:
            return bytes(changed), self._added
        # The quoted header's own checksum takes it up, so that nothing is added to the whole.
        (old,) = struct.unpack_from("!H", changed, at + 10)
        struct.pack_into("!H", changed, at + 10, ip.adjusted_checksum(old, 0, self._added))
        return bytes(changed), 0
