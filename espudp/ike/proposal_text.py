"""Proposals as strongSwan and libreswan users write them: `aes128gcm16-prfsha256-curve25519`."""

import re
from dataclasses import dataclass

from espudp.crypto.policy import POLICY, Level
from espudp.crypto.suites import (
    DH,
    ENCR,
    INTEG,
    PRF,
    Dh,
    Encr,
    Integ,
    Prf,
    dh_by_keyword,
    encr_by_keyword,
    integ_by_keyword,
    prf_by_keyword,
)
from espudp.errors import ConfigError

_EXAMPLES = {"IKE": "aes128gcm16-prfsha256-curve25519", "ESP": "aes128gcm16"}


@dataclass(slots=True)
class Words:
    """The algorithms that a proposal names, each kind in the order written. None among `dh`: no PFS."""

    encr: tuple[Encr, ...] = ()
    integ: tuple[Integ, ...] = ()
    prf: tuple[Prf, ...] = ()
    dh: tuple[Dh | None, ...] = ()
    esn: tuple[bool, ...] = ()

    def add(self, word: str) -> bool:
        """Take up one keyword; False where nobody knows it."""
        if encr := encr_by_keyword(word):
            self.encr += (encr,) if encr not in self.encr else ()
        elif integ := integ_by_keyword(word):
            self.integ += (integ,) if integ not in self.integ else ()
        elif prf := prf_by_keyword(word):
            self.prf += (prf,) if prf not in self.prf else ()
        elif (group := dh_by_keyword(word)) or word in ("none", "modpnone"):
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
        word = "esn or noesn" if words.esn else "none"
        raise _error(text, "IKE", f"names {word}, which belongs to ESP")
    if not words.encr:
        raise _error(text, "IKE", f"names no encryption (one of {_keywords(ENCR)})")
    for encr in words.encr:
        if POLICY[encr.keyword].ike in (None, Level.MUST_NOT):
            # RFC 7296 section 5, RFC 4543 section 2
            raise _error(text, "IKE", f"names {encr.keyword}, which encrypts nothing and is for ESP alone")
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
        if words.add(word):
            continue
        if rule := POLICY.get(word):
            raise _error(text, protocol, f"names {word}, which is not spoken here: it {rule.weakness}")
        raise _unknown(text, protocol, word)
    # RFC 7296 section 3.3: combined-mode ciphers and the others go into proposals of their own.
    if len({encr.is_aead for encr in words.encr}) > 1:
        raise _error(text, protocol, "mixes ciphers that authenticate by themselves with others that do not")
    return words


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
        remedy=f"Possible are {'; '.join(possible)}. `espudp algorithms` says what to think of each.",
    )
