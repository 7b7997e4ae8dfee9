"""Sealing and opening, for ESP packets and for IKE's SK payload alike.

Combined modes (AES-GCM, ...), and ciphers with a MAC beside them, look the same from outside: a body is
IV || ciphertext || ICV, and the plaintext is whatever was padded for it (RFC 4303 section 2.4, RFC 7296
section 3.14). Padding is put on and taken off by the caller.

Per SA, everything that can be made once is made once: the AEAD's key schedule, the CBC contexts, the
keyed HMAC. A new object per packet would cost as much as the cipher.
"""

import hmac
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from espudp.crypto.combined import Gmac, ShortGcm
from espudp.crypto.failures import FAILURES, failing_as
from espudp.crypto.mac import Buffer, Mac, keyed
from espudp.crypto.random import Rng, draw
from espudp.crypto.rows import AeadGrid, CbcGrid, Grid, Plaintexts, first_octets
from espudp.crypto.separate import SeparateOpener, SeparateSealer
from espudp.crypto.suites import Encr, Integ, Mode
from espudp.errors import CryptoError

# RFC 4106 section 3, RFC 4309 section 4, RFC 7634 section 2: nonce = salt of 4 octets, with CCM 3, || IV
_AEAD_IV = 8
_GCM_ICV = 16

_AES_BLOCK = 16
# How much is drawn from the generator at once: a system call for each block would show.
_STOCK_OCTETS = 64 * _AES_BLOCK


@dataclass(frozen=True, slots=True)
class CipherKeys:
    """The keys of one direction. `encr` is the cipher's key followed by the AEAD's salt."""

    encr: bytes = field(repr=False)
    integ: bytes = field(default=b"", repr=False)


class Sealer(Protocol):
    """Protects what one SA sends."""

    @property
    def iv_octets(self) -> int: ...

    @property
    def icv_octets(self) -> int: ...

    def seal_into(self, counter: int, aad: Buffer, plaintext: Buffer, tail: bytes, out: memoryview) -> None:
        """Write IV || ciphertext || ICV into `out`, which is exactly that long.

        `counter` (64 bits) becomes an AEAD's IV, and the caller never passes the same one twice under
        the same key: two packets under one nonce give away their plaintext and the power to forge. CBC takes
        an unpredictable IV of its own and ignores `counter`. `aad` is authenticated in front of the body.
        `tail` is authenticated behind it: the high half of an extended sequence number with CBC and HMAC
        (RFC 4303 section 2.2.1); AEADs have that in `aad`, and take no `tail`.

        Raises CryptoError, and then `out` must not be sent.
        """

    def seal(self, counter: int, aad: Buffer, plaintext: Buffer, tail: bytes = b"") -> bytes:
        """As `seal_into`, into a new object."""

    def seal_rows(self, grid: Grid, counter: int, plaintexts: Plaintexts) -> None:
        """As `seal_into` for each of the plaintexts, with counters from `counter` on, modulo 2**64.

        `grid` is for the layout of this suite and the size of the plaintexts; what is authenticated in front
        and behind has been written into it.
        """


class Opener(Protocol):
    """Verifies and decrypts what one SA receives."""

    @property
    def iv_octets(self) -> int: ...

    @property
    def icv_octets(self) -> int: ...

    def open(self, aad: Buffer, body: Buffer, tail: bytes = b"") -> bytes | None:
        """The plaintext, padding included, of IV || ciphertext || ICV; None if it is too short, not
        whole blocks, or not authentic. Nothing is decrypted before the ICV has been verified."""

    def open_rows(self, grid: Grid, count: int, tail: int) -> bool:
        """Whether `count` packets in the grid, and one behind them whose shorter plaintext has `tail`
        octets if that is not 0, are all authentic. Then `grid.plain` has their plaintexts."""


def make_sealer(encr: Encr, integ: Integ | None, keys: CipherKeys, rng: Rng) -> Sealer:
    """Raises CryptoError if the keys do not have the sizes of the algorithms."""
    _check_keys(encr, integ, keys)
    with failing_as(f"{encr.keyword} is not available here"):
        if integ is None:
            return _AeadSealer(encr, keys)
        if encr.mode is Mode.CBC:
            return _CbcHmacSealer(integ, keys, rng)
        return SeparateSealer(encr, integ, keys.encr, keys.integ, rng)


def make_opener(encr: Encr, integ: Integ | None, keys: CipherKeys) -> Opener:
    """Raises CryptoError if the keys do not have the sizes of the algorithms."""
    _check_keys(encr, integ, keys)
    with failing_as(f"{encr.keyword} is not available here"):
        if integ is None:
            return _AeadOpener(encr, keys)
        if encr.mode is Mode.CBC:
            return _CbcHmacOpener(integ, keys)
        return SeparateOpener(encr, integ, keys.encr, keys.integ)


