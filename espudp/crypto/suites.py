"""The algorithms that we speak: one frozen row each, with its numbers, names and sizes.

All sizes are in octets unless the name says bits. Transform ids are those of the IANA registry
"Internet Key Exchange Version 2 (IKEv2) Parameters". Keywords are the ones that strongSwan's users
write; libreswan's spellings are accepted as aliases. Nothing here needs a crypto library.
"""

from dataclasses import dataclass, field

from espudp.crypto.names import ALIASES, name_of
from espudp.errors import ConfigError

__all__ = [
    "DH", "ENCR", "ESP_SUITES", "INTEG", "PRF", "Dh", "Encr", "EspSuite", "Integ", "Prf",
    "dh_by_id", "dh_by_keyword", "encr_by_id", "encr_by_keyword", "integ_by_id", "integ_by_keyword",
    "name_of", "parse_esp_suite", "prf_by_id", "prf_by_keyword",
]  # fmt: skip

# RFC 4303 section 2: SPI and sequence number in front, pad length and next header behind
ESP_HEADER_OCTETS = 8
ESP_TRAILER_OCTETS = 2


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
    # How many octets are taken from the key material: cipher key, then salt (RFC 4106 section 8.1).
    keymat_octets: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keymat_octets", self.key_octets + self.salt_octets)

    @property
    def is_aead(self) -> bool:
        return self.icv_octets > 0


@dataclass(frozen=True, slots=True)
class Integ:
    """An integrity algorithm (transform type 3), an HMAC with its output truncated to `icv_octets`."""

    keyword: str
    transform_id: int
    key_octets: int
    icv_octets: int
    hash_name: str


@dataclass(frozen=True, slots=True)
class Prf:
    """A pseudorandom function (transform type 2), an HMAC. `key_octets` is the preferred key size."""

    keyword: str
    transform_id: int
    key_octets: int
    output_octets: int
    hash_name: str


@dataclass(frozen=True, slots=True)
class Dh:
    """A Diffie-Hellman group (transform type 4): sizes of the KE payload's data and of the secret."""

    keyword: str
    transform_id: int
    public_octets: int
    secret_octets: int


# Most wanted first: the order in which we offer them.
ENCR: tuple[Encr, ...] = (
    # RFC 4106: salt of 4 octets, explicit IV of 8; the plaintext is aligned to 4 (RFC 4303 section 2.4)
    Encr("aes128gcm16", 20, 128, 16, 4, 8, 4, 16),
    Encr("aes192gcm16", 20, 192, 24, 4, 8, 4, 16),
    Encr("aes256gcm16", 20, 256, 32, 4, 8, 4, 16),
    # RFC 7634: as AES-GCM, and no Key Length attribute
    Encr("chacha20poly1305", 28, None, 32, 4, 8, 4, 16),
    # RFC 3602
    Encr("aes128", 12, 128, 16, 0, 16, 16, 0),
    Encr("aes192", 12, 192, 24, 0, 16, 16, 0),
    Encr("aes256", 12, 256, 32, 0, 16, 16, 0),
)

INTEG: tuple[Integ, ...] = (
    # RFC 4868 section 2.6
    Integ("sha256", 12, 32, 16, "sha256"),
    Integ("sha384", 13, 48, 24, "sha384"),
    Integ("sha512", 14, 64, 32, "sha512"),
    # RFC 2404
    Integ("sha1", 2, 20, 12, "sha1"),
)

PRF: tuple[Prf, ...] = (
    # RFC 4868 section 2.4
    Prf("prfsha256", 5, 32, 32, "sha256"),
    Prf("prfsha384", 6, 48, 48, "sha384"),
    Prf("prfsha512", 7, 64, 64, "sha512"),
    # RFC 2104, RFC 2202
    Prf("prfsha1", 2, 20, 20, "sha1"),
)

DH: tuple[Dh, ...] = (
    # RFC 8031
    Dh("curve25519", 31, 32, 32),
    # RFC 5903: x and y on the wire, x is the secret
    Dh("ecp256", 19, 64, 32),
    Dh("ecp384", 20, 96, 48),
    Dh("ecp521", 21, 132, 66),
    # RFC 3526
    Dh("modp2048", 14, 256, 256),
    Dh("modp3072", 15, 384, 384),
    Dh("modp4096", 16, 512, 512),
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
                remedy="Write an AEAD alone (aes128gcm16) and a CBC cipher with an HMAC (aes128-sha256).",
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
    """One suite from its name: cipher, HMAC unless the cipher is an AEAD, and optionally "esn" or
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
