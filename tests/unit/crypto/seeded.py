"""Randomness that repeats: the same seed, the same octets."""

import random
from collections.abc import Callable

from espudp.crypto.aead import CipherKeys
from espudp.crypto.random import Rng
from espudp.crypto.suites import EspSuite


def seeded_rng(seed: int = 1) -> Rng:
    return random.Random(seed).randbytes


def fixed_rng(value: bytes) -> Callable[[int], bytes]:
    """Gives `value` as a number, padded in front to whatever size is asked for."""
    return lambda octets: value.rjust(octets, b"\0")


def keys_for(suite: EspSuite, seed: int = 2) -> CipherKeys:
    rng = seeded_rng(seed)
    encr = suite.encr.keymat_octets
    return CipherKeys(rng(encr), rng(suite.keymat_octets - encr))
