"""IKE messages: a header and a chain of payloads (RFC 7296 sections 3.1 and 3.2).

    IKE header | generic header, body | generic header, body | ...

Each header names the type of the payload behind it. The Encrypted payload ends the chain of the
datagram, and what is inside, once decrypted, is a chain of its own (`parse_payloads`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from espudp.errors import WireError
from espudp.wire.buffer import Buffer, Reader, Writer
from espudp.wire.ikev2 import constants as c
from espudp.wire.ikev2.header import HEADER_OCTETS, Header
from espudp.wire.ikev2.payloads import (
    BY_TYPE,
    Encrypted,
    EncryptedFragment,
    Notify,
    Payload,
    Protected,
    Unknown,
    type_of,
)

# Our bound, for outer and inner payloads together. A long certificate chain stays well below.
MAX_PAYLOADS: Final = 64

# RFC 7296 section 3.2
PAYLOAD_HEADER_OCTETS: Final = 4
# RFC 7296 section 3.14: the generic header of the Encrypted payload, in front of the IV
SK_HEADER_OCTETS: Final = PAYLOAD_HEADER_OCTETS
# RFC 7383 section 2.5: behind it, the number of the fragment and how many there are
SKF_HEADER_OCTETS: Final = SK_HEADER_OCTETS + 4

P = TypeVar("P", bound=Payload)


@dataclass(frozen=True, slots=True)
class Message:
    """A parsed message; which payloads it may have is for whoever knows the exchange."""

    header: Header
    payloads: tuple[Payload, ...]

    def get(self, kind: type[P]) -> P | None:
        """The first payload of a class, if there is one."""
        return next((p for p in self.payloads if isinstance(p, kind)), None)

    def all(self, kind: type[P]) -> list[P]:
        """Every payload of a class, in order."""
        return [p for p in self.payloads if isinstance(p, kind)]

    def notify(self, type: int) -> Notify | None:
        """The first Notify payload of a type, if there is one."""
        return next((n for n in self.notifies() if n.type == type), None)

    def notifies(self) -> list[Notify]:
        """Every Notify payload, in order."""
        return self.all(Notify)


def parse_message(data: Buffer) -> Message:
    """Parses a datagram of IKEv2 (behind the non-ESP marker). An Encrypted payload stays closed.

    Raises WireError where anything disagrees with anything, and for another major version: who wants to
    answer that one looks at `Header.parse` first.
    """
    header = Header.parse(data)
    if header.major != c.MAJOR_VERSION:
        raise WireError(f"a message of IKE version {header.major}.{header.minor}")
    if header.length != len(data):
        raise WireError(f"a length field of {header.length} in a message of {len(data)} octets")
    reader = Reader(memoryview(data)[HEADER_OCTETS:])
    return Message(header, _parse_chain(header.next_payload, reader, MAX_PAYLOADS))


def parse_payloads(first: int, data: Buffer, *, outer: int = 0) -> tuple[Payload, ...]:
    """Parses the decrypted inside of an Encrypted payload whose header named `first`.

    `outer` is the number of payloads of the datagram around it, which count towards the same bound.
    Raises WireError, also for an Encrypted payload within.
    """
    payloads = _parse_chain(first, Reader(data), MAX_PAYLOADS - outer)
    if any(isinstance(p, Protected) for p in payloads):
        raise WireError("an Encrypted payload inside another")
    return payloads


def _parse_chain(first: int, reader: Reader, at_most: int) -> tuple[Payload, ...]:
    payloads: list[Payload] = []
    type_ = first
    while type_ != c.PayloadType.NONE:
        if len(payloads) >= at_most:
            raise WireError(f"more than {MAX_PAYLOADS} payloads")
        try:
            type_, payload = _parse_payload(type_, reader)
        except WireError as error:
            raise WireError(f"{c.name_of_payload(type_)}: {error}") from None
        payloads.append(payload)
    reader.expect_end()
    return tuple(payloads)


def _parse_payload(type_: int, reader: Reader) -> tuple[int, Payload]:
    """Takes one payload with its generic header; returns the type of the next one too."""
    next_payload = reader.u8()
    critical = bool(reader.u8() & c.CRITICAL)
    body = reader.sub(reader.u16() - PAYLOAD_HEADER_OCTETS)
    # RFC 7296 section 3.14, RFC 7383 section 2.5: the field names the first payload inside, and nothing
    # comes behind
    if type_ == c.PayloadType.SK:
        return c.PayloadType.NONE, Encrypted.parse(next_payload, body)
    if type_ == c.PayloadType.SKF:
        return c.PayloadType.NONE, EncryptedFragment.parse(next_payload, body)
    kind = BY_TYPE.get(type_)
    if kind is None:
        return next_payload, Unknown(type_, critical, body.rest())
    # RFC 7296 section 2.5: the critical bit means nothing for a type that is known
    payload = kind.parse(body)
    body.expect_end()
    return next_payload, payload


def emit_payloads(payloads: Sequence[Payload]) -> tuple[int, bytes]:
    """A chain in the order given, and the type of its first payload (0 for an empty chain).

    Raises WireError where an Encrypted payload is not the last one.
    """
    types = [type_of(p) for p in payloads]
    writer = Writer()
    for index, payload in enumerate(payloads):
        last = index + 1 == len(payloads)
        if isinstance(payload, Protected):
            if not last:
                raise WireError("an Encrypted payload must be the last one")
            writer.u8(payload.first_payload)
        else:
            writer.u8(c.PayloadType.NONE if last else types[index + 1])
        writer.u8(c.CRITICAL if isinstance(payload, Unknown) and payload.critical else 0)
        with writer.length16(include=PAYLOAD_HEADER_OCTETS):
            payload.emit(writer)
    return (types[0] if types else c.PayloadType.NONE), writer.getvalue()


def emit_message(header: Header, payloads: Sequence[Payload]) -> bytes:
    """A whole datagram; `next_payload` and `length` of `header` are worked out here."""
    first, chain = emit_payloads(payloads)
    return replace(header, next_payload=first, length=HEADER_OCTETS + len(chain)).emit() + chain


def protected_aad(header: Header, first_inner: int, body_octets: int) -> bytes:
    """What precedes the IV of a message with nothing but an Encrypted payload of `body_octets` octets.

    That is the IKE header and the payload's generic header with their lengths filled in: associated data
    of an AEAD (RFC 5282 section 5.1), and the first of what a MAC covers (RFC 7296 section 3.14). The
    message is these 32 octets and the body.
    """
    return _aad(header, c.PayloadType.SK, first_inner, b"", body_octets)


def fragment_aad(header: Header, first_inner: int, number: int, total: int, body_octets: int) -> bytes:
    """As `protected_aad`, for fragment `number` of `total` (RFC 7383 section 2.5): 36 octets."""
    fields = number.to_bytes(2) + total.to_bytes(2)
    return _aad(header, c.PayloadType.SKF, first_inner if number == 1 else 0, fields, body_octets)


def _aad(header: Header, type_: int, first_inner: int, fields: bytes, body_octets: int) -> bytes:
    octets = SK_HEADER_OCTETS + len(fields) + body_octets
    writer = Writer()
    writer.put(replace(header, next_payload=type_, length=HEADER_OCTETS + octets).emit())
    writer.u8(first_inner)
    writer.u8(0)
    writer.u16(octets)
    writer.put(fields)
    return writer.getvalue()
