"""Clients that log in with EAP (RFC 7296 section 2.16): each method, by way of RADIUS, and those that lie."""

from collections.abc import Callable

import pytest

from espudp.crypto.tls import TlsIdentity
from espudp.crypto.x509 import Trust
from espudp.ike.credentials import ByEap, EapClient, EapOf, NoDemand, Psk
from espudp.ike.drop import Drop
from espudp.ike.eap.login import EapLogin, EapUsers
from espudp.ike.eap.passthrough import BackendAnswer, EapRadius, Verdict
from espudp.ike.eap.peer import EapPeer
from espudp.ike.eap.server import EapServer
from espudp.ike.eap.tls import TlsSetup
from espudp.ike.eap.users import UserTable
from espudp.ike.events import BackendAsked, ConnectionDown, ConnectionUp, Fault, PeerRefused
from espudp.ike.identity import Identity
from espudp.ike.pad import PadEntry, Pattern
from espudp.ike.v2 import auth
from espudp.wire.eap import EapCode, EapPacket, EapType
from tests.scenario.credentials import CLIENT, SERVER, authority, person, trust
from tests.scenario.lab import Lab, Terms
from tests.sim.host import Host
from tests.sim.ladder import Ladder
from tests.unit.crypto import certs
from tests.unit.ike.eap.talk import PASSWORD, USERS, chance

MD5, GTC, MSCHAPV2, TLS = EapType.MD5_CHALLENGE, EapType.GTC, EapType.MSCHAPV2, EapType.TLS
PASSWORDS = (MD5, GTC, MSCHAPV2)
METHODS = (*PASSWORDS, TLS)


def tls(name: str, *, of: str = "CN=Authority", server_name: str | None = None) -> TlsSetup:
    proof = person("P-256", name, of=of).proof
    return TlsSetup(
        identity=TlsIdentity(certificates=proof.certificates, key=proof.private_key),
        trust=Trust([authority("CN=Authority").der]),
        clock=lambda: certs.NOW,
        server_name=server_name,
    )


def users(*methods: EapType) -> EapUsers:
    return EapUsers(users=UserTable(USERS, chance()), tls=tls(SERVER), methods=methods)


def login(method: EapType, user: str = "alice", password: str = PASSWORD) -> EapLogin:
    if method is TLS:
        return EapLogin(user=CLIENT, tls=tls(CLIENT, server_name=SERVER))
    return EapLogin(user=user, password=password, methods=(method,))


def lab_of(who: EapLogin, backend: EapUsers | EapRadius, *, only: bool = False) -> Lab:
    """A gateway with a certificate; `only`: without (RFC 5998)."""
    entry = PadEntry(proof=ByEap() if only else person("P-256", SERVER).proof, demand=EapOf(backend))
    terms = Terms(proof=EapClient(who), demand=ByEap() if only else trust(), pad=(entry,))
    return Lab(terms=terms)


def down_of(lab: Lab) -> tuple[ConnectionDown, Host]:
    client = lab.client()
    client.connect(lab.terms.connection(client.name), lab.server.ip)
    lab.world.run_until(lambda: bool(client.told(ConnectionDown)), 200.0)
    assert not client.up
    assert not lab.server.told(ConnectionUp)
    return client.told(ConnectionDown)[0], client


@pytest.mark.parametrize("method", METHODS)
def test_a_login(method: EapType) -> None:
    lab = lab_of(login(method), users(method))
    client = lab.client()
    lab.connect(client)
    assert all(flow.tally.perfect for flow in lab.exchange(client, 1.0))
    (there,) = lab.server.told(ConnectionUp)
    assert there.remote_identity == Identity.of_user(CLIENT.encode() if method is TLS else b"alice")
    assert str(client.told(ConnectionUp)[0].remote_identity) == SERVER


def test_the_rounds_of_a_login() -> None:
    lab = lab_of(login(MSCHAPV2), users(MSCHAPV2))
    client = lab.client()
    ladder = Ladder(client, lab.server)
    lab.connect(client)
    assert ladder.matches("""
        IKE_SA_INIT 0 request -->
        <-- IKE_SA_INIT 0 response
        IKE_AUTH 1 request -->
        <-- IKE_AUTH 1 response
        IKE_AUTH 2 request -->
        <-- IKE_AUTH 2 response
        IKE_AUTH 3 request -->
        <-- IKE_AUTH 3 response
        IKE_AUTH 4 request -->
        <-- IKE_AUTH 4 response
        IKE_AUTH 5 request -->
        <-- IKE_AUTH 5 response
    """), ladder


