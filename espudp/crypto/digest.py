"""Hashes that protect no traffic: NAT detection and cookies."""

from cryptography.hazmat.primitives.hashes import SHA1, Hash

from espudp.crypto.failures import failing_as
from espudp.crypto.mac import keyed


def sha1(data: bytes) -> bytes:
    """SHA-1, 20 octets: what NAT detection is made of (RFC 7296 section 2.23)."""
    with failing_as("SHA-1 failed"):
        digest = Hash(SHA1())
        digest.update(data)
        return digest.finalize()


def cookie_mac(secret: bytes, data: bytes) -> bytes:
    """HMAC-SHA2-256 of `data`, 32 octets: only who holds `secret` makes a cookie (RFC 7296 section 2.6)."""
    with failing_as("HMAC-SHA2-256 failed"):
        mac = keyed("sha256", secret)
        mac.update(data)
        return mac.finalize()
