"""Cookies: stateless, bound to the request, and good for a short while (RFC 7296 section 2.6)."""

import random

import pytest

from espudp.ike.cookie import ROTATION_SECONDS, CookieJar
from espudp.wire.address import UdpAddress

_NONCE, _SPI = bytes(range(32)), bytes(range(8))
_SOURCE = UdpAddress("192.0.2.7", 500)


def _jar(seed: int = 1) -> CookieJar:
    return CookieJar(random.Random(seed).randbytes)


def test_a_cookie_is_known_again() -> None:
    jar = _jar()
    cookie = jar.make(_NONCE, _SOURCE, _SPI, 0.0)
    assert 1 <= len(cookie) <= 64
    assert jar.check(cookie, _NONCE, _SOURCE, _SPI, 1.0)


def test_it_outlives_one_change_of_the_secret_and_not_two() -> None:
    jar = _jar()
    cookie = jar.make(_NONCE, _SOURCE, _SPI, ROTATION_SECONDS - 0.1)
    assert jar.check(cookie, _NONCE, _SOURCE, _SPI, ROTATION_SECONDS + 0.1)
    assert not jar.check(cookie, _NONCE, _SOURCE, _SPI, 2 * ROTATION_SECONDS + 0.1)


@pytest.mark.parametrize(
    ("nonce", "source", "spi"),
    [
        (_NONCE[1:] + b"x", _SOURCE, _SPI),
        (_NONCE, UdpAddress("192.0.2.8", 500), _SPI),
        (_NONCE, UdpAddress("192.0.2.7", 501), _SPI),
        (_NONCE, UdpAddress("2001:db8::7", 500), _SPI),
        (_NONCE, _SOURCE, _SPI[1:] + b"x"),
    ],
)
def test_it_is_good_for_one_request_only(nonce: bytes, source: UdpAddress, spi: bytes) -> None:
    jar = _jar()
    assert not jar.check(jar.make(_NONCE, _SOURCE, _SPI, 0.0), nonce, source, spi, 0.0)


def test_forged_ones() -> None:
    jar = _jar()
    cookie = jar.make(_NONCE, _SOURCE, _SPI, 0.0)
    flipped = [
        bytes(b ^ (1 << bit) if i == at else b for i, b in enumerate(cookie))
        for at in range(36)
        for bit in (0, 7)
    ]
    for forged in (b"", b"\x00", cookie[:-1], cookie + b"\x00", bytes(64), *flipped):
        assert not jar.check(forged, _NONCE, _SOURCE, _SPI, 0.0)
    assert not _jar(2).check(cookie, _NONCE, _SOURCE, _SPI, 0.0)


def test_its_memory_does_not_grow() -> None:
    jar = _jar()
    for day in range(100):
        jar.make(_NONCE, _SOURCE, _SPI, day * 86400.0)
    assert len(jar._secrets) <= 2
