"""HMAC (RFC 2104) and the hashes under it, by the name that the rows of suites.py give."""

from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.hmac import HMAC

_HASHES: Mapping[str, Callable[[], HashAlgorithm]] = {
    "sha1": SHA1,
    "sha256": SHA256,
    "sha384": SHA384,
    "sha512": SHA512,
}


def keyed(hash_name: str, key: bytes) -> HMAC:
    """An HMAC object with the key in it. Use a `copy()` per message: that skips the key schedule."""
    return HMAC(key, _HASHES[hash_name]())
