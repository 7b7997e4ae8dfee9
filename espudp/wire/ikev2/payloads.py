"""The payloads of IKEv2 (RFC 7296 section 3), without the generic header, which `message` reads and writes.

`parse` takes a reader that holds the payload's body and nothing else, and may leave octets over: whoever
calls it checks that it did not. Reserved fields are ignored on receipt and sent as zero.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Final, Self

from espudp.errors import WireError
from espudp.wire.buffer import Reader, Writer
from espudp.wire.ikev2 import constants as c
from espudp.wire.ikev2.proposal import Proposal, check_spi_octets, emit_proposals, parse_proposals
from espudp.wire.ikev2.selectors import emit_selectors, parse_selectors
from espudp.wire.selectors import TrafficSelector

# RFC 7296 section 2.10
MIN_NONCE_OCTETS: Final = 16
MAX_NONCE_OCTETS: Final = 256
# RFC 7296 section 3.16: code, identifier and length
MIN_EAP_OCTETS: Final = 4
# Our bound on what one configuration payload makes us keep
MAX_ATTRIBUTES: Final = 256

# RFC 7296 section 3.10: SPIs of no protocol, of ESP and AH, of IKE
_NOTIFY_SPI_OCTETS: Final = (0, 4, 8)

# Our bound on an identity: it is shown, compared and remembered, some of it before authentication
MAX_IDENTITY_OCTETS: Final = 1024

# RFC 7296 section 3.5
_IDENTITY_OCTETS: Final[dict[int, int]] = {c.IdType.IPV4_ADDR: 4, c.IdType.IPV6_ADDR: 16}

# RFC 7296 section 3.15.1 and RFC 7651: attributes of a fixed size, which may also be empty
_ATTRIBUTE_OCTETS: Final[dict[int, int]] = {
    c.CfgAttribute.INTERNAL_IP4_ADDRESS: 4,
    c.CfgAttribute.INTERNAL_IP4_NETMASK: 4,
    c.CfgAttribute.INTERNAL_IP4_DNS: 4,
    c.CfgAttribute.INTERNAL_IP4_NBNS: 4,
    c.CfgAttribute.INTERNAL_IP4_DHCP: 4,
    c.CfgAttribute.INTERNAL_IP6_ADDRESS: 17,
    c.CfgAttribute.INTERNAL_IP6_DNS: 16,
    c.CfgAttribute.INTERNAL_IP6_DHCP: 16,
    c.CfgAttribute.INTERNAL_IP4_SUBNET: 8,
    c.CfgAttribute.INTERNAL_IP6_SUBNET: 17,
    c.CfgAttribute.P_CSCF_IP4_ADDRESS: 4,
    c.CfgAttribute.P_CSCF_IP6_ADDRESS: 16,
}

# RFC 8598 section 4: at most a domain name (RFC 1035 section 2.3.4), and a digest behind four octets.
_ATTRIBUTE_RANGES: Final[dict[int, range]] = {
    c.CfgAttribute.INTERNAL_DNS_DOMAIN: range(256),
    c.CfgAttribute.INTERNAL_DNSSEC_TA: range(5, 256),
}


@dataclass(frozen=True, slots=True)
class SecurityAssociation:
    """SA, section 3.3: proposals in the order of preference, or the one that was accepted."""

    TYPE: ClassVar[int] = c.PayloadType.SA
    proposals: tuple[Proposal, ...]

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        return cls(parse_proposals(reader))

    def emit(self, writer: Writer) -> None:
        emit_proposals(writer, self.proposals)


@dataclass(frozen=True, slots=True)
class KeyExchange:
    """KE, section 3.4: a public value. Whether its size fits the group, the group's arithmetic checks."""

    TYPE: ClassVar[int] = c.PayloadType.KE
    group: int
    data: bytes

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        group = reader.u16()
        reader.skip(2)
        return cls(group, reader.rest())

    def emit(self, writer: Writer) -> None:
        writer.u16(self.group)
        writer.u16(0)
        writer.put(self.data)


@dataclass(frozen=True, slots=True)
class Identification:
    """What IDi and IDr have in common, section 3.5. Two identities are equal octet by octet, or not."""

    id_type: int
    data: bytes

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Raises WireError for an address of the wrong size, so that every identity can be shown."""
        id_type = reader.u8()
        reader.skip(3)
        data = reader.rest()
        if len(data) != _IDENTITY_OCTETS.get(id_type, min(len(data), MAX_IDENTITY_OCTETS)):
            raise WireError(f"{c.name_of_id_type(id_type)} of {len(data)} octets")
        return cls(id_type, data)

    def emit(self, writer: Writer) -> None:
        writer.u8(self.id_type)
        writer.put(bytes(3))
        writer.put(self.data)


@dataclass(frozen=True, slots=True)
class IdInitiator(Identification):
    """IDi, section 3.5."""

    TYPE: ClassVar[int] = c.PayloadType.IDI


@dataclass(frozen=True, slots=True)
class IdResponder(Identification):
    """IDr, section 3.5."""

    TYPE: ClassVar[int] = c.PayloadType.IDR


@dataclass(frozen=True, slots=True)
class Certificate:
    """CERT, section 3.6."""

    TYPE: ClassVar[int] = c.PayloadType.CERT
    encoding: int
    data: bytes

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        return cls(reader.u8(), reader.rest())

    def emit(self, writer: Writer) -> None:
        writer.u8(self.encoding)
        writer.put(self.data)


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """CERTREQ, section 3.7: for X.509, SHA-1 hashes of the authorities' keys, 20 octets each."""

    TYPE: ClassVar[int] = c.PayloadType.CERTREQ
    encoding: int
    data: bytes

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        return cls(reader.u8(), reader.rest())

    def emit(self, writer: Writer) -> None:
        writer.u8(self.encoding)
        writer.put(self.data)


