"""Identification: who a peer says it is (RFC 7296 section 3.5), as users write it and as it is compared."""

import ipaddress
import re
from binascii import b2a_base64
from dataclasses import dataclass, replace
from typing import Self

from espudp.errors import ConfigError
from espudp.wire.ikev2.constants import IdType
from espudp.wire.ikev2.payloads import MAX_IDENTITY_OCTETS

_TYPE_NAMES: dict[int, str] = {IdType.DER_ASN1_DN: "dn", IdType.DER_ASN1_GN: "gn"}

# An identity fits in one IKE_AUTH message with room to spare (CVE-2013-2052: bound every conversion).
MAX_OCTETS = MAX_IDENTITY_OCTETS

_KEY_ID_PREFIX = "keyid:"
_PRINTABLE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class Identity:
    """An ID type of RFC 7296 section 3.5 and its octets.

    Two identities are equal when type and octets are exactly equal: no case folding, no reading of one
    type as another, no prefix (CVE-2013-6075); see `means` for names that users wrote. "Any peer" is not an
    identity; it is None.
    """

    type: int
    data: bytes

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an identity as strongSwan and libreswan users write it.

        `192.0.2.1` and `2001:db8::1` are addresses, `user@example.org` is an e-mail address,
        `@gw.example.org` and `gw.example.org` are names, `keyid:office` and `#6f6666` (hex) are key ids,
        `C=CH, O=Example, CN=gw` is the subject of a certificate. Raises ConfigError.
        """
        text = text.strip()
        if text == "%any":
            raise ConfigError(
                "'%any' stands for every peer and is not an identity",
                field="id",
                remedy="Leave the identity out.",
            )
        identity = cls._of_text(text)
        if not 0 < len(identity.data) <= MAX_OCTETS:
            raise ConfigError(
                f"an identity has 1 to {MAX_OCTETS} octets, and '{text[:40]}' has {len(identity.data)}",
                field="id",
                remedy="Write a name (vpn.example.org), an address, user@example.org, CN=NAME or keyid:TEXT.",
            )
        return identity

    @classmethod
    def _of_text(cls, text: str) -> Self:
        if text.startswith(_KEY_ID_PREFIX):
            return cls(IdType.KEY_ID, text.removeprefix(_KEY_ID_PREFIX).encode())
        if text.startswith("#"):
            return cls(IdType.KEY_ID, _from_hex(text))
        if "=" in text:
            # Not above: X.509 is a tenth of a second and megabytes, and most have no use for it.
            from espudp.crypto import dn

            if dn.looks_like_name(text):
                return cls(IdType.DER_ASN1_DN, dn.parse(text))
        try:
            return cls.of_address(text)
        except ValueError:
            pass
        if text and not _PRINTABLE.fullmatch(text):
            raise ConfigError(
                f"identity '{text[:40]}' contains a space or a character outside ASCII",
                field="id",
                remedy="Write such an identity as keyid:TEXT, or as # and its octets in hex.",
            )
        if text.startswith("@"):
            return cls(IdType.FQDN, text[1:].encode())
        return cls(IdType.RFC822_ADDR if "@" in text else IdType.FQDN, text.encode())

    @classmethod
    def of_address(cls, ip: str) -> Self:
        """The identity of an IPv4 or IPv6 address. Raises ValueError."""
        address = ipaddress.ip_address(ip)
        return cls(IdType.IPV4_ADDR if address.version == 4 else IdType.IPV6_ADDR, address.packed)

    @classmethod
    def of_key(cls, fingerprint: bytes) -> Self:
        """What a raw public key goes by where it has no other name: the SHA-256 of it, as ssh shows it."""
        return cls(IdType.KEY_ID, b"SHA256:" + b2a_base64(fingerprint, newline=False).rstrip(b"="))

    def means(self, other: "Identity") -> bool:
        """Whether `other` is what the user meant who wrote this one.

        That is the same; the same host, and the same user at the same host, whatever its case, for so do
        certificates compare them (RFC 5280 section 7); or the same DN to section 7.1, which knows no case
        and no string types, with any value where this one has `*`.
        """
        if self.type != other.type or self.type != IdType.DER_ASN1_DN:
            return self.folded == other.folded
        from espudp.crypto import dn

        return dn.matches(self.data, other.data)

    @property
    def folded(self) -> Self:
        """With the host in small letters, if there is one in it."""
        if self.type not in (IdType.FQDN, IdType.RFC822_ADDR):
            return self
        user, at, host = (
            self.data.rpartition(b"@") if self.type == IdType.RFC822_ADDR else (b"", b"", self.data)
        )
        return replace(self, data=user + at + host.lower())

    @classmethod
    def of_user(cls, name: bytes) -> Self:
        """A user of EAP: an e-mail address if it looks like one, else no name of certificates."""
        return cls(IdType.RFC822_ADDR if b"@" in name else IdType.KEY_ID, name)

    @property
    def is_nobody(self) -> bool:
        """ID_NULL: of those whom nothing proves (RFC 7619 section 2.2)."""
        return self.type == IdType.NULL

    def __str__(self) -> str:
        """As `parse` reads it, where it can. Total, and safe to print, whatever a peer sends."""
        if (self.type, len(self.data)) in ((IdType.IPV4_ADDR, 4), (IdType.IPV6_ADDR, 16)):
            return str(ipaddress.ip_address(self.data))
        if self.type == IdType.DER_ASN1_DN:
            from espudp.crypto import dn

            if dn.canonical(self.data):
                return dn.show(self.data)
        text = self.data.decode("ascii", "replace")
        if self.type in (IdType.FQDN, IdType.RFC822_ADDR) and _PRINTABLE.fullmatch(text):
            return text
        if self.type == IdType.KEY_ID:
            return f"{_KEY_ID_PREFIX}{text}" if _PRINTABLE.fullmatch(text) else f"#{self.data.hex()}"
        if self == NOBODY:
            return "anonymous (ID_NULL)"
        return f"{_TYPE_NAMES.get(self.type, f'type {self.type}')}:#{self.data.hex()}"


NOBODY = Identity(IdType.NULL, b"")
"""What those call themselves who prove nothing."""


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text[1:])
    except ValueError:
        raise ConfigError(
            f"'{text[:40]}' is not hexadecimal",
            field="id",
            remedy="Write # and pairs of the digits 0-9 and a-f.",
        ) from None
