"""The payloads of IKEv1 (RFC 2408 section 3), without the generic header, which `message` reads and writes.

`parse` takes a reader that holds the payload's body and nothing else, and may leave octets over: whoever
calls it checks that it did not. Reserved fields are ignored on receipt and sent as zero. What hashes and
signatures cover is a payload's body as it was sent; `body_of` gives it back, octet by octet.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Final, Self

from espudp.errors import WireError
from espudp.wire.buffer import Reader, Writer
from espudp.wire.ikev1 import constants as c
from espudp.wire.ikev1.attributes import Attribute, emit_attributes, parse_attributes
from espudp.wire.ikev1.proposal import (
    MAX_SPI_OCTETS,
    Proposal,
    check_spi_octets,
    emit_proposals,
    parse_proposals,
)

# RFC 2409 section 5
MIN_NONCE_OCTETS: Final = 8
MAX_NONCE_OCTETS: Final = 256
# Our bound on an identity: it is shown, compared and remembered, some of it before authentication
MAX_IDENTITY_OCTETS: Final = 1024
# RFC 2408 section 2.4: an ISAKMP SA is named by both cookies
ISAKMP_SPI_OCTETS: Final = 16

# [MS-IKEE] section 2.2.5
_LAST_FRAGMENT: Final = 0x01

# RFC 2407 section 4.6.2: an address, an address with its mask, the first address of a range and the last
_IDENTITY_OCTETS: Final[dict[int, int]] = {
    c.IdType.IPV4_ADDR: 4,
    c.IdType.IPV4_ADDR_SUBNET: 8,
    c.IdType.IPV6_ADDR: 16,
    c.IdType.IPV6_ADDR_SUBNET: 32,
    c.IdType.IPV4_ADDR_RANGE: 8,
    c.IdType.IPV6_ADDR_RANGE: 32,
}


@dataclass(frozen=True, slots=True)
class _Octets:
    """A payload whose body is octets and nothing else."""

    data: bytes

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        return cls(reader.rest())

    def emit(self, writer: Writer) -> None:
        writer.put(self.data)


@dataclass(frozen=True, slots=True)
class _Encoded:
    """A payload about certificates: how its octets are encoded, and they."""

    encoding: int
    data: bytes = b""

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        return cls(reader.u8(), reader.rest())

    def emit(self, writer: Writer) -> None:
        writer.u8(self.encoding)
        writer.put(self.data)


@dataclass(frozen=True, slots=True)
class SecurityAssociation:
    """SA, section 3.4. HASH_I and HASH_R cover the initiator's `body` as it came, so it is kept."""

    TYPE: ClassVar[int] = c.PayloadType.SA
    body: bytes = field(repr=False)
    """All behind the generic header."""
    doi: int = c.DOI_IPSEC
    situation: int = c.SIT_IDENTITY_ONLY
    proposals: tuple[Proposal, ...] = ()
    """Empty for a domain of interpretation or a situation that is not ours: nothing in it is understood."""

    @classmethod
    def of(cls, proposals: tuple[Proposal, ...]) -> Self:
        """What is offered, or what was chosen."""
        writer = Writer()
        writer.u32(c.DOI_IPSEC)
        writer.u32(c.SIT_IDENTITY_ONLY)
        emit_proposals(writer, proposals)
        return cls(writer.getvalue(), proposals=proposals)

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        body = reader.rest()
        inner = Reader(body)
        doi = inner.u32()
        # RFC 2408 section 3.4: behind the domain, everything is laid out as the domain says. In phase 1
        # zero stands for any.
        situation = inner.u32() if doi in (c.DOI_ISAKMP, c.DOI_IPSEC) else 0
        if situation != c.SIT_IDENTITY_ONLY:
            return cls(body, doi, situation)
        return cls(body, doi, situation, parse_proposals(inner))

    def emit(self, writer: Writer) -> None:
        writer.put(self.body)


@dataclass(frozen=True, slots=True)
class KeyExchange(_Octets):
    """KE, section 3.7: a public value. Whether its size fits the group, the group's arithmetic checks."""

    TYPE: ClassVar[int] = c.PayloadType.KE


