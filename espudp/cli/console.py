"""How a running peer's reports reach the terminal: news on standard output, trouble on standard error."""

import typer

from espudp.cli.errors import tell
from espudp.host.options import Report, Reporter, Severity


def reporter(*, verbose: bool, quiet: bool) -> Reporter:
    """Prints each report as it comes: one line, and for trouble what to do about it."""

    def report(news: Report) -> None:
        if news.severity in (Severity.WARNING, Severity.ERROR):
            tell(news.text, news.remedy)
        elif not quiet and (verbose or news.severity is Severity.INFO):
            typer.echo(news.text)
            for line in news.remedy.splitlines():
                typer.echo(f"        {line}")

    return report