def test_a_user_with_two_hosts() -> None:
    """RFC 7296 section 2.4: none of the two says that it is the only one, and both stay."""
    lab = lab_of(login(MSCHAPV2), users(MSCHAPV2))
    one, other = lab.client("alice", number=7), lab.client("alice", number=8)
    for host in (one, other):
        host.connect(lab.terms.connection("alice"), lab.server.ip)
        lab.world.run(10.0)
    assert one.up
    assert other.up
    assert one.address != other.address
    assert not lab.server.told(ConnectionDown)


def test_both_sides_agree_on_a_method() -> None:
    lab = lab_of(login(GTC), users(MSCHAPV2, MD5, GTC))
    lab.connect(lab.client())


@pytest.mark.parametrize("method", PASSWORDS)
@pytest.mark.parametrize(("user", "password"), [("alice", "guess"), ("mallory", PASSWORD)])
def test_a_wrong_name_or_password(method: EapType, user: str, password: str) -> None:
    lab = lab_of(login(method, user, password), users(method))
    down, _ = down_of(lab)
    assert (down.fault, down.retry) == (Fault.AUTHENTICATION, False)
    assert "refused the login" in down.reason
    assert down.remedy
    (refused,) = lab.server.told(PeerRefused)
    assert refused.reason.startswith(f"{Identity.of_user(user.encode())}: wrong user name or password")
    assert lab.server.tunnel.snapshot(lab.world.now).drops[Drop.UNPROVED.value] == 1
    assert PASSWORD not in f"{down}{refused}"


def test_no_method_in_common() -> None:
    lab = lab_of(login(GTC), users(MD5))
    assert down_of(lab)[0].fault is Fault.AUTHENTICATION
    assert "none of the EAP methods" in lab.server.told(PeerRefused)[0].reason


def test_a_password_is_said_to_nobody_who_has_not_proved_to_be_the_gateway() -> None:
    """RFC 7296 section 2.16: the gateway's certificate comes first."""
    impostor = PadEntry(proof=person("P-256", SERVER, of="CN=Nobody").proof, demand=EapOf(users(GTC)))
    lab = Lab(terms=Terms(proof=EapClient(login(GTC)), demand=trust(), pad=(impostor,)))
    sent: list[bytes] = []
    client = lab.client()
    client.on_send.append(lambda datagram: sent.append(datagram.payload))
    client.connect(lab.terms.connection(client.name), lab.server.ip)
    lab.world.run_until(lambda: bool(client.told(ConnectionDown)), 200.0)
    assert client.told(ConnectionDown)[0].fault is Fault.AUTHENTICATION
    assert len(sent) == 3  # IKE_SA_INIT, IKE_AUTH without a word of EAP, and that it is over


def test_eap_tls_proves_the_gateway_as_well() -> None:
    """RFC 5998: no certificate of the gateway beside."""
    lab = lab_of(login(TLS), users(TLS), only=True)
    client = lab.client()
    lab.connect(client)
    assert str(client.told(ConnectionUp)[0].remote_identity) == SERVER
    assert all(flow.tally.perfect for flow in lab.exchange(client, 1.0))


@pytest.mark.parametrize("method", PASSWORDS)
def test_passwords_prove_no_gateway(method: EapType) -> None:
    """RFC 5998 section 4: neither is a password said, nor tried to be guessed from a response."""
    lab = lab_of(login(method), users(method), only=True)
    assert down_of(lab)[0].fault is Fault.AUTHENTICATION
    assert lab.server.told(PeerRefused)


def test_a_gateway_that_leaves_its_proof_out() -> None:
    """We demand a certificate, and have not said that EAP would do."""
    entry = PadEntry(proof=ByEap(), demand=EapOf(users(MSCHAPV2)))
    lab = Lab(terms=Terms(proof=EapClient(login(MSCHAPV2)), demand=trust(), pad=(entry,)))
    assert down_of(lab)[0].fault is Fault.AUTHENTICATION


def test_a_client_that_is_to_have_a_certificate_does_not_come_in_by_eap() -> None:
    named = PadEntry(
        proof=person("P-256", SERVER).proof, demand=trust(), peers=(Pattern(Identity.parse(CLIENT)),)
    )
    everybody = PadEntry(proof=person("P-256", SERVER).proof, demand=EapOf(users(MSCHAPV2)))
    lab = Lab(terms=Terms(proof=EapClient(login(MSCHAPV2)), demand=trust(), pad=(named, everybody)))
    assert down_of(lab)[0].fault is Fault.AUTHENTICATION
    assert "in another way" in lab.server.told(PeerRefused)[0].reason


