"""Proving an identity with a pre-shared key, and comparing proofs."""

import hmac

from espudp.crypto.prf import prf
from espudp.crypto.suites import Prf

# RFC 7296 section 2.15: 17 ASCII characters without null termination
_KEY_PAD = b"Key Pad for IKEv2"


def psk_auth(p: Prf, psk: bytes, signed_octets: bytes) -> bytes:
    """The AUTH payload's data for a shared key (RFC 7296 section 2.15)."""
    return prf(p, prf(p, psk, _KEY_PAD), signed_octets)


def equal(a: bytes, b: bytes) -> bool:
    """Whether two authenticators are the same, in a time that says nothing of where they differ."""
    return hmac.compare_digest(a, b)
