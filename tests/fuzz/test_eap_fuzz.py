"""EAP with garbage and with bent packets: an end or an answer, never an exception, in bounded rounds."""

from hypothesis import given, settings
from hypothesis import strategies as st

from espudp.crypto.logins import login_names
from espudp.errors import AuthenticationFailed, WireError
from espudp.ike.eap.method import Outcome
from espudp.ike.eap.passthrough import BackendAnswer, EapRadius, Verdict
from espudp.wire.eap import EapCode, EapPacket, EapType
from tests.unit.crypto import certs
from tests.unit.ike.eap import test_tls
from tests.unit.ike.eap.talk import chance, login, packets, service

types = st.sampled_from([1, 2, 3, 4, 6, 13, 26, 254]) | st.integers(0, 255)
bodies = st.binary(max_size=90)
lies = st.builds(EapPacket, st.sampled_from(EapCode), st.integers(0, 255), types, bodies).map(EapPacket.emit)


@settings(max_examples=150)
@given(st.binary(max_size=60))
def test_garbage_parses_or_is_a_wire_error(octets: bytes) -> None:
    try:
        packet = EapPacket.parse(octets)
    except WireError:
        return
    assert packet.emit() == octets


@settings(max_examples=200)
@given(st.sampled_from([EapType.MD5_CHALLENGE, EapType.GTC, EapType.MSCHAPV2]), st.integers(0, 6), st.data())
def test_bent_packets_let_nobody_in(method: EapType, upto: int, data: st.DataObject) -> None:
    """A conversation in which one packet has one octet changed, or is another: it ends, and with success
    only where what was changed is not looked at by anybody."""
    peer, server = login(), service(method)
    said: bytes | None = server.start()
    for step in range(12):
        if said is None:
            break
        if step == upto:
            said = data.draw(st.just(_bent(said, data)) | lies)
        said = (server if step % 2 else peer).receive(said)
    assert said is None
    assert server.outcome is not Outcome.SUCCESS or server.identity in (b"alice",)
    if peer.outcome is Outcome.SUCCESS and server.outcome is Outcome.SUCCESS:
        assert peer.msk == server.msk


def _bent(octets: bytes, data: st.DataObject) -> bytes:
    at = data.draw(st.integers(0, len(octets) - 1))
    bit = 1 << data.draw(st.integers(0, 7))
    return octets[:at] + bytes([octets[at] ^ bit]) + octets[at + 1 :]


@settings(max_examples=100)
@given(st.sampled_from([EapType.MD5_CHALLENGE, EapType.GTC, EapType.MSCHAPV2]), st.integers(0, 6), bodies)
def test_method_data_of_any_kind(method: EapType, upto: int, body: bytes) -> None:
    """Both sides, at each point of a conversation, with any body of the right type and identifier."""
    peer, server = login(), service(method)
    for index, packet in enumerate(packets(peer, server)):
        if index == upto:
            side = server if packet.code == EapCode.RESPONSE else login()
            side.receive(EapPacket(packet.code, packet.identifier, packet.type, body).emit())
            break


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 20), st.integers(0, 1_100), st.integers(0, 7))
def test_bent_tls_lets_nobody_in(upto: int, at: int, bit: int) -> None:
    """With certificates on both sides: what was changed is noticed, or was only padding around TLS.

    OpenSSL's own chance makes packets of other sizes each time, so the place is drawn without them.
    """
    peer, server = test_tls.client(), test_tls.server()
    said: bytes | None = server.start()
    for step in range(60):
        if said is None:
            break
        if step == upto:
            where = at % len(said)
            said = said[:where] + bytes([said[where] ^ 1 << bit]) + said[where + 1 :]
        said = (server if step % 2 else peer).receive(said)
    assert said is None
    if peer.outcome is Outcome.SUCCESS and server.outcome is Outcome.SUCCESS:
        assert peer.msk == server.msk
        assert server.identity == b"alice@example.org"


@settings(max_examples=100)
@given(st.sampled_from(Verdict), st.binary(max_size=60) | lies, st.binary(max_size=60) | lies)
def test_a_radius_server_may_say_anything(verdict: Verdict, answer: bytes, then: bytes) -> None:
    gateway = EapRadius().server(chance())
    identifier = EapPacket.parse(gateway.start()).identifier
    gateway.receive(EapPacket(EapCode.RESPONSE, identifier, EapType.IDENTITY, b"alice").emit())
    said = EapPacket.parse(gateway.provide(BackendAnswer(verdict=verdict, packet=answer, msk=answer)))
    success = verdict is Verdict.ACCEPT and said.code == EapCode.SUCCESS
    assert (gateway.outcome is Outcome.SUCCESS) == success
    assert (gateway.outcome is Outcome.RUNNING) == (said.code == EapCode.REQUEST)
    gateway.receive(then)


ALICE = certs.root().issue("CN=alice", "email:alice@example.org").der


@settings(max_examples=100)
@given(st.integers(0, len(ALICE) - 1), st.integers(1, 255))
def test_names_of_bent_certificates(at: int, change: int) -> None:
    bent = ALICE[:at] + bytes([ALICE[at] ^ change]) + ALICE[at + 1 :]
    try:
        names = login_names(bent)
    except AuthenticationFailed:
        return
    assert all(isinstance(name, str) for name in names)
