"""Which payloads a message must and may carry (RFC 7296 sections 1.2 to 1.4 and appendix C), as data.

The rules are checked before any handler runs, so that a handler never meets a missing payload, nor two where
it takes one (CVE-2013-6466). Notify, Vendor ID and unknown payloads that are not critical may stand anywhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from espudp.wire.ikev2.constants import ExchangeType, NotifyType, ProtocolId, name_of_payload
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import (
    Authentication,
    Certificate,
    CertificateRequest,
    Configuration,
    Delete,
    Eap,
    IdInitiator,
    IdResponder,
    KeyExchange,
    Nonce,
    Notify,
    Payload,
    SecurityAssociation,
    TsInitiator,
    TsResponder,
    Unknown,
    VendorId,
)

# Bounds of ours where the RFC has none.
_MANY = 16


class Shape(Enum):
    """What an exchange is for, where its type does not say (RFC 7296 sections 1.3.1 to 1.3.3, 2.16)."""

    IKE_SA_INIT = auto()
    SESSION_RESUME = auto()
    IKE_AUTH = auto()
    CHILDLESS = auto()
    EAP_BEGIN = auto()
    EAP_BEGIN_CHILDLESS = auto()
    EAP = auto()
    EAP_PROOF = auto()
    ANOTHER_AUTH = auto()
    CREATE_CHILD = auto()
    REKEY_IKE = auto()
    INFORMATIONAL = auto()


@dataclass(frozen=True, slots=True)
class Rule:
    """`required`: exactly one of each. `optional`: at most so many of each. Anything else is out of place.

    `fallible`: with an error notify, asking for a cookie or sending us elsewhere, a message need not carry
    what success would.
    """

    required: tuple[type[Payload], ...] = ()
    optional: Mapping[type[Payload], int] = field(default_factory=dict)
    fallible: bool = False


_ANYWHERE: tuple[type[Payload], ...] = (Notify, VendorId, Unknown)

_CHILD = (SecurityAssociation, Nonce, TsInitiator, TsResponder)
_CERTS: dict[type[Payload], int] = {Certificate: _MANY, CertificateRequest: _MANY}

REQUESTS: Mapping[Shape, Rule] = {
    Shape.IKE_SA_INIT: Rule((SecurityAssociation, KeyExchange, Nonce)),
    # RFC 5723 section 4.3.2
    Shape.SESSION_RESUME: Rule((Nonce,)),
    Shape.IKE_AUTH: Rule(
        (IdInitiator, Authentication, SecurityAssociation, TsInitiator, TsResponder),
        {IdResponder: 1, Configuration: 1, **_CERTS},
    ),
    # RFC 6023 section 5
    Shape.CHILDLESS: Rule((IdInitiator, Authentication), {IdResponder: 1, Configuration: 1, **_CERTS}),
    Shape.EAP_BEGIN_CHILDLESS: Rule((IdInitiator,), {IdResponder: 1, Configuration: 1, **_CERTS}),
    # RFC 7296 section 2.16: without AUTH, whatever else comes then; EAP packets; AUTH from the method's key
    Shape.EAP_BEGIN: Rule(
        (IdInitiator, SecurityAssociation, TsInitiator, TsResponder),
        {IdResponder: 1, Configuration: 1, **_CERTS},
    ),
    Shape.EAP: Rule((Eap,)),
    Shape.EAP_PROOF: Rule((Authentication,)),
    # RFC 4739 section 2: without AUTH, EAP begins
    Shape.ANOTHER_AUTH: Rule((IdInitiator,), {Authentication: 1, **_CERTS}),
    # MikroTik sends a configuration payload here, and RFC 7296 section 2.19 lets it.
    Shape.CREATE_CHILD: Rule(_CHILD, {KeyExchange: 1, Configuration: 1}),
    Shape.REKEY_IKE: Rule((SecurityAssociation, Nonce, KeyExchange), {Configuration: 1}),
    Shape.INFORMATIONAL: Rule((), {Delete: _MANY, Configuration: 1}),
}

RESPONSES: Mapping[Shape, Rule] = {
    Shape.IKE_SA_INIT: Rule(
        (SecurityAssociation, KeyExchange, Nonce), {CertificateRequest: _MANY}, fallible=True
    ),
    Shape.SESSION_RESUME: Rule((Nonce,), fallible=True),
    # RFC 7296 section 2.21.2: with authentication, the child SA may be missing, an error notify in its place.
    Shape.IKE_AUTH: Rule(
        (IdResponder, Authentication),
        {SecurityAssociation: 1, TsInitiator: 1, TsResponder: 1, Configuration: 1, Certificate: _MANY},
        fallible=True,
    ),
    # RFC 7296 section 2.16; without AUTH by RFC 5998. The first may carry a proof for several turns of ours.
    Shape.EAP_BEGIN: Rule((IdResponder, Eap), {Authentication: 1, Certificate: _MANY}, fallible=True),
    Shape.EAP: Rule((Eap,), fallible=True),
    Shape.EAP_PROOF: Rule(
        (Authentication,),
        {SecurityAssociation: 1, TsInitiator: 1, TsResponder: 1, Configuration: 1},
        fallible=True,
    ),
    Shape.ANOTHER_AUTH: Rule(
        (),
        {SecurityAssociation: 1, TsInitiator: 1, TsResponder: 1, Configuration: 1, Authentication: 1},
        fallible=True,
    ),
    Shape.CREATE_CHILD: Rule(_CHILD, {KeyExchange: 1, Configuration: 1}, fallible=True),
    Shape.REKEY_IKE: Rule((SecurityAssociation, Nonce, KeyExchange), {Configuration: 1}, fallible=True),
    Shape.INFORMATIONAL: Rule((), {Delete: _MANY, Configuration: 1}),
}

# Instead of what was asked for (RFC 7296 section 2.6, RFC 5685 section 3, RFC 5723 section 4.3.2)
_EXCUSES = (NotifyType.COOKIE, NotifyType.REDIRECT, NotifyType.TICKET_NACK)

_SHAPES: Mapping[int, Shape] = {
    ExchangeType.IKE_SA_INIT: Shape.IKE_SA_INIT,
    ExchangeType.IKE_SESSION_RESUME: Shape.SESSION_RESUME,
    ExchangeType.IKE_AUTH: Shape.IKE_AUTH,
    ExchangeType.INFORMATIONAL: Shape.INFORMATIONAL,
}


def shape_of(message: Message) -> Shape | None:
    """What a message is for, by its exchange type and, in CREATE_CHILD_SA, by the protocol that it
    proposes.
    """
    if message.header.exchange != ExchangeType.CREATE_CHILD_SA:
        return _SHAPES.get(message.header.exchange)
    sa = message.get(SecurityAssociation)
    if sa is not None and sa.proposals[0].protocol == ProtocolId.IKE:
        return Shape.REKEY_IKE
    return Shape.CREATE_CHILD


def is_childless(message: Message) -> bool:
    """Whether an IKE_AUTH request says nothing of a child SA (RFC 6023 section 5)."""
    kinds = SecurityAssociation, TsInitiator, TsResponder
    return not any(isinstance(payload, kinds) for payload in message.payloads)


def critical(message: Message) -> Unknown | None:
    """The first payload that must be understood and is not (RFC 7296 section 2.5)."""
    return next((p for p in message.all(Unknown) if p.critical), None)


def error_of(message: Message) -> Notify | None:
    """The first error notify."""
    return next((n for n in message.notifies() if n.is_error), None)


def breach(message: Message, rule: Rule) -> str | None:
    """What is wrong with the payloads of a message; None: nothing."""
    excuses = (message.notify(type_) is not None for type_ in _EXCUSES)
    excused = rule.fallible and (error_of(message) is not None or any(excuses))
    counts: dict[type[Payload], int] = {}
    for payload in message.payloads:
        counts[type(payload)] = counts.get(type(payload), 0) + 1
    for kind in rule.required:
        if counts.pop(kind, 0) != 1 and not excused:
            return f"needs exactly one {_name(kind)}"
    for kind, count in counts.items():
        if kind not in _ANYWHERE and count > rule.optional.get(kind, 0):
            return f"{_name(kind)} is out of place"
    return None


def _name(kind: type[Payload]) -> str:
    return name_of_payload(getattr(kind, "TYPE", 0))
