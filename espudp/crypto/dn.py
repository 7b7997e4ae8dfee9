"""Distinguished names: read as people write them, compared as RFC 5280 section 7.1 wants, and shown safely.

A name is passed about as its DER, the octets that an ID payload of type ID_DER_ASN1_DN carries.
"""

import re
import unicodedata
import warnings
from collections.abc import Iterator

from cryptography import x509
from cryptography.x509.oid import NameOID, ObjectIdentifier

from espudp.errors import ConfigError

# The short names that people write. S and SN are left out: they mean the surname to some, and not to others.
_TYPES: dict[str, ObjectIdentifier] = {
    "CN": NameOID.COMMON_NAME,
    "C": NameOID.COUNTRY_NAME,
    "ST": NameOID.STATE_OR_PROVINCE_NAME,
    "L": NameOID.LOCALITY_NAME,
    "STREET": NameOID.STREET_ADDRESS,
    "O": NameOID.ORGANIZATION_NAME,
    "OU": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "DC": NameOID.DOMAIN_COMPONENT,
    "UID": NameOID.USER_ID,
    "E": NameOID.EMAIL_ADDRESS,
    "title": NameOID.TITLE,
    "surname": NameOID.SURNAME,
    "GN": NameOID.GIVEN_NAME,
    "serialNumber": NameOID.SERIAL_NUMBER,
}
_SYNONYMS = {"emailaddress": "e", "email": "e", "givenname": "gn", "userid": "uid"}
_BY_SHORT_NAME = {short.lower(): oid for short, oid in _TYPES.items()}
_SHORT_NAMES = {oid: short for short, oid in _TYPES.items()}

_DOTTED = re.compile(r"[0-2](\.\d{1,18}){1,20}")
_BEGINNING = re.compile(r"/?\s*([A-Za-z]+|[0-2](?:\.\d+)+)\s*=")
_HEX_PAIR = re.compile(r"[0-9a-fA-F]{2}")
_ESCAPED = frozenset(',+"\\<>;=/#')
_REMEDY = 'Write it as the certificate shows it: "C=CH, O=Example, CN=gw"; a comma in a value is written \\,'

# What stands for any one value in a pattern, as in "O=Example, CN=*".
ANY_VALUE = "*"

Canonical = tuple[frozenset[tuple[str, str | bytes]], ...]


def looks_like_name(text: str) -> bool:
    """Whether text begins as a distinguished name does: `CN=`, `/C=`, `2.5.4.3=`, and the type is known."""
    begins = _BEGINNING.match(text.strip())
    return begins is not None and _type_of(begins[1]) is not None


def parse(text: str) -> bytes:
    """The DER of a name written as `C=CH, O=Example, CN=gw` (or `/C=CH/O=Example/CN=gw`), in that order.

    Raises ConfigError.
    """
    text = text.strip()
    separator = "," if not text.startswith("/") else "/"
    if separator == "/":
        text = text[1:]
    try:
        rdns = [
            x509.RelativeDistinguishedName([_attribute(part) for part in _split(rdn, "+")])
            for rdn in _split(text, separator)
        ]
        return x509.Name(rdns).public_bytes()
    except ValueError as error:
        raise ConfigError(
            f"'{text[:60]}' is not a distinguished name: {error}", field="id", remedy=_REMEDY
        ) from None


def show(der: bytes) -> str:
    """A name as `parse` reads it. Total, printable ASCII, whatever a peer sends."""
    name = _load(der)
    if name is None:
        return f"#{der.hex()}"
    return ", ".join(" + ".join(_show_attribute(one) for one in rdn) for rdn in name.rdns)


def canonical(der: bytes) -> Canonical | None:
    """What two equal names have in common: no case, no excess spaces, no string types. None: not a name."""
    name = _load(der)
    if name is None:
        return None
    return tuple(frozenset((one.oid.dotted_string, _fold(one.value)) for one in rdn) for rdn in name.rdns)


def same(one: bytes, other: bytes) -> bool:
    """Whether two names are equal (RFC 5280 section 7.1); names that cannot be parsed never are."""
    form = canonical(one)
    return form is not None and form == canonical(other)


def matches(pattern: bytes, name: bytes) -> bool:
    """Whether a name has the types and values of a pattern, in its order, `*` being any one value."""
    wanted, given = canonical(pattern), canonical(name)
    if wanted is None or given is None or len(wanted) != len(given):
        return False
    return all(_rdn_matches(*pair) for pair in zip(wanted, given, strict=True))


def _rdn_matches(
    wanted: frozenset[tuple[str, str | bytes]], given: frozenset[tuple[str, str | bytes]]
) -> bool:
    open_types = sorted(oid for oid, value in wanted if value == ANY_VALUE)
    fixed = {pair for pair in wanted if pair[1] != ANY_VALUE}
    return fixed <= given and sorted(oid for oid, _ in given - fixed) == open_types


def _load(der: bytes) -> x509.Name | None:
    try:
        with warnings.catch_warnings():  # of values longer than X.520 allows, which are a peer's matter
            warnings.simplefilter("ignore")
            return x509.Name.from_bytes(der)
    except ValueError:
        return None


def _fold(value: str | bytes) -> str | bytes:
    if isinstance(value, bytes):
        return value
    return " ".join(unicodedata.normalize("NFKC", value).casefold().split())


def _type_of(text: str) -> ObjectIdentifier | None:
    if _DOTTED.fullmatch(text):
        return ObjectIdentifier(text)
    low = text.lower()
    return _BY_SHORT_NAME.get(_SYNONYMS.get(low, low))


def _attribute(text: str) -> x509.NameAttribute[str]:
    kind, equals, value = text.partition("=")
    oid = _type_of(kind.strip())
    if not equals:
        raise ValueError(f"'{text.strip()[:40]}' has no '='")
    if oid is None:
        raise ValueError(f"'{kind.strip()[:40]}' is none of {', '.join(_TYPES)}, nor a dotted number")
    return x509.NameAttribute(oid, _unescape(value.strip()))


def _split(text: str, separator: str) -> Iterator[str]:
    """The parts between separators that are neither escaped nor in quotation marks."""
    begin, quoted, escaped = 0, False, False
    for position, char in enumerate(text):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == separator and not quoted:
            yield text[begin:position]
            begin = position + 1
    if quoted or escaped:
        raise ValueError("it ends inside a quotation or an escape")
    yield text[begin:]


def _unescape(text: str) -> str:
    """A value without its quotation marks and escapes: `\\,` is a comma, `\\C3\\BC` octets of UTF-8."""
    octets = bytearray()
    position = 0
    while position < len(text):
        char = text[position]
        position += 1
        if char == '"':
            continue
        if char == "\\" and (pair := _HEX_PAIR.match(text, position)):
            octets.append(int(pair[0], 16))
            position += 2
            continue
        if char == "\\":
            char = text[position : position + 1]
            position += 1
        octets += char.encode()
    return octets.decode()


def _show_attribute(attribute: x509.NameAttribute[str | bytes]) -> str:
    kind = _SHORT_NAMES.get(attribute.oid, attribute.oid.dotted_string)
    if isinstance(attribute.value, bytes):
        return f"{kind}=#{attribute.value.hex()}"
    value = attribute.value
    shown = "".join(map(_show_character, value))
    if value.strip(" ") != value:  # a space at an end would be taken for one between the parts
        shown = f'"{shown}"'
    return f"{kind}={shown}"


def _show_character(char: str) -> str:
    if char in _ESCAPED:
        return f"\\{char}"
    if " " <= char <= "~":
        return char
    return "".join(f"\\{octet:02X}" for octet in char.encode("utf-8", "replace"))
