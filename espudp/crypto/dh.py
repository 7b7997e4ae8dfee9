"""Diffie-Hellman for IKE: MODP (RFC 3526, RFC 5114), elliptic curves (RFC 5903), Curve25519 and Curve448
(RFC 8031).

A peer's public value is checked before it is used (RFC 6989): a value that would force the shared secret
into a small set, or leak our private key, is refused with the notify that tells the peer so.
"""

import functools
import warnings
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, Protocol

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey, X448PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.utils import CryptographyDeprecationWarning

from espudp.crypto.failures import FAILURES, failing_as
from espudp.crypto.modp import MODP, Modp
from espudp.crypto.random import Rng, draw
from espudp.crypto.suites import Dh
from espudp.errors import BadPublicValue, CryptoError

# FIPS 186-4 sections B.1.1 and B.4.1: this many more random octets than the order has make the bias of
# the reduction negligible
_EXTRA_OCTETS = 8


class KeyPair(Protocol):
    """Our half of one exchange. Used for one peer, then forgotten."""

    @property
    def group(self) -> Dh: ...

    @property
    def public(self) -> bytes:
        """The KE payload's data, `group.public_octets` long."""

    def shared_secret(self, peer_public: bytes) -> bytes:
        """g^ir, `group.secret_octets` long. Raises BadPublicValue when the peer's is not one that an
        honest peer sends, CryptoError when the calculation fails."""


def generate(group: Dh, rng: Rng) -> KeyPair:
    """A new key pair, its private half from `rng`. Raises CryptoError if there is no such group."""
    with failing_as(f"no key pair of {group.keyword} could be made"):
        if group.transform_id in MODP:
            return _ModpKeyPair(group, rng)
        if group.transform_id in _CURVES:
            return _EcpKeyPair(group, rng)
        if group.transform_id in _MONTGOMERY:
            return _MontgomeryKeyPair(group, rng)
    raise CryptoError(f"{group.keyword} is not a group that we speak")


def _refused(group: Dh, why: str) -> BadPublicValue:
    return BadPublicValue(f"the peer's {group.keyword} public value {why}")


def _check_length(group: Dh, peer_public: bytes) -> None:
    if len(peer_public) != group.public_octets:
        raise _refused(group, f"has {len(peer_public)} octets instead of {group.public_octets}")


def _checked_secret(group: Dh, secret: bytes) -> bytes:
    if len(secret) != group.secret_octets:
        raise CryptoError(f"{group.keyword} gave a secret of {len(secret)} octets")
    return secret


# --- MODP, RFC 3526 and RFC 5114 -----------------------------------------------------------------------


class _ModpKeyPair:
    """Every power with a secret exponent is the library's, in constant time: Python's own `pow` would take a
    time that tells of it. The public value is the library's "shared secret" with the generator, which is g^x.
    """

    def __init__(self, group: Dh, rng: Rng) -> None:
        self.group = group
        self._modp = modp = MODP[group.transform_id]
        library = _ffdh()
        self._numbers = library.DHParameterNumbers(modp.prime, modp.generator)
        # The library asks for the public value along with the exponent, and uses only the exponent.
        placeholder = library.DHPublicNumbers(modp.generator, self._numbers)
        self._private = library.DHPrivateNumbers(_exponent(modp, rng), placeholder).private_key()
        self.public = self._power(_generator(group.transform_id))

    def shared_secret(self, peer_public: bytes) -> bytes:
        _check_length(self.group, peer_public)
        value = int.from_bytes(peer_public, "big")
        modp = self._modp
        # RFC 6989 section 2.1: enough for a safe prime
        if not 1 < value < modp.prime - 1:
            raise _refused(self.group, "is out of range")
        # RFC 6989 section 2.2, which RFC 8247 section 2.4 demands. Nothing in this power is secret.
        if modp.order is not None and pow(value, modp.order, modp.prime) != 1:
            raise _refused(self.group, "is outside of the group's subgroup")
        with failing_as(f"{self.group.keyword} failed"):
            return self._power(_public_key(self._numbers, value))

    def _power(self, base: Any) -> bytes:
        secret: bytes = self._private.exchange(base)
        return _checked_secret(self.group, secret)


