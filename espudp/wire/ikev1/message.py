"""ISAKMP messages: a header and a chain of payloads (RFC 2408 sections 3.1 and 3.2).

    ISAKMP header | generic header, body | generic header, body | ... | padding

Each header names the type of the payload behind it. With the E flag all behind the header is ciphertext,
which, once decrypted, is such a chain with the cipher's padding behind it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from espudp.errors import WireError
from espudp.wire.buffer import Buffer, Reader, Writer
from espudp.wire.ikev1 import constants as c
from espudp.wire.ikev1.header import HEADER_OCTETS, Header
from espudp.wire.ikev1.payloads import Hash, Notification, Payload, parse_body, type_of

# Our bound. A long certificate chain beside every vendor id that is known stays below.
MAX_PAYLOADS: Final = 64

# RFC 2408 section 3.2
PAYLOAD_HEADER_OCTETS: Final = 4
# Some stacks align messages in the clear to 4 octets, as if they were to be encrypted
_MAX_CLEAR_PADDING: Final = 3

P = TypeVar("P", bound=Payload)


@dataclass(frozen=True, slots=True)
class Message:
    """A parsed message; which payloads it may have is for whoever knows the exchange."""

    header: Header
    payloads: tuple[Payload, ...] = ()
    """None while the message is still encrypted."""
    body: bytes = b""
    """All behind the header as it came: the ciphertext of a message that is still encrypted."""
    after_hash: bytes = b""
    """What HASH(1) and the like cover (RFC 2409 section 5.5): the payloads behind a leading HASH payload
    with their headers, without padding. Empty where none leads."""

    def get(self, kind: type[P]) -> P | None:
        """The first payload of a class, if there is one."""
        return next((p for p in self.payloads if isinstance(p, kind)), None)

    def all(self, kind: type[P]) -> list[P]:
        """Every payload of a class, in order."""
        return [p for p in self.payloads if isinstance(p, kind)]

    def notify(self, type: int) -> Notification | None:
        """The first Notification of a type, if there is one."""
        return next((n for n in self.all(Notification) if n.type == type), None)


def parse_message(data: Buffer) -> Message:
    """Parses a datagram of IKEv1 (behind the non-ESP marker). One with the E flag stays closed: its
    `body` is for `open_message`.

    Raises WireError where anything disagrees with anything, and for another major version: who wants to
    answer that one looks at `Header.parse` first.
    """
    header = Header.parse(data)
    if header.major != c.MAJOR_VERSION:
        raise WireError(f"a message of IKE version {header.major}.{header.minor}")
    if header.length != len(data):
        raise WireError(f"a length field of {header.length} in a message of {len(data)} octets")
    body = bytes(memoryview(data)[HEADER_OCTETS:])
    # A fragment is never encrypted itself, though some copy the flag of the message in it.
    if header.encrypted and header.next_payload != c.PayloadType.FRAGMENT:
        return Message(header, body=body)
    message, padding = _parse_chain(header, body)
    if padding > _MAX_CLEAR_PADDING:
        raise WireError(f"{padding} octets too many")
    return message


def open_message(header: Header, plaintext: bytes) -> Message:
    """Parses what a message with the E flag held, whose first payload `header` names. What the chain leaves
    over is padding, of any size and content (RFC 2409 appendix B). Raises WireError."""
    return _parse_chain(header, plaintext)[0]


def parse_payloads(first: int, data: Buffer) -> tuple[Payload, ...]:
    """Parses a chain whose first payload is of type `first`, and nothing behind it. Raises WireError."""
    reader = Reader(data)
    payloads = tuple(payload for payload, _ in _payloads(first, reader))
    reader.expect_end()
    return payloads


def _parse_chain(header: Header, body: bytes) -> tuple[Message, int]:
    """The message, and how many octets of `body` are behind its last payload."""
    reader = Reader(body)
    chain = _payloads(header.next_payload, reader)
    padding = reader.remaining
    after_hash = b""
    if chain and isinstance(chain[0][0], Hash):
        after_hash = body[chain[0][1] : len(body) - padding]
    return Message(header, tuple(payload for payload, _ in chain), body, after_hash), padding


def _payloads(first: int, reader: Reader) -> list[tuple[Payload, int]]:
    """Each payload of a chain, and where it ends."""
    octets = reader.remaining
    chain: list[tuple[Payload, int]] = []
    type_ = first
    while type_ != c.PayloadType.NONE:
        if len(chain) >= MAX_PAYLOADS:
            raise WireError(f"more than {MAX_PAYLOADS} payloads")
        try:
            next_payload = reader.u8()
            reader.skip(1)
            payload = parse_body(type_, reader.sub(reader.u16() - PAYLOAD_HEADER_OCTETS))
        except WireError as error:
            raise WireError(f"{c.name_of_payload(type_)}: {error}") from None
        chain.append((payload, octets - reader.remaining))
        type_ = next_payload
    return chain


def emit_payloads(payloads: Sequence[Payload]) -> tuple[int, bytes]:
    """A chain in the order given, and the type of its first payload (0 for an empty chain)."""
    types = [type_of(p) for p in payloads]
    writer = Writer()
    for payload, next_payload in zip(payloads, [*types[1:], c.PayloadType.NONE], strict=False):
        writer.u8(next_payload)
        writer.u8(0)
        with writer.length16(include=PAYLOAD_HEADER_OCTETS):
            payload.emit(writer)
    return (types[0] if types else c.PayloadType.NONE), writer.getvalue()


def emit_message(header: Header, payloads: Sequence[Payload]) -> bytes:
    """A whole datagram in the clear; `next_payload` and `length` of `header` are worked out here."""
    first, chain = emit_payloads(payloads)
    return _framed(replace(header, encrypted=False), first, chain)


def emit_encrypted(header: Header, first: int, ciphertext: bytes) -> bytes:
    """A whole datagram around a chain that has been padded and encrypted, and begins with `first`."""
    return _framed(replace(header, encrypted=True), first, ciphertext)


def _framed(header: Header, first: int, body: bytes) -> bytes:
    return replace(header, next_payload=first, length=HEADER_OCTETS + len(body)).emit() + body
