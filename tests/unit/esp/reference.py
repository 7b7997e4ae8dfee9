"""ESP tunnel mode in its plainest form, one packet at a time, with every object new for every packet.

Written from RFC 4303, RFC 3602, RFC 4106, RFC 4309, RFC 4543 and RFC 7634 on top of the bare ciphers; shares
no code with espudp.esp or espudp.crypto.aead.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import GCM

from espudp.crypto.aead import CipherKeys
from espudp.crypto.suites import EspSuite
from tests.unit.crypto import reference as bare

IPV4, IPV6 = 4, 41


def _encrypt(suite: EspSuite, key: bytes, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
    """Ciphertext and ICV of a combined mode."""
    word, icv = suite.encr.keyword, suite.encr.icv_octets
    if word == "chacha20poly1305":
        return ChaCha20Poly1305(key).encrypt(nonce, plaintext, aad)
    if "ccm" in word:
        return AESCCM(key, icv).encrypt(nonce, plaintext, aad)
    if "gmac" in word:
        # RFC 4543 section 3.3: the IV too
        encryptor = Cipher(AES(key), GCM(nonce)).encryptor()
        encryptor.authenticate_additional_data(aad + nonce[4:] + plaintext)
        encryptor.finalize()
        return plaintext + encryptor.tag
    return AESGCM(key).encrypt(nonce, plaintext, aad)[: len(plaintext) + icv]


def _decrypt(suite: EspSuite, key: bytes, nonce: bytes, sealed: bytes, aad: bytes) -> bytes | None:
    word, end = suite.encr.keyword, len(sealed) - suite.encr.icv_octets
    try:
        if word == "chacha20poly1305":
            return ChaCha20Poly1305(key).decrypt(nonce, sealed, aad)
        if "ccm" in word:
            return AESCCM(key, suite.encr.icv_octets).decrypt(nonce, sealed, aad)
    except InvalidTag:
        return None
    # NIST SP 800-38D section 7.1: GCM encrypts by counting from 2 on.
    plaintext = sealed[:end] if "gmac" in word else bare.ctr(key, nonce, sealed[:end], first=2)
    return plaintext if _encrypt(suite, key, nonce, plaintext, aad) == sealed else None


def _aad_and_tail(suite: EspSuite, spi: int, sequence: int) -> tuple[bytes, bytes]:
    low, high = (sequence & 0xFFFFFFFF).to_bytes(4, "big"), (sequence >> 32).to_bytes(4, "big")
    header = spi.to_bytes(4, "big")
    if not suite.esn:
        return header + low, b""
    if suite.integ is None:
        return header + high + low, b""
    return header + low, high


def plaintext_of(suite: EspSuite, packet: bytes, tfc: int = 0, next_header: int | None = None) -> bytes:
    """The packet with `tfc` octets of TFC padding, the shortest padding and the trailer.

    With `next_header` it is a payload of that protocol.
    """
    padding = 0
    while (len(packet) + tfc + padding + 2) % suite.encr.block_octets:
        padding += 1
    if next_header is None:
        next_header = IPV4 if packet[0] >> 4 == 4 else IPV6
    return packet + bytes(tfc) + bytes(range(1, padding + 1)) + bytes([padding, next_header])


def seal(suite: EspSuite, keys: CipherKeys, spi: int, sequence: int, iv: bytes, plaintext: bytes) -> bytes:
    """The ESP datagram with this very plaintext and IV."""
    header = spi.to_bytes(4, "big") + (sequence & 0xFFFFFFFF).to_bytes(4, "big")
    aad, tail = _aad_and_tail(suite, spi, sequence)
    if suite.integ is None:
        key, salt = keys.encr[: suite.encr.key_octets], keys.encr[suite.encr.key_octets :]
        return header + iv + _encrypt(suite, key, salt + iv, plaintext, aad)
    return header + bare.body(suite.encr, suite.integ, (keys.encr, keys.integ), iv, aad, plaintext, tail)


def open_(suite: EspSuite, keys: CipherKeys, sequence: int, datagram: bytes) -> bytes | None:
    """The plaintext, trailer included; None if the ICV is wrong."""
    iv_octets = suite.encr.iv_octets
    aad, tail = _aad_and_tail(suite, int.from_bytes(datagram[:4], "big"), sequence)
    iv, rest = datagram[8 : 8 + iv_octets], datagram[8 + iv_octets :]
    if suite.integ is None:
        key, salt = keys.encr[: suite.encr.key_octets], keys.encr[suite.encr.key_octets :]
        return _decrypt(suite, key, salt + iv, rest, aad)
    ciphertext, icv = rest[: -suite.integ.icv_octets], rest[-suite.integ.icv_octets :]
    if icv != bare.icv(suite.integ, keys.integ, aad + iv + ciphertext + tail):
        return None
    return bare.decrypt(suite.encr, keys.encr, iv, ciphertext)


def iv_of(suite: EspSuite, datagram: bytes) -> bytes:
    return datagram[8 : 8 + suite.encr.iv_octets]
