"""Key material, proofs and IVs of IKEv1 (RFC 2409), all made with the one hash that phase 1 agreed on.

An HMAC of that hash is the PRF (section 4). Exchanges are encrypted in CBC mode, each message with the last
block of ciphertext of the one before as its IV (appendix B).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, Cipher, CipherAlgorithm
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.hashes import MD5, SHA1, SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.hashes import Hash as Digest
from cryptography.hazmat.primitives.hmac import HMAC

from espudp.crypto.aead import CipherKeys
from espudp.crypto.failures import failing_as
from espudp.crypto.suites import Dh, Encr, EspSuite, Mode
from espudp.errors import CryptoError

# RFC 2408 section 3.1
_MESSAGE_ID_OCTETS = 4


@dataclass(frozen=True, slots=True)
class Hash:
    """A hash of phase 1, by its number among the values of the Hash attribute (RFC 2409 appendix A)."""

    keyword: str
    number: int
    octets: int


# Most wanted first. MD5 is broken; it is here for those who name it.
HASHES: tuple[Hash, ...] = (
    # RFC 4868 section 2.6 and the registry
    Hash("sha256", 4, 32),
    Hash("sha384", 5, 48),
    Hash("sha512", 6, 64),
    Hash("sha1", 2, 20),
    Hash("md5", 1, 16),
)

_ALGORITHMS: Mapping[str, Callable[[], HashAlgorithm]] = {
    "sha256": SHA256,
    "sha384": SHA384,
    "sha512": SHA512,
    "sha1": SHA1,
    "md5": MD5,
}
_HASH_BY_KEYWORD = {row.keyword: row for row in HASHES}
_HASH_BY_NUMBER = {row.number: row for row in HASHES}

_CIPHERS: Mapping[Mode, Callable[[bytes], BlockCipherAlgorithm]] = {
    Mode.CBC: AES,
    Mode.TRIPLE_DES: TripleDES,
}


def hash_by_keyword(keyword: str) -> Hash | None:
    return _HASH_BY_KEYWORD.get(keyword)


def hash_by_number(number: int) -> Hash | None:
    return _HASH_BY_NUMBER.get(number)


def fits_phase_1(encr: Encr) -> bool:
    """Whether a cipher can protect phase 1: IKEv1 knows none but CBC there."""
    return encr.mode in _CIPHERS


@dataclass(frozen=True, slots=True)
class Ikev1Suite:
    """What one ISAKMP SA is protected and keyed with."""

    encr: Encr
    hash: Hash
    dh: Dh

    @property
    def name(self) -> str:
        """For example "aes128-sha256-modp2048"."""
        return f"{self.encr.keyword}-{self.hash.keyword}-{self.dh.keyword}"


@dataclass(frozen=True, slots=True)
class Ikev1Keys:
    """SKEYID and what comes of it (RFC 2409 section 5): `d` makes keys, `a` proves, `cipher` encrypts."""

    skeyid: bytes = field(repr=False)
    d: bytes = field(repr=False)
    a: bytes = field(repr=False)
    e: bytes = field(repr=False)
    cipher: bytes = field(repr=False)


def digest(hash: Hash, data: bytes) -> bytes:
    """The hash itself: of NAT detection (RFC 3947 section 3.2) and of IVs."""
    with failing_as(f"{hash.keyword} failed"):
        state = Digest(_ALGORITHMS[hash.keyword]())
        state.update(data)
        return state.finalize()


def prf(hash: Hash, key: bytes, data: bytes) -> bytes:
    """The PRF, `hash.octets` long (RFC 2409 section 4). The key may have any size."""
    with failing_as(f"HMAC-{hash.keyword} failed"):
        mac = HMAC(key, _ALGORITHMS[hash.keyword]())
        mac.update(data)
        return mac.finalize()


def skeyid_psk(hash: Hash, psk: bytes, ni: bytes, nr: bytes) -> bytes:
    """SKEYID of pre-shared keys, from the bodies of both nonces (RFC 2409 section 5.4)."""
    _require(psk, "pre-shared key")
    return prf(hash, psk, ni + nr)


def skeyid_signatures(hash: Hash, ni: bytes, nr: bytes, shared: bytes) -> bytes:
    """SKEYID of signatures (RFC 2409 section 5.1), and so of hybrid authentication."""
    _require(shared, "Diffie-Hellman secret")
    return prf(hash, ni + nr, shared)


def derive_keys(
    suite: Ikev1Suite, skeyid: bytes, shared: bytes, cookie_i: bytes, cookie_r: bytes
) -> Ikev1Keys:
    """Keys of an ISAKMP SA (RFC 2409 section 5). `shared` is the Diffie-Hellman secret g^xy."""
    _require(skeyid, "SKEYID")
    _require(shared, "Diffie-Hellman secret")
    seed = shared + cookie_i + cookie_r
    d = prf(suite.hash, skeyid, seed + b"\0")
    a = prf(suite.hash, skeyid, d + seed + b"\1")
    e = prf(suite.hash, skeyid, a + seed + b"\2")
    return Ikev1Keys(skeyid, d, a, e, _stretched(suite.hash, e, suite.encr.key_octets))


def _stretched(hash: Hash, e: bytes, octets: int) -> bytes:
    """A cipher's key of SKEYID_e (RFC 2409 appendix B)."""
    return e[:octets] if len(e) >= octets else _expanded(hash, e, b"\0", b"", octets)


