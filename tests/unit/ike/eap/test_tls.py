"""EAP-TLS between our client and our server: both versions, fragments, certificates that prove nothing."""

import gc
import weakref
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from OpenSSL import SSL

from espudp.crypto.signatures import PrivateKey
from espudp.crypto.tls import TlsIdentity
from espudp.crypto.x509 import Trust
from espudp.errors import ConfigError
from espudp.ike.eap.login import EapLogin, EapUsers
from espudp.ike.eap.method import Outcome
from espudp.ike.eap.peer import EapPeer
from espudp.ike.eap.server import EapServer
from espudp.ike.eap.tls import FRAGMENT_OCTETS, MAX_FLIGHT_OCTETS, TlsServer, TlsSetup
from espudp.ike.eap.users import UserTable
from espudp.wire.eap import EapCode, EapPacket, EapType
from tests.unit.crypto import certs
from tests.unit.ike.eap.talk import chance, packets, talk

ROOT = certs.root()
BETWEEN = ROOT.ca("CN=Between")
GATEWAY = BETWEEN.issue("CN=gateway", "dns:gw.example.org")
ALICE = BETWEEN.issue("CN=Alice", "email:alice@example.org")
OTHER_ROOT = certs.root("CN=Other root")


def usage(oid: ObjectIdentifier) -> tuple[x509.ExtensionType, bool]:
    return x509.ExtendedKeyUsage([oid]), False


def setup(own: certs.Issuer, server_name: str | None = None, trusted: certs.Issuer = ROOT) -> TlsSetup:
    identity = TlsIdentity(certificates=(own.der, BETWEEN.der), key=PrivateKey(own.key))
    return TlsSetup(
        identity=identity,
        trust=Trust([trusted.der]),
        clock=lambda: certs.NOW,
        server_name=server_name,
        authorities=(ROOT.der,),
    )


def client(
    own: certs.Issuer = ALICE,
    user: str = "alice@example.org",
    server_name: str | None = "gw.example.org",
    trusted: certs.Issuer = ROOT,
) -> EapPeer:
    return EapLogin(user=user, tls=setup(own, server_name, trusted)).peer(chance(), gateway_proven=False)


def server(own: certs.Issuer = GATEWAY, trusted: certs.Issuer = ROOT) -> EapServer:
    return EapUsers(users=UserTable((), chance()), tls=setup(own, trusted=trusted)).server(chance(2))


@pytest.fixture(params=["TLS 1.2", "TLS 1.3"])
def version(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    number = {"TLS 1.2": SSL.TLS1_2_VERSION, "TLS 1.3": SSL.TLS1_3_VERSION}[request.param]
    monkeypatch.setattr("espudp.crypto.tls.MAX_VERSION", number)
    return str(request.param)


@pytest.mark.usefixtures("version")
def test_both_sides_get_the_same_keys() -> None:
    peer, gateway = client(), server()
    said = talk(peer, gateway)
    assert peer.outcome is gateway.outcome is Outcome.SUCCESS, (peer.error, gateway.error)
    assert peer.msk
    assert peer.msk == gateway.msk
    assert len(peer.msk) == 64
    assert gateway.identity == b"alice@example.org"
    assert peer.method == gateway.method == EapType.TLS
    assert max(len(packet.data) for packet in said) <= FRAGMENT_OCTETS + 5
    # Fragments went both ways: chains of two certificates are larger than one packet
    assert any(packet.data[:1] == b"\xc0" for packet in said if packet.code == EapCode.REQUEST)


@pytest.mark.usefixtures("version")
def test_keys_are_fresh_with_each_conversation() -> None:
    keys = set()
    for _ in range(2):
        peer = client()
        talk(peer, server())
        keys.add(peer.msk)
    assert len(keys) == 2


def test_nothing_of_a_conversation_stays_in_memory() -> None:
    """Not even until the garbage collector comes by, which is seldom where traffic must not wait for it."""
    peer, gateway = client(), server()
    talk(peer, gateway)
    assert isinstance(gateway._method, TlsServer)
    seen = weakref.ref(gateway._method._tls)
    gc.disable()
    try:
        del peer, gateway
        assert seen() is None
    finally:
        gc.enable()


def test_one_side_has_tls_12_only(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = server()
    said = gateway.start()
    monkeypatch.setattr("espudp.crypto.tls.MAX_VERSION", SSL.TLS1_2_VERSION)
    peer = client()
    said = gateway.receive(peer.receive(said) or b"") or b""
    answer = peer.receive(said)  # the client's conversation is made here, with TLS 1.2 only
    monkeypatch.undo()
    while answer is not None:
        said = gateway.receive(answer) or b""
        answer = peer.receive(said)
    assert peer.outcome is gateway.outcome is Outcome.SUCCESS
    assert peer.msk == gateway.msk


def test_a_chain_of_kilobytes() -> None:
    names = [f"dns:host-{number}.example.org" for number in range(400)]
    peer, gateway = client(), server(BETWEEN.issue("CN=gateway", "dns:gw.example.org", *names))
    said = talk(peer, gateway)
    assert peer.outcome is gateway.outcome is Outcome.SUCCESS
    assert len(said) > 30


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        pytest.param(lambda: client(server_name="other.example.org"), "other.example.org", id="another name"),
        pytest.param(lambda: client(trusted=OTHER_ROOT), "", id="another CA"),
    ],
)
def test_a_gateway_that_is_not_believed(peer: object, reason: str) -> None:
    """It learns nothing of the client, not even its certificate."""
    alice = peer()  # type: ignore[operator]
    gateway = server()
    said = talk(alice, gateway)
    assert alice.outcome is gateway.outcome is Outcome.FAILURE
    assert reason in str(alice.error)
    assert alice.error
    assert alice.error.remedy
    assert b"alice@example.org" not in b"".join(packet.data for packet in said[2:])


