"""`espudp demo`."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from espudp.cli.errors import EXIT_FAILURE, reported, tell
from espudp.errors import HostError

if TYPE_CHECKING:
    from types import FrameType

SUITE = "aes128gcm16"
MEGABYTES = 300


@reported
def demo(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, and nothing else.")] = False,
    suite: Annotated[
        str, typer.Option(metavar="NAME", help="ESP suite, such as aes256-sha512 or chacha20poly1305.")
    ] = SUITE,
    megabytes: Annotated[
        int, typer.Option(metavar="MB", help="Of TCP to send through the tunnel.", min=1, max=100_000)
    ] = MEGABYTES,
) -> None:
    """Show a tunnel through a NAT at work on this machine, and measure it. Leaves nothing behind."""
    from espudp.crypto.suites import parse_esp_suite
    from espudp.host.demo import DemoOptions, DemoResult, run_demo

    options = DemoOptions(suite=parse_esp_suite(suite).name, octets=megabytes * 10**6)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    if as_json:
        try:
            result = run_demo(options, lambda _: None)
        except HostError as error:  # a program that reads this wants its object nevertheless
            typer.echo(json.dumps(DemoResult(problems=[str(error)]).to_json()))
            raise
        typer.echo(json.dumps(result.to_json()))
    else:
        from rich.console import Console

        from espudp.cli.drawing import draw

        console = Console()
        with console.status("starting") as spinner:
            result = run_demo(options, lambda step: spinner.update(step))
        console.print(draw(result))
        for problem in result.problems:
            tell(problem)
    if not result.ok:
        raise typer.Exit(EXIT_FAILURE)


def _interrupt(_: int, __: FrameType | None) -> None:
    """Ends the demo, and all that belongs to it with it; also where SIGINT was ignored, as after `&`."""
    raise KeyboardInterrupt
