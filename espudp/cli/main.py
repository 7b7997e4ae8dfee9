"""The command line: each command parses, builds a configuration, and calls one function."""

import os
from typing import Annotated

import typer

from espudp import __version__
from espudp.cli import errors
from espudp.cli.algorithms import algorithms
from espudp.cli.connect import connect
from espudp.cli.demo import demo
from espudp.cli.help import Command, Group
from espudp.cli.keygen import keygen
from espudp.cli.listen import listen
from espudp.cli.pki import app as pki
from espudp.cli.status import status

app = typer.Typer(
    name="espudp",
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (connect, listen, status, keygen, algorithms, demo):
    app.command(cls=Command)(command)
app.add_typer(pki)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"espudp {__version__}")
        raise typer.Exit


@app.callback()
def begin(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="ESPUDP_DEBUG", help="Show where an unexpected error came from.")
    ] = False,
) -> None:
    """A userspace IPsec peer: a VPN of ESP in UDP over a TUN device, keyed by IKE."""
    errors.show_tracebacks(debug)


def main() -> None:
    """The `espudp` program."""
    # numpy's linear algebra, which nothing here uses, would start a thread for each core: 0.1 s of CPU.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    app(prog_name="espudp")