LATE = {"begin": certs.NOW - certs.YEAR, "end": certs.NOW - timedelta(days=1)}
EMAIL = "email:alice@example.org"


@pytest.mark.usefixtures("version")
@pytest.mark.parametrize(
    "own",
    [
        pytest.param(OTHER_ROOT.issue("CN=Alice", EMAIL), id="another CA"),
        pytest.param(BETWEEN.issue("CN=Bob", "email:bob@example.org"), id="another user"),
        pytest.param(BETWEEN.issue("CN=Alice", EMAIL, **LATE), id="expired"),
        pytest.param(
            BETWEEN.issue("CN=Alice", EMAIL, extensions=[usage(ExtendedKeyUsageOID.SERVER_AUTH)]),
            id="a server's",
        ),
        pytest.param(BETWEEN.issue("CN=Alice", EMAIL, signed_by=OTHER_ROOT.key), id="a broken signature"),
    ],
)
def test_a_client_that_is_not_believed(own: certs.Issuer) -> None:
    alice, gateway = client(own), server()
    talk(alice, gateway)
    assert gateway.outcome is Outcome.FAILURE
    assert alice.outcome is Outcome.FAILURE
    assert alice.msk is gateway.msk is None
    assert gateway.error


@pytest.mark.usefixtures("version")
def test_a_client_s_certificate_does_not_make_a_gateway() -> None:
    users_own = BETWEEN.issue(
        "CN=x", "dns:gw.example.org", extensions=[usage(ExtendedKeyUsageOID.CLIENT_AUTH)]
    )
    alice, gateway = client(), server(users_own)
    talk(alice, gateway)
    assert alice.outcome is gateway.outcome is Outcome.FAILURE
    assert "serverAuth" in (alice.error.remedy if alice.error else "")


