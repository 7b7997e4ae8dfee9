"""Which algorithms may be used, in one table: the levels of RFC 8247 for IKE and of RFC 8221 for ESP.

What has a `weakness` is neither offered nor accepted unless somebody names it, and then we say what is wrong
with it. What nobody here speaks is in the table so that asking for it gets that answer too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from espudp.crypto.suites import DH, Dh


class Level(Enum):
    """RFC 8247 section 1.1: "+" is on its way up, "-" on its way out."""

    MUST = "MUST"
    MUST_MINUS = "MUST-"
    SHOULD_PLUS = "SHOULD+"
    SHOULD = "SHOULD"
    MAY = "MAY"
    SHOULD_NOT = "SHOULD NOT"
    MUST_NOT = "MUST NOT"


@dataclass(frozen=True, slots=True)
class Rule:
    """What the RFCs say of one algorithm; a level of None: it has no use in that protocol."""

    keyword: str
    ike: Level | None
    esp: Level | None
    # What a person is told who names it: why not to.
    weakness: str = ""


_MUST, _MUST_MINUS, _SHOULD_PLUS = Level.MUST, Level.MUST_MINUS, Level.SHOULD_PLUS
_SHOULD, _MAY, _SHOULD_NOT, _MUST_NOT = Level.SHOULD, Level.MAY, Level.SHOULD_NOT, Level.MUST_NOT

_READABLE = "encrypts nothing: whoever is on the way reads the traffic"
_GUESSABLE = "has an ICV of 8 octets, and each forgery that succeeds makes the next one easier"
_SMALL_BLOCKS = (
    "has blocks of 64 bits, which repeat and give plaintext away after some gigabytes, and is slow"
)
_BREAKABLE = "can be broken within hours with what anybody can buy"
_COLLIDING = "rests on MD5, which is broken"
_SMALL_PRIME = "has a prime so small that the well-funded can break it"
_UNKNOWN_SEED = "has a prime of which nobody has said where it comes from: it may have been made to be broken"

_ENCRYPTION = (
    # RFC 8247 section 2.1, RFC 8221 section 5: levels of 128 and 256 bits; 192 are MAY
    Rule("aes128gcm16", _SHOULD, _MUST),
    Rule("aes192gcm16", _MAY, _MAY),
    Rule("aes256gcm16", _SHOULD, _MUST),
    Rule("chacha20poly1305", _SHOULD, _SHOULD),
    Rule("aes128", _MUST, _MUST),
    Rule("aes192", _MAY, _MAY),
    Rule("aes256", _MUST, _MUST),
    # Likewise; for small devices, with 128 bits alone
    Rule("aes128ccm8", _SHOULD, _SHOULD),
    Rule("aes192ccm8", _MAY, _MAY),
    Rule("aes256ccm8", _MAY, _MAY),
    # Not mentioned, which is MAY
    *(Rule(f"aes{bits}{mode}", _MAY, _MAY) for mode in ("ccm16", "ccm12") for bits in (128, 192, 256)),
    *(Rule(f"aes{bits}gcm12", _MAY, _MAY) for bits in (128, 192, 256)),
    # NIST SP 800-38D appendix C
    *(Rule(f"aes{bits}gcm8", _MAY, _MAY, _GUESSABLE) for bits in (128, 192, 256)),
    *(Rule(f"aes{bits}ctr", _MAY, _MAY) for bits in (128, 192, 256)),
    # RFC 4543: for ESP alone
    *(Rule(f"aes{bits}gmac", None, _MAY, _READABLE) for bits in (128, 192, 256)),
    Rule("null", _MUST_NOT, _MUST, _READABLE),
    Rule("3des", _MAY, _SHOULD_NOT, _SMALL_BLOCKS),
    Rule("des", _MUST_NOT, _MUST_NOT, _BREAKABLE),
    Rule("blowfish128", _MAY, _MUST_NOT, _SMALL_BLOCKS),
    Rule("cast128", _MAY, _MAY, _SMALL_BLOCKS),
)

_INTEGRITY = (
    # RFC 8247 section 2.3, RFC 8221 section 6
    Rule("sha256", _MUST, _MUST),
    Rule("sha384", _MAY, _MAY),
    Rule("sha512", _SHOULD, _SHOULD),
    Rule("sha1", _MUST_MINUS, _MUST_MINUS),
    Rule("aesxcbc", _SHOULD, _SHOULD),
    Rule("aescmac", _MAY, _MAY),
    Rule("md5", _MUST_NOT, _MUST_NOT, _COLLIDING),
    Rule("md5_128", _MUST_NOT, _MUST_NOT, _COLLIDING),
)

_PSEUDORANDOM = (
    # RFC 8247 section 2.2
    Rule("prfsha256", _MUST, None),
    Rule("prfsha384", _MAY, None),
    Rule("prfsha512", _SHOULD_PLUS, None),
    Rule("prfsha1", _MUST_MINUS, None),
    Rule("prfaesxcbc", _SHOULD, None),
    Rule("prfaescmac", _MAY, None),
    Rule("prfmd5", _MUST_NOT, None, _COLLIDING),
)

_GROUPS = (
    # RFC 8247 section 2.4; of a child SA's groups, RFC 8221 says nothing else
    Rule("modp2048", _MUST, _MUST),
    Rule("ecp256", _SHOULD, _SHOULD),
    *(
        Rule(keyword, _MAY, _MAY)
        for keyword in ("modp3072", "modp4096", "modp6144", "modp8192", "ecp384", "ecp521")
    ),
    *(Rule(keyword, _MAY, _MAY) for keyword in ("curve25519", "curve448")),
    Rule("modp1536", _SHOULD_NOT, _SHOULD_NOT, _SMALL_PRIME),
    Rule("modp1024", _SHOULD_NOT, _SHOULD_NOT, _SMALL_PRIME),
    Rule("modp768", _MUST_NOT, _MUST_NOT, _BREAKABLE),
    Rule("modp1024s160", _MUST_NOT, _MUST_NOT, _UNKNOWN_SEED),
    Rule("modp2048s224", _SHOULD_NOT, _SHOULD_NOT, _UNKNOWN_SEED),
    Rule("modp2048s256", _SHOULD_NOT, _SHOULD_NOT, _UNKNOWN_SEED),
)

TABLE: Mapping[str, tuple[Rule, ...]] = {
    "encryption": _ENCRYPTION,
    "integrity": _INTEGRITY,
    "PRF": _PSEUDORANDOM,
    "group": _GROUPS,
}
POLICY: Mapping[str, Rule] = {rule.keyword: rule for rules in TABLE.values() for rule in rules}


@dataclass(frozen=True, slots=True)
class AuthRule:
    """What RFC 8247 section 3.1 says of one authentication method."""

    method: int
    name: str
    level: Level
    weakness: str = ""


AUTH_METHODS: tuple[AuthRule, ...] = (
    AuthRule(1, "RSA", _MUST),
    AuthRule(2, "shared key", _MUST),
    AuthRule(3, "DSS", _SHOULD_NOT, "is bound to SHA-1 and to keys of 1024 bits"),
    AuthRule(9, "ECDSA with P-256 and SHA-256", _SHOULD),
    AuthRule(10, "ECDSA with P-384 and SHA-384", _SHOULD),
    AuthRule(11, "ECDSA with P-521 and SHA-512", _SHOULD),
    # RFC 7619, younger than the levels
    AuthRule(13, "NULL", _MAY, "proves nothing: anybody may be at the other end"),
    AuthRule(14, "digital signature", _SHOULD),
)


def warnings_about(suite: str) -> list[str]:
    """One line for each weak algorithm in the name of a suite, such as "aes128-sha1-prfsha1-modp1024"."""
    rules = [POLICY[word] for word in dict.fromkeys(suite.split("-")) if word in POLICY]
    return [f"{rule.keyword} {rule.weakness}" for rule in rules if rule.weakness]


# What is accepted of a peer where nobody asked for any group.
SOUND_GROUPS: tuple[Dh, ...] = tuple(row for row in DH if not POLICY[row.keyword].weakness)