def _public_key(numbers: Any, value: int) -> Any:
    return _ffdh().DHPublicNumbers(value, numbers).public_key()


@functools.cache
def _generator(transform_id: int) -> Any:
    """As if it were a public value. Kept: each time that the library is given the numbers of a group which it
    does not know by name, as that of RFC 2409, it tests anew whether they are primes: 28 ms.
    """
    modp = MODP[transform_id]
    return _public_key(_ffdh().DHParameterNumbers(modp.prime, modp.generator), modp.generator)


def _exponent(modp: Modp, rng: Rng) -> int:
    if modp.order is not None:
        extra = int.from_bytes(draw(rng, -(-modp.exponent_bits // 8) + _EXTRA_OCTETS), "big")
        return extra % (modp.order - 1) + 1
    bits = modp.exponent_bits
    exponent = int.from_bytes(draw(rng, -(-bits // 8)), "big") >> (-bits % 8)
    if not exponent:
        raise CryptoError("the random generator gave nothing but zeros")
    return exponent


@functools.cache
def _ffdh() -> Any:
    """The library's Diffie-Hellman over finite fields, which it wants to drop some day: it warns when
    the names are looked up, so that is done once, here."""
    names = ("DHParameterNumbers", "DHPublicNumbers", "DHPrivateNumbers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        try:
            from cryptography.hazmat.primitives.asymmetric import dh

            return SimpleNamespace(**{name: getattr(dh, name) for name in names})
        except (ImportError, AttributeError) as error:
            raise CryptoError(
                "the installed `cryptography` has no Diffie-Hellman over finite fields any more",
                remedy="Propose an elliptic curve (curve25519, ecp256) or install cryptography 50.",
            ) from error


# --- ECP, RFC 5903 -------------------------------------------------------------------------------------

_CURVES: Mapping[int, ec.EllipticCurve] = {19: ec.SECP256R1(), 20: ec.SECP384R1(), 21: ec.SECP521R1()}

# SEC 1 section 2.3.3: an uncompressed point. On IKE's wire this octet is left out.
_UNCOMPRESSED = b"\x04"


class _EcpKeyPair:
    def __init__(self, group: Dh, rng: Rng) -> None:
        self.group = group
        self._curve = _CURVES[group.transform_id]
        order = self._curve.group_order
        candidate = int.from_bytes(draw(rng, group.secret_octets + _EXTRA_OCTETS), "big")
        self._private = ec.derive_private_key(candidate % (order - 1) + 1, self._curve)
        point = self._private.public_key().public_numbers()
        size = group.secret_octets
        self.public = point.x.to_bytes(size, "big") + point.y.to_bytes(size, "big")

    def shared_secret(self, peer_public: bytes) -> bytes:
        """The x coordinate of the common point (RFC 5903 section 7)."""
        _check_length(self.group, peer_public)
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(self._curve, _UNCOMPRESSED + peer_public)
        except FAILURES as error:
            raise _refused(self.group, "is not a point on the curve") from error
        with failing_as(f"{self.group.keyword} failed"):
            return _checked_secret(self.group, self._private.exchange(ec.ECDH(), point))


# --- Curve25519 and Curve448, RFC 8031 -----------------------------------------------------------------

# Two classes each, alike in all that is used of them.
_MONTGOMERY: Mapping[int, tuple[Any, Any]] = {
    31: (X25519PrivateKey, X25519PublicKey),
    32: (X448PrivateKey, X448PublicKey),
}


class _MontgomeryKeyPair:
    def __init__(self, group: Dh, rng: Rng) -> None:
        self.group = group
        private_key, self._public_key = _MONTGOMERY[group.transform_id]
        self._private = private_key.from_private_bytes(draw(rng, group.secret_octets))
        self.public: bytes = self._private.public_key().public_bytes_raw()

    def shared_secret(self, peer_public: bytes) -> bytes:
        _check_length(self.group, peer_public)
        with failing_as(f"{self.group.keyword} failed"):
            peer = self._public_key.from_public_bytes(peer_public)
            try:
                return _checked_secret(self.group, self._private.exchange(peer))
            except ValueError as error:
                # RFC 7748 sections 6.1 and 6.2: all zeros, from a point of small order
                raise _refused(self.group, "is a point of small order") from error
