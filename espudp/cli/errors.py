"""How errors reach a person: one sentence of what is wrong, one of what to do; never a traceback.

Exit codes: 2 for what the user said wrongly, 1 for what went wrong at run time, 130 for Ctrl-C.
"""

import functools
import traceback
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer

from espudp.errors import ConfigError, EspudpError

EXIT_FAILURE, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

P = ParamSpec("P")
R = TypeVar("R")

_tracebacks = False


def show_tracebacks(wanted: bool) -> None:
    """Whether an unexpected error shows where it came from."""
    global _tracebacks
    _tracebacks = wanted


def reported(command: Callable[P, R]) -> Callable[P, R]:
    """A command whose errors are told to the person in front of it, and end it with the right exit code."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except EspudpError as error:
            tell(str(error), error.remedy)
            raise typer.Exit(EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILURE) from None
        except KeyboardInterrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
            raise  # a pipe: nobody reads on, as with `| head`, and typer ends without a word
        except Exception as error:
            _tell_unexpected(error)
            raise typer.Exit(EXIT_FAILURE) from None

    return run


def tell(what: str, remedy: str = "") -> None:
    """On standard error: one line, and what to do below it."""
    what = _capital(what)
    stop = "." if what[-1:].isalnum() or what.endswith((")", "'", '"')) else ""
    typer.echo(f"espudp: {what}{stop}", err=True)
    # No full stop here: it may end in a command, to be copied as it is.
    for line in _capital(remedy).splitlines():
        typer.echo(f"        {line}", err=True)


def _capital(text: str) -> str:
    """A capital at the beginning, where that is a plain word and not a name of something."""
    first = text.split(" ", 1)[0]
    return text[0].upper() + text[1:] if first.isalpha() and first.islower() else text


def _tell_unexpected(error: Exception) -> None:
    if _tracebacks:
        typer.echo("".join(traceback.format_exception(error)), err=True)
    # The type alone: the text of an error that nobody foresaw may contain anything, a key as well.
    tell(
        f"an unexpected error, {type(error).__name__}, ended this: a mistake in espudp",
        "run it again as `espudp --debug ...` and report what that shows",
    )
