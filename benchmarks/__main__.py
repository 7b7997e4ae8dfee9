"""`python -m benchmarks`: espudp beside other tunnels and the I/O ceiling, in one run on one machine."""

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import markdown, table
from benchmarks.figures import GROUPS, Results
from benchmarks.lab import lab
from benchmarks.machine import describe
from benchmarks.measure import FULL, QUICK
from benchmarks.report import Report
from benchmarks.run import Plan, run
from benchmarks.targets import ratios
from benchmarks.tunnels.base import Tunnel, absent
from benchmarks.tunnels.registry import choose, names
from espudp.errors import EspudpError

# Of tables that go into a file or a pipe.
FILE_COLUMNS = 160


def main(arguments: Sequence[str] | None = None) -> None:
    """Raises SystemExit with one line where something is missing without which nothing can be measured."""
    options = _parser().parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else FILE_COLUMNS)
    _check_files(options)
    if options.read:
        report = Report.from_json(json.loads(options.read.read_text()))
    else:
        report = _measured(options, console)
    _show(console, report)
    if options.json:
        options.json.write_text(json.dumps(report.to_json(), indent=1) + "\n")
    if options.markdown:
        markdown.insert(report, options.markdown)
    if options.plot:
        from benchmarks.plot import draw

        draw(report.results, options.plot)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter trials: some minutes in all")
    parser.add_argument(
        "--peers",
        default="all",
        metavar="all|none|LIST",
        help="what to run beside espudp: names with commas between them (default: all that are installed)",
    )
    parser.add_argument(
        "--only",
        type=_groups,
        metavar="LIST",
        help=f"measure only some of {', '.join(GROUPS)}",
    )
    parser.add_argument(
        "--rounds", type=_at_least_one, metavar="N", help="trials of each figure (default: 3)"
    )
    parser.add_argument("--read", type=Path, metavar="FILE", help="measure nothing, show what --json wrote")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything, each trial as well")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw it")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE.md", help="put the tables between the marks in a file"
    )
    return parser


def _groups(text: str) -> list[str]:
    groups = text.split(",")
    if unknown := set(groups) - set(GROUPS):
        raise argparse.ArgumentTypeError(f"no such figures: {', '.join(sorted(unknown))}")
    return groups


def _at_least_one(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def _check_files(options: argparse.Namespace) -> None:
    """Before anything is measured, which takes too long to be lost for a slip of the pen."""
    for file in (options.json, options.plot):
        if file and not file.parent.is_dir():
            sys.exit(f"There is no folder {file.parent}.")
    for file in (options.read, options.markdown):
        if file and not file.is_file():
            sys.exit(f"There is no file {file}.")
    if options.markdown and not markdown.has_place(options.markdown):
        sys.exit(f"{options.markdown} lacks the marks {markdown.BEGIN} and {markdown.END}.")
    if options.plot and find_spec("matplotlib") is None:
        sys.exit("The plot is matplotlib's: pip install '.[bench]'")


def _available(peers: str) -> tuple[list[Tunnel], list[tuple[Tunnel, str]]]:
    """The tunnels to measure; and those that would be, were their packages installed."""
    if absent("iperf3", "iperf3"):
        sys.exit("The load is iperf3's: apt-get install iperf3")
    try:
        wanted = choose(peers)
    except KeyError as error:
        sys.exit(f"There is no tunnel called {error}; there are {', '.join(names())}.")
    missing = [(tunnel, packages) for tunnel in wanted if (packages := tunnel.missing())]
    without = {tunnel.name for tunnel, _ in missing}
    return [tunnel for tunnel in wanted if tunnel.name not in without], missing


def _measured(options: argparse.Namespace, console: Console) -> Report:
    chosen, missing = _available(options.peers)
    for tunnel, packages in missing:
        console.print(table.missing_line(tunnel.title, packages))
    effort = QUICK if options.quick else FULL
    if options.rounds:
        effort = replace(effort, rounds=options.rounds, slow_rounds=min(options.rounds, effort.slow_rounds))
    plan = Plan(chosen, options.only or GROUPS, effort)
    # SIGINT as well: a shell that starts us in the background has it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _terminated)
    try:
        results = _run(plan, console)
    except EspudpError as error:
        sys.exit(f"{error} {error.remedy}")
    except KeyboardInterrupt:
        sys.exit("Interrupted.")
    absent_ones = {tunnel.title: packages for tunnel, packages in missing}
    return Report(describe(), asdict(effort), absent_ones, results)


def _run(plan: Plan, console: Console) -> list[Results]:
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress, lab() as place:
        task = progress.add_task("making the namespaces", total=plan.total())

        def tell(what: str) -> None:
            progress.update(task, description=what, advance=1)

        return run(plan, place, tell)


def _show(console: Console, report: Report) -> None:
    console.print(report.heading)
    console.print(table.rich_table(table.rows(report.results), left=1))
    if compared := ratios(report.results):
        console.print(table.rich_table(table.ratio_rows(compared), left=1))
    for note in table.footnotes(report.results):
        console.print(note, style="dim")


def _terminated(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