@pytest.mark.parametrize(
    ("own", "user"),
    [
        pytest.param(BETWEEN.issue("CN=alice"), "alice", id="common name"),
        pytest.param(BETWEEN.issue("CN=x", "dns:pc7.example.org"), "pc7.example.org", id="DNS name"),
        pytest.param(
            BETWEEN.issue(
                "CN=x",
                extensions=[
                    (
                        x509.SubjectAlternativeName(
                            [x509.OtherName(ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x05al@ex")]
                        ),
                        False,
                    )
                ],
            ),
            "al@ex",
            id="user principal name",
        ),
    ],
)
def test_names_in_certificates(own: certs.Issuer, user: str) -> None:
    alice, gateway = client(own, user), server()
    talk(alice, gateway)
    assert gateway.outcome is Outcome.SUCCESS, gateway.error
    assert gateway.identity == user.encode()


def test_any_server_of_the_ca_without_a_name_to_demand() -> None:
    alice = client(server_name=None)
    talk(alice, server())
    assert alice.outcome is Outcome.SUCCESS


# --- out of order and lies --------------------------------------------------------------------------------


@pytest.mark.usefixtures("version")
def test_success_before_the_end() -> None:
    length = len(talk(client(), server()))
    for cut in range(1, length - 2, 2):
        alice = client()
        for index, _ in enumerate(packets(alice, server())):
            if index == cut:
                break
        if alice._method and alice._method.complete:
            assert cut >= length - 3
            continue
        alice.receive(EapPacket(EapCode.SUCCESS, 1).emit())
        assert alice.outcome is Outcome.FAILURE
        assert alice.msk is None


def test_no_end_without_the_server_s_commitment(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9190 section 2.1.1."""
    alice, gateway = client(), server()
    monkeypatch.setattr("espudp.crypto.tls.TlsConversation.heard", lambda _: b"\x02")
    talk(alice, gateway)
    assert alice.outcome is Outcome.FAILURE
    assert "application data" in str(alice.error)


def _asked() -> EapServer:
    gateway = server()
    question = EapPacket.parse(gateway.start())
    gateway.receive(EapPacket(EapCode.RESPONSE, question.identifier, EapType.IDENTITY, b"alice").emit())
    return gateway


def _say(gateway: EapServer, data: bytes) -> bytes:
    response = EapPacket(EapCode.RESPONSE, gateway._identifier, EapType.TLS, data)
    return gateway.receive(response.emit()) or b""


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="no flags"),
        pytest.param(b"\x00", id="nothing"),
        pytest.param(b"\x80\x00\x00", id="half a length"),
        pytest.param(b"\x80\xff\xff\xff\xffab", id="a length of 4 GB"),
        pytest.param(b"\xc0\xff\xff\xff\xffab", id="a first fragment of 4 GB"),
        pytest.param(b"\x80\x00\x00\x00\x03ab", id="a length too large"),
        pytest.param(b"\x80\x00\x00\x00\x01ab", id="a length too small"),
        pytest.param(b"\x40ab", id="a fragment without a length"),
        pytest.param(b"\xc0\x00\x00\x10\x00", id="an empty fragment"),
        pytest.param(b"\xc0\x00\x00\x00\x02ab", id="more after the end"),
        pytest.param(b"\x00" + bytes(40), id="no TLS"),
        pytest.param(b"\x00\x16\x03\x01\x00\x04\x02\x00\x00\x00", id="a client that is a server"),
    ],
)
def test_flights_that_lie(data: bytes) -> None:
    gateway = _asked()
    _say(gateway, data)
    for _ in range(2):  # an alert has to be heard before the end
        if gateway.outcome is Outcome.RUNNING:
            _say(gateway, b"\x00")
    assert gateway.outcome is Outcome.FAILURE


def test_fragments_that_do_not_add_up() -> None:
    gateway = _asked()
    assert _say(gateway, b"\xc0\x00\x00\x00\x08abcd")[5:] == b"\x00"
    _say(gateway, b"\x00abcdef")
    assert gateway.outcome is Outcome.FAILURE


def test_fragments_that_change_their_minds() -> None:
    gateway = _asked()
    _say(gateway, b"\xc0\x00\x00\x00\x08abcd")
    _say(gateway, b"\xc0\x00\x00\x00\x09abcd")
    assert gateway.outcome is Outcome.FAILURE


def test_an_endless_flight_is_ended() -> None:
    gateway = _asked()
    first = b"\xc0" + MAX_FLIGHT_OCTETS.to_bytes(4, "big")
    rounds = 0
    while gateway.outcome is Outcome.RUNNING:
        _say(gateway, (b"\x40" if rounds else first) + b"a")
        rounds += 1
    assert rounds < 100


def test_something_else_than_an_acknowledgement() -> None:
    alice, gateway = client(), server()
    for packet in packets(alice, gateway):
        if packet.code == EapCode.REQUEST and packet.data[:1] == b"\xc0":
            break
    _say(gateway, b"\x00abc")
    assert gateway.outcome is Outcome.FAILURE


@pytest.mark.parametrize("octet", [0, 4, 121])
def test_a_certificate_of_a_version_that_does_not_exist(octet: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL reads more than others do: what it passes on may be no certificate to them."""
    monkeypatch.setattr("espudp.crypto.tls.MAX_VERSION", SSL.TLS1_2_VERSION)  # where they can be seen
    alice, gateway = client(), server()
    said, bent = gateway.start(), 0
    while alice.outcome is Outcome.RUNNING:
        answer = alice.receive(said.replace(VERSION_3, VERSION_3[:-1] + bytes([octet])))
        bent += VERSION_3 in said
        said = gateway.receive(answer or b"") or b""
    assert bent
    assert alice.outcome is Outcome.FAILURE
    assert alice.error


# RFC 5280 section 4.1.2.1
VERSION_3 = bytes.fromhex("a003020102")


def test_a_start_with_something_in_it() -> None:
    alice = client()
    alice.receive(EapPacket(EapCode.REQUEST, 1, EapType.TLS, b"\x00").emit())
    assert alice.outcome is Outcome.FAILURE


# --- configurations ---------------------------------------------------------------------------------------


def test_without_a_certificate_there_is_no_eap_tls() -> None:
    with pytest.raises(ConfigError, match="takes a certificate"):
        EapLogin(user="alice", password="x", methods=(EapType.TLS,))
    with pytest.raises(ConfigError, match="takes a certificate"):
        EapUsers(users=UserTable((), chance()), methods=(EapType.TLS,))


def test_a_key_of_another_certificate() -> None:
    mixed = TlsIdentity(certificates=(ALICE.der,), key=PrivateKey(GATEWAY.key))
    config = TlsSetup(identity=mixed, trust=Trust([ROOT.der]), clock=lambda: certs.NOW)
    alice = EapLogin(user="alice", tls=config).peer(chance(), gateway_proven=True)
    talk(alice, server())
    assert "certificate and key do not serve" in str(alice.error)


def test_keys_are_not_shown() -> None:
    config = EapLogin(user="alice", tls=setup(ALICE))
    assert "PRIVATE" not in repr(config)
    assert ALICE.der.hex() not in repr(config)
