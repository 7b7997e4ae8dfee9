"""What README tells a newcomer to type exists, and CI types it too."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from espudp.cli.main import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()

FIRST = "python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/espudp demo"
SECOND = "python3 -m venv .venv && .venv/bin/pip install '.[test]' && .venv/bin/pytest"


def typed() -> list[str]:
    """Every `espudp ...` at a prompt of README's, continued lines put together, comments left out."""
    text = README.replace("\\\n", " ")
    return [line.partition("    # ")[0] for line in re.findall(r"^ {4}\w+# (espudp .*)$", text, re.MULTILINE)]


def test_readme_s_two_commands_stand_on_its_first_screen() -> None:
    first_screen = README.splitlines()[:40]
    assert f"    {FIRST}" in first_screen
    assert f"    {SECOND}" in first_screen


def test_ci_types_the_same() -> None:
    script = " ".join((ROOT / ".ci" / "run").read_text().replace("--quiet ", "").replace("\\\n", " ").split())
    assert FIRST in script
    install, _, tests = SECOND.rpartition(" && ")
    assert install in script
    assert tests in script


@pytest.mark.parametrize("line", typed())
def test_every_command_is_one(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    group = get_command(app)
    command = group.get_command(group.make_context("espudp", [name]), name)  # type: ignore[attr-defined]
    assert command is not None
    command.make_context(name, arguments)  # raises for an option or argument that is none


def test_there_are_commands() -> None:
    assert len(typed()) >= 6


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:examples|espudp|\.ci)/[\w./]+)`", README))))
def test_every_file_named_is_there(path: str) -> None:
    assert (ROOT / path).exists()
