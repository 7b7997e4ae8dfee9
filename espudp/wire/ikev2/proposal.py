"""Proposals and transforms, the substructures of the SA payload (RFC 7296 section 3.3)."""

from dataclasses import dataclass
from typing import Final, Self

from espudp.errors import WireError
from espudp.wire.buffer import Reader, Writer
from espudp.wire.ikev2 import constants as c

# Our bounds. Peers in the field send at most some thirty of either.
MAX_PROPOSALS: Final = 64
MAX_TRANSFORMS: Final = 128

# RFC 7296 sections 3.3.1 and 3.3.2: the octet that says whether another one follows
_LAST: Final = 0
_MORE_PROPOSALS: Final = 2
_MORE_TRANSFORMS: Final = 3

# RFC 7296 section 3.3.1: an IKE proposal has an SPI only where an IKE SA is rekeyed
_SPI_OCTETS: Final[dict[int, tuple[int, ...]]] = {
    c.ProtocolId.IKE: (0, 8),
    c.ProtocolId.AH: (4,),
    c.ProtocolId.ESP: (4,),
}
_SPI_OCTETS_OF_OTHERS: Final = (0, 4, 8)

# RFC 4302 section 2.4, RFC 4303 section 2.1: the SPIs below are reserved, and 0 marks IKE (RFC 3948)
_MIN_SPI: Final[dict[int, int]] = {c.ProtocolId.AH: 256, c.ProtocolId.ESP: 256}


def check_spi_octets(protocol: int, octets: int) -> None:
    """Raises WireError for a size of SPI that the protocol does not have."""
    if octets not in _SPI_OCTETS.get(protocol, _SPI_OCTETS_OF_OTHERS):
        raise WireError(f"an SPI of {octets} octets for {c.name_of_protocol(protocol)}")


def _check_more(marker: int, more: int, reader: Reader) -> None:
    """The marker in front of a substructure must agree with whether another one follows."""
    expected = more if reader.remaining else _LAST
    if marker != expected:
        raise WireError(f"marker {marker} where {expected} is due")


@dataclass(frozen=True, slots=True)
class Transform:
    """One algorithm (RFC 7296 section 3.3.2).

    A transform with an attribute that nobody knows is never chosen (section 3.3.6): since
    `unknown_attributes` takes part in comparison, it equals none of ours.
    """

    type: int
    id: int
    key_bits: int | None = None
    """The Key Length attribute; None where it is absent."""
    unknown_attributes: bytes = b""
    """Every other attribute, as it came."""

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Reads what follows the transform's length. `reader` holds this transform alone."""
        type_ = reader.u8()
        reader.skip(1)
        id_ = reader.u16()
        key_bits, unknown = None, Writer()
        while reader.remaining:
            attribute, value = reader.u16(), reader.u16()
            if attribute == c.ATTRIBUTE_FIXED | c.ATTRIBUTE_KEY_LENGTH and key_bits is None:
                key_bits = value
                continue
            unknown.u16(attribute)
            unknown.u16(value)
            if not attribute & c.ATTRIBUTE_FIXED:  # then `value` is the length of what follows
                unknown.put(reader.take(value))
        return cls(type_, id_, key_bits, unknown.getvalue())

    def emit(self, writer: Writer, *, last: bool) -> None:
        """Appends the whole substructure."""
        writer.u8(_LAST if last else _MORE_TRANSFORMS)
        writer.u8(0)
        with writer.length16(include=4):
            writer.u8(self.type)
            writer.u8(0)
            writer.u16(self.id)
            if self.key_bits is not None:
                writer.u16(c.ATTRIBUTE_FIXED | c.ATTRIBUTE_KEY_LENGTH)
                writer.u16(self.key_bits)
            writer.put(self.unknown_attributes)


@dataclass(frozen=True, slots=True)
class Proposal:
    """One complete offer: any one transform of each type in it (RFC 7296 section 3.3.1)."""

    number: int
    protocol: int
    spi: bytes
    """Of the offered SA: 4 octets for ESP and AH; for IKE 8 in a rekey, else none."""
    transforms: tuple[Transform, ...]

    def of_type(self, transform_type: int) -> tuple[Transform, ...]:
        """The transforms of one type, in the order of preference."""
        return tuple(t for t in self.transforms if t.type == transform_type)

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Reads what follows the proposal's length. `reader` holds this proposal alone."""
        number, protocol, spi_octets, count = reader.u8(), reader.u8(), reader.u8(), reader.u8()
        check_spi_octets(protocol, spi_octets)
        spi = reader.take(spi_octets)
        if spi and int.from_bytes(spi) < _MIN_SPI.get(protocol, 1):
            raise WireError(f"a proposal with an SPI of {spi.hex()}, which no SA has")
        if count > MAX_TRANSFORMS:
            raise WireError(f"a proposal of {count} transforms")
        transforms = []
        for _ in range(count):
            more = reader.u8()
            reader.skip(1)
            body = reader.sub(reader.u16() - 4)
            transforms.append(Transform.parse(body))
            _check_more(more, _MORE_TRANSFORMS, reader)
        reader.expect_end()
        return cls(number, protocol, spi, tuple(transforms))

    def emit(self, writer: Writer, *, last: bool) -> None:
        """Appends the whole substructure."""
        writer.u8(_LAST if last else _MORE_PROPOSALS)
        writer.u8(0)
        with writer.length16(include=4):
            writer.u8(self.number)
            writer.u8(self.protocol)
            writer.u8(len(self.spi))
            writer.u8(len(self.transforms))
            writer.put(self.spi)
            for index, transform in enumerate(self.transforms, 1):
                transform.emit(writer, last=index == len(self.transforms))


def parse_proposals(reader: Reader) -> tuple[Proposal, ...]:
    """Reads proposals to the end of `reader`: at least one, numbered upwards in steps of one.

    The first may have any number, since an accepted proposal keeps the number that it was offered with.
    """
    proposals: list[Proposal] = []
    while reader.remaining or not proposals:
        more = reader.u8()
        reader.skip(1)
        proposal = Proposal.parse(reader.sub(reader.u16() - 4))
        _check_more(more, _MORE_PROPOSALS, reader)
        if proposals and proposal.number != proposals[-1].number + 1:
            raise WireError(f"proposal {proposal.number} follows proposal {proposals[-1].number}")
        proposals.append(proposal)
        if len(proposals) > MAX_PROPOSALS:
            raise WireError(f"more than {MAX_PROPOSALS} proposals")
    return tuple(proposals)


def emit_proposals(writer: Writer, proposals: tuple[Proposal, ...]) -> None:
    """Appends proposals with their markers, numbers as they are."""
    for index, proposal in enumerate(proposals, 1):
        proposal.emit(writer, last=index == len(proposals))
