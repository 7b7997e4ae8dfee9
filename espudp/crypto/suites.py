"""The algorithms that we speak: one frozen row each, with its numbers, names and sizes.

All sizes are in octets unless the name says bits. Transform ids are those of the IANA registry
"Internet Key Exchange Version 2 (IKEv2) Parameters". Keywords are the ones that strongSwan's users
write; libreswan's spellings are accepted as aliases. Nothing here needs a crypto library.
"""

from dataclasses import dataclass, field
from enum import Enum, auto

from espudp.crypto.names import ALIASES, name_of
from espudp.errors import ConfigError

__all__ = [
    "DH", "ENCR", "ESP_SUITES", "INTEG", "PRF", "Dh", "Encr", "EspSuite", "Integ", "Mode", "Prf",
    "dh_by_id", "dh_by_keyword", "encr_by_id", "encr_by_keyword", "integ_by_id", "integ_by_keyword",
    "name_of", "parse_esp_suite", "prf_by_id", "prf_by_keyword",
]  # fmt: skip

# RFC 4303 section 2: SPI and sequence number in front, pad length and next header behind
ESP_HEADER_OCTETS = 8
ESP_TRAILER_OCTETS = 2


class Mode(Enum):
    """What is done with a cipher's key."""

    GCM = auto()
    CHACHA20_POLY1305 = auto()
    CCM = auto()
    GMAC = auto()
    CBC = auto()
    CTR = auto()
    TRIPLE_DES = auto()
    NULL = auto()


@dataclass(frozen=True, slots=True)
class Encr:
    """An encryption algorithm (transform type 1)."""

    keyword: str
    transform_id: int
    # The Key Length attribute on the wire (RFC 7296 section 3.3.5); None: the algorithm has none.
    key_bits: int | None
    # The cipher's own key, without the salt that AEADs take from the key material behind it.
    key_octets: int
    salt_octets: int
    iv_octets: int
    # The plaintext, padding and trailer included, is a multiple of this.
    block_octets: int
    # An AEAD's own ICV; 0: the algorithm needs an Integ beside it.
    icv_octets: int
    mode: Mode
    # How many octets are taken from the key material: cipher key, then salt (RFC 4106 section 8.1).
    keymat_octets: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keymat_octets", self.key_octets + self.salt_octets)

    @property
    def is_aead(self) -> bool:
        return self.icv_octets > 0

    @property
    def counts(self) -> bool:
        """Whether its IVs are counted, so that no two runs may ever use the same key (RFC 8221 section 3)."""
        return self.is_aead or self.mode is Mode.CTR

    @property
    def encrypts(self) -> bool:
        return self.mode not in (Mode.NULL, Mode.GMAC)


@dataclass(frozen=True, slots=True)
class Integ:
    """An integrity algorithm (transform type 3): a MAC with its output truncated to `icv_octets`."""

    keyword: str
    transform_id: int
    key_octets: int
    icv_octets: int
    mac: str


@dataclass(frozen=True, slots=True)
class Prf:
    """A pseudorandom function (transform type 2), a MAC. `key_octets` is the preferred key size."""

    keyword: str
    transform_id: int
    key_octets: int
    output_octets: int
    mac: str


@dataclass(frozen=True, slots=True)
class Dh:
    """A Diffie-Hellman group (transform type 4): sizes of the KE payload's data and of the secret."""

    keyword: str
    transform_id: int
    public_octets: int
    secret_octets: int