@dataclass(frozen=True, slots=True)
class Authentication:
    """AUTH, section 3.8."""

    TYPE: ClassVar[int] = c.PayloadType.AUTH
    method: int
    data: bytes

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        method = reader.u8()
        reader.skip(3)
        return cls(method, reader.rest())

    def emit(self, writer: Writer) -> None:
        writer.u8(self.method)
        writer.put(bytes(3))
        writer.put(self.data)


@dataclass(frozen=True, slots=True)
class Nonce:
    """Ni and Nr, section 3.9: 16 to 256 octets."""

    TYPE: ClassVar[int] = c.PayloadType.NONCE
    data: bytes

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        data = reader.rest()
        if not MIN_NONCE_OCTETS <= len(data) <= MAX_NONCE_OCTETS:
            raise WireError(f"a nonce of {len(data)} octets")
        return cls(data)

    def emit(self, writer: Writer) -> None:
        writer.put(self.data)


@dataclass(frozen=True, slots=True)
class Notify:
    """N, section 3.10."""

    TYPE: ClassVar[int] = c.PayloadType.NOTIFY
    protocol: int
    """Of the SA that `spi` names; 0 where there is none."""
    spi: bytes
    type: int
    data: bytes

    @classmethod
    def of(cls, type: int, data: bytes = b"", protocol: int = c.ProtocolId.NONE, spi: bytes = b"") -> Self:
        """A notify with what most of them leave out left out."""
        return cls(protocol, spi, type, data)

    @property
    def is_error(self) -> bool:
        """Whether it reports a failure rather than a status."""
        return c.is_error(self.type)

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        protocol, spi_octets, type_ = reader.u8(), reader.u8(), reader.u16()
        if spi_octets not in _NOTIFY_SPI_OCTETS:
            raise WireError(f"{c.name_of_notify(type_)} with an SPI of {spi_octets} octets")
        return cls(protocol, reader.take(spi_octets), type_, reader.rest())

    def emit(self, writer: Writer) -> None:
        writer.u8(self.protocol)
        writer.u8(len(self.spi))
        writer.u16(self.type)
        writer.put(self.spi)
        writer.put(self.data)


@dataclass(frozen=True, slots=True)
class Delete:
    """D, section 3.11: SAs that the sender no longer has, by its own inbound SPIs; for IKE without any."""

    TYPE: ClassVar[int] = c.PayloadType.DELETE
    protocol: int
    spis: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Raises WireError unless size times count is what is there, before any SPI is kept."""
        protocol, octets, count = reader.u8(), reader.u8(), reader.u16()
        if octets or count:
            check_spi_octets(protocol, octets)
        if octets * count != reader.remaining or (count and not octets):
            raise WireError(f"{count} SPIs of {octets} octets in {reader.remaining}")
        return cls(protocol, tuple(reader.take(octets) for _ in range(count)))

    def emit(self, writer: Writer) -> None:
        octets = len(self.spis[0]) if self.spis else 0
        if any(len(spi) != octets for spi in self.spis):
            raise WireError("SPIs of different sizes in one Delete payload")
        writer.u8(self.protocol)
        writer.u8(octets)
        writer.u16(len(self.spis))
        writer.put(b"".join(self.spis))


@dataclass(frozen=True, slots=True)
class VendorId:
    """V, section 3.12."""

    TYPE: ClassVar[int] = c.PayloadType.VENDOR_ID
    data: bytes

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        return cls(reader.rest())

    def emit(self, writer: Writer) -> None:
        writer.put(self.data)


@dataclass(frozen=True, slots=True)
class Selectors:
    """What TSi and TSr have in common, section 3.13."""

    selectors: tuple[TrafficSelector, ...]
    unknown: int = 0
    """How many selectors of types that we do not know were left out; not sent again."""

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        return cls(*parse_selectors(reader))

    def emit(self, writer: Writer) -> None:
        emit_selectors(writer, self.selectors)


@dataclass(frozen=True, slots=True)
class TsInitiator(Selectors):
    """TSi: the initiator's side of the traffic, section 3.13."""

    TYPE: ClassVar[int] = c.PayloadType.TSI


@dataclass(frozen=True, slots=True)
class TsResponder(Selectors):
    """TSr: the responder's side of the traffic, section 3.13."""

    TYPE: ClassVar[int] = c.PayloadType.TSR


