"""Logging in with EAP: options of connect and listen, and what becomes of them."""

from pathlib import Path

import pytest

from espudp.ike.config import ConnectionConfig
from espudp.ike.credentials import ByEap, CertificateOf, EapClient, EapOf, PskOf, SignKey
from espudp.ike.eap.login import EapLogin, EapUsers
from espudp.ike.eap.passthrough import EapRadius
from espudp.wire.eap import EapType
from tests.unit.cli.conftest import Program
from tests.unit.cli.test_authentication import CA, GW, HERE, ME, pki

__all__ = ["pki"]

pytestmark = pytest.mark.usefixtures("files", "pki")

ALICE = ("--eap-user", "alice", "--eap-password-file", "password")
GATEWAY = "gw.example.org"


@pytest.fixture
def files(tmp_path: Path) -> None:
    for name, content in (
        ("password", "open sesame\n"),
        ("users", "alice:open sesame\n"),
        ("secret", "between us\n"),
    ):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o600)


def _connected(program: Program, *arguments: str) -> tuple[ConnectionConfig, EapLogin]:
    program.ran.clear()
    outcome = program("connect", GATEWAY, *arguments)
    assert outcome.code == 0, outcome.err
    config = program.connected.config
    assert isinstance(config.proof, EapClient)
    assert isinstance(config.proof.login, EapLogin)
    return config, config.proof.login


def test_a_password(program: Program) -> None:
    config, login = _connected(program, *ALICE, *CA)
    assert (login.user, login.password, login.tls, login.methods) == ("alice", "open sesame", None, ())
    assert isinstance(config.demand, CertificateOf)
    assert str(config.remote_identity) == GATEWAY
    assert str(config.local_identity) == "alice"  # for gateways that ask for no other name
    assert "sesame" not in repr(config)


@pytest.mark.parametrize("user", ["alice@example.org", "CORP\\alice", "Alice Liddell", "älice"])
def test_names_of_every_kind(program: Program, user: str) -> None:
    config, login = _connected(program, "--eap-user", user, *ALICE[2:], *CA)
    assert login.user == user
    assert config.local_identity.data == user.encode()


def test_methods_in_an_order(program: Program) -> None:
    _, login = _connected(program, *ALICE, *CA, "--eap-method", "gtc", "--eap-method", "MD5")
    assert login.methods == (EapType.GTC, EapType.MD5_CHALLENGE)


def test_a_gateway_by_psk(program: Program, psk_file: str) -> None:
    config, _ = _connected(program, *ALICE, "--psk-file", psk_file)
    assert isinstance(config.demand, PskOf)


def test_a_certificate(program: Program) -> None:
    config, login = _connected(program, "--eap-user", "me@example.org", *ME, *CA)
    assert isinstance(config.demand, CertificateOf)
    assert login.tls is not None
    assert login.tls.server_name is None  # the gateway has proved itself already
    _, login = _connected(
        program, "--eap-user", "me@example.org", *ME, *CA, "--eap-server-name", "radius.example.org"
    )
    assert login.tls is not None
    assert login.tls.server_name == "radius.example.org"


def test_nothing_but_eap(program: Program) -> None:
    """RFC 5998: the gateway has to be the one that was called."""
    config, login = _connected(program, "--eap-user", "me@example.org", *ME, *CA, "--eap-only")
    assert isinstance(config.demand, ByEap)
    assert login.tls is not None
    assert login.tls.server_name == GATEWAY
    for given, meant in (("vpn.example.org", "vpn.example.org"), ("%any", None)):
        _, login = _connected(
            program, "--eap-user", "me@example.org", *ME, *CA, "--eap-only", "--remote-id", given
        )
        assert login.tls is not None
        assert login.tls.server_name == meant


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(("--eap-user", "alice", *CA), "takes a password", id="no password"),
        pytest.param(ALICE, "what the peer is known by", id="no CA"),
        pytest.param((*ALICE[2:], *CA, *ME), "--eap-password-file without --eap-user", id="no user"),
        pytest.param((*ME, *CA, "--eap-only"), "--eap-only without --eap-user", id="only, and nobody"),
        pytest.param((*ALICE, *CA, "--eap-only"), "EAP-TLS proves", id="only, by password"),
        pytest.param((*ALICE, *CA, "--eap-method", "peap"), "'peap' is not possible", id="another method"),
        pytest.param((*ALICE, *CA, "--eap-method", "tls"), "takes a certificate", id="TLS without one"),
        pytest.param((*ALICE, *CA, "--anonymous"), "contradicts --eap-user", id="anonymous"),
        pytest.param(("--eap-user", "", *ALICE[2:], *CA), "1 to 253 octets", id="an empty name"),
    ],
)
def test_what_does_not_go_together(program: Program, arguments: tuple[str, ...], says: str) -> None:
    outcome = program("connect", GATEWAY, *arguments)
    assert outcome.code == 2
    assert says in outcome.err
    assert "sesame" not in outcome.err + outcome.out
    assert not program.ran


