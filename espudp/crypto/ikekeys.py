"""Key material of IKE SAs and of their child SAs (RFC 7296 sections 2.14, 2.17 and 2.18)."""

from dataclasses import dataclass, field

from espudp.crypto.aead import CipherKeys
from espudp.crypto.prf import prf, prf_plus
from espudp.crypto.suites import Dh, Encr, EspSuite, Integ, Prf
from espudp.errors import CryptoError

_SEED_OCTETS = 8


@dataclass(frozen=True, slots=True)
class IkeSuite:
    """What one IKE SA is protected and keyed with. `integ` is None with an AEAD (RFC 5282 section 8)."""

    encr: Encr
    integ: Integ | None
    prf: Prf
    dh: Dh

    @property
    def name(self) -> str:
        """For example "aes128gcm16-prfsha256-curve25519" or "aes256-sha256-prfsha256-modp2048"."""
        rows = (self.encr, self.integ, self.prf, self.dh)
        return "-".join(row.keyword for row in rows if row is not None)


@dataclass(frozen=True, slots=True)
class IkeKeys:
    """SK_d, SK_ai, SK_ar, SK_ei, SK_er, SK_pi and SK_pr. `ei` and `er` end with the AEAD's salt."""

    d: bytes = field(repr=False)
    ai: bytes = field(repr=False)
    ar: bytes = field(repr=False)
    ei: bytes = field(repr=False)
    er: bytes = field(repr=False)
    pi: bytes = field(repr=False)
    pr: bytes = field(repr=False)

    @property
    def initiator(self) -> CipherKeys:
        """What the original initiator's messages are sealed with."""
        return CipherKeys(self.ei, self.ai)

    @property
    def responder(self) -> CipherKeys:
        """What the original responder's messages are sealed with."""
        return CipherKeys(self.er, self.ar)


def derive_ike_keys(
    suite: IkeSuite, shared: bytes, ni: bytes, nr: bytes, spi_i: bytes, spi_r: bytes
) -> IkeKeys:
    """Keys of an IKE SA from its IKE_SA_INIT exchange (RFC 7296 section 2.14)."""
    _require(shared, "Diffie-Hellman secret")
    # RFC 7296 section 2.14: of the PRFs with a fixed key size, these two take 64 bits of each nonce.
    front = _SEED_OCTETS if suite.prf.mac in ("aes-xcbc", "aes-cmac") else None
    skeyseed = prf(suite.prf, ni[:front] + nr[:front], shared)
    return _expand(suite, skeyseed, ni, nr, spi_i, spi_r)


def derive_rekeyed_ike_keys(
    old_prf: Prf,
    old_sk_d: bytes,
    new_suite: IkeSuite,
    shared: bytes,
    ni: bytes,
    nr: bytes,
    spi_i: bytes,
    spi_r: bytes,
) -> IkeKeys:
    """Keys of an IKE SA that replaces another (RFC 7296 section 2.18). The exchange belongs to the
    old SA, so SKEYSEED is made with the old SA's PRF, and everything after with the new one's."""
    _require(shared, "Diffie-Hellman secret")
    _require(old_sk_d, "SK_d")
    skeyseed = prf(old_prf, old_sk_d, shared + ni + nr)
    return _expand(new_suite, skeyseed, ni, nr, spi_i, spi_r)


def derive_resumed_ike_keys(
    suite: IkeSuite, old_sk_d: bytes, ni: bytes, nr: bytes, spi_i: bytes, spi_r: bytes
) -> IkeKeys:
    """Keys of an IKE SA that resumes a session, without Diffie-Hellman (RFC 5723 section 5.1)."""
    _require(old_sk_d, "SK_d")
    skeyseed = prf(suite.prf, old_sk_d, b"Resumption" + ni + nr)
    return _expand(suite, skeyseed, ni, nr, spi_i, spi_r)


def derive_child_keys(
    p: Prf, sk_d: bytes, suite: EspSuite, ni: bytes, nr: bytes, shared: bytes = b""
) -> tuple[CipherKeys, CipherKeys]:
    """Keys of a child SA (RFC 7296 section 2.17): initiator to responder, then responder to initiator,
    where the initiator is who started the exchange. `shared` is its own Diffie-Hellman secret, if any."""
    _require(sk_d, "SK_d")
    keymat = prf_plus(p, sk_d, shared + ni + nr, 2 * suite.keymat_octets)
    encr, half = suite.encr.keymat_octets, suite.keymat_octets
    return (
        CipherKeys(keymat[:encr], keymat[encr:half]),
        CipherKeys(keymat[half : half + encr], keymat[half + encr :]),
    )


def _expand(suite: IkeSuite, skeyseed: bytes, ni: bytes, nr: bytes, spi_i: bytes, spi_r: bytes) -> IkeKeys:
    # RFC 5282 section 7: an AEAD has no SK_ai and SK_ar
    integ = 0 if suite.integ is None else suite.integ.key_octets
    encr, prf_key = suite.encr.keymat_octets, suite.prf.key_octets
    sizes = (prf_key, integ, integ, encr, encr, prf_key, prf_key)
    stream = prf_plus(suite.prf, skeyseed, ni + nr + spi_i + spi_r, sum(sizes))
    parts: list[bytes] = []
    for size in sizes:
        parts.append(stream[:size])
        stream = stream[size:]
    return IkeKeys(*parts)


def _require(secret: bytes, what: str) -> None:
    """Keys are never made from a secret that failed to come into being (CVE-2018-10811)."""
    if not secret:
        raise CryptoError(f"no {what} to derive keys from")