@dataclass(frozen=True, slots=True)
class Encrypted:
    """SK, section 3.14: IV, ciphertext and ICV, not yet verified. Always the last payload."""

    TYPE: ClassVar[int] = c.PayloadType.SK
    first_payload: int
    """Type of the first payload inside."""
    body: bytes

    @classmethod
    def parse(cls, first_payload: int, reader: Reader) -> Self:
        return cls(first_payload, reader.rest())

    def emit(self, writer: Writer) -> None:
        writer.put(self.body)


@dataclass(frozen=True, slots=True)
class EncryptedFragment:
    """SKF, RFC 7383 section 2.5: one of `total` parts. Always the last payload."""

    TYPE: ClassVar[int] = c.PayloadType.SKF
    first_payload: int
    """Type of the first payload inside; 0 in all fragments but the first."""
    number: int
    """1 to `total`."""
    total: int
    body: bytes

    @classmethod
    def parse(cls, first_payload: int, reader: Reader) -> Self:
        number, total = reader.u16(), reader.u16()
        if not 1 <= number <= total:
            raise WireError(f"fragment {number} of {total}")
        if first_payload and number != 1:
            raise WireError(f"fragment {number} names a first payload")
        return cls(first_payload, number, total, reader.rest())

    def emit(self, writer: Writer) -> None:
        writer.u16(self.number)
        writer.u16(self.total)
        writer.put(self.body)


@dataclass(frozen=True, slots=True)
class Configuration:
    """CP, section 3.15: (type, value) pairs in their order; a type may occur more than once."""

    TYPE: ClassVar[int] = c.PayloadType.CP
    cfg_type: int
    attributes: tuple[tuple[int, bytes], ...] = ()

    def values(self, attribute: int) -> tuple[bytes, ...]:
        """Every value of one attribute; empty values, which ask for one, included."""
        return tuple(value for type_, value in self.attributes if type_ == attribute)

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        """Raises WireError for an attribute that is neither empty nor of the size that it should have."""
        cfg_type = reader.u8()
        reader.skip(3)
        attributes = []
        while reader.remaining:
            type_ = reader.u16() & 0x7FFF
            value = reader.take(reader.u16())
            octets = len(value)
            fits = octets in _ATTRIBUTE_RANGES.get(type_, (_ATTRIBUTE_OCTETS.get(type_, octets),))
            if value and not fits:
                raise WireError(f"{c.name_of_cfg_attribute(type_)} of {len(value)} octets")
            attributes.append((type_, value))
            if len(attributes) > MAX_ATTRIBUTES:
                raise WireError(f"more than {MAX_ATTRIBUTES} configuration attributes")
        return cls(cfg_type, tuple(attributes))

    def emit(self, writer: Writer) -> None:
        writer.u8(self.cfg_type)
        writer.put(bytes(3))
        for type_, value in self.attributes:
            writer.u16(type_)
            writer.u16(len(value))
            writer.put(value)


@dataclass(frozen=True, slots=True)
class Eap:
    """EAP, section 3.16: one EAP message, whose own length must be that of the body (unlike in RFC 3748)."""

    TYPE: ClassVar[int] = c.PayloadType.EAP
    data: bytes = field(repr=False)  # in some methods a password

    @classmethod
    def parse(cls, reader: Reader) -> Self:
        data = reader.rest()
        if len(data) < MIN_EAP_OCTETS or int.from_bytes(data[2:4], "big") != len(data):
            raise WireError(f"an EAP message whose length is not the {len(data)} octets that are there")
        return cls(data)

    def emit(self, writer: Writer) -> None:
        writer.put(self.data)


@dataclass(frozen=True, slots=True)
class Unknown:
    """A payload of a type that this version does not have, section 2.5: ignored, or refused if critical."""

    type: int
    critical: bool
    data: bytes

    def emit(self, writer: Writer) -> None:
        writer.put(self.data)


KnownPayload = (
    SecurityAssociation
    | KeyExchange
    | IdInitiator
    | IdResponder
    | Certificate
    | CertificateRequest
    | Authentication
    | Nonce
    | Notify
    | Delete
    | VendorId
    | TsInitiator
    | TsResponder
    | Configuration
    | Eap
)
Protected = Encrypted | EncryptedFragment
Payload = KnownPayload | Protected | Unknown

_KINDS: Final[tuple[type[KnownPayload], ...]] = (
    SecurityAssociation,
    KeyExchange,
    IdInitiator,
    IdResponder,
    Certificate,
    CertificateRequest,
    Authentication,
    Nonce,
    Notify,
    Delete,
    VendorId,
    TsInitiator,
    TsResponder,
    Configuration,
    Eap,
)
# The payload table of this major version. A type of IKEv1 is not in it, and so is Unknown.
BY_TYPE: Final[dict[int, type[KnownPayload]]] = {kind.TYPE: kind for kind in _KINDS}


def type_of(payload: Payload) -> int:
    """The payload type that the header in front of `payload` announces."""
    return payload.type if isinstance(payload, Unknown) else payload.TYPE
