"""Whom a listener remembers before they have proved anything: few, and not for long.

In main mode the first message shows nothing, not even whose address it came from. What is kept of it is
small, costs no key pair, and makes room for the next when there is too much of it; so a flood from forged
addresses does not keep others out. Who has sent our cookie back owns its address, and holds its place.
"""

from collections import Counter, OrderedDict
from ipaddress import ip_address

from espudp.ike.config import Limits

_IPV4_OCTETS = 4
_IPV6_NETWORK_OCTETS = 8

Key = tuple[bool, bytes]


class Admission:
    """The half-open ISAKMP SAs of a listener."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._unproved: OrderedDict[Key, bytes] = OrderedDict()  # oldest first -> where the peer says it is
        self._proved: dict[Key, bytes] = {}
        self._sites = Counter[bytes]()  # of those that are proved

    @property
    def half_open(self) -> int:
        """How many there are."""
        return len(self._unproved) + len(self._proved)

    def enter(self, key: Key, ip: str) -> Key | None:
        """One more that may be anybody; returns the one that has to go for it."""
        self._unproved[key] = _site(ip)
        self._unproved.move_to_end(key)
        if len(self._unproved) <= self._limits.half_open_max:
            return None
        return next(iter(self._unproved))

    def has_room(self, ip: str) -> bool:
        """Whether one more may be half-open that has a key pair of ours."""
        full = len(self._proved) >= self._limits.half_open_max
        return not full and self._sites[_site(ip)] < self._limits.half_open_per_address

    def hold(self, key: Key, ip: str) -> None:
        """It owns its address, or we have spent a key pair on it."""
        self.forget(key)
        self._proved[key] = site = _site(ip)
        self._sites[site] += 1

    def forget(self, key: Key) -> None:
        """It is half-open no more; nothing happens if it never was."""
        self._unproved.pop(key, None)
        site = self._proved.pop(key, None)
        if site is not None:
            self._sites[site] -= 1
            if not self._sites[site]:
                del self._sites[site]


def _site(ip: str) -> bytes:
    """An IPv4 address, or the network of an IPv6 one: whoever has that has all its addresses (RFC 4291
    2.5.4).
    """
    packed = ip_address(ip).packed
    return packed if len(packed) == _IPV4_OCTETS else packed[:_IPV6_NETWORK_OCTETS]
