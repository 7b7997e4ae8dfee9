"""Stateless cookies (RFC 7296 section 2.6): initiators prove their address before we remember them."""

from collections.abc import Callable
from ipaddress import ip_address

from espudp.crypto.auth import equal
from espudp.crypto.digest import cookie_mac
from espudp.wire.address import UdpAddress

SECRET_OCTETS = 32

# Our choice: an initiator answers within a round trip, and a cookie lives one to two periods.
ROTATION_SECONDS = 60.0

_VERSION_OCTETS = 4


class CookieJar:
    """Makes cookies and knows its own again, without a record per peer.

    A cookie is <VersionIDofSecret> | MAC(secret, SPIi | address | port | Ni). The secret changes every
    `rotation` seconds; cookies of the one before are still taken, older ones are not.
    """

    def __init__(self, rng: Callable[[int], bytes], *, rotation: float = ROTATION_SECONDS) -> None:
        self._rng = rng
        self._rotation = rotation
        self._secrets: dict[int, bytes] = {}  # version -> secret; two at most

    def make(self, nonce_i: bytes, source: UdpAddress, spi_i: bytes, now: float) -> bytes:
        """The cookie for an IKE_SA_INIT request from `source`: 36 octets."""
        version = self._rotate(now)
        return self._cookie(version, nonce_i, source, spi_i)

    def check(self, cookie: bytes, nonce_i: bytes, source: UdpAddress, spi_i: bytes, now: float) -> bool:
        """Whether we made this cookie, for exactly this request, lately."""
        self._rotate(now)
        version = int.from_bytes(cookie[:_VERSION_OCTETS])
        if version not in self._secrets:
            return False
        return equal(self._cookie(version, nonce_i, source, spi_i), cookie)

    def _rotate(self, now: float) -> int:
        version = int(now // self._rotation) % (1 << 8 * _VERSION_OCTETS)
        if version not in self._secrets:
            self._secrets[version] = self._rng(SECRET_OCTETS)
        if len(self._secrets) > 1:
            self._secrets = {v: s for v, s in self._secrets.items() if v in (version, version - 1)}
        return version

    def _cookie(self, version: int, nonce_i: bytes, source: UdpAddress, spi_i: bytes) -> bytes:
        # The nonce comes last: beside the address, whose length is told, only it varies in length.
        address = ip_address(source.ip).packed
        request = bytes([len(address)]) + address + source.port.to_bytes(2) + spi_i + nonce_i
        return version.to_bytes(_VERSION_OCTETS) + cookie_mac(self._secrets[version], request)