def _expanded(hash: Hash, key: bytes, first: bytes, seed: bytes, octets: int) -> bytes:
    """K1 | K2 | ..., K1 = prf(key, first), Kn = prf(key, Kn-1 | seed)."""
    stream = block = prf(hash, key, first)
    while len(stream) < octets:
        block = prf(hash, key, block + seed)
        stream += block
    return stream[:octets]


@dataclass(frozen=True, slots=True)
class Transcript:
    """What both proofs of phase 1 cover: public values, cookies, the body of the initiator's SA payload."""

    ke_i: bytes
    ke_r: bytes
    cookie_i: bytes
    cookie_r: bytes
    sa_i: bytes


def hash_i(hash: Hash, skeyid: bytes, t: Transcript, id_i: bytes) -> bytes:
    """HASH_I (RFC 2409 section 5): `id_i` is the body of the initiator's ID payload."""
    return prf(hash, skeyid, t.ke_i + t.ke_r + t.cookie_i + t.cookie_r + t.sa_i + id_i)


def hash_r(hash: Hash, skeyid: bytes, t: Transcript, id_r: bytes) -> bytes:
    """HASH_R (RFC 2409 section 5): `id_r` is the body of the responder's ID payload."""
    return prf(hash, skeyid, t.ke_r + t.ke_i + t.cookie_r + t.cookie_i + t.sa_i + id_r)


def hash_1(hash: Hash, skeyid_a: bytes, message_id: int, after_hash: bytes) -> bytes:
    """HASH(1) of quick mode's first message (RFC 2409 section 5.5), and the hash of every message of an
    informational or a transaction exchange (section 5.7)."""
    return prf(hash, skeyid_a, _message_id(message_id) + after_hash)


def hash_2(hash: Hash, skeyid_a: bytes, message_id: int, ni: bytes, after_hash: bytes) -> bytes:
    """HASH(2) of quick mode's second message, and of a CONNECTED behind it (RFC 2409 section 5.5)."""
    return prf(hash, skeyid_a, _message_id(message_id) + ni + after_hash)


def hash_3(hash: Hash, skeyid_a: bytes, message_id: int, ni: bytes, nr: bytes) -> bytes:
    """HASH(3) of quick mode's third message (RFC 2409 section 5.5)."""
    return prf(hash, skeyid_a, b"\0" + _message_id(message_id) + ni + nr)


def derive_child_keys(
    hash: Hash,
    skeyid_d: bytes,
    suite: EspSuite,
    protocol: int,
    spi: bytes,
    ni: bytes,
    nr: bytes,
    shared: bytes = b"",
) -> CipherKeys:
    """Keys of the one SA that `spi` names (RFC 2409 section 5.5): each direction has its receiver's SPI.

    `ni` and `nr` are quick mode's nonces, `shared` its own Diffie-Hellman secret where there is PFS.
    """
    _require(skeyid_d, "SKEYID_d")
    seed = shared + bytes([protocol]) + spi + ni + nr
    keymat = _expanded(hash, skeyid_d, seed, seed, suite.keymat_octets)
    encr = suite.encr.keymat_octets
    return CipherKeys(keymat[:encr], keymat[encr:])


def phase_1_iv(suite: Ikev1Suite, ke_i: bytes, ke_r: bytes) -> bytes:
    """The IV of phase 1's first encrypted message (RFC 2409 appendix B)."""
    return digest(suite.hash, ke_i + ke_r)[: suite.encr.block_octets]


def exchange_iv(suite: Ikev1Suite, last_block: bytes, message_id: int) -> bytes:
    """The IV of a later exchange's first message: `last_block` is phase 1's last (RFC 2409 appendix B)."""
    return digest(suite.hash, last_block + _message_id(message_id))[: suite.encr.block_octets]


def encrypt(encr: Encr, key: bytes, iv: bytes, chain: bytes) -> bytes:
    """A chain of payloads as ciphertext, padded with zeros to whole blocks (RFC 2409 appendix B)."""
    padded = chain + bytes(-len(chain) % encr.block_octets)
    with failing_as(f"{encr.keyword} failed"):
        encryptor = _cipher(encr, key, iv).encryptor()
        return encryptor.update(padded) + encryptor.finalize()


def decrypt(encr: Encr, key: bytes, iv: bytes, ciphertext: bytes) -> bytes:
    """The chain and its padding. Raises CryptoError unless there are whole blocks, at least one."""
    if not ciphertext or len(ciphertext) % encr.block_octets:
        raise CryptoError(f"{len(ciphertext)} octets are no whole blocks of {encr.keyword}")
    with failing_as(f"{encr.keyword} failed"):
        decryptor = _cipher(encr, key, iv).decryptor()
        return decryptor.update(ciphertext) + decryptor.finalize()


def last_block(encr: Encr, ciphertext: bytes) -> bytes:
    """What the next message of an exchange has as its IV (RFC 2409 appendix B)."""
    return ciphertext[-encr.block_octets :]


def _cipher(encr: Encr, key: bytes, iv: bytes) -> Cipher[CBC]:
    make = _CIPHERS.get(encr.mode)
    if make is None:
        raise CryptoError(f"{encr.keyword} is no cipher of phase 1")
    algorithm: CipherAlgorithm = make(key)
    return Cipher(algorithm, CBC(iv))


def _message_id(message_id: int) -> bytes:
    return message_id.to_bytes(_MESSAGE_ID_OCTETS)


def _require(secret: bytes, what: str) -> None:
    """Keys are never made from a secret that failed to come into being (CVE-2018-10811)."""
    if not secret:
        raise CryptoError(f"no {what} to derive keys from")