def _check_keys(encr: Encr, integ: Integ | None, keys: CipherKeys) -> None:
    if encr.is_aead != (integ is None):
        wrong = "without" if integ is None else "with"
        raise CryptoError(f"{encr.keyword} cannot be used {wrong} an integrity algorithm")
    if len(keys.encr) != encr.keymat_octets:
        raise CryptoError(f"{encr.keyword} takes a key of {encr.keymat_octets} octets, not {len(keys.encr)}")
    wanted = 0 if integ is None else integ.key_octets
    if len(keys.integ) != wanted:
        raise CryptoError(f"the integrity key has {len(keys.integ)} octets instead of {wanted}")


_Aead: TypeAlias = AESGCM | ChaCha20Poly1305 | AESCCM | ShortGcm | Gmac


def _aead(encr: Encr, key: bytes) -> _Aead:
    match encr.mode:
        case Mode.CHACHA20_POLY1305:
            return ChaCha20Poly1305(key)
        case Mode.CCM:
            return AESCCM(key, encr.icv_octets)
        case Mode.GMAC:
            return Gmac(key)
        case _:
            return AESGCM(key) if encr.icv_octets == _GCM_ICV else ShortGcm(key, encr.icv_octets)


class _AeadSealer:
    iv_octets = _AEAD_IV

    def __init__(self, encr: Encr, keys: CipherKeys) -> None:
        self.icv_octets = encr.icv_octets
        self._salt = keys.encr[encr.key_octets :]
        self._cipher = _aead(encr, keys.encr[: encr.key_octets])

    def seal_into(self, counter: int, aad: Buffer, plaintext: Buffer, tail: bytes, out: memoryview) -> None:
        if tail:
            raise CryptoError("an AEAD authenticates nothing behind the ciphertext")
        try:
            iv = counter.to_bytes(8, "big")
            out[:8] = iv
            self._cipher.encrypt_into(self._salt + iv, plaintext, aad, out[8:])
        except FAILURES as error:
            raise CryptoError("sealing failed") from error

    def seal(self, counter: int, aad: Buffer, plaintext: Buffer, tail: bytes = b"") -> bytes:
        if tail:
            raise CryptoError("an AEAD authenticates nothing behind the ciphertext")
        try:
            iv = counter.to_bytes(8, "big")
            return iv + self._cipher.encrypt(self._salt + iv, plaintext, aad)
        except FAILURES as error:
            raise CryptoError("sealing failed") from error

    def seal_rows(self, grid: Grid, counter: int, plaintexts: Plaintexts) -> None:
        if not isinstance(grid, AeadGrid):
            raise CryptoError("these packets have no room for an AEAD")
        _, slices, count, tail = plaintexts
        encrypt = self._cipher.encrypt_into
        grid.set_ivs(self._salt, counter, count + bool(tail))
        try:
            deque(map(encrypt, grid.nonces[:count], slices, grid.aads, grid.bodies), maxlen=0)
            if tail:
                encrypt(grid.nonces[count], tail, grid.aads[count], grid.part(count, len(tail)))
        except FAILURES as error:
            raise CryptoError("sealing failed") from error


class _AeadOpener:
    iv_octets = _AEAD_IV

    def __init__(self, encr: Encr, keys: CipherKeys) -> None:
        self.icv_octets = encr.icv_octets
        self._salt = keys.encr[encr.key_octets :]
        self._cipher = _aead(encr, keys.encr[: encr.key_octets])

    def open(self, aad: Buffer, body: Buffer, tail: bytes = b"") -> bytes | None:
        if tail:
            raise CryptoError("an AEAD authenticates nothing behind the ciphertext")
        if len(body) < _AEAD_IV + self.icv_octets:
            return None
        try:
            return self._cipher.decrypt(self._salt + body[:8], body[8:], aad)
        except InvalidTag:
            return None
        except FAILURES as error:
            raise CryptoError("opening failed") from error

    def open_rows(self, grid: Grid, count: int, tail: int) -> bool:
        if not isinstance(grid, AeadGrid):
            raise CryptoError("these packets are none of an AEAD")
        decrypt = self._cipher.decrypt_into
        grid.take_ivs(self._salt, count + bool(tail))
        try:
            deque(map(decrypt, grid.nonces[:count], grid.bodies, grid.aads, grid.plains), maxlen=0)
            if tail:
                body, plain = grid.part(count, tail), grid.plains[count][:tail]
                decrypt(grid.nonces[count], body, grid.aads[count], plain)
        except InvalidTag:
            return False
        except FAILURES as error:
            raise CryptoError("opening failed") from error
        return True


def _cbc(key: bytes) -> Cipher[CBC]:
    """AES-CBC whose own IV does not matter: each message brings the block that chains into it."""
    return Cipher(AES(key), CBC(bytes(_AES_BLOCK)))


def _icv(blank: Mac, octets: int, aad: Buffer, covered: Buffer, tail: bytes) -> bytes:
    mac = blank.copy()
    mac.update(aad)
    mac.update(covered)
    if tail:
        mac.update(tail)
    return mac.finalize()[:octets]


