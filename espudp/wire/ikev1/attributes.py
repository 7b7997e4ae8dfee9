"""Data attributes (RFC 2408 section 3.3), of transforms and of mode config alike.

The first bit of an attribute tells its form: a value of two octets in place of the length, or a length
and that many octets. A number may come in either, whatever its size: lifetimes do.
"""

from dataclasses import dataclass, field
from typing import Final, Self

from espudp.errors import WireError
from espudp.wire.buffer import Reader, Writer

# RFC 2408 section 3.3: the AF bit
SHORT_FORM: Final = 0x8000
_SHORT_OCTETS: Final = 2
# RFC 2407 section 4.5: what does not fit in the short form is sent in 4 octets
_LONG_OCTETS: Final = 4
_MIN_OCTETS: Final = 4
# Numbers of more octets are nobody's
_MAX_NUMBER_OCTETS: Final = 8

# Our bound on what one transform or one configuration makes us keep
MAX_ATTRIBUTES: Final = 256


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute."""

    type: int
    """Without the bit that tells the form."""
    value: bytes = field(repr=False)  # of XAUTH a password
    short: bool = False
    """The short form; then `value` has 2 octets."""

    @classmethod
    def of(cls, type: int, number: int) -> Self:
        """An attribute that is a number: in the short form where it fits, else in 4 octets.

        Raises WireError for a number that is negative or above 32 bits.
        """
        octets = _SHORT_OCTETS if number < 1 << 16 else _LONG_OCTETS
        try:
            return cls(type, number.to_bytes(octets, "big"), octets == _SHORT_OCTETS)
        except OverflowError:
            raise WireError(f"an attribute of {number} does not fit in {octets} octets") from None

    @property
    def number(self) -> int | None:
        """The value as a number, in whichever form it came; None where it is none: empty, or 9 octets
        and more."""
        if not 0 < len(self.value) <= _MAX_NUMBER_OCTETS:
            return None
        return int.from_bytes(self.value, "big")

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        head = reader.u16()
        if head & SHORT_FORM:
            return cls(head & ~SHORT_FORM, reader.take(_SHORT_OCTETS), short=True)
        return cls(head, reader.take(reader.u16()))

    def emit(self, writer: Writer) -> None:
        """Appends it. Raises WireError for a type above 15 bits, or a short value that is not short."""
        if not 0 <= self.type < SHORT_FORM or (self.short and len(self.value) != _SHORT_OCTETS):
            raise WireError(f"attribute {self.type} of {len(self.value)} octets cannot be written")
        if self.short:
            writer.u16(SHORT_FORM | self.type)
            writer.put(self.value)
            return
        writer.u16(self.type)
        with writer.length16():
            writer.put(self.value)


def parse_attributes(reader: Reader, *, padded: bool = False) -> tuple[Attribute, ...]:
    """Reads attributes to the end of `reader`, or, with `padded`, to some zeros in which none would fit."""
    attributes: list[Attribute] = []
    while reader.remaining:
        if padded and reader.remaining < _MIN_OCTETS and not any(reader.rest()):
            break
        if len(attributes) >= MAX_ATTRIBUTES:
            raise WireError(f"more than {MAX_ATTRIBUTES} attributes")
        attributes.append(Attribute.parse(reader))
    return tuple(attributes)


def emit_attributes(writer: Writer, attributes: tuple[Attribute, ...]) -> None:
    """Appends attributes in their order."""
    for attribute in attributes:
        attribute.emit(writer)
