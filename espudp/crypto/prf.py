"""Pseudorandom functions of IKEv2 (RFC 7296 sections 2.13 and 2.14)."""

from espudp.crypto.failures import failing_as
from espudp.crypto.mac import keyed
from espudp.crypto.suites import Prf
from espudp.errors import CryptoError

# RFC 7296 section 2.13: the counter is a single octet, so there are at most 255 blocks
_MAX_BLOCKS = 255


def prf(p: Prf, key: bytes, data: bytes) -> bytes:
    """prf(key, data), `p.output_octets` long. HMACs take a key of any size."""
    with failing_as(f"{p.keyword} failed"):
        mac = keyed(p.mac, key)
        mac.update(data)
        return mac.finalize()


def prf_plus(p: Prf, key: bytes, seed: bytes, octets: int) -> bytes:
    """The first `octets` of prf+(key, seed) = T1 | T2 | ..., Tn = prf(key, Tn-1 | seed | n).

    Raises CryptoError when asked for more than 255 blocks.
    """
    if octets > _MAX_BLOCKS * p.output_octets:
        raise CryptoError(f"{p.keyword} cannot make {octets} octets of key material")
    with failing_as(f"{p.keyword} failed"):
        blank = keyed(p.mac, key)
        stream = block = b""
        number = 1
        while len(stream) < octets:
            mac = blank.copy()
            mac.update(block + seed + bytes([number]))
            block = mac.finalize()
            stream += block
            number += 1
        return stream[:octets]