@dataclass(frozen=True, slots=True)
class Identification:
    """ID, section 3.8 and RFC 2407 section 4.6.2: of a peer in phase 1, of traffic in phase 2."""

    TYPE: ClassVar[int] = c.PayloadType.ID
    id_type: int
    data: bytes
    protocol: int = 0
    """0 for any; in phase 1 nothing, or UDP."""
    port: int = 0
    """0 for any; in phase 1 nothing, or 500 or 4500."""

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Raises WireError for an address of the wrong size, so that every identity can be shown."""
        id_type, protocol, port = reader.u8(), reader.u8(), reader.u16()
        return cls(id_type, _identity(id_type, reader), protocol, port)

    def emit(self, writer: Writer) -> None:
        writer.u8(self.id_type)
        writer.u8(self.protocol)
        writer.u16(self.port)
        writer.put(self.data)


def _identity(id_type: int, reader: Reader) -> bytes:
    data = reader.rest()
    if len(data) != _IDENTITY_OCTETS.get(id_type, min(len(data), MAX_IDENTITY_OCTETS)):
        raise WireError(f"{c.name_of_id_type(id_type)} of {len(data)} octets")
    return data


@dataclass(frozen=True, slots=True)
class Certificate(_Encoded):
    """CERT, section 3.9."""

    TYPE: ClassVar[int] = c.PayloadType.CERT


@dataclass(frozen=True, slots=True)
class CertificateRequest(_Encoded):
    """CERTREQ, section 3.10: the DN of one authority in DER, or nothing where any will do."""

    TYPE: ClassVar[int] = c.PayloadType.CERTREQ


@dataclass(frozen=True, slots=True)
class Hash(_Octets):
    """HASH, section 3.11."""

    TYPE: ClassVar[int] = c.PayloadType.HASH


@dataclass(frozen=True, slots=True)
class Signature(_Octets):
    """SIG, section 3.12."""

    TYPE: ClassVar[int] = c.PayloadType.SIG


@dataclass(frozen=True, slots=True)
class Nonce(_Octets):
    """Ni and Nr, section 3.13: 8 to 256 octets."""

    TYPE: ClassVar[int] = c.PayloadType.NONCE

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        data = reader.rest()
        if not MIN_NONCE_OCTETS <= len(data) <= MAX_NONCE_OCTETS:
            raise WireError(f"a nonce of {len(data)} octets")
        return cls(data)


@dataclass(frozen=True, slots=True)
class Notification:
    """N, section 3.14."""

    TYPE: ClassVar[int] = c.PayloadType.NOTIFICATION
    protocol: int
    spi: bytes
    """Of the SA that it is about, as `protocol` has them; both cookies for ISAKMP's; or empty."""
    type: int
    data: bytes = b""
    doi: int = c.DOI_IPSEC

    @property
    def is_error(self) -> bool:
        """Whether it reports a failure rather than a status."""
        return c.is_error(self.type)

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        doi, protocol, spi_octets, type_ = reader.u32(), reader.u8(), reader.u8(), reader.u16()
        if spi_octets > MAX_SPI_OCTETS:
            raise WireError(f"{c.name_of_notify(type_)} with an SPI of {spi_octets} octets")
        return cls(protocol, reader.take(spi_octets), type_, reader.rest(), doi)

    def emit(self, writer: Writer) -> None:
        writer.u32(self.doi)
        writer.u8(self.protocol)
        writer.u8(len(self.spi))
        writer.u16(self.type)
        writer.put(self.spi)
        writer.put(self.data)


@dataclass(frozen=True, slots=True)
class Delete:
    """D, section 3.15: SAs that the sender no longer has, by its own inbound SPIs, or by both cookies."""

    TYPE: ClassVar[int] = c.PayloadType.DELETE
    protocol: int
    spis: tuple[bytes, ...]
    doi: int = c.DOI_IPSEC

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Raises WireError unless size times count is what is there, before any SPI is kept."""
        doi, protocol, octets, count = reader.u32(), reader.u8(), reader.u8(), reader.u16()
        if octets or count:
            check_spi_octets(protocol, octets)
        if octets * count != reader.remaining or (count and not octets):
            raise WireError(f"{count} SPIs of {octets} octets in {reader.remaining}")
        return cls(protocol, tuple(reader.take(octets) for _ in range(count)), doi)

    def emit(self, writer: Writer) -> None:
        octets = len(self.spis[0]) if self.spis else 0
        if any(len(spi) != octets for spi in self.spis):
            raise WireError("SPIs of different sizes in one Delete payload")
        writer.u32(self.doi)
        writer.u8(self.protocol)
        writer.u8(octets)
        writer.u16(len(self.spis))
        writer.put(b"".join(self.spis))


@dataclass(frozen=True, slots=True)
class VendorId(_Octets):
    """VID, section 3.16; `vendor_ids` knows what some of them mean."""

    TYPE: ClassVar[int] = c.PayloadType.VENDOR_ID


@dataclass(frozen=True, slots=True)
class Attributes:
    """ATTR, draft-dukes-ike-mode-cfg-02 section 3.2: one message of XAUTH or of mode config."""

    TYPE: ClassVar[int] = c.PayloadType.ATTRIBUTES
    cfg_type: int
    identifier: int
    """Chosen by who begins, repeated in the answer."""
    attributes: tuple[Attribute, ...] = ()

    def values(self, attribute: int) -> tuple[bytes, ...]:
        """Every value of one attribute; empty values, which ask for one, included."""
        return tuple(a.value for a in self.attributes if a.type == attribute)

    def number(self, attribute: int) -> int | None:
        """The number that the first attribute of a type holds; None where it is absent, or no number."""
        return next((a.number for a in self.attributes if a.type == attribute), None)

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        cfg_type = reader.u8()
        reader.skip(1)
        # libreswan aligns the end to 4 octets
        return cls(cfg_type, reader.u16(), parse_attributes(reader, padded=True))

    def emit(self, writer: Writer) -> None:
        writer.u8(self.cfg_type)
        writer.u8(0)
        writer.u16(self.identifier)
        emit_attributes(writer, self.attributes)


@dataclass(frozen=True, slots=True)
class NatDiscovery:
    """NAT-D, RFC 3947 section 3.2: the hash of an address and a port.

    Under which number, the agreed version of NAT traversal says: one that was not agreed on means nothing
    (the lesson of CVE-2015-3204).
    """

    hash: bytes
    type: int = c.PayloadType.NAT_D
    """NAT_D, NAT_D_DRAFT or NAT_D_DRAFT_04."""

    @classmethod
    def parse(cls, type: int, reader: Reader) -> Self:
        return cls(reader.rest(), type)

    def emit(self, writer: Writer) -> None:
        writer.put(self.hash)


@dataclass(frozen=True, slots=True)
class NatOriginalAddress:
    """NAT-OA, RFC 3947 section 5.2: an address of the sender's, or as the sender knows the receiver."""

    id_type: int
    """IPV4_ADDR or IPV6_ADDR."""
    address: bytes
    type: int = c.PayloadType.NAT_OA
    """NAT_OA, NAT_OA_DRAFT or NAT_OA_DRAFT_04."""

    @classmethod
    def parse(cls, type: int, reader: Reader) -> Self:
        id_type = reader.u8()
        reader.skip(3)
        if id_type not in (c.IdType.IPV4_ADDR, c.IdType.IPV6_ADDR):
            raise WireError(f"an original address that is {c.name_of_id_type(id_type)}")
        return cls(id_type, _identity(id_type, reader), type)

    def emit(self, writer: Writer) -> None:
        writer.u8(self.id_type)
        writer.put(bytes(3))
        writer.put(self.address)


