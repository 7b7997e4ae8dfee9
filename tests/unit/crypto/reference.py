"""Ciphers and MACs in their plainest form: every object new for every message.

What the cached contexts of espudp.crypto must agree with, octet for octet. The HMAC is the standard
library's, so that not even the MAC is shared with the code under test; AES-XCBC-MAC and AES-CTR are made of
single blocks.
"""

import hmac

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC, ECB
from cryptography.hazmat.primitives.cmac import CMAC

from espudp.crypto.suites import Encr, Integ

BLOCK = 16


def cbc_encrypt(key: bytes, iv: bytes, plaintext: bytes) -> bytes:
    encryptor = Cipher(AES(key), CBC(iv)).encryptor()
    return encryptor.update(plaintext) + encryptor.finalize()


def cbc_decrypt(key: bytes, iv: bytes, ciphertext: bytes) -> bytes:
    decryptor = Cipher(AES(key), CBC(iv)).decryptor()
    return decryptor.update(ciphertext) + decryptor.finalize()


def aes_block(key: bytes, block: bytes) -> bytes:
    return Cipher(AES(key), ECB()).encryptor().update(block)


def xor(a: bytes, b: bytes) -> bytes:
    """As long as the shorter one."""
    octets = min(len(a), len(b))
    return (int.from_bytes(a[:octets], "big") ^ int.from_bytes(b[:octets], "big")).to_bytes(octets, "big")


def ctr(key: bytes, nonce: bytes, data: bytes, first: int = 1) -> bytes:
    """RFC 3686 section 2.1. `nonce`: the 12 octets in front of the count."""
    blocks = range(-(-len(data) // BLOCK))
    counts = (nonce + (first + number).to_bytes(4, "big") for number in blocks)
    return xor(data, Cipher(AES(key), ECB()).encryptor().update(b"".join(counts)))


def triple_des(key: bytes, iv: bytes, data: bytes, *, encrypt: bool) -> bytes:
    cipher = Cipher(TripleDES(key), CBC(iv))
    context = cipher.encryptor() if encrypt else cipher.decryptor()
    return context.update(data) + context.finalize()


def xcbc(key: bytes, message: bytes) -> bytes:
    """RFC 3566 section 4.1, step by step."""
    k1, k2, k3 = (aes_block(key, bytes([n]) * BLOCK) for n in (1, 2, 3))
    blocks = [message[at : at + BLOCK] for at in range(0, len(message), BLOCK)] or [b""]
    chain = bytes(BLOCK)
    for block in blocks[:-1]:
        chain = aes_block(k1, xor(block, chain))
    last = blocks[-1]
    padded = last if len(last) == BLOCK else (last + b"\x80").ljust(BLOCK, b"\0")
    return aes_block(k1, xor(xor(padded, chain), k2 if padded is last else k3))


def cmac(key: bytes, message: bytes) -> bytes:
    mac = CMAC(AES(key))
    mac.update(message)
    return mac.finalize()


def icv(integ: Integ, key: bytes, covered: bytes) -> bytes:
    if integ.keyword == "aesxcbc":
        return xcbc(key, covered)[:12]
    if integ.keyword == "aescmac":
        return cmac(key, covered)[:12]
    return hmac.digest(key, covered, integ.keyword)[: integ.icv_octets]


def encrypt(encr: Encr, key: bytes, iv: bytes, plaintext: bytes) -> bytes:
    """With a cipher that authenticates nothing."""
    if encr.keyword == "null":
        return plaintext
    if encr.keyword == "3des":
        return triple_des(key, iv, plaintext, encrypt=True)
    if encr.keyword.endswith("ctr"):
        return ctr(key[:-4], key[-4:] + iv, plaintext)
    return cbc_encrypt(key, iv, plaintext)


def decrypt(encr: Encr, key: bytes, iv: bytes, ciphertext: bytes) -> bytes:
    if encr.keyword == "3des":
        return triple_des(key, iv, ciphertext, encrypt=False)
    if encr.keyword.startswith("aes") and not encr.keyword.endswith("ctr"):
        return cbc_decrypt(key, iv, ciphertext)
    return encrypt(encr, key, iv, ciphertext)


def body(
    encr: Encr, integ: Integ, keys: tuple[bytes, bytes], iv: bytes, aad: bytes, plaintext: bytes, tail: bytes
) -> bytes:
    """IV || ciphertext || ICV. `keys` are the cipher's and the MAC's."""
    encr_key, integ_key = keys
    sealed = iv + encrypt(encr, encr_key, iv, plaintext)
    return sealed + icv(integ, integ_key, aad + sealed + tail)
