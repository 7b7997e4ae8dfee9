"""Ciphers with a MAC beside them, other than AES-CBC: AES-CTR (RFC 3686), 3DES-CBC (RFC 2451), and NULL
(RFC 2410)."""

import hmac
from abc import ABC, abstractmethod

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, CTR

from espudp.crypto.failures import FAILURES
from espudp.crypto.mac import Buffer, Mac, keyed
from espudp.crypto.random import Rng, draw
from espudp.crypto.rows import CtrGrid, Grid, Plaintexts, SeparateGrid, first_octets
from espudp.crypto.suites import Encr, Integ, Mode
from espudp.errors import CryptoError

_IV = 8
_DES_BLOCK = 8


class _Raw(ABC):
    """A cipher that authenticates nothing. Its messages begin with their IV."""

    @abstractmethod
    def encrypt(self, counter: int, plaintext: Buffer) -> bytes: ...

    @abstractmethod
    def decrypt(self, message: Buffer) -> bytes: ...

    def encrypt_rows(self, grid: SeparateGrid, counter: int, plaintexts: Plaintexts) -> None:
        _, slices, count, tail = plaintexts
        pieces: list[Buffer] = [*slices[:count], tail] if tail else list(slices[:count])
        for row, piece in enumerate(pieces):
            grid.message(row, len(piece))[:] = self.encrypt(counter + row, piece)

    def decrypt_rows(self, grid: SeparateGrid, count: int, tail: int) -> None:
        sizes = [grid.plain_octets] * count + ([tail] if tail else [])
        for row, size in enumerate(sizes):
            grid.plains[row][:size] = self.decrypt(grid.message(row, size))


class _Ctr(_Raw):
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

    def encrypt_rows(self, grid: SeparateGrid, counter: int, plaintexts: Plaintexts) -> None:
        _, slices, count, tail = plaintexts
        blocks = _ctr_grid(grid).blocks
        _ctr_grid(grid).set_ivs(self._nonce, counter, count + bool(tail))
        reset, update = self._context.reset_nonce, self._context.update_into
        for block, plain, body in zip(blocks[:count], slices, grid.bodies, strict=False):
            reset(bytes(block))
            update(plain, body)
        if tail:
            reset(bytes(blocks[count]))
            update(tail, grid.part(count, len(tail)))

    def decrypt_rows(self, grid: SeparateGrid, count: int, tail: int) -> None:
        blocks = _ctr_grid(grid).blocks
        _ctr_grid(grid).take_ivs(self._nonce, count + bool(tail))
        reset, update = self._context.reset_nonce, self._context.update_into
        for block, body, plain in zip(blocks[:count], grid.bodies, grid.plains, strict=False):
            reset(bytes(block))
            update(body, plain)
        if tail:
            reset(bytes(blocks[count]))
            update(grid.part(count, tail), grid.plains[count][:tail])


class _TripleDes(_Raw):
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


class _Null(_Raw):
    """RFC 2410 section 2: the identity, without IV."""

    def encrypt(self, counter: int, plaintext: Buffer) -> bytes:
        return bytes(plaintext)

    def decrypt(self, message: Buffer) -> bytes:
        return bytes(message)

    def encrypt_rows(self, grid: SeparateGrid, counter: int, plaintexts: Plaintexts) -> None:
        matrix, _, count, tail = plaintexts
        grid.ciphertexts[:count] = matrix[:count, : grid.plain_octets]
        grid.part(count, len(tail))[:] = tail

    def decrypt_rows(self, grid: SeparateGrid, count: int, tail: int) -> None:
        rows = count + bool(tail)
        grid.plain[:rows] = grid.ciphertexts[:rows]


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
        if not isinstance(grid, SeparateGrid):
            raise CryptoError("these packets have no room for a MAC")
        count, tail = plaintexts.whole, len(plaintexts.tail)
        if grid.plain_octets % self._block or tail % self._block:
            raise CryptoError("the cipher needs whole blocks")
        try:
            self._raw.encrypt_rows(grid, counter, plaintexts)
            grid.set_icvs(grid.macs(self._mac, count, tail), count, tail)
        except FAILURES as error:
            raise CryptoError("sealing failed") from error


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
        if not isinstance(grid, SeparateGrid):
            raise CryptoError("these packets are none with a MAC")
        if grid.plain_octets % self._block or tail % self._block:
            return False
        try:
            expected = first_octets(grid.macs(self._mac, count, tail), self.icv_octets).tobytes()
            if not hmac.compare_digest(expected, grid.icvs(count, tail)):
                return False
            self._raw.decrypt_rows(grid, count, tail)
        except FAILURES as error:
            raise CryptoError("opening failed") from error
        return True


def _ctr_grid(grid: SeparateGrid) -> CtrGrid:
    if not isinstance(grid, CtrGrid):
        raise CryptoError("these packets are none of AES-CTR")
    return grid
