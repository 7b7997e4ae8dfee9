"""EAP packets (RFC 3748 section 4), as IKE carries them: the length is that of the payload, exactly."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Self

from espudp.errors import WireError
from espudp.wire.buffer import Buffer, Reader, Writer

# RFC 3748 section 4: code, identifier and length
HEADER_OCTETS: Final = 4
# A round of any method here fits in a quarter of it; methods with more to say fragment (RFC 5216 2.1.5)
MAX_PACKET_OCTETS: Final = 16_384


class EapCode(IntEnum):
    """RFC 3748 section 4."""

    REQUEST = 1
    RESPONSE = 2
    SUCCESS = 3
    FAILURE = 4


class EapType(IntEnum):
    """RFC 3748 section 5, and the IANA registry for those that followed."""

    IDENTITY = 1
    NOTIFICATION = 2
    NAK = 3
    MD5_CHALLENGE = 4
    GTC = 6
    TLS = 13  # RFC 5216
    MSCHAPV2 = 26
    EXPANDED = 254


_WITH_TYPE = (EapCode.REQUEST, EapCode.RESPONSE)


@dataclass(frozen=True, slots=True)
class EapPacket:
    """One packet. `type` is None in Success and Failure; `data` may be a password, and is never shown."""

    code: EapCode
    identifier: int
    type: int | None = None
    data: bytes = field(default=b"", repr=False)

    @classmethod
    def parse(cls, octets: Buffer) -> Self:
        """Raises WireError: also for a code that RFC 3748 does not have and for a length that lies."""
        if len(octets) > MAX_PACKET_OCTETS:
            raise WireError(f"an EAP packet of {len(octets)} octets, at most {MAX_PACKET_OCTETS}")
        reader = Reader(octets)
        number, identifier, length = reader.u8(), reader.u8(), reader.u16()
        if length != len(octets):
            raise WireError(f"an EAP packet of {len(octets)} octets that claims to have {length}")
        try:
            code = EapCode(number)
        except ValueError:
            raise WireError(f"EAP code {number}") from None
        if code in _WITH_TYPE:
            return cls(code, identifier, reader.u8(), reader.rest())
        reader.expect_end()
        return cls(code, identifier)

    def emit(self) -> bytes:
        """The octets of the packet. Raises WireError where a field does not fit."""
        writer = Writer()
        writer.u8(self.code)
        writer.u8(self.identifier)
        with writer.length16(include=HEADER_OCTETS):
            if self.type is not None:
                writer.u8(self.type)
                writer.put(self.data)
        return writer.getvalue()
