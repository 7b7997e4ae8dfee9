"""Which payloads each exchange must and may carry."""

import pytest

from espudp.ike.rules import REQUESTS, RESPONSES, Shape, breach, critical, error_of, shape_of
from espudp.wire.ikev2.constants import AuthMethod, CfgType, ExchangeType, NotifyType, ProtocolId
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import Message
from espudp.wire.ikev2.payloads import (
    Authentication,
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
from espudp.wire.ikev2.proposal import Proposal

_CHILD_SA = SecurityAssociation((Proposal(1, ProtocolId.ESP, bytes(4), ()),))
_IKE_SA = SecurityAssociation((Proposal(1, ProtocolId.IKE, b"", ()),))
_KE, _NONCE = KeyExchange(31, bytes(32)), Nonce(bytes(16))
_TSI, _TSR = TsInitiator(()), TsResponder(())
_AUTH = Authentication(AuthMethod.SHARED_KEY, bytes(32))
_ERROR = Notify.of(NotifyType.NO_PROPOSAL_CHOSEN)
_STATUS = Notify.of(NotifyType.INITIAL_CONTACT)

_GOOD: dict[Shape, tuple[Payload, ...]] = {
    Shape.IKE_SA_INIT: (_IKE_SA, _KE, _NONCE),
    Shape.SESSION_RESUME: (_NONCE,),
    Shape.IKE_AUTH: (IdInitiator(2, b"x"), _AUTH, _CHILD_SA, _TSI, _TSR),
    Shape.CHILDLESS: (IdInitiator(2, b"x"), _AUTH),
    Shape.EAP_BEGIN_CHILDLESS: (IdInitiator(2, b"x"),),
    Shape.EAP_BEGIN: (IdInitiator(2, b"x"), _CHILD_SA, _TSI, _TSR),
    Shape.EAP: (Eap(b"\x02\x01\x00\x05\x01"),),
    Shape.EAP_PROOF: (_AUTH,),
    Shape.ANOTHER_AUTH: (IdInitiator(2, b"x"),),
    Shape.CREATE_CHILD: (_CHILD_SA, _NONCE, _TSI, _TSR),
    Shape.REKEY_IKE: (_IKE_SA, _NONCE, _KE),
}


def _message(*payloads: Payload, exchange: int = 0) -> Message:
    return Message(Header(bytes(8), bytes(8), 0, exchange, True, False, 0), payloads)


@pytest.mark.parametrize("shape", _GOOD)
def test_a_request_needs_each_of_its_payloads_once(shape: Shape) -> None:
    good, rule = _GOOD[shape], REQUESTS[shape]
    assert breach(_message(*good), rule) is None
    assert breach(_message(*reversed(good)), rule) is None  # RFC 7296 section 2.5: in any order
    for payload in good:
        without = [p for p in good if p is not payload]
        assert "exactly one" in str(breach(_message(*without), rule))
        assert "exactly one" in str(breach(_message(*without, _ERROR), rule))
        assert "exactly one" in str(breach(_message(*good, payload), rule))


@pytest.mark.parametrize("shape", Shape)
def test_some_payloads_may_stand_anywhere(shape: Shape) -> None:
    good = _GOOD.get(shape, ())
    extras = (_STATUS, _STATUS, VendorId(b"x"), Unknown(200, False, b""))
    assert breach(_message(*good, *extras), REQUESTS[shape]) is None


@pytest.mark.parametrize("shape", Shape)
@pytest.mark.parametrize("stray", [Eap(b"\x01\x01\x00\x04"), IdResponder(2, b"x"), Delete(1), _AUTH])
def test_others_are_out_of_place(shape: Shape, stray: Payload) -> None:
    allowed = {
        *((Shape.IKE_AUTH, IdResponder), (Shape.EAP_BEGIN, IdResponder), (Shape.INFORMATIONAL, Delete)),
        *((Shape.CHILDLESS, IdResponder), (Shape.EAP_BEGIN_CHILDLESS, IdResponder)),
        (Shape.ANOTHER_AUTH, Authentication),
    }
    wrong = breach(_message(*_GOOD.get(shape, ()), stray), REQUESTS[shape])
    assert (wrong is None) == ((shape, type(stray)) in allowed)


def test_a_response_that_reports_an_error_needs_nothing_else() -> None:
    for shape in (Shape.IKE_SA_INIT, Shape.IKE_AUTH, Shape.CREATE_CHILD, Shape.REKEY_IKE):
        assert breach(_message(_ERROR), RESPONSES[shape]) is None
        assert breach(_message(_STATUS), RESPONSES[shape]) is not None
    assert breach(_message(Notify.of(NotifyType.COOKIE, b"x")), RESPONSES[Shape.IKE_SA_INIT]) is None


def test_a_configuration_payload_may_come_with_a_child_sa() -> None:
    """MikroTik sends one in CREATE_CHILD_SA."""
    asked = Configuration(CfgType.REQUEST)
    assert breach(_message(*_GOOD[Shape.CREATE_CHILD], asked), REQUESTS[Shape.CREATE_CHILD]) is None
    assert (
        breach(_message(*_GOOD[Shape.CREATE_CHILD], asked, asked), REQUESTS[Shape.CREATE_CHILD]) is not None
    )


def test_a_message_that_repeats_a_payload_is_bounded() -> None:
    many = [Delete(ProtocolId.ESP)] * 17
    assert breach(_message(*many[:16]), REQUESTS[Shape.INFORMATIONAL]) is None
    assert breach(_message(*many), REQUESTS[Shape.INFORMATIONAL]) is not None


def test_the_shape_of_a_create_child_sa() -> None:
    exchange = ExchangeType.CREATE_CHILD_SA
    assert shape_of(_message(_CHILD_SA, exchange=exchange)) is Shape.CREATE_CHILD
    assert shape_of(_message(_IKE_SA, exchange=exchange)) is Shape.REKEY_IKE
    assert shape_of(_message(exchange=exchange)) is Shape.CREATE_CHILD
    assert shape_of(_message(exchange=99)) is None


def test_critical_and_errors() -> None:
    harmless, vital = Unknown(200, False, b""), Unknown(201, True, b"")
    assert critical(_message(harmless)) is None
    assert critical(_message(harmless, vital)) is vital
    assert error_of(_message(_STATUS)) is None
    assert error_of(_message(_STATUS, _ERROR)) is _ERROR
