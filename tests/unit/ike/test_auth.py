"""IKE_AUTH with peers that hold the keys and break the rules; and what is signed (RFC 7296 section 2.15)."""

from dataclasses import replace

import pytest

from espudp.crypto.prf import prf
from espudp.crypto.suites import PRF
from espudp.errors import AuthenticationFailed
from espudp.ike.config import Identity
from espudp.ike.credentials import Psk, PskOf, no_clock
from espudp.ike.events import AddressAssigned, ConnectionDown, ConnectionUp, Fault, PeerRefused
from espudp.ike.v2 import auth, configuration
from espudp.ike.v2.auth_initiator import AuthSent
from espudp.ike.v2.auth_responder import AwaitAuth
from espudp.ike.v2.initial import Ground
from espudp.ike.v2.sa import IkeSa
from espudp.wire.ikev2.constants import (
    AuthMethod,
    ExchangeType,
    NotifyType,
    ProtocolId,
)
from espudp.wire.ikev2.header import Header
from espudp.wire.ikev2.message import parse_message
from espudp.wire.ikev2.payloads import (
    Authentication,
    Configuration,
    Encrypted,
    IdInitiator,
    Nonce,
    Notify,
    Payload,
    SecurityAssociation,
    TsInitiator,
    TsResponder,
    Unknown,
)
from espudp.wire.ikev2.proposal import Proposal, Transform
from espudp.wire.selectors import TrafficSelector
from tests.unit.ike.pair import CLIENT_ID, PSK, Datagram, Pair, Side, client_config, path_to_server


def _sa(side: Side) -> IkeSa:
    (state,) = side.states
    assert isinstance(state, AuthSent | AwaitAuth)
    return state._sa


def _opened(protector: IkeSa, datagram: Datagram) -> list[Payload]:
    (encrypted,) = parse_message(datagram[0]).payloads
    assert isinstance(encrypted, Encrypted)
    opened = protector._protection.open(datagram[0], encrypted)
    assert opened is not None
    return list(opened.payloads())


def _up_to_auth() -> tuple[Pair, Datagram]:
    pair = Pair()
    pair.dial()
    pair.move(pair.client)
    pair.move(pair.server)
    (request,) = pair.take(pair.client)
    return pair, request


def _ask(pair: Pair, payloads: list[Payload]) -> list[int]:
    """An IKE_AUTH request of our making; returns the notifies of the answer, those of MOBIKE aside."""
    sa, server = _sa(pair.client), _sa(pair.server)
    header = Header(sa.spi_i, sa.spi_r, 0, ExchangeType.IKE_AUTH, True, False, 1)
    pair.give(pair.server, (sa._protection.seal(header, payloads), path_to_server(4500)))
    (answer,) = pair.take(pair.server)
    assert server.incoming.expected_id == 2
    types = [p.type for p in _opened(sa, answer) if isinstance(p, Notify)]
    return [type_ for type_ in types if type_ != NotifyType.MOBIKE_SUPPORTED]


def _without(payloads: list[Payload], kind: type[Payload]) -> list[Payload]:
    return [p for p in payloads if not isinstance(p, kind)]


def test_what_is_signed() -> None:
    """Against the words of RFC 7296 section 2.15, written out."""
    row, who = PRF[0], Identity.parse("a@example.org")
    ground = Ground(row, b"message 1", b"nonce of the other", b"SK_pi")
    octets = ground.octets(who)
    assert octets == b"message 1nonce of the other" + prf(row, b"SK_pi", b"\x03\x00\x00\x00a@example.org")
    (proof,) = auth.prove(ground, who, Psk(b"secret"), frozenset())
    assert isinstance(proof, Authentication)
    assert proof.data == prf(row, prf(row, b"secret", b"Key Pad for IKEv2"), octets)
    claim = auth.Claim(who, proof, (), ground)
    assert auth.judge(PskOf(b"secret"), claim, no_clock) == who
    for other, wrong in (
        (b"Secret", claim),
        (b"secret", replace(claim, ground=replace(ground, message=b"message 2"))),
    ):
        with pytest.raises(AuthenticationFailed, match="does not know the PSK"):
            auth.judge(PskOf(other), wrong, no_clock)


_GROUND = Ground(PRF[0], b"message", b"nonce", b"SK_pi")


