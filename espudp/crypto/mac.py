"""Message authentication codes, by the name that the rows of suites.py give: HMACs by their hash, and two
that are made of AES."""

from collections.abc import Callable, Mapping
from typing import Protocol, Self, TypeAlias

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.hmac import HMAC

Buffer: TypeAlias = bytes | bytearray | memoryview

_BLOCK = 16


class Mac(Protocol):
    """A MAC with its key in it. Use a `copy()` per message: that skips the key schedule."""

    def copy(self) -> Self: ...

    def update(self, data: Buffer) -> None: ...

    def finalize(self) -> bytes: ...


class AesXcbc:
    """AES-XCBC-MAC (RFC 3566 section 4), which the library lacks: its own AES-CBC, and what the RFC does to
    the last block before."""

    def __init__(self, key: bytes) -> None:
        encryptor = Cipher(AES(key), ECB()).encryptor()
        k1, self._whole, self._padded = (encryptor.update(bytes([n]) * _BLOCK) for n in (1, 2, 3))
        self._cipher = Cipher(AES(k1), CBC(bytes(_BLOCK)))
        self._parts: tuple[Buffer, ...] = ()

    def copy(self) -> Self:
        new = object.__new__(type(self))
        new._whole, new._padded, new._cipher = self._whole, self._padded, self._cipher
        new._parts = self._parts
        return new

    def update(self, data: Buffer) -> None:
        self._parts += (data,)

    def finalize(self) -> bytes:
        message = b"".join(self._parts)
        start = max(len(message) - 1, 0) // _BLOCK * _BLOCK
        last, mask = message[start:], self._whole
        if len(last) < _BLOCK:
            last, mask = (last + b"\x80").ljust(_BLOCK, b"\0"), self._padded
        masked = int.from_bytes(last, "big") ^ int.from_bytes(mask, "big")
        chained = message[:start] + masked.to_bytes(_BLOCK, "big")
        return self._cipher.encryptor().update(chained)[-_BLOCK:]


class AesCmac:
    """AES-CMAC (RFC 4493), of any octets instead of `bytes` alone."""

    def __init__(self, key: bytes) -> None:
        self._cmac = CMAC(AES(key))

    def copy(self) -> Self:
        new = object.__new__(type(self))
        new._cmac = self._cmac.copy()
        return new

    def update(self, data: Buffer) -> None:
        self._cmac.update(bytes(data))

    def finalize(self) -> bytes:
        return self._cmac.finalize()


_HASHES: Mapping[str, Callable[[], HashAlgorithm]] = {
    "sha1": SHA1,
    "sha256": SHA256,
    "sha384": SHA384,
    "sha512": SHA512,
}
_OF_AES: Mapping[str, Callable[[bytes], Mac]] = {"aes-xcbc": AesXcbc, "aes-cmac": AesCmac}


def keyed(mac: str, key: bytes) -> Mac:
    """The MAC of this name with the key in it, which may have any size."""
    make = _OF_AES.get(mac)
    return HMAC(key, _HASHES[mac]()) if make is None else make(_aes_key(make, key))


def _aes_key(make: Callable[[bytes], Mac], key: bytes) -> bytes:
    # RFC 4434 section 2 (XCBC): shorter keys are padded with zeros. RFC 4615 section 3 (CMAC): they are
    # condensed, as both do with longer ones.
    if len(key) < _BLOCK and make is AesXcbc:
        return key.ljust(_BLOCK, b"\0")
    if len(key) != _BLOCK:
        mac = make(bytes(_BLOCK))
        mac.update(key)
        return mac.finalize()
    return key
