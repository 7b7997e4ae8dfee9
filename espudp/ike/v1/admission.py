"""Whom a listener remembers before they have proved anything: few, and not for long.

A first message shows nothing, not even whose address it came from. What is kept of it makes room for the next
when there is too much of it, so a flood from forged addresses does not keep others out; but not before there
was time to answer us, or nobody would get in once the flood is as fast as we are. In main mode that is
little, and has cost no key pair; who has sent our cookie back owns its address, and holds its place. In
aggressive mode the first message costs a key pair at once: there are only so many a second, and no address is
charged for them, since it may be another's.
"""

from collections import Counter, OrderedDict
from ipaddress import ip_address
from math import inf

from espudp.ike.config import Limits

_IPV4_OCTETS = 4
_IPV6_NETWORK_OCTETS = 8

# Our choice, in seconds: longer than most ways there and back, and our own queue on the way
_TIME_TO_ANSWER = 1.0

Key = tuple[bool, bytes]


class Admission:
    """The half-open ISAKMP SAs of a listener."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._unproved: OrderedDict[Key, float] = OrderedDict()  # oldest first: when they came
        self._proved: dict[Key, bytes] = {}  # where each is
        self._sites = Counter[bytes]()

    @property
    def half_open(self) -> int:
        """How many there are."""
        return len(self._unproved) + len(self._proved)

    def is_crowded(self, now: float) -> bool:
        """Whether one more would push out another that has not had the time to answer."""
        full = len(self._unproved) >= self._limits.half_open_max
        return full and now < next(iter(self._unproved.values()), -inf) + _TIME_TO_ANSWER

    def enter(self, key: Key, now: float) -> Key | None:
        """One more that may be anybody; returns the one that has to go for it."""
        self._unproved[key] = now
        self._unproved.move_to_end(key)
        if len(self._unproved) <= self._limits.half_open_max:
            return None
        return next(iter(self._unproved))

    def hold(self, key: Key, ip: str) -> bool:
        """It owns its address. Whether there is a place for it, which is its own until it is forgotten."""
        if key in self._proved:
            return True
        site = _site(ip)
        full = len(self._proved) >= self._limits.half_open_max
        if full or self._sites[site] >= self._limits.half_open_per_address:
            return False
        self._unproved.pop(key, None)
        self._proved[key] = site
        self._sites[site] += 1
        return True

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