@pytest.mark.parametrize(
    "wrong",
    [
        Authentication(AuthMethod.SHARED_KEY, b""),
        Authentication(AuthMethod.SHARED_KEY, bytes(32)),
        Authentication(AuthMethod.RSA_SIGNATURE, _GROUND.mac(CLIENT_ID, b"secret")),
        Authentication(AuthMethod.NULL, _GROUND.mac(CLIENT_ID, b"secret")),
        Authentication(AuthMethod.SHARED_KEY, _GROUND.mac(CLIENT_ID, b"secret")[:-1]),
        Authentication(AuthMethod.SHARED_KEY, _GROUND.mac(CLIENT_ID, b"secret") + b"\x00"),
    ],
)
def test_proofs_that_are_none(wrong: Authentication) -> None:
    claim = auth.Claim(CLIENT_ID, wrong, (), _GROUND)
    assert not claim.knows(b"secret")
    with pytest.raises(AuthenticationFailed):
        auth.judge(PskOf(b"secret"), claim, no_clock)


# The responder


def test_the_request_without_proof_asks_for_eap() -> None:
    pair, request = _up_to_auth()
    payloads = _opened(_sa(pair.server), request)
    assert _ask(pair, _without(payloads, Authentication)) == [NotifyType.AUTHENTICATION_FAILED]
    assert "EAP" in pair.server.told(PeerRefused)[0].reason


@pytest.mark.parametrize("missing", [IdInitiator, SecurityAssociation, TsInitiator, TsResponder])
def test_a_request_that_lacks_a_payload(missing: type[Payload]) -> None:
    pair, request = _up_to_auth()
    payloads = _opened(_sa(pair.server), request)
    assert _ask(pair, _without(payloads, missing)) == [NotifyType.INVALID_SYNTAX]
    assert not pair.server.told(ConnectionUp)
    assert pair.server.state_names == ["Answered"]


@pytest.mark.parametrize(
    ("extra", "error"),
    [
        (Unknown(150, True, b""), NotifyType.UNSUPPORTED_CRITICAL_PAYLOAD),
        (Nonce(bytes(32)), NotifyType.INVALID_SYNTAX),
        (Unknown(41, False, b"\x00"), NotifyType.INVALID_SYNTAX),
    ],
)
def test_a_request_with_something_more(extra: Payload, error: int) -> None:
    """RFC 7296 section 2.21.2: refused in its entirety, before authentication is looked at."""
    pair, request = _up_to_auth()
    payloads = _opened(_sa(pair.server), request)
    assert _ask(pair, [*payloads, extra]) == [error]
    assert not pair.server.told(ConnectionUp)


def test_an_error_in_a_request_excuses_nothing() -> None:
    pair, _ = _up_to_auth()
    assert _ask(pair, [Notify.of(NotifyType.NO_PROPOSAL_CHOSEN)]) == [NotifyType.INVALID_SYNTAX]


def test_the_proof_of_another_identity() -> None:
    pair, request = _up_to_auth()
    payloads = [
        IdInitiator(2, b"admin.example.org") if isinstance(p, IdInitiator) else p
        for p in _opened(_sa(pair.server), request)
    ]
    assert _ask(pair, payloads) == [NotifyType.AUTHENTICATION_FAILED]


def test_groups_in_the_first_child_sa_are_passed_over() -> None:
    """There is no KE payload in IKE_AUTH, whatever the proposal says (RFC 7296 section 1.2)."""
    pair, request = _up_to_auth()
    transforms = (Transform(1, 20, 128), Transform(4, 31), Transform(4, 14), Transform(5, 0))
    offer = SecurityAssociation((Proposal(1, ProtocolId.ESP, b"\x00\x01\x02\x03", transforms),))
    payloads = [
        offer if isinstance(p, SecurityAssociation) else p for p in _opened(_sa(pair.server), request)
    ]
    assert _ask(pair, payloads) == []
    assert len(pair.server.children) == 1


def test_transport_mode_is_declined() -> None:
    pair, request = _up_to_auth()
    payloads = _opened(_sa(pair.server), request)
    assert _ask(pair, [*payloads, Notify.of(NotifyType.USE_TRANSPORT_MODE)]) == []


# The initiator


def _answer(pair: Pair, request: Datagram, change: object) -> None:
    """The server's true answer, rewritten by the server itself."""
    pair.give(pair.server, request)
    (answer,) = pair.take(pair.server)
    sa = pair.server.ike.sa
    payloads = _opened(_sa(pair.client), answer)
    assert callable(change)
    changed = change(payloads)
    header = Header(sa.spi_i, sa.spi_r, 0, ExchangeType.IKE_AUTH, False, True, 1)
    pair.give(pair.client, (sa._protection.seal(header, changed), answer[1]))


