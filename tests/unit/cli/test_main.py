"""The program as a whole."""

import subprocess
import sys

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


def test_no_such_command(program: Program) -> None:
    outcome = program("nonsense")
    assert outcome.code == 2
    assert "nonsense" in outcome.err


def test_the_command_line_loads_only_what_it_needs() -> None:
    heavy = "{'rich.table', 'uvloop', 'pyroute2', 'numpy', 'pytun', 'asyncio'}"
    check = f"import sys, espudp.cli.main; print(sorted({heavy} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_python_dash_m() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "espudp", "--version"], capture_output=True, text=True, check=True
    )
    assert found.stdout == f"espudp {espudp.__version__}\n"