@dataclass(frozen=True, slots=True)
class Fragment:
    """FRAG of Cisco and Microsoft ([MS-IKEE] section 2.2.5): a part of a message. Always the only payload."""

    TYPE: ClassVar[int] = c.PayloadType.FRAGMENT
    fragment_id: int
    """The same in all parts of a message, 1 and up."""
    number: int
    """1 and up."""
    is_last: bool
    data: bytes

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Raises WireError for a fragment without a number, or with nothing in it."""
        fragment_id, number, flags = reader.u16(), reader.u8(), reader.u8()
        data = reader.rest()
        if not number or not data:
            raise WireError(f"fragment {number} of {len(data)} octets")
        return cls(fragment_id, number, bool(flags & _LAST_FRAGMENT), data)

    def emit(self, writer: Writer) -> None:
        writer.u16(self.fragment_id)
        writer.u8(self.number)
        writer.u8(_LAST_FRAGMENT if self.is_last else 0)
        writer.put(self.data)


@dataclass(frozen=True, slots=True)
class Unknown:
    """A payload of a type that is not in the table: ignored."""

    type: int
    data: bytes

    @classmethod
    def parse(cls, type: int, reader: Reader) -> Self:
        return cls(type, reader.rest())

    def emit(self, writer: Writer) -> None:
        writer.put(self.data)


FixedType = (
    SecurityAssociation
    | KeyExchange
    | Identification
    | Certificate
    | CertificateRequest
    | Hash
    | Signature
    | Nonce
    | Notification
    | Delete
    | VendorId
    | Attributes
    | Fragment
)
# Those that say themselves under which number they go.
AnyType = NatDiscovery | NatOriginalAddress | Unknown
Payload = FixedType | AnyType

_KINDS: Final[tuple[type[FixedType], ...]] = (
    SecurityAssociation,
    KeyExchange,
    Identification,
    Certificate,
    CertificateRequest,
    Hash,
    Signature,
    Nonce,
    Notification,
    Delete,
    VendorId,
    Attributes,
    Fragment,
)
# The payload table of this major version. A type of IKEv2 is not in it, and so is Unknown (CVE-2015-3991).
BY_TYPE: Final[dict[int, type[FixedType]]] = {kind.TYPE: kind for kind in _KINDS}

_NUMBERED: Final[dict[int, type[NatDiscovery | NatOriginalAddress]]] = {
    c.PayloadType.NAT_D: NatDiscovery,
    c.PayloadType.NAT_D_DRAFT: NatDiscovery,
    c.PayloadType.NAT_D_DRAFT_04: NatDiscovery,
    c.PayloadType.NAT_OA: NatOriginalAddress,
    c.PayloadType.NAT_OA_DRAFT: NatOriginalAddress,
    c.PayloadType.NAT_OA_DRAFT_04: NatOriginalAddress,
}


def parse_body(type: int, reader: Reader) -> Payload:
    """The payload of a type, whose body `reader` holds. Raises WireError, also for octets left over."""
    kind = BY_TYPE.get(type)
    payload = _NUMBERED.get(type, Unknown).parse(type, reader) if kind is None else kind.parse(reader)
    reader.expect_end()
    return payload


def type_of(payload: Payload) -> int:
    """The payload type that the header in front of `payload` announces."""
    return payload.type if isinstance(payload, AnyType) else payload.TYPE


def body_of(payload: Payload) -> bytes:
    """What stands behind the generic header: RFC 2409's "_b" of a payload."""
    writer = Writer()
    payload.emit(writer)
    return writer.getvalue()
