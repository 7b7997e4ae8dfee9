"""Whom a listener remembers before they have proved anything: few, and with cookies when it gets crowded."""

from collections import Counter
from enum import Enum, auto
from ipaddress import ip_address

from espudp.crypto.digest import sha1
from espudp.crypto.random import Rng
from espudp.ike.config import Limits
from espudp.ike.cookie import CookieJar
from espudp.wire.address import UdpAddress

_IPV4_OCTETS = 4
_IPV6_NETWORK_OCTETS = 8


class Verdict(Enum):
    """What a listener does with one more stranger."""

    ADMIT = auto()
    ASK_FOR_COOKIE = auto()
    REFUSE = auto()


class Admission:
    """The half-open IKE SAs of a listener, and how IKE_SA_INIT requests are recognised that come again.

    RFC 7296 section 2.1: two peers behind one NAT may choose the same SPI, so a repetition is told by the
    hash of the whole request, together with where it comes from.
    """

    def __init__(self, rng: Rng, limits: Limits) -> None:
        self.cookies = CookieJar(rng)
        self._limits = limits
        self._half_open: dict[bytes, bytes] = {}  # our SPI -> where the peer is
        self._per_site: Counter[bytes] = Counter()
        self._spis: dict[bytes, bytes] = {}  # request -> our SPI
        self._requests: dict[bytes, bytes] = {}  # our SPI -> request

    @property
    def half_open(self) -> int:
        """How many IKE SAs wait for their IKE_AUTH."""
        return len(self._half_open)

    def verdict(self, ip: str) -> Verdict:
        """Whether one more from this address may come in."""
        if len(self._half_open) >= self._limits.half_open_max:
            return Verdict.REFUSE
        if self._per_site[_site(ip)] >= self._limits.half_open_per_address:
            return Verdict.REFUSE
        if len(self._half_open) >= self._limits.cookie_threshold:
            return Verdict.ASK_FOR_COOKIE
        return Verdict.ADMIT

    def answered(self, data: bytes, source: UdpAddress) -> bytes | None:
        """Our SPI of the IKE SA that this very IKE_SA_INIT request has made, if there is one."""
        return self._spis.get(_digest(data, source))

    def enter(self, spi: bytes, data: bytes, source: UdpAddress) -> None:
        """An IKE_SA_INIT request was answered, and `spi` is our part of it."""
        request = _digest(data, source)
        self._spis[request] = spi
        self._requests[spi] = request
        self._half_open[spi] = site = _site(source.ip)
        self._per_site[site] += 1

    def authenticated(self, spi: bytes) -> None:
        """The IKE SA is half-open no more."""
        site = self._half_open.pop(spi, None)
        if site is not None:
            self._per_site[site] -= 1
            if not self._per_site[site]:
                del self._per_site[site]

    def forget(self, spi: bytes) -> None:
        """The IKE SA is over; nothing happens if it never was ours to admit."""
        self.authenticated(spi)
        request = self._requests.pop(spi, None)
        if request is not None:
            del self._spis[request]


def _site(ip: str) -> bytes:
    """An IPv4 address, or the network of an IPv6 one: whoever has that has all its addresses (RFC 4291
    2.5.4).
    """
    packed = ip_address(ip).packed
    return packed if len(packed) == _IPV4_OCTETS else packed[:_IPV6_NETWORK_OCTETS]


def _digest(data: bytes, source: UdpAddress) -> bytes:
    return sha1(f"{source} ".encode() + data)
