"""CHAP as EAP-MD5 uses it (RFC 1994): MD5 over a secret, which whoever listens can try passwords against."""

from cryptography.hazmat.primitives.hashes import MD5, Hash

from espudp.crypto.failures import failing_as


def chap_md5(identifier: int, secret: bytes, challenge: bytes) -> bytes:
    """The response, 16 octets: MD5(identifier | secret | challenge) (RFC 1994 section 4.1)."""
    with failing_as("MD5 failed"):
        digest = Hash(MD5())
        digest.update(bytes([identifier]) + secret + challenge)
        return digest.finalize()
