"""The ISAKMP header (RFC 2408 section 3.1)."""

from dataclasses import dataclass
from typing import Final, Self

from espudp.errors import WireError
from espudp.wire.buffer import Buffer, Reader, Writer
from espudp.wire.ikev1 import constants as c

HEADER_OCTETS: Final = 28
COOKIE_OCTETS: Final = 8


@dataclass(frozen=True, slots=True)
class Header:
    """The first 28 octets of every ISAKMP message. Reserved flags and the minor version are ignored."""

    cookie_i: bytes
    """The initiator's cookie, 8 octets, never zeros."""
    cookie_r: bytes
    """The responder's cookie, 8 octets; zeros in the first message."""
    next_payload: int
    exchange: int
    message_id: int
    """0 in phase 1; after it the number of one exchange, chosen at random by who begins it."""
    encrypted: bool = False
    """The E flag: all behind the header is ciphertext."""
    commit: bool = False
    """The C flag: the other side shall wait for CONNECTED (RFC 2408 section 3.1)."""
    authentication_only: bool = False
    """The A flag: a notification that is authenticated and not encrypted."""
    length: int = 0
    """Octets of the whole message with this header; filled in by `emit_message`."""
    major: int = c.MAJOR_VERSION
    minor: int = 0

    @classmethod
    def parse(cls, data: Buffer) -> Self:
        """Reads the front of `data`, whatever its version. Raises WireError below 28 octets; does not
        compare `length`."""
        if len(data) < HEADER_OCTETS:
            raise WireError(f"an ISAKMP message of {len(data)} octets is shorter than its header")
        reader = Reader(data)
        cookie_i = reader.take(COOKIE_OCTETS)
        cookie_r = reader.take(COOKIE_OCTETS)
        next_payload = reader.u8()
        version = reader.u8()
        exchange = reader.u8()
        flags = reader.u8()
        return cls(
            cookie_i,
            cookie_r,
            next_payload,
            exchange,
            message_id=reader.u32(),
            encrypted=bool(flags & c.FLAG_ENCRYPTED),
            commit=bool(flags & c.FLAG_COMMIT),
            authentication_only=bool(flags & c.FLAG_AUTHENTICATION_ONLY),
            length=reader.u32(),
            major=version >> 4,
            minor=version & 0x0F,
        )

    def emit(self) -> bytes:
        """28 octets. Raises WireError for a field that is out of its range."""
        if len(self.cookie_i) != COOKIE_OCTETS or len(self.cookie_r) != COOKIE_OCTETS:
            raise WireError("an ISAKMP cookie has 8 octets")
        if not (0 <= self.major <= 15 and 0 <= self.minor <= 15):
            raise WireError(f"version {self.major}.{self.minor} does not fit in 4 bits each")
        writer = Writer()
        writer.put(self.cookie_i)
        writer.put(self.cookie_r)
        writer.u8(self.next_payload)
        writer.u8(self.major << 4 | self.minor)
        writer.u8(self.exchange)
        writer.u8(self._flags())
        writer.u32(self.message_id)
        writer.u32(self.length)
        return writer.getvalue()

    def _flags(self) -> int:
        return (
            (c.FLAG_ENCRYPTED if self.encrypted else 0)
            | (c.FLAG_COMMIT if self.commit else 0)
            | (c.FLAG_AUTHENTICATION_ONLY if self.authentication_only else 0)
        )
