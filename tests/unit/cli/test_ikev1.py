"""IKEv1 on the command line: what its options become, what is refused, and the warning that goes with it."""

from pathlib import Path

import pytest

from espudp.ike.config import ConnectionConfig, Identity, ListenerConfig
from espudp.ike.credentials import CertificateOf, EapOf, NoDemand, NoProof, Psk, PskOf, SignKey
from espudp.ike.ikev1_config import Ikev1Config, Ikev1Policy, Mode
from espudp.ike.pad import PadEntry
from tests.scenario.credentials import key
from tests.unit.cli.conftest import Program
from tests.unit.cli.test_authentication import CA, GW, ME, _pem
from tests.unit.crypto.certs import root

pytestmark = pytest.mark.usefixtures("files")

GATEWAY = "gw.example.org"
ALICE = ("--xauth-user", "alice", "--xauth-password-file", "password")
PSK = ("--psk-file", "psk")
EC = ("--cert", "ec", "--key", "ec.key")


@pytest.fixture
def files(tmp_path: Path) -> None:
    for name, content in (
        ("password", "open sesame\n"),
        ("users", "alice:open sesame\n"),
        ("psk", "correct horse battery staple\n"),
    ):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o600)
    ca = root("CN=CA")
    _pem(tmp_path, "ca", ca)
    _pem(tmp_path, "gw", ca.issue("CN=gw", "dns:gw.example.org", key=key("RSA", "gw")))
    _pem(tmp_path, "me", ca.issue("CN=me", "email:me@example.org", key=key("RSA", "me")))
    _pem(tmp_path, "ec", ca.issue("CN=ec", "dns:gw.example.org"))


def _connected(program: Program, *arguments: str) -> tuple[ConnectionConfig, Ikev1Config, str]:
    program.ran.clear()
    outcome = program("connect", GATEWAY, *arguments)
    assert outcome.code == 0, outcome.err
    config = program.connected.config
    assert config.ikev1 is not None
    assert "sesame" not in repr(config)
    return config, config.ikev1, outcome.err


def _listened(program: Program, *arguments: str) -> tuple[ListenerConfig, Ikev1Policy, str]:
    program.ran.clear()
    outcome = program("listen", "--bind", "203.0.113.7", *arguments)
    assert outcome.code == 0, outcome.err
    config = program.listened.config
    assert config.ikev1 is not None
    return config, config.ikev1, outcome.err


def test_without_the_option_there_is_no_ikev1(program: Program) -> None:
    assert program("connect", GATEWAY, *PSK).code == 0
    assert program.connected.config.ikev1 is None
    program.ran.clear()
    assert program("listen", *PSK).code == 0
    assert program.listened.config.ikev1 is None


def test_main_mode(program: Program) -> None:
    config, v1, err = _connected(program, *PSK, "--ikev1", "main")
    assert (v1.mode, v1.xauth, v1.pushed) == (Mode.MAIN, None, False)
    assert isinstance(config.proof, Psk)
    assert err == ""


def test_aggressive_mode_of_a_group(program: Program) -> None:
    arguments = (*PSK, "--ikev1", "aggressive", *ALICE, "--xauth-domain", "OFFICE", "--mode-config", "push")
    config, v1, err = _connected(program, *arguments, "--id", "my-group")
    assert config.local_identity == Identity.parse("keyid:my-group")
    assert v1.xauth is not None
    assert (v1.xauth.user, v1.xauth.password, v1.xauth.domain) == ("alice", "open sesame", "OFFICE")
    assert v1.pushed
    assert "guess the key offline" in " ".join(err.split())


@pytest.mark.parametrize("name", ["me.example.org", "me@example.org", "192.0.2.1", "@me"])
def test_other_names_are_what_they_look_like(program: Program, name: str) -> None:
    config, _, _ = _connected(program, *PSK, "--ikev1", "aggressive", "--id", name)
    assert config.local_identity == Identity.parse(name)


