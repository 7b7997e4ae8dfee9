"""AES-CBC with an HMAC in its plainest form: every object new for every message.

What the cached contexts of espudp.crypto.aead must agree with, octet for octet. The HMAC is the
standard library's, so that not even the MAC is shared with the code under test.
"""

import hmac

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from espudp.crypto.suites import Integ


def cbc_encrypt(key: bytes, iv: bytes, plaintext: bytes) -> bytes:
    encryptor = Cipher(AES(key), CBC(iv)).encryptor()
    return encryptor.update(plaintext) + encryptor.finalize()


def cbc_decrypt(key: bytes, iv: bytes, ciphertext: bytes) -> bytes:
    decryptor = Cipher(AES(key), CBC(iv)).decryptor()
    return decryptor.update(ciphertext) + decryptor.finalize()


def icv(integ: Integ, key: bytes, covered: bytes) -> bytes:
    return hmac.digest(key, covered, integ.hash_name)[: integ.icv_octets]


def body(
    integ: Integ, keys: tuple[bytes, bytes], iv: bytes, aad: bytes, plaintext: bytes, tail: bytes
) -> bytes:
    """IV || ciphertext || ICV. `keys` are the cipher's and the HMAC's."""
    encr_key, integ_key = keys
    sealed = iv + cbc_encrypt(encr_key, iv, plaintext)
    return sealed + icv(integ, integ_key, aad + sealed + tail)
