"""`espudp status`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from espudp.cli import parsing
from espudp.cli.errors import reported


@reported
def status(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A device or control name.", show_default="all")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All there is, for programs.")] = False,
) -> None:
    """Show what the running espudp processes do: peers, NAT, SAs, counters, lifetimes, drops. Keys never."""
    from espudp.host.control import request

    if name is not None:
        parsing.control_name(name, "NAME")
    processes = request(name, "status")
    if as_json:
        typer.echo(json.dumps({"processes": processes}, indent=2))
        return
    if not processes:
        typer.echo("No espudp is running on this host.")
        return
    from rich.console import Console

    from espudp.cli.tables import process_view

    console = Console()
    for process in processes:
        console.print(process_view(process))