def test_a_name_in_main_mode_is_no_group(program: Program) -> None:
    config, _, _ = _connected(program, *PSK, "--ikev1", "main", "--id", "office")
    assert config.local_identity == Identity.parse("office")


def test_certificates_and_a_login(program: Program) -> None:
    config, v1, err = _connected(program, *ME, *CA, "--ikev1", "aggressive", *ALICE)
    assert isinstance(config.proof, SignKey)
    assert isinstance(config.demand, CertificateOf)
    assert v1.xauth is not None
    assert "guess" not in err


def test_hybrid(program: Program) -> None:
    config, v1, _ = _connected(program, *CA, "--ikev1", "main", *ALICE)
    assert isinstance(config.proof, NoProof)
    assert isinstance(config.demand, CertificateOf)
    assert str(config.remote_identity) == GATEWAY
    assert config.local_identity == Identity.parse("keyid:alice")
    assert v1.xauth is not None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param((*PSK, "--ikev1", "quick"), "'quick' is not possible", id="no mode"),
        pytest.param((*PSK, "--ikev1", "main,aggressive"), "by one mode", id="two modes"),
        pytest.param((*PSK, *ALICE), "--xauth-user without --ikev1", id="XAUTH alone"),
        pytest.param((*PSK, "--mode-config", "push"), "--mode-config without --ikev1", id="push alone"),
        pytest.param((*PSK, "--ikev1", "main", "--mode-config", "x"), "'x' is not possible", id="neither"),
        pytest.param((*PSK, "--ikev1", "main", *ALICE[2:]), "without --xauth-user", id="no user"),
        pytest.param((*PSK, "--ikev1", "main", *ALICE[:2]), "takes a password", id="no password"),
        pytest.param((*PSK, *CA, "--ikev1", "main"), "no such way", id="two kinds of proof"),
        pytest.param((*EC, *CA, "--ikev1", "main"), "an RSA certificate", id="ECDSA"),
        pytest.param(
            (*PSK, "--ikev1", "main", "--ike-proposal", "aes128gcm16-prfsha256-ecp256"),
            "of the IKE proposals is one of IKEv1",
            id="AEAD",
        ),
        pytest.param((*CA, "--ikev1", "main"), "nothing to prove ourselves with", id="no proof"),
        pytest.param(
            (*CA, "--ikev1", "main", "--eap-user", "alice", "--eap-password-file", "password"),
            "--eap-user: IKEv1 does not have that",
            id="EAP",
        ),
        pytest.param((*ME, *CA, "--ikev1", "main", "--rsa-pss"), "--rsa-pss", id="PSS"),
        pytest.param((*PSK, "--ikev1", "main", "--childless"), "--childless", id="childless"),
        pytest.param((*PSK, "--ikev1", "main", "--reauth", "1h"), "--ike-lifetime", id="reauthentication"),
        pytest.param(("--ikev1", "main", "--allow-anonymous", "--anonymous"), "--anonymous", id="anonymous"),
    ],
)
def test_mistakes_of_who_connects(program: Program, arguments: tuple[str, ...], said: str) -> None:
    outcome = program("connect", GATEWAY, *arguments)
    assert outcome.code == 2
    assert said in " ".join(outcome.err.split())
    assert not program.ran


def test_what_means_nothing_there_does_no_harm(program: Program) -> None:
    _connected(program, *PSK, "--ikev1", "main", "--no-mobike", "--no-resume", "--no-redirect")


def test_a_listener_serves_both_versions(program: Program) -> None:
    config, v1, err = _listened(program, *PSK, "--ikev1", "main")
    assert v1.modes == {Mode.MAIN}
    assert config.pad == (PadEntry.of_psk(b"correct horse battery staple"),)
    assert err == ""
    config, v1, err = _listened(program, *PSK, "--ikev1", "main,aggressive", "--banner", "Be nice.")
    assert v1.modes == {Mode.MAIN, Mode.AGGRESSIVE}
    assert (v1.banner, v1.push) == ("Be nice.", False)
    assert "guess the key offline" in " ".join(err.split())


