"""Proposals as text, the way strongSwan and libreswan users write them: `aes128gcm16-prfsha256-curve25519`."""

import re
from dataclasses import dataclass, field

from espudp.crypto.suites import (
    DH,
    ENCR,
    INTEG,
    PRF,
    Dh,
    Encr,
    Integ,
    Prf,
    dh_by_id,
    dh_by_keyword,
    encr_by_keyword,
    integ_by_keyword,
    prf_by_keyword,
)
from espudp.errors import ConfigError

# Other spellings of the same: libreswan's, and strongSwan's older ones.
_ALIASES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"aes_gcm(?:_16|_c)?_?(128|192|256)"), r"aes\1gcm16"),
    (re.compile(r"aes(128|192|256)gcm(?:128)?"), r"aes\1gcm16"),
    (re.compile(r"aes(?:_cbc)?_?(128|192|256)"), r"aes\1"),
    (re.compile(r"aes"), "aes128"),
    (re.compile(r"chacha20_poly1305"), "chacha20poly1305"),
    (re.compile(r"(prf)?(?:hmac_)?sha2_(256|384|512)"), r"\1sha\2"),
    (re.compile(r"(prf)?sha2?"), lambda m: (m[1] or "") + ("sha256" if m[0].endswith("2") else "sha1")),  # type: ignore[list-item]
    (re.compile(r"ecp_(256|384|521)"), r"ecp\1"),
    (re.compile(r"modpnone"), "none"),
)

# What others still speak, and we do not: RFC 8247 and RFC 8221 say MUST NOT or SHOULD NOT.
_TOO_WEAK = frozenset("des 3des blowfish128 cast128 null md5 md5_128 prfmd5 modp768 modp1024 modp1536".split())

_EXAMPLES = {"IKE": "aes128gcm16-prfsha256-curve25519", "ESP": "aes128gcm16"}


@dataclass(slots=True)
class Words:
    """The algorithms that a proposal names, each kind in the order written. None among `dh`: no PFS."""

    encr: tuple[Encr, ...] = ()
    integ: tuple[Integ, ...] = ()
    prf: tuple[Prf, ...] = ()
    dh: tuple[Dh | None, ...] = ()
    esn: tuple[bool, ...] = field(default=())

    def add(self, word: str) -> bool:
        """Take up one keyword; False where nobody knows it."""
        if encr := encr_by_keyword(word):
            self.encr += (encr,) if encr not in self.encr else ()
        elif integ := integ_by_keyword(word):
            self.integ += (integ,) if integ not in self.integ else ()
        elif prf := prf_by_keyword(word):
            self.prf += (prf,) if prf not in self.prf else ()
        elif (group := _group(word)) or word == "none":
            self.dh += (group,) if group not in self.dh else ()
        elif word in ("esn", "noesn"):
            esn = word == "esn"
            self.esn += (esn,) if esn not in self.esn else ()
        else:
            return False
        return True


def read_ike(text: str) -> Words:
    """The algorithms of an IKE proposal, complete. Raises ConfigError."""
    words = _read(text, "IKE")
    if words.esn or None in words.dh:
        raise _error(text, "IKE", "names " + ("ESN" if words.esn else "no group") + ", which only ESP has a choice of")
    if not words.encr:
        raise _error(text, "IKE", f"names no encryption (one of {_keywords(ENCR)})")
    if not words.prf:
        words.prf = tuple(prf for prf in (prf_by_keyword(f"prf{i.keyword}") for i in words.integ) if prf)
    if not words.prf:
        raise _error(text, "IKE", f"names no PRF (one of {_keywords(PRF)})")
    if words.encr[0].is_aead:
        words.integ = ()  # it named the PRF, as libreswan's users write it
    elif not words.integ:
        raise _error(text, "IKE", f"names no integrity algorithm (one of {_keywords(INTEG)})")
    if not words.dh:
        raise _error(text, "IKE", f"names no Diffie-Hellman group (one of {_keywords(DH)})")
    return words


def read_esp(text: str) -> Words:
    """The algorithms of an ESP proposal, complete but for what may be left out. Raises ConfigError."""
    words = _read(text, "ESP")
    if words.prf:
        raise _error(text, "ESP", f"names the PRF {words.prf[0].keyword}, which belongs to IKE")
    if not words.encr:
        raise _error(text, "ESP", f"names no encryption (one of {_keywords(ENCR)})")
    if words.encr[0].is_aead and words.integ:
        named = f"{words.encr[0].keyword} authenticates by itself"
        raise _error(text, "ESP", f"names {words.integ[0].keyword} too, though {named}")
    if not words.encr[0].is_aead and not words.integ:
        raise _error(text, "ESP", f"names no integrity algorithm (one of {_keywords(INTEG)})")
    return words


def _read(text: str, protocol: str) -> Words:
    words = Words()
    # A trailing "!" is strongSwan's "only these", which is all that we know; "+" and ";" are libreswan's.
    for word in re.split(r"[-+;]", text.strip().lower().removesuffix("!")):
        known = _canonical(word)
        if known in _TOO_WEAK:
            raise _error(text, protocol, f"names '{word}', which is too weak to be used")
        if not words.add(known):
            raise _unknown(text, protocol, word)
    # RFC 7296 section 3.3: combined-mode ciphers and the others go into proposals of their own.
    if len({encr.is_aead for encr in words.encr}) > 1:
        raise _error(text, protocol, "mixes ciphers that authenticate by themselves with others that do not")
    return words


def _canonical(word: str) -> str:
    for pattern, name in _ALIASES:
        if pattern.fullmatch(word):
            return pattern.sub(name, word)
    return word


def _group(word: str) -> Dh | None:
    if re.fullmatch(r"dh\d{1,5}", word):  # libreswan's way: the number of the IANA registry
        return dh_by_id(int(word[2:]))
    return dh_by_keyword(word)


def _keywords(rows: tuple[Encr, ...] | tuple[Integ, ...] | tuple[Prf, ...] | tuple[Dh, ...]) -> str:
    return ", ".join(row.keyword for row in rows)


def _error(text: str, protocol: str, what: str) -> ConfigError:
    return ConfigError(
        f"the {protocol} proposal '{text[:120]}' {what}",
        field=f"{protocol.lower()}-proposal",
        remedy=f"Write it as in {_EXAMPLES[protocol]}; several proposals are given one by one.",
    )


def _unknown(text: str, protocol: str, word: str) -> ConfigError:
    possible = [f"encryption {_keywords(ENCR)}", f"integrity {_keywords(INTEG)}", f"groups {_keywords(DH)}"]
    possible.append(f"PRF {_keywords(PRF)}" if protocol == "IKE" else "esn, noesn")
    what = f"'{word[:40]}'" if word else "an empty word"
    return ConfigError(
        f"the {protocol} proposal '{text[:120]}' has {what} in it, which is no algorithm known here",
        field=f"{protocol.lower()}-proposal",
        remedy=f"Possible are {'; '.join(possible)}.",
    )
