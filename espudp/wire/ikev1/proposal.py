"""Proposals and transforms, the inner payloads of the SA payload (RFC 2408 sections 3.5 and 3.6).

Of a proposal one transform is chosen as it stands: it names a whole suite. Proposals of the same number
are wanted together (ESP and IPComp, say), those of different numbers are alternatives (section 4.2).
"""

from dataclasses import dataclass
from typing import Final, Self

from espudp.errors import WireError
from espudp.wire.buffer import Reader, Writer
from espudp.wire.ikev1 import constants as c
from espudp.wire.ikev1.attributes import Attribute, emit_attributes, parse_attributes

# Our bounds. Peers in the field send at most a dozen proposals, and Windows some dozens of transforms.
MAX_PROPOSALS: Final = 64
MAX_TRANSFORMS: Final = 128

# RFC 2407 section 4.4, RFC 3173 section 3.3; an SPI of phase 1 is ignored (RFC 2408 section 3.5)
_SPI_OCTETS: Final[dict[int, tuple[int, ...]]] = {
    c.ProtocolId.AH: (4,),
    c.ProtocolId.ESP: (4,),
    c.ProtocolId.IPCOMP: (2, 4),
}
# RFC 2408 section 3.5: of ISAKMP 0 to 16, and our bound on others
MAX_SPI_OCTETS: Final = 16
# RFC 4302 section 2.4, RFC 4303 section 2.1: the SPIs below are reserved, and 0 marks IKE (RFC 3948)
_MIN_SPI: Final[dict[int, int]] = {c.ProtocolId.AH: 256, c.ProtocolId.ESP: 256}


def check_spi_octets(protocol: int, octets: int) -> None:
    """Raises WireError for a size of SPI that the protocol does not have."""
    if octets not in _SPI_OCTETS.get(protocol, range(MAX_SPI_OCTETS + 1)):
        raise WireError(f"an SPI of {octets} octets for {c.name_of_protocol(protocol)}")


@dataclass(frozen=True, slots=True)
class Transform:
    """One suite that may be chosen (RFC 2408 section 3.6)."""

    number: int
    """Its own within the proposal, which the answer repeats."""
    id: int
    """The cipher in phase 2; KEY_IKE in phase 1."""
    attributes: tuple[Attribute, ...] = ()

    def value(self, attribute: int) -> int | None:
        """The number that an attribute holds; None where it is absent, or no number. Of several, the last."""
        return self.values.get(attribute)

    @property
    def values(self) -> dict[int, int | None]:
        """What every attribute holds, whichever form it has: a choice is compared with an offer by these."""
        return {a.type: a.number for a in self.attributes}

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Reads what follows the transform's length. `reader` holds this transform alone."""
        number, id_ = reader.u8(), reader.u8()
        reader.skip(2)
        return cls(number, id_, parse_attributes(reader))

    def emit(self, writer: Writer, *, last: bool) -> None:
        """Appends the whole inner payload."""
        writer.u8(c.PayloadType.NONE if last else c.PayloadType.TRANSFORM)
        writer.u8(0)
        with writer.length16(include=4):
            writer.u8(self.number)
            writer.u8(self.id)
            writer.u16(0)
            emit_attributes(writer, self.attributes)


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is offered for one protocol: any one of its transforms (RFC 2408 section 3.5)."""

    number: int
    protocol: int
    spi: bytes
    """Of the offered SA: 4 octets for ESP and AH; of phase 1 nothing, or what is ignored."""
    transforms: tuple[Transform, ...]

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Reads what follows the proposal's length. `reader` holds this proposal alone."""
        number, protocol, spi_octets, count = reader.u8(), reader.u8(), reader.u8(), reader.u8()
        check_spi_octets(protocol, spi_octets)
        spi = reader.take(spi_octets)
        if int.from_bytes(spi) < _MIN_SPI.get(protocol, 0):
            raise WireError(f"a proposal with an SPI of {spi.hex()}, which no SA has")
        if not 0 < count <= MAX_TRANSFORMS:
            raise WireError(f"a proposal of {count} transforms")
        transforms = []
        for _ in range(count):
            more = reader.u8()
            reader.skip(1)
            transforms.append(Transform.parse(reader.sub(reader.u16() - 4)))
            _check_more(more, c.PayloadType.TRANSFORM, reader)
        reader.expect_end()
        return cls(number, protocol, spi, tuple(transforms))

    def emit(self, writer: Writer, *, last: bool) -> None:
        """Appends the whole inner payload."""
        writer.u8(c.PayloadType.NONE if last else c.PayloadType.PROPOSAL)
        writer.u8(0)
        with writer.length16(include=4):
            writer.u8(self.number)
            writer.u8(self.protocol)
            writer.u8(len(self.spi))
            writer.u8(len(self.transforms))
            writer.put(self.spi)
            for index, transform in enumerate(self.transforms, 1):
                transform.emit(writer, last=index == len(self.transforms))


def _check_more(marker: int, more: int, reader: Reader) -> None:
    """The type of the next inner payload must agree with whether there is one."""
    expected = more if reader.remaining else c.PayloadType.NONE
    if marker != expected:
        raise WireError(f"marker {marker} where {int(expected)} is due")


def parse_proposals(reader: Reader) -> tuple[Proposal, ...]:
    """Reads proposals to the end of `reader`: at least one, in no order that would have to be checked."""
    proposals: list[Proposal] = []
    while reader.remaining or not proposals:
        if len(proposals) >= MAX_PROPOSALS:
            raise WireError(f"more than {MAX_PROPOSALS} proposals")
        more = reader.u8()
        reader.skip(1)
        proposals.append(Proposal.parse(reader.sub(reader.u16() - 4)))
        _check_more(more, c.PayloadType.PROPOSAL, reader)
    return tuple(proposals)


def emit_proposals(writer: Writer, proposals: tuple[Proposal, ...]) -> None:
    """Appends proposals with their markers, numbers as they are."""
    for index, proposal in enumerate(proposals, 1):
        proposal.emit(writer, last=index == len(proposals))
