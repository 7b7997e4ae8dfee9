"""`espudp pki`: each command says the next one, and means it."""

import json
import shlex
from pathlib import Path

import pytest

from espudp.cli import pki
from espudp.crypto.pki import DEFAULT_KEY
from espudp.host.options import ConnectOptions
from espudp.host.pki import CA_DAYS, ISSUE_DAYS, OCSP_DAYS
from tests.unit.cli.conftest import Program


def commands(out: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in out.splitlines() if line.startswith("  espudp ")]


def test_from_nothing_to_a_revoked_certificate(program: Program, tmp_path: Path) -> None:
    made = program("pki", "init", "--dir", "ca")
    assert made.code == 0, made.err
    for command in commands(made.out):  # what it says is what is typed
        issued = program(*command)
        assert issued.code == 0, issued.err
        assert "--cert" in issued.out
    shown = json.loads(program("pki", "show", "--dir", "ca", "--json").out)
    assert sorted(one["names"] for one in shown["certificates"]) == [["gw.example.org"], ["me@example.org"]]
    outcome = program("pki", "revoke", "me@example.org", "--dir", "ca")
    assert outcome.code == 0
    assert "--crl crl.pem" in outcome.out
    (me,) = json.loads(program("pki", "show", "me@example.org", "--dir", "ca", "--json").out)["certificates"]
    assert me["state"] == "revoked"
    assert "revoked" in program("pki", "show", "--dir", "ca").out


def test_the_commands_that_issue_prints_are_understood(program: Program, tmp_path: Path) -> None:
    program("pki", "init")
    issued = program("pki", "issue", "gw.example.org")
    folder = tmp_path / "etc" / "pki"
    listen, connect = commands(issued.out)
    for command in (listen, connect):
        words = [str(folder / word) if (folder / word).is_file() else word for word in command]
        outcome = program(*words)
        assert outcome.code == 0, outcome.err
    _, connected = program.ran
    assert isinstance(connected, ConnectOptions)
    assert str(connected.config.local_identity) == "gw.example.org"


def test_an_ocsp_response_is_taken_by_listen(program: Program, tmp_path: Path) -> None:
    folder = tmp_path / "etc" / "pki"
    program("pki", "init")
    program("pki", "issue", "gw.example.org")
    outcome = program("pki", "ocsp", "gw.example.org")
    assert outcome.code == 0, outcome.err
    assert "holds for 7 days" in outcome.out
    own = [str(folder / f"gw.example.org.{kind}") for kind in ("pem", "key", "ocsp")]
    trust = str(folder / "ca.pem")
    outcome = program("listen", "--cert", own[0], "--key", own[1], "--ocsp", own[2], "--ca", trust)
    assert outcome.code == 0, outcome.err
    outcome = program("listen", "--cert", own[0], "--key", own[1], "--ocsp", own[0], "--ca", trust)
    assert (outcome.code, "not an OCSP response" in outcome.err) == (2, True)
    assert "no certificate called 'nobody'" in program("pki", "ocsp", "nobody").err


def test_a_phone_gets_one_file_and_a_password(program: Program, tmp_path: Path) -> None:
    program("pki", "init", "Example CA")
    outcome = program("pki", "issue", "me@example.org", "--p12")
    password = next(line.split()[-1] for line in outcome.out.splitlines() if "password" in line)
    assert len(password) >= 20
    assert (tmp_path / "etc" / "pki" / "me@example.org.p12").exists()
    file = tmp_path / "password"
    file.write_text("my own\n")
    file.chmod(0o600)
    outcome = program("pki", "issue", "me@example.org", "--renew", "--p12-password-file", str(file))
    assert (outcome.code, "my own" in outcome.out) == (0, False)
    file.write_text("\n")
    assert "is empty" in program("pki", "issue", "you@example.org", "--p12-password-file", str(file)).err


def test_any_certificate_is_shown(program: Program, tmp_path: Path) -> None:
    program("pki", "init", "O=Example, CN=CA", "--days", "100", "--key-type", "ed25519")
    outcome = program("pki", "show", str(tmp_path / "etc" / "pki" / "ca.pem"))
    assert outcome.code == 0
    shown = dict(line.split(":", 1) for line in outcome.out.splitlines())
    assert shown["subject"].strip() == "O=Example, CN=CA"
    assert shown["key"].strip() == "Ed25519"
    assert shown["ca"].strip() == "yes"


@pytest.mark.parametrize(
    ("arguments", "said", "remedy"),
    [
        (["show"], "There is no CA", "espudp pki init"),
        (["issue", "gw"], "There is no CA", "espudp pki init"),
        (["show", "nothing"], "There is no CA", "espudp pki init"),
        (["init", "--key-type", "dsa"], "'dsa' is no type of key", "p256"),
    ],
)
def test_mistakes(program: Program, arguments: list[str], said: str, remedy: str) -> None:
    outcome = program("pki", *arguments)
    assert outcome.code == 2
    assert said in outcome.err
    assert remedy in outcome.err


def test_a_name_that_nobody_has(program: Program) -> None:
    program("pki", "init")
    assert "neither a certificate nor a file" in program("pki", "show", "nothing").err
    assert "no valid certificate called 'nothing'" in program("pki", "revoke", "nothing").err
    assert "CRL holds until" in program("pki", "revoke").out


def test_the_defaults_are_those_of_the_ca() -> None:
    assert pki.KEY_TYPE == DEFAULT_KEY
    assert (pki.CA_DAYS, pki.ISSUE_DAYS, pki.OCSP_DAYS) == (CA_DAYS, ISSUE_DAYS, OCSP_DAYS)