class _CbcHmacSealer:
    """One encryptor for the life of the SA, fed a random block and the plaintext for each message.

    The block goes through the cipher like any other and becomes the IV on the wire, and what follows is
    standard CBC under that IV. Being the encryption of a secret random value it cannot be predicted
    from earlier messages, as RFC 3602 section 3 wants.
    """

    iv_octets = _AES_BLOCK

    def __init__(self, integ: Integ, keys: CipherKeys, rng: Rng) -> None:
        self.icv_octets = integ.icv_octets
        self._encryptor: CipherContext = _cbc(keys.encr).encryptor()
        self._mac = keyed(integ.mac, keys.integ)
        self._rng = rng
        self._stock = b""
        self._drawn = 0

    def seal_into(self, counter: int, aad: Buffer, plaintext: Buffer, tail: bytes, out: memoryview) -> None:
        covered = self._encrypt(plaintext)
        try:
            out[: -self.icv_octets] = covered
            out[-self.icv_octets :] = _icv(self._mac, self.icv_octets, aad, covered, tail)
        except FAILURES as error:
            raise CryptoError("sealing failed") from error

    def seal(self, counter: int, aad: Buffer, plaintext: Buffer, tail: bytes = b"") -> bytes:
        covered = self._encrypt(plaintext)
        try:
            return covered + _icv(self._mac, self.icv_octets, aad, covered, tail)
        except FAILURES as error:
            raise CryptoError("sealing failed") from error

    def _encrypt(self, plaintext: Buffer) -> bytes:
        if len(plaintext) % _AES_BLOCK:
            # A part of a block would stay in the encryptor and shift every later message.
            raise CryptoError(f"AES-CBC needs whole blocks, not {len(plaintext)} octets")
        try:
            return self._encryptor.update(self._blocks(1) + plaintext)
        except FAILURES as error:
            raise CryptoError("sealing failed") from error

    def seal_rows(self, grid: Grid, counter: int, plaintexts: Plaintexts) -> None:
        if not isinstance(grid, CbcGrid):
            raise CryptoError("these packets have no room for AES-CBC and an HMAC")
        matrix, _, count, tail = plaintexts
        if grid.link % _AES_BLOCK or len(tail) % _AES_BLOCK:
            raise CryptoError("AES-CBC needs whole blocks")
        grid.plain[:count] = matrix[:count, : grid.plain_octets]
        end = grid.chain(self._blocks(count + bool(tail)), count, tail)
        try:
            self._encryptor.update_into(grid.clear[:end], grid.chained)
            grid.spread(count, end)
            grid.set_icvs(grid.macs(self._mac, count, len(tail)), count, len(tail))
        except FAILURES as error:
            raise CryptoError("sealing failed") from error

    def _blocks(self, count: int) -> bytes:
        """Random blocks, none of which is given twice."""
        start, end = self._drawn, self._drawn + count * _AES_BLOCK
        if end > len(self._stock):
            left = self._stock[start:]
            start, end = 0, count * _AES_BLOCK
            self._stock = left + draw(self._rng, -(-(end - len(left)) // _STOCK_OCTETS) * _STOCK_OCTETS)
        self._drawn = end
        return self._stock[start:end]


class _CbcHmacOpener:
    """One decryptor for the life of the SA, fed IV || ciphertext: the first block that comes out is
    the IV decrypted under whatever came before, and is thrown away."""

    iv_octets = _AES_BLOCK

    def __init__(self, integ: Integ, keys: CipherKeys) -> None:
        self.icv_octets = integ.icv_octets
        self._decryptor: CipherContext = _cbc(keys.encr).decryptor()
        self._mac = keyed(integ.mac, keys.integ)

    def open(self, aad: Buffer, body: Buffer, tail: bytes = b"") -> bytes | None:
        end = len(body) - self.icv_octets
        if end < _AES_BLOCK or end % _AES_BLOCK:
            return None
        covered = body[:end]
        try:
            expected = _icv(self._mac, self.icv_octets, aad, covered, tail)
            if not hmac.compare_digest(expected, body[end:]):
                return None
            return self._decryptor.update(covered)[_AES_BLOCK:]
        except FAILURES as error:
            raise CryptoError("opening failed") from error

    def open_rows(self, grid: Grid, count: int, tail: int) -> bool:
        if not isinstance(grid, CbcGrid):
            raise CryptoError("these packets are none of AES-CBC and an HMAC")
        if grid.link % _AES_BLOCK or tail % _AES_BLOCK:
            return False
        end = count * grid.link + (_AES_BLOCK + tail if tail else 0)
        try:
            expected = first_octets(grid.macs(self._mac, count, tail), self.icv_octets).tobytes()
            if not hmac.compare_digest(expected, grid.icvs(count, tail)):
                return False
            grid.gather(count, end)
            self._decryptor.update_into(grid.chained[:end], grid.clear)
        except FAILURES as error:
            raise CryptoError("opening failed") from error
        return True
