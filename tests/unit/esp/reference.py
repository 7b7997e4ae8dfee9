"""ESP tunnel mode in its plainest form, one packet at a time, with every object new for every packet.

Written from RFC 4303, RFC 3602, RFC 4106 and RFC 7634 on top of the bare ciphers; shares no code with
espudp.esp or espudp.crypto.aead.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

from espudp.crypto.aead import CipherKeys
from espudp.crypto.suites import EspSuite
from tests.unit.crypto import reference as cbc

IPV4, IPV6 = 4, 41


def _aead(suite: EspSuite, keys: CipherKeys) -> AESGCM | ChaCha20Poly1305:
    key = keys.encr[: suite.encr.key_octets]
    return ChaCha20Poly1305(key) if suite.encr.keyword == "chacha20poly1305" else AESGCM(key)


def _aad_and_tail(suite: EspSuite, spi: int, sequence: int) -> tuple[bytes, bytes]:
    low, high = (sequence & 0xFFFFFFFF).to_bytes(4, "big"), (sequence >> 32).to_bytes(4, "big")
    header = spi.to_bytes(4, "big")
    if not suite.esn:
        return header + low, b""
    if suite.integ is None:
        return header + high + low, b""
    return header + low, high


def plaintext_of(suite: EspSuite, packet: bytes, tfc: int = 0) -> bytes:
    """The packet with `tfc` octets of TFC padding, the shortest padding and the trailer."""
    padding = 0
    while (len(packet) + tfc + padding + 2) % suite.encr.block_octets:
        padding += 1
    next_header = IPV4 if packet[0] >> 4 == 4 else IPV6
    return packet + bytes(tfc) + bytes(range(1, padding + 1)) + bytes([padding, next_header])


def seal(suite: EspSuite, keys: CipherKeys, spi: int, sequence: int, iv: bytes, plaintext: bytes) -> bytes:
    """The ESP datagram with this very plaintext and IV."""
    header = spi.to_bytes(4, "big") + (sequence & 0xFFFFFFFF).to_bytes(4, "big")
    aad, tail = _aad_and_tail(suite, spi, sequence)
    if suite.integ is None:
        salt = keys.encr[suite.encr.key_octets :]
        return header + iv + _aead(suite, keys).encrypt(salt + iv, plaintext, aad)
    return header + cbc.body(suite.integ, (keys.encr, keys.integ), iv, aad, plaintext, tail)


def open_(suite: EspSuite, keys: CipherKeys, sequence: int, datagram: bytes) -> bytes | None:
    """The plaintext, trailer included; None if the ICV is wrong."""
    iv_octets = suite.encr.iv_octets
    aad, tail = _aad_and_tail(suite, int.from_bytes(datagram[:4], "big"), sequence)
    iv, rest = datagram[8 : 8 + iv_octets], datagram[8 + iv_octets :]
    if suite.integ is None:
        try:
            return _aead(suite, keys).decrypt(keys.encr[suite.encr.key_octets :] + iv, rest, aad)
        except InvalidTag:
            return None
    ciphertext, icv = rest[: -suite.integ.icv_octets], rest[-suite.integ.icv_octets :]
    if icv != cbc.icv(suite.integ, keys.integ, aad + iv + ciphertext + tail):
        return None
    return cbc.cbc_decrypt(keys.encr, iv, ciphertext)


def iv_of(suite: EspSuite, datagram: bytes) -> bytes:
    return datagram[8 : 8 + suite.encr.iv_octets]
