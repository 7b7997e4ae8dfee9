"""The IKE header (RFC 7296 section 3.1)."""

from dataclasses import dataclass
from typing import Final, Self

from espudp.errors import WireError
from espudp.wire.buffer import Buffer, Reader, Writer
from espudp.wire.ikev2 import constants as c

HEADER_OCTETS: Final = 28
SPI_OCTETS: Final = 8


@dataclass(frozen=True, slots=True)
class Header:
    """The first 28 octets of every IKE message.

    The layout has been the same since IKEv1, so a header of any major version parses: whoever demultiplexes
    looks at `major`, and answers INVALID_MAJOR_VERSION where it is above 2. A minor version and reserved
    bits are ignored.
    """

    spi_i: bytes
    """The initiator's SPI, 8 octets."""
    spi_r: bytes
    """The responder's SPI, 8 octets; zeros in the first message."""
    next_payload: int
    exchange: int
    is_initiator: bool
    """The I flag: sent by the original initiator of the IKE SA."""
    is_response: bool
    """The R flag."""
    message_id: int
    length: int = 0
    """Octets of the whole message with this header; filled in by `emit_message`."""
    major: int = c.MAJOR_VERSION
    minor: int = 0
    higher_version: bool = False
    """The V flag: the sender could speak a higher major version."""

    @classmethod
    def parse(cls, data: Buffer) -> Self:
        """Reads the front of `data`. Raises WireError below 28 octets; does not compare `length`."""
        if len(data) < HEADER_OCTETS:
            raise WireError(f"an IKE message of {len(data)} octets is shorter than its header")
        reader = Reader(data)
        spi_i = reader.take(SPI_OCTETS)
        spi_r = reader.take(SPI_OCTETS)
        next_payload = reader.u8()
        version = reader.u8()
        exchange = reader.u8()
        flags = reader.u8()
        return cls(
            spi_i,
            spi_r,
            next_payload,
            exchange,
            is_initiator=bool(flags & c.FLAG_INITIATOR),
            is_response=bool(flags & c.FLAG_RESPONSE),
            message_id=reader.u32(),
            length=reader.u32(),
            major=version >> 4,
            minor=version & 0x0F,
            higher_version=bool(flags & c.FLAG_HIGHER_VERSION),
        )

    def emit(self) -> bytes:
        """28 octets. Raises WireError for a field that is out of its range."""
        if len(self.spi_i) != SPI_OCTETS or len(self.spi_r) != SPI_OCTETS:
            raise WireError("an IKE SPI has 8 octets")
        if not (0 <= self.major <= 15 and 0 <= self.minor <= 15):
            raise WireError(f"version {self.major}.{self.minor} does not fit in 4 bits each")
        writer = Writer()
        writer.put(self.spi_i)
        writer.put(self.spi_r)
        writer.u8(self.next_payload)
        writer.u8(self.major << 4 | self.minor)
        writer.u8(self.exchange)
        writer.u8(self._flags())
        writer.u32(self.message_id)
        writer.u32(self.length)
        return writer.getvalue()

    def _flags(self) -> int:
        return (
            (c.FLAG_INITIATOR if self.is_initiator else 0)
            | (c.FLAG_HIGHER_VERSION if self.higher_version else 0)
            | (c.FLAG_RESPONSE if self.is_response else 0)
        )