# RFC 4106, RFC 4543, RFC 7634: salt of 4 octets, explicit IV of 8. RFC 4309 section 4: salt of 3. The
# plaintext is aligned to 4 (RFC 4303 section 2.4).
def _aes(keyword: str, transform_id: int, salt: int, icv: int, mode: Mode) -> tuple[Encr, ...]:
    return tuple(
        Encr(f"aes{bits}{keyword}", transform_id, bits, bits // 8, salt, 8, 4, icv, mode)
        for bits in (128, 192, 256)
    )


# Most wanted first.
ENCR: tuple[Encr, ...] = (
    *_aes("gcm16", 20, 4, 16, Mode.GCM),
    # No Key Length attribute
    Encr("chacha20poly1305", 28, None, 32, 4, 8, 4, 16, Mode.CHACHA20_POLY1305),
    # RFC 3602
    Encr("aes128", 12, 128, 16, 0, 16, 16, 0, Mode.CBC),
    Encr("aes192", 12, 192, 24, 0, 16, 16, 0, Mode.CBC),
    Encr("aes256", 12, 256, 32, 0, 16, 16, 0, Mode.CBC),
    *_aes("ccm16", 16, 3, 16, Mode.CCM),
    *_aes("ccm12", 15, 3, 12, Mode.CCM),
    *_aes("ccm8", 14, 3, 8, Mode.CCM),
    *_aes("gcm12", 19, 4, 12, Mode.GCM),
    *_aes("gcm8", 18, 4, 8, Mode.GCM),
    # RFC 3686 section 5.1: the key is followed by a nonce of 4 octets
    *_aes("ctr", 13, 4, 0, Mode.CTR),
    # RFC 2451: keys of one size only
    Encr("3des", 3, None, 24, 0, 8, 8, 0, Mode.TRIPLE_DES),
    *_aes("gmac", 21, 4, 16, Mode.GMAC),
    # RFC 2410
    Encr("null", 11, None, 0, 0, 0, 4, 0, Mode.NULL),
)

INTEG: tuple[Integ, ...] = (
    # RFC 4868 section 2.6
    Integ("sha256", 12, 32, 16, "sha256"),
    Integ("sha384", 13, 48, 24, "sha384"),
    Integ("sha512", 14, 64, 32, "sha512"),
    # RFC 2404
    Integ("sha1", 2, 20, 12, "sha1"),
    # RFC 3566 section 4
    Integ("aesxcbc", 5, 16, 12, "aes-xcbc"),
    # RFC 4494 section 2
    Integ("aescmac", 8, 16, 12, "aes-cmac"),
)

PRF: tuple[Prf, ...] = (
    # RFC 4868 section 2.4
    Prf("prfsha256", 5, 32, 32, "sha256"),
    Prf("prfsha384", 6, 48, 48, "sha384"),
    Prf("prfsha512", 7, 64, 64, "sha512"),
    # RFC 2104, RFC 2202
    Prf("prfsha1", 2, 20, 20, "sha1"),
    # RFC 4434
    Prf("prfaesxcbc", 4, 16, 16, "aes-xcbc"),
    # RFC 4615
    Prf("prfaescmac", 8, 16, 16, "aes-cmac"),
)

DH: tuple[Dh, ...] = (
    # RFC 8031
    Dh("curve25519", 31, 32, 32),
    # RFC 5903: x and y on the wire, x is the secret
    Dh("ecp256", 19, 64, 32),
    Dh("ecp384", 20, 96, 48),
    Dh("ecp521", 21, 132, 66),
    # RFC 8031
    Dh("curve448", 32, 56, 56),
    # RFC 3526
    Dh("modp2048", 14, 256, 256),
    Dh("modp3072", 15, 384, 384),
    Dh("modp4096", 16, 512, 512),
    Dh("modp6144", 17, 768, 768),
    Dh("modp8192", 18, 1024, 1024),
    Dh("modp1536", 5, 192, 192),
    # RFC 7296 appendix B.2
    Dh("modp1024", 2, 128, 128),
    # RFC 5114
    Dh("modp1024s160", 22, 128, 128),
    Dh("modp2048s224", 23, 256, 256),
    Dh("modp2048s256", 24, 256, 256),
)

_ENCR_BY_KEYWORD = {row.keyword: row for row in ENCR}
_ENCR_BY_ID = {(row.transform_id, row.key_bits): row for row in ENCR}
_INTEG_BY_KEYWORD = {row.keyword: row for row in INTEG}
_INTEG_BY_ID = {row.transform_id: row for row in INTEG}
_PRF_BY_KEYWORD = {row.keyword: row for row in PRF}
_PRF_BY_ID = {row.transform_id: row for row in PRF}
_DH_BY_KEYWORD = {row.keyword: row for row in DH}
_DH_BY_ID = {row.transform_id: row for row in DH}


def _canonical(keyword: str) -> str:
    keyword = keyword.lower()
    return ALIASES.get(keyword, keyword)


def encr_by_keyword(keyword: str) -> Encr | None:
    return _ENCR_BY_KEYWORD.get(_canonical(keyword))


def encr_by_id(transform_id: int, key_bits: int | None) -> Encr | None:
    """None also when the Key Length attribute is missing, or present where there must be none."""
    return _ENCR_BY_ID.get((transform_id, key_bits))


def integ_by_keyword(keyword: str) -> Integ | None:
    return _INTEG_BY_KEYWORD.get(_canonical(keyword))


def integ_by_id(transform_id: int) -> Integ | None:
    return _INTEG_BY_ID.get(transform_id)


def prf_by_keyword(keyword: str) -> Prf | None:
    return _PRF_BY_KEYWORD.get(_canonical(keyword))


def prf_by_id(transform_id: int) -> Prf | None:
    return _PRF_BY_ID.get(transform_id)


def dh_by_keyword(keyword: str) -> Dh | None:
    return _DH_BY_KEYWORD.get(_canonical(keyword))


def dh_by_id(transform_id: int) -> Dh | None:
    return _DH_BY_ID.get(transform_id)


@dataclass(frozen=True, slots=True)
class EspSuite:
    """What one ESP SA protects its packets with. An AEAD has no `integ`; any other cipher must have one."""

    encr: Encr
    integ: Integ | None = None
    esn: bool = False

    def __post_init__(self) -> None:
        if self.encr.is_aead != (self.integ is None):
            wanted = "takes no integrity algorithm" if self.encr.is_aead else "needs an integrity algorithm"
            raise ConfigError(
                f"{self.encr.keyword} {wanted}",
                field="esp proposal",
                remedy="Write an AEAD alone (aes128gcm16) and any other cipher with a MAC (aes128-sha256).",
            )

    @property
    def name(self) -> str:
        """For example "aes128gcm16" or "aes128-sha256-esn"; `parse_esp_suite` reads it back."""
        parts = [self.encr.keyword]
        if self.integ is not None:
            parts.append(self.integ.keyword)
        if self.esn:
            parts.append("esn")
        return "-".join(parts)

    @property
    def icv_octets(self) -> int:
        return self.encr.icv_octets if self.integ is None else self.integ.icv_octets

    @property
    def keymat_octets(self) -> int:
        """Key material for one direction: cipher key, salt, integrity key."""
        return self.encr.keymat_octets + (0 if self.integ is None else self.integ.key_octets)

    def packet_octets(self, inner: int) -> int:
        """Size of the ESP packet, SPI to ICV, that carries an inner packet of `inner` octets with
        the least padding (RFC 4303 section 2.4)."""
        block = self.encr.block_octets
        padded = -(-(inner + ESP_TRAILER_OCTETS) // block) * block
        return ESP_HEADER_OCTETS + self.encr.iv_octets + padded + self.icv_octets

    def max_inner(self, esp_octets: int) -> int:
        """The largest inner packet whose ESP packet has at most `esp_octets`; 0 if none fits."""
        room = esp_octets - ESP_HEADER_OCTETS - self.encr.iv_octets - self.icv_octets
        block = self.encr.block_octets
        return max(room // block * block - ESP_TRAILER_OCTETS, 0)


def _all_esp_suites() -> tuple[EspSuite, ...]:
    pairs: list[tuple[Encr, Integ | None]] = []
    for encr in ENCR:
        pairs += [(encr, None)] if encr.is_aead else [(encr, integ) for integ in INTEG]
    return tuple(EspSuite(encr, integ, esn) for encr, integ in pairs for esn in (False, True))


# Every one there is.
ESP_SUITES: tuple[EspSuite, ...] = _all_esp_suites()


def parse_esp_suite(name: str) -> EspSuite:
    """One suite from its name: cipher, MAC unless the cipher is an AEAD, and optionally "esn" or
    "noesn", joined by "-". Raises ConfigError that names the part which is wrong."""
    head, *rest = name.strip().split("-")
    encr = encr_by_keyword(head)
    if encr is None:
        raise _unknown(name, head, "encryption algorithm", [row.keyword for row in ENCR])
    integ: Integ | None = None
    esn: bool | None = None
    for token in rest:
        if integ is None and esn is None and (found := integ_by_keyword(token)) is not None:
            integ = found
        elif esn is None and token.lower() in ("esn", "noesn"):
            esn = token.lower() == "esn"
        else:
            raise _unknown(name, token, "part", [*(row.keyword for row in INTEG), "esn", "noesn"])
    return EspSuite(encr, integ, bool(esn))


def _unknown(name: str, token: str, what: str, known: list[str]) -> ConfigError:
    return ConfigError(
        f'unknown {what} "{token}" in the ESP suite "{name}"',
        field="esp proposal",
        remedy=f"Possible here: {', '.join(known)}.",
    )