def test_a_group_that_logs_in(program: Program) -> None:
    config, _, _ = _listened(program, *PSK, "--ikev1", "aggressive", "--xauth-users", "users")
    (entry,) = config.pad
    assert isinstance(entry.demand, PskOf)
    assert isinstance(entry.proof, Psk)
    assert entry.xauth is not None
    assert not entry.xauth.chap
    assert entry.xauth.users.find(b"alice")[1]


def test_a_gateway_by_certificate_whose_users_log_in(program: Program) -> None:
    config, _, err = _listened(program, *GW, "--ikev1", "main", "--xauth-users", "users", "--xauth-chap")
    (entry,) = config.pad
    assert isinstance(entry.proof, SignKey)
    assert isinstance(entry.demand, NoDemand)
    assert entry.xauth is not None
    assert entry.xauth.chap
    assert "anybody may be" not in err


def test_certificates_on_both_sides_and_a_login(program: Program) -> None:
    config, _, _ = _listened(program, *GW, *CA, "--ikev1", "main", "--xauth-users", "users")
    (entry,) = config.pad
    assert isinstance(entry.demand, CertificateOf)
    assert entry.xauth is not None


def test_several_ways_in(program: Program) -> None:
    config, _, _ = _listened(program, *GW, *PSK, "--ikev1", "main", "--xauth-users", "users")
    assert [(type(e.proof), type(e.demand), bool(e.xauth)) for e in config.pad] == [
        (Psk, PskOf, True),
        (SignKey, NoDemand, True),
    ]
    config, _, _ = _listened(
        program, *GW, "--eap-users", "users", "--ikev1", "main", "--xauth-users", "users"
    )
    assert [(type(e.demand), bool(e.xauth)) for e in config.pad] == [(EapOf, False), (NoDemand, True)]


def test_the_line_for_the_other_host(program: Program) -> None:
    outcome = program("listen", "--ikev1", "main", "--xauth-users", "users")
    assert outcome.code == 0, outcome.err
    assert program.listened.config.pad[0].xauth is not None


def test_ways_in_from_a_file(program: Program, tmp_path: Path) -> None:
    (tmp_path / "ways.toml").write_text(
        '[staff]\npeers = ["keyid:staff"]\npsk-file = "psk"\nxauth-users = "users"\n\n'
        '[office]\nfrom = ["192.0.2.0/24"]\npsk-file = "psk"\n'
    )
    config, _, err = _listened(program, "--connections", "ways.toml", "--ikev1", "main,aggressive")
    assert [(entry.name, bool(entry.xauth)) for entry in config.pad] == [("staff", True), ("office", False)]
    assert "guess" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param((*PSK, "--ikev1", "main,quick"), "'quick' is not possible", id="no mode"),
        pytest.param((*PSK, "--xauth-users", "users"), "--xauth-users without --ikev1", id="XAUTH alone"),
        pytest.param((*PSK, "--ikev1", "main", "--xauth-chap"), "nobody is asked", id="no users"),
        pytest.param((*PSK, "--ikev1", "main", "--xauth-users", "none"), "does not exist", id="no file"),
        pytest.param((*GW, "--eap-users", "users", "--ikev1", "main"), "can come by IKEv1", id="EAP alone"),
    ],
)
def test_mistakes_of_who_listens(program: Program, arguments: tuple[str, ...], said: str) -> None:
    outcome = program("listen", *arguments)
    assert outcome.code == 2
    assert said in " ".join(outcome.err.split())
    assert not program.ran


def test_the_warning_is_in_the_help(program: Program) -> None:
    for command in ("connect", "listen"):
        words = "".join(c if c.isalnum() else " " for c in program(command, "--help").out).split()
        assert "guessed offline" in " ".join(words)