def _swap(kind: type[Payload], new: Payload) -> object:
    return lambda payloads: [new if isinstance(p, kind) else p for p in payloads]


@pytest.mark.parametrize(
    "change",
    [
        lambda payloads: [],
        lambda payloads: _without(payloads, Authentication),
        lambda payloads: [*payloads, payloads[0]],
        lambda payloads: [*payloads, Unknown(150, True, b"")],
        lambda payloads: [*payloads, Unknown(41, False, b"\x00")],
    ],
)
def test_an_answer_out_of_shape(change: object) -> None:
    pair, request = _up_to_auth()
    _answer(pair, request, change)
    assert pair.client.told(ConnectionDown)[0].fault is Fault.PROTOCOL
    assert pair.client.states == []
    pair.move(pair.client)  # and the server hears of it
    assert pair.server.told(ConnectionDown)


def test_a_server_that_does_not_know_the_psk() -> None:
    """Nothing of the child SA is believed before the proof."""
    pair, request = _up_to_auth()
    _answer(pair, request, _swap(Authentication, Authentication(AuthMethod.SHARED_KEY, bytes(32))))
    (down,) = pair.client.told(ConnectionDown)
    assert (down.fault, down.retry) == (Fault.AUTHENTICATION, False)
    assert not pair.client.told(AddressAssigned)
    assert not pair.client.children
    pair.move(pair.client)
    assert pair.server.told(ConnectionDown)[0].fault is Fault.AUTHENTICATION


_ELSE = (TrafficSelector.from_network("10.2.0.0/16"),)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (_swap(TsResponder, TsResponder(_ELSE)), Fault.SELECTORS),
        (lambda payloads: _without(payloads, TsResponder), Fault.PROTOCOL),
        (lambda payloads: _without(payloads, SecurityAssociation), Fault.PROTOCOL),
        (
            _swap(
                SecurityAssociation,
                SecurityAssociation((Proposal(1, 3, b"spi!", (Transform(1, 20, 256), Transform(5, 0))),)),
            ),
            Fault.PROPOSAL,
        ),
        (
            _swap(SecurityAssociation, SecurityAssociation((Proposal(1, 3, b"spi!", (Transform(5, 0),)),))),
            Fault.PROPOSAL,
        ),
    ],
)
def test_a_child_sa_that_was_not_offered(change: object, fault: Fault) -> None:
    """CVE-2016-3071, and RFC 7296 section 2.9: only what was offered, and no wider."""
    pair, request = _up_to_auth()
    _answer(pair, request, change)
    assert not pair.client.children
    pair.flush()
    assert pair.client.told(ConnectionDown)[0].fault is fault
    assert pair.server.told(ConnectionDown)[0].fault is Fault.PEER_REQUEST
    assert len(pair.client.endpoint._hub.child_spis) == 0


@pytest.mark.parametrize("error", [NotifyType.TEMPORARY_FAILURE, NotifyType.INTERNAL_ADDRESS_FAILURE, 8190])
def test_the_peer_refuses_with_a_bare_notify(error: int) -> None:
    pair, request = _up_to_auth()
    _answer(pair, request, lambda payloads: [Notify.of(error)])
    (down,) = pair.client.told(ConnectionDown)
    assert (down.fault, down.retry) == (Fault.PROTOCOL, True)


def test_a_requested_address_is_honoured() -> None:
    pair, request = _up_to_auth()
    asked = configuration.request(("10.99.0.77",))
    payloads = [asked if isinstance(p, Configuration) else p for p in _opened(_sa(pair.server), request)]
    assert _ask(pair, payloads) == []
    assert pair.server.connection.peer.addresses == ("10.99.0.77",)


@pytest.mark.parametrize("wanted", ["10.99.0.1", "172.16.0.1"])
def test_another_address_than_the_one_that_was_asked_for(wanted: str) -> None:
    """It is taken already, or not the responder's to give."""
    pair = Pair(client_config(addresses=(wanted,)))
    pair.dial()
    pair.flush()
    assert pair.client.told(AddressAssigned)[0].addresses == ("10.99.0.2",)
    pair.agree()
    assert PSK.decode() not in repr(pair.server.events)