# --- those that lie ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_keys_of_another_conversation(method: EapType, monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 7296 section 2.16: AUTH at the end is made with what the method has agreed on."""
    honest = auth.prove_eap
    monkeypatch.setattr(auth, "prove_eap", lambda ground, identity, _: honest(ground, identity, b"k" * 64))
    lab = lab_of(login(method), users(method))
    assert down_of(lab)[0].fault is Fault.AUTHENTICATION
    assert "not the one that has spoken EAP" in lab.server.told(PeerRefused)[0].reason


@pytest.mark.parametrize("round_", [1, 2, 3])
def test_a_gateway_that_says_success_too_early(round_: int, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, rounds = EapServer.receive, []

    def receive(self: EapServer, packet: bytes) -> bytes | None:
        rounds.append(packet)
        if len(rounds) == round_:
            return EapPacket(EapCode.SUCCESS, packet[1]).emit()
        return honest(self, packet)

    monkeypatch.setattr(EapServer, "receive", receive)
    lab = lab_of(login(MSCHAPV2), users(MSCHAPV2))
    client = lab.client()
    client.connect(lab.terms.connection(client.name), lab.server.ip)
    if round_ < 3:
        lab.world.run_until(lambda: bool(client.told(ConnectionDown)), 200.0)
        assert "success before the method's end" in client.told(ConnectionDown)[0].reason
    else:  # where it is due to the client; the server does not take its own word for it
        lab.world.run_until(lambda: bool(client.told(ConnectionDown)), 200.0)
    assert not lab.server.told(ConnectionUp)


Lie = Callable[[bytes], bytes]


@pytest.mark.parametrize(
    "lie",
    [
        pytest.param(lambda p: EapPacket(EapCode.RESPONSE, p[1], TLS, b"").emit(), id="another method"),
        pytest.param(lambda p: EapPacket(EapCode.SUCCESS, p[1]).emit(), id="success from the client"),
        pytest.param(lambda p: EapPacket(EapCode.REQUEST, p[1], MD5, b"").emit(), id="a request"),
        pytest.param(lambda p: p[:1] + bytes([p[1] ^ 1]) + p[2:], id="another identifier"),
        pytest.param(
            lambda p: EapPacket(EapCode.RESPONSE, p[1], EapType.IDENTITY, b"a" * 60_000).emit(),
            id="an identity of 60,000 octets",
        ),
        pytest.param(lambda p: p[:2] + b"\xff\xff" + p[4:], id="a length that lies"),
    ],
)
@pytest.mark.parametrize("round_", [1, 2])
def test_a_client_that_breaks_the_rules(lie: Lie, round_: int, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, rounds = EapPeer.receive, []

    def receive(self: EapPeer, packet: bytes) -> bytes | None:
        rounds.append(packet)
        said = honest(self, packet)
        return lie(said) if said is not None and len(rounds) == round_ else said

    monkeypatch.setattr(EapPeer, "receive", receive)
    lab = lab_of(login(MSCHAPV2), users(MSCHAPV2))
    client = lab.client()
    client.connect(lab.terms.connection(client.name), lab.server.ip)
    lab.world.run_until(lambda: bool(client.told(ConnectionDown)), 200.0)
    assert not lab.server.told(ConnectionUp)
    lab.world.run(200.0)
    assert lab.server.tunnel._ike._hub.admission.half_open == 0


def test_a_client_that_asks_for_the_same_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its deadline is put off by what it says, but not without end."""
    monkeypatch.setattr(
        EapPeer, "receive", lambda _, p: EapPacket(EapCode.RESPONSE, p[1], EapType.NAK, bytes(40)).emit()
    )
    lab = lab_of(login(MSCHAPV2), users(MSCHAPV2))
    client = lab.client()
    client.connect(lab.terms.connection(client.name), lab.server.ip)
    lab.world.run(300.0)
    assert not lab.server.told(ConnectionUp)
    assert lab.server.tunnel._ike._hub.admission.half_open == 0


def test_a_client_that_goes_away_after_a_wrong_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many do; who runs the gateway hears of it all the same."""
    honest, rounds = EapPeer.receive, []

    def receive(self: EapPeer, packet: bytes) -> bytes | None:
        rounds.append(packet)
        if len(rounds) == 3:
            client.die()
        return honest(self, packet)

    monkeypatch.setattr(EapPeer, "receive", receive)
    lab = lab_of(login(MSCHAPV2, password="guess"), users(MSCHAPV2))
    client = lab.client()
    client.connect(lab.terms.connection(client.name), lab.server.ip)
    lab.world.run(100.0)
    (refused,) = lab.server.told(PeerRefused)
    assert "wrong user name or password" in refused.reason


# --- RADIUS -----------------------------------------------------------------------------------------------


class Backend:
    """A RADIUS server with users of its own, `delay` seconds away."""

    def __init__(self, lab: Lab, own: EapUsers, delay: float = 0.05) -> None:
        self._lab = lab
        self._users = own
        self._delay = delay
        self._talks: dict[int, EapServer] = {}
        self.asked = 0
        lab.server.on_event.append(self._hear)

    def _hear(self, event: object) -> None:
        if isinstance(event, BackendAsked):
            self.asked += 1
            self._lab.world.call_later(self._delay, lambda: self._answer(event))

    def _answer(self, event: BackendAsked) -> None:
        talk = self._talks.get(event.handle)
        if talk is None:
            talk = self._talks[event.handle] = self._users.server(chance(event.handle))
            talk._identifier = event.question.packet[1]
        said = talk.receive(event.question.packet) or b""
        verdicts = {"RUNNING": Verdict.CHALLENGE, "SUCCESS": Verdict.ACCEPT, "FAILURE": Verdict.REJECT}
        answer = BackendAnswer(
            verdict=verdicts[talk.outcome.name], packet=said, state=(0, b"state"), msk=talk.msk
        )
        server, now = self._lab.server, self._lab.world.now
        server.do(lambda tunnel: tunnel.backend_answered(event.handle, answer, now))


@pytest.mark.parametrize("method", METHODS)
def test_another_server_decides(method: EapType) -> None:
    lab = lab_of(login(method), EapRadius())
    backend = Backend(lab, users(method))
    client = lab.client()
    lab.connect(client)
    assert backend.asked
    assert all(flow.tally.perfect for flow in lab.exchange(client, 1.0))
    (there,) = lab.server.told(ConnectionUp)
    assert there.remote_identity == Identity.of_user(CLIENT.encode() if method is TLS else b"alice")


def test_another_server_refuses() -> None:
    lab = lab_of(login(MSCHAPV2, password="guess"), EapRadius())
    Backend(lab, users(MSCHAPV2))
    down, _ = down_of(lab)
    assert down.fault is Fault.AUTHENTICATION
    assert "wrong user name or password" in down.reason
    assert "was not let in" in lab.server.told(PeerRefused)[0].reason


def test_a_slow_server_is_asked_once() -> None:
    """The client repeats its request meanwhile, and gets one answer for all of them."""
    lab = lab_of(login(MSCHAPV2), EapRadius())
    backend = Backend(lab, users(MSCHAPV2), delay=4.0)
    lab.connect(lab.client(), within=60.0)
    assert backend.asked == 3


def test_a_server_that_never_answers() -> None:
    lab = lab_of(login(MSCHAPV2), EapRadius())
    down, _ = down_of(lab)
    assert down.fault is Fault.TIMEOUT
    assert lab.server.tunnel._ike._hub.admission.half_open == 0


def test_an_answer_that_comes_too_late() -> None:
    lab = lab_of(login(MSCHAPV2), EapRadius())
    backend = Backend(lab, users(MSCHAPV2), delay=300.0)
    down_of(lab)
    lab.world.run(600.0)
    assert backend.asked
    assert not lab.server.told(ConnectionUp)


def test_an_answer_that_nobody_asked_for() -> None:
    lab = Lab()
    answer = BackendAnswer(verdict=Verdict.ACCEPT, packet=EapPacket(EapCode.SUCCESS, 1).emit())
    lab.server.do(lambda tunnel: tunnel.backend_answered(7, answer, lab.world.now))
    lab.connect(lab.client())


def test_anybody_and_a_password() -> None:
    """A gateway that proves itself by a PSK which many know is still the gateway that was asked for."""
    entry = PadEntry(proof=Psk(b"group"), demand=EapOf(users(MSCHAPV2)))
    lab = Lab(terms=Terms(proof=EapClient(login(MSCHAPV2)), demand=NoDemand(), pad=(entry,)))
    assert down_of(lab)[0].fault is Fault.AUTHENTICATION
