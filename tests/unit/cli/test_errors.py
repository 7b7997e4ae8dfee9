"""Every error is two lines and an exit code, never a traceback and never a secret."""

import errno
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import typer
from typer.testing import CliRunner

from espudp.cli import errors
from espudp.errors import AuthenticationFailed, ConfigError, HostError


@pytest.fixture(autouse=True)
def no_tracebacks() -> Iterator[None]:
    yield
    errors.show_tracebacks(False)


def run(fail: Callable[[], None]) -> tuple[int, str]:
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    @errors.reported
    def command() -> None:
        fail()

    result = CliRunner().invoke(app, [])
    assert not result.stdout
    return result.exit_code, result.stderr


def throw(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("the field is wrong", remedy="write it so"), 2),
        (HostError("the field is wrong", remedy="write it so"), 1),
        (AuthenticationFailed("the field is wrong", remedy="write it so"), 1),
    ],
)
def test_ours_say_what_is_wrong_and_what_to_do(error: Exception, code: int) -> None:
    assert run(partial(throw, error)) == (code, "espudp: The field is wrong.\n        Write it so\n")


@pytest.mark.parametrize(
    ("what", "shown"),
    [
        ("Done already.", "Done already."),
        ("--psk: wrong", "--psk: wrong."),
        ("esp0 is gone (really)", "esp0 is gone (really)."),
        ("'%any' is wrong", "'%any' is wrong."),
    ],
)
def test_sentences_begin_and_end_as_they_should(what: str, shown: str) -> None:
    assert run(partial(throw, HostError(what))) == (1, f"espudp: {shown}\n")


def test_a_command_in_the_remedy_stays_as_it_is() -> None:
    _, shown = run(partial(throw, HostError("x", remedy="run it: chmod 600 /x\nor leave it")))
    assert shown.endswith("        Run it: chmod 600 /x\n        or leave it\n")


def test_ctrl_c() -> None:
    assert run(partial(throw, KeyboardInterrupt())) == (130, "")


def test_nobody_reads_on() -> None:
    assert run(partial(throw, BrokenPipeError(errno.EPIPE, "Broken pipe"))) == (1, "")


def test_exit_codes_pass() -> None:
    assert run(partial(throw, typer.Exit(7))) == (7, "")


def test_the_unexpected_is_one_line_without_its_text() -> None:
    code, shown = run(partial(throw, ValueError("the key is 00112233")))
    assert code == 1
    assert shown.startswith("espudp: An unexpected error, ValueError, ended this")
    assert "--debug" in shown
    assert "00112233" not in shown
    assert "Traceback" not in shown


def test_debug_shows_where_it_came_from() -> None:
    errors.show_tracebacks(True)
    _, shown = run(partial(throw, ValueError("of ours")))
    assert "Traceback" in shown
    assert "ValueError: of ours" in shown