def _listened(program: Program, *arguments: str) -> EapUsers | EapRadius:
    outcome = program("listen", *HERE, *GW, *arguments)
    assert outcome.code == 0, outcome.err
    backends = [e.demand.users for e in program.listened.config.pad if isinstance(e.demand, EapOf)]
    assert all(isinstance(entry.proof, SignKey) for entry in program.listened.config.pad)
    (backend,) = backends
    assert isinstance(backend, EapUsers | EapRadius)
    return backend


def test_a_file_of_users(program: Program) -> None:
    backend = _listened(program, "--eap-users", "users")
    assert isinstance(backend, EapUsers)
    assert (len(backend.users), backend.tls, backend.methods) == (1, None, ())
    assert backend.users.find(b"alice")[1]
    assert program.listened.radius == ()


def test_users_with_certificates(program: Program) -> None:
    backend = _listened(program, *CA, "--eap-method", "tls")
    assert isinstance(backend, EapUsers)
    assert backend.methods == (EapType.TLS,)
    assert backend.tls is not None
    assert len(backend.tls.authorities) == 1


def test_a_listener_that_leaves_its_proof_to_eap(program: Program) -> None:
    """RFC 5998, only if it is asked for; others who come by certificate get the usual proof."""
    outcome = program("listen", *HERE, *GW, *CA, "--eap-method", "tls", "--eap-only")
    assert outcome.code == 0, outcome.err
    pad = program.listened.config.pad
    assert [(type(e.demand), type(e.proof)) for e in pad] == [(CertificateOf, SignKey), (EapOf, ByEap)]
    assert str(pad[1].local_identity) == GATEWAY


def test_radius(program: Program) -> None:
    backend = _listened(
        program, "--radius", "192.0.2.5", "--radius", "r2:1645", "--radius-secret-file", "secret"
    )
    assert isinstance(backend, EapRadius)
    assert [(s.host, s.port, s.secret) for s in program.listened.radius] == [
        ("192.0.2.5", 1812, b"between us"),
        ("r2", 1645, b"between us"),
    ]
    assert "between" not in repr(program.listened)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(("--eap-users", "users"), "nothing to prove ourselves with", id="no certificate"),
        pytest.param((*GW, "--eap-users", "nobody"), "does not exist", id="no file"),
        pytest.param((*GW, "--eap-method", "md5"), "no users who could have passwords", id="no users"),
        pytest.param((*GW, "--eap-method", "tls"), "takes a certificate", id="TLS without a CA"),
        pytest.param(
            (*GW, "--radius", "r"), "secret is shared with the RADIUS", id="RADIUS without a secret"
        ),
        pytest.param((*GW, *CA, "--radius-secret-file", "secret"), "without --radius", id="a secret alone"),
        pytest.param((*GW, "--eap-users", "users", "--eap-only"), "EAP-TLS proves", id="only, by password"),
        pytest.param((*GW, *CA, "--eap-only"), "EAP-TLS proves", id="only, by nothing"),
        pytest.param(
            (*GW, *CA, "--eap-method", "tls", "--eap-only", "--both-proofs"),
            "contradicts --both-proofs",
            id="only, and both",
        ),
        pytest.param(
            (*GW, "--radius", "r", "--radius-secret-file", "secret", "--eap-users", "users"),
            "contradicts --radius",
            id="RADIUS and users",
        ),
    ],
)
def test_what_a_listener_cannot_do(program: Program, arguments: tuple[str, ...], says: str) -> None:
    outcome = program("listen", *HERE, *arguments)
    assert outcome.code == 2
    assert says in outcome.err
    assert not program.ran
