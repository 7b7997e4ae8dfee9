"""The results as tables."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.figures import FIGURES, Figure, Results
from benchmarks.targets import Ratio

DASH = "-"


def cell(results: Results, figure: Figure) -> str:
    """The median, or a dash."""
    value = results.median(figure)
    return DASH if value is None else f"{value:.{figure.digits}f}"


def measured(results: Sequence[Results]) -> list[Figure]:
    """The figures that at least one tunnel has."""
    return [figure for figure in FIGURES if any(figure.key in found.trials for found in results)]


def rows(results: Sequence[Results]) -> list[list[str]]:
    """What is measured, in which unit, and the value of each tunnel; headings first."""
    return [["", *(found.title for found in results)]] + [
        [f"{figure.title}, {figure.unit}", *(cell(found, figure) for found in results)]
        for figure in measured(results)
    ]


def ratio_rows(ratios: Sequence[Ratio]) -> list[list[str]]:
    """What is compared, the target, what was found, and whether it holds; headings first."""
    verdicts = {True: "yes", False: "NO", None: DASH}
    return [["ratio", "target", "found", "holds"]] + [
        [
            compared.what,
            f"{'<=' if compared.at_most else '>='} {compared.target:g}",
            DASH if compared.found is None else f"{compared.found:.2f}",
            verdicts[compared.holds],
        ]
        for compared in ratios
    ]


def rich_table(lines: Sequence[Sequence[str]], *, left: int) -> Table:
    """The first `left` columns are text, the others figures."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for number, heading in enumerate(lines[0]):
        table.add_column(heading, justify="left" if number < left else "right")
    for line in lines[1:]:
        table.add_row(*line)
    return table


def missing_line(title: str, packages: str) -> str:
    """What to do about a tunnel that is not there."""
    return f"{title} is not installed, and left out: apt-get install {packages}"


def footnotes(results: Sequence[Results]) -> list[str]:
    """Why there are dashes, and what went wrong."""
    notes = [
        f"{found.title}: no {figure.title}: {found.notes[figure.key]}"
        for figure in measured(results)
        for found in results
        if figure.key in found.notes
    ]
    problems = [f"{found.title}: {problem}" for found in results for problem in found.problems]
    return notes + problems
