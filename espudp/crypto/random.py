"""Randomness is an argument: the host passes the operating system's generator in, a test a seeded one."""

from collections.abc import Callable
from typing import TypeAlias

from espudp.errors import CryptoError

# Called with a number of octets, returns that many unpredictable ones.
Rng: TypeAlias = Callable[[int], bytes]


def draw(rng: Rng, octets: int) -> bytes:
    """Exactly `octets` from `rng`; CryptoError if it gives any other number, so that a broken
    generator can never shorten a key or an IV."""
    data = rng(octets)
    if len(data) != octets:
        raise CryptoError(f"the random generator returned {len(data)} octets when asked for {octets}")
    return data
