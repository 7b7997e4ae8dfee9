"""Two combined modes that the library has no class for, in the form of those that it has.

They are AES-GCM with a short ICV (RFC 4106 section 6), and GMAC, which does not encrypt (RFC 4543).
"""

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM

from espudp.crypto.mac import Buffer

_ICV = 16
# RFC 4543 section 3.2: nonce = salt of 4 octets || IV
_SALT = 4


class ShortGcm:
    """The ICV is the front of the whole one (NIST SP 800-38D section 7.1)."""

    def __init__(self, key: bytes, icv_octets: int) -> None:
        self._icv = icv_octets
        self._gcm = AESGCM(key)
        self._aes = AES(key)

    def encrypt(self, nonce: Buffer, data: Buffer, aad: Buffer) -> bytes:
        return self._gcm.encrypt(nonce, data, aad)[: self._icv - _ICV]

    def encrypt_into(self, nonce: Buffer, data: Buffer, aad: Buffer, out: memoryview) -> None:
        out[:] = self.encrypt(nonce, data, aad)

    def decrypt(self, nonce: Buffer, data: Buffer, aad: Buffer) -> bytes:
        """Raises InvalidTag."""
        mode = GCM(bytes(nonce), bytes(data[-self._icv :]), self._icv)
        decryptor = Cipher(self._aes, mode).decryptor()
        decryptor.authenticate_additional_data(aad)
        plaintext = decryptor.update(data[: -self._icv])
        decryptor.finalize()
        return plaintext

    def decrypt_into(self, nonce: Buffer, data: Buffer, aad: Buffer, out: memoryview) -> None:
        out[:] = self.decrypt(nonce, data, aad)


class Gmac:
    """The data is authenticated behind the IV, and stays as it is (RFC 4543 section 3.3)."""

    def __init__(self, key: bytes) -> None:
        self._gcm = AESGCM(key)

    def encrypt(self, nonce: Buffer, data: Buffer, aad: Buffer) -> bytes:
        return b"".join((data, self._gcm.encrypt(nonce, b"", _covered(nonce, data, aad))))

    def encrypt_into(self, nonce: Buffer, data: Buffer, aad: Buffer, out: memoryview) -> None:
        out[:-_ICV] = data
        self._gcm.encrypt_into(nonce, b"", _covered(nonce, data, aad), out[-_ICV:])

    def decrypt(self, nonce: Buffer, data: Buffer, aad: Buffer) -> bytes:
        """Raises InvalidTag."""
        plaintext = data[:-_ICV]
        self._gcm.decrypt(nonce, data[-_ICV:], _covered(nonce, plaintext, aad))
        return bytes(plaintext)

    def decrypt_into(self, nonce: Buffer, data: Buffer, aad: Buffer, out: memoryview) -> None:
        out[:] = self.decrypt(nonce, data, aad)


def _covered(nonce: Buffer, data: Buffer, aad: Buffer) -> bytes:
    return b"".join((aad, nonce[_SALT:], data))
