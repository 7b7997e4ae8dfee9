"""`python -m benchmarks`: a table of what espudp does on this machine. One run, so that rows compare."""

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import demo, esp, handshakes
from espudp import ESP_SUITES

DEMO_SUITES = ["aes128gcm16", "chacha20poly1305", "aes128-sha256"]

_In = TypeVar("_In")
_Out = TypeVar("_Out")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each figure (default: 1)")
    parser.add_argument("--no-demo", action="store_true", help="leave out the real tunnel, which needs root")
    options = parser.parse_args(arguments)
    console = Console()
    with Progress(console=console, transient=True) as progress:

        def each(what: str, items: Iterable[_In], measure: Callable[[_In], _Out]) -> list[_Out]:
            todo = list(items)
            return [measure(item) for item in progress.track(todo, description=what)]

        plain = [suite for suite in ESP_SUITES if not suite.esn]
        suites = each("ESP", plain, lambda suite: esp.measure(suite, options.seconds))
        greetings = each(
            "IKE", handshakes.proposals(), lambda text: handshakes.measure(text, options.seconds)
        )
        tunnels = [] if options.no_demo else each("demo", DEMO_SUITES, demo.measure)
    console.print(_esp_table(suites))
    console.print(_handshake_table(greetings))
    if tunnels:
        console.print(_demo_table(tunnels))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _esp_table(rows: list[esp.EspFigures]) -> Table:
    table = _table(
        f"ESP, {esp.PACKET_OCTETS} octets, batches of {esp.BATCH}, one core: Gbit/s",
        *("suite", "seal", "open", "cipher alone", "seal / cipher"),
    )
    for row in rows:
        figures = (row.seal, row.open, row.cipher, row.seal / row.cipher)
        table.add_row(row.suite, *(f"{figure:.2f}" for figure in figures))
    return table


def _handshake_table(rows: list[handshakes.HandshakeFigures]) -> Table:
    table = _table("IKEv2 handshakes, both ends on one core", "proposal", "per second", "ms each")
    for row in rows:
        table.add_row(row.proposal, f"{row.per_second:.0f}", f"{1000 / row.per_second:.2f}")
    return table


def _demo_table(rows: list[dict[str, object]]) -> Table:
    table = _table("TCP through a real tunnel, both ends on this machine", "suite", "Gbit/s", "RTT, ms")
    for row in rows:
        table.add_row(str(row["suite"]), f"{row['throughput_gbps']:.2f}", f"{row['rtt_ms']:.2f}")
    return table


if __name__ == "__main__":
    main()
