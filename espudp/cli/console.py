"""How a running peer's reports reach the terminal: news on standard output, trouble on standard error."""

import os
import sys

import typer

from espudp.cli.errors import tell
from espudp.host.options import Report, Reporter, Severity


def reporter(*, verbose: bool, quiet: bool) -> Reporter:
    """Prints each report as it comes: one line, and for trouble what to do about it.

    A tunnel outlives the reader of its output (`| head -1`), and goes on without a word.
    """

    def report(news: Report) -> None:
        is_trouble = news.severity in (Severity.WARNING, Severity.ERROR)
        try:
            if is_trouble:
                tell(news.text, news.remedy)
            elif not quiet and (verbose or news.severity is Severity.INFO):
                typer.echo(news.text)
                for line in news.remedy.splitlines():
                    typer.echo(f"        {line}")
        except BrokenPipeError:
            _discard((sys.stderr if is_trouble else sys.stdout).fileno())

    return report


def _discard(descriptor: int) -> None:
    """What is written there from now on, and what waits in its buffer."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
