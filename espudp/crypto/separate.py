"""Ciphers with a MAC beside them, other than AES-CBC: AES-CTR (RFC 3686), 3DES-CBC (RFC 2451), and NULL
(RFC 2410). Packet by packet, in grids too."""

import hmac
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, CTR

from espudp.crypto.failures import FAILURES
from espudp.crypto.mac import Buffer, Mac, keyed
from espudp.crypto.random import Rng, draw
from espudp.crypto.rows import Grid, Plaintexts
from espudp.crypto.suites import Encr, Integ, Mode
from espudp.errors import CryptoError

# RFC 4303 section 2: SPI and sequence number
_HEADER = 8
# SPI and extended sequence number, as they lie in a grid
_EXTENDED = 12
_COUNTER = (1 << 64) - 1

_IV = 8
_DES_BLOCK = 8


class _Raw(Protocol):
    """A cipher that authenticates nothing. Its messages begin with their IV."""

    def encrypt(self, counter: int, plaintext: Buffer) -> bytes: ...

    def decrypt(self, message: Buffer) -> bytes: ...


class _Ctr:
    """RFC 3686 section 4: counter block = nonce of 4 octets || IV of 8 || a count of blocks from 1 on."""

    _FIRST = b"\0\0\0\1"

    def __init__(self, key: bytes, nonce: bytes) -> None:
        self._nonce = nonce
        # One for both directions: the keystream is the same. A new one for each packet would cost more
        # than the cipher.
        self._context = Cipher(AES(key), CTR(nonce + bytes(_IV) + self._FIRST)).encryptor()

    def encrypt(self, counter: int, plaintext: Buffer) -> bytes:
        iv = counter.to_bytes(_IV, "big")
        self._context.reset_nonce(self._nonce + iv + self._FIRST)
        return iv + self._context.update(plaintext)

    def decrypt(self, message: Buffer) -> bytes:
        self._context.reset_nonce(b"".join((self._nonce, message[:_IV], self._FIRST)))
        return self._context.update(message[_IV:])


class _TripleDes:
    """RFC 2451 section 3: the IV is random."""

    def __init__(self, key: bytes, rng: Rng) -> None:
        self._cipher = TripleDES(key)
        self._rng = rng

    def encrypt(self, counter: int, plaintext: Buffer) -> bytes:
        iv = draw(self._rng, _DES_BLOCK)
        encryptor = Cipher(self._cipher, CBC(iv)).encryptor()
        return iv + encryptor.update(plaintext) + encryptor.finalize()

    def decrypt(self, message: Buffer) -> bytes:
        decryptor = Cipher(self._cipher, CBC(bytes(message[:_DES_BLOCK]))).decryptor()
        return decryptor.update(message[_DES_BLOCK:]) + decryptor.finalize()


class _Null:
    """RFC 2410 section 2: the identity, without IV."""

    def encrypt(self, counter: int, plaintext: Buffer) -> bytes:
        return bytes(plaintext)

    def decrypt(self, message: Buffer) -> bytes:
        return bytes(message)


def _raw(encr: Encr, key: bytes, rng: Rng) -> _Raw:
    if encr.mode is Mode.CTR:
        return _Ctr(key[: encr.key_octets], key[encr.key_octets :])
    return _TripleDes(key, rng) if encr.mode is Mode.TRIPLE_DES else _Null()


class _Separate:
    def __init__(self, encr: Encr, integ: Integ, key: bytes, integ_key: bytes, rng: Rng) -> None:
        self.iv_octets = encr.iv_octets
        self.icv_octets = integ.icv_octets
        # What the cipher itself needs; CTR's alignment is ESP's.
        self._block = _DES_BLOCK if encr.mode is Mode.TRIPLE_DES else 1
        self._raw = _raw(encr, key, rng)
        self._mac: Mac = keyed(integ.mac, integ_key)

    def _icv(self, aad: Buffer, covered: Buffer, tail: bytes) -> bytes:
        mac = self._mac.copy()
        mac.update(aad)
        mac.update(covered)
        if tail:
            mac.update(tail)
        return mac.finalize()[: self.icv_octets]


class SeparateSealer(_Separate):
    """A Sealer of espudp.crypto.aead."""

    def seal(self, counter: int, aad: Buffer, plaintext: Buffer, tail: bytes = b"") -> bytes:
        if len(plaintext) % self._block:
            raise CryptoError(f"the cipher needs whole blocks, not {len(plaintext)} octets")
        try:
            covered = self._raw.encrypt(counter, plaintext)
            return covered + self._icv(aad, covered, tail)
        except FAILURES as error:
            raise CryptoError("sealing failed") from error

    def seal_into(self, counter: int, aad: Buffer, plaintext: Buffer, tail: bytes, out: memoryview) -> None:
        sealed = self.seal(counter, aad, plaintext, tail)
        if len(out) != len(sealed):
            raise CryptoError("sealing failed")
        out[:] = sealed

    def seal_rows(self, grid: Grid, counter: int, plaintexts: Plaintexts) -> None:
        _refuse_combined(grid)
        _, slices, count, last = plaintexts
        pieces: list[Buffer] = [*slices[:count], last] if last else list(slices[:count])
        for row, (piece, (aad, tail)) in enumerate(zip(pieces, _covered(grid), strict=False)):
            start = row * grid.width + _HEADER
            end = start + self.iv_octets + len(piece) + self.icv_octets
            self.seal_into(counter + row & _COUNTER, aad, piece, tail, grid.wire[start:end])


class SeparateOpener(_Separate):
    """An Opener of espudp.crypto.aead."""

    def __init__(self, encr: Encr, integ: Integ, key: bytes, integ_key: bytes) -> None:
        super().__init__(encr, integ, key, integ_key, bytes)

    def open(self, aad: Buffer, body: Buffer, tail: bytes = b"") -> bytes | None:
        end = len(body) - self.icv_octets
        if end < self.iv_octets or (end - self.iv_octets) % self._block:
            return None
        covered = body[:end]
        try:
            if not hmac.compare_digest(self._icv(aad, covered, tail), body[end:]):
                return None
            return self._raw.decrypt(covered)
        except FAILURES as error:
            raise CryptoError("opening failed") from error

    def open_rows(self, grid: Grid, count: int, tail: int) -> bool:
        _refuse_combined(grid)
        sizes = [grid.plain_octets] * count + ([tail] if tail else [])
        for row, (size, (aad, behind)) in enumerate(zip(sizes, _covered(grid), strict=False)):
            start = row * grid.width + _HEADER
            end = start + self.iv_octets + size + self.icv_octets
            plaintext = self.open(aad, grid.wire[start:end], behind)
            if plaintext is None:
                return False
            grid.plain[row, :size] = np.frombuffer(plaintext, np.uint8)
        return True


def _refuse_combined(grid: Grid) -> None:
    if grid.layout.aead:
        raise CryptoError("these packets have no room for a MAC")


def _covered(grid: Grid) -> Iterator[tuple[Buffer, bytes]]:
    """What is authenticated in front of each packet's body and behind it (RFC 4303 section 2.2.1)."""
    extended = grid.extended.data
    for row in range(grid.rows):
        header = grid.wire[row * grid.width : row * grid.width + _HEADER]
        yield header, bytes(extended[row * _EXTENDED + 4 : row * _EXTENDED + 8]) if grid.layout.esn else b""
