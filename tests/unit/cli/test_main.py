"""The program as a whole."""

import subprocess
import sys

import pytest

import espudp
from tests.unit.cli.conftest import Program


def test_the_version(program: Program) -> None:
    assert program("--version").out == f"espudp {espudp.__version__}\n"


def test_help_names_every_command(program: Program) -> None:
    outcome = program("--help")
    assert outcome.code == 0
    for command in ("connect", "listen", "status", "keygen", "demo"):
        assert command in outcome.out
        assert "--help" in program(command, "-h").out


@pytest.mark.parametrize("command", ["connect", "listen"])
def test_help_has_the_options_by_what_they_are_about(program: Program, command: str) -> None:
    text = program(command, "--help").out
    assert max(map(len, text.splitlines())) <= 80
    headings = [
        line.removesuffix(":") for line in text.splitlines() if line[:1].isalpha() and line[-1] == ":"
    ]
    assert len(set(headings)) == len(headings)
    assert {"Options", "IKEv1", "L2TP", "Cryptography", "This host"} <= set(headings)
    ikev1 = text.partition("\nIKEv1:\n")[2].partition("\n\n")[0]
    assert "--ikev1" in ikev1
    assert "--xauth-user" in ikev1
    assert "--psk" not in ikev1


def test_no_sentence_of_help_is_cut_off(program: Program) -> None:
    assert "..." not in program("--help").out.partition("Commands:")[2]
    assert "..." not in program("pki", "--help").out.partition("Commands:")[2]


def test_no_such_command(program: Program) -> None:
    outcome = program("nonsense")
    assert outcome.code == 2
    assert "nonsense" in outcome.err


def test_the_command_line_loads_only_what_it_needs() -> None:
    heavy = "{'rich.table', 'typer.rich_utils', 'uvloop', 'pyroute2', 'numpy', 'pytun', 'asyncio'}"
    check = f"import sys, espudp.cli.main; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_python_dash_m() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "espudp", "--version"], capture_output=True, text=True, check=True
    )
    assert found.stdout == f"espudp {espudp.__version__}\n"
