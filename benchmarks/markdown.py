"""The results as Markdown, between two marks in a file such as README.md."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import LEGEND
from benchmarks.report import Report
from benchmarks.table import footnotes, ratio_rows, rows
from benchmarks.targets import ratios

BEGIN, END = "<!-- what `python -m benchmarks --markdown` found -->", "<!-- the end of it -->"


def has_place(path: Path) -> bool:
    """Whether a file has both marks."""
    return END in path.read_text().partition(BEGIN)[2]


def insert(report: Report, path: Path) -> None:
    """In the place of what stood between the marks, which the file has."""
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n{render(report)}\n{END}{after}")


def render(report: Report) -> str:
    """Both tables, and what explains them."""
    parts = [
        f"{report.heading}.",
        table(rows(report.results)),
        LEGEND,
        table(ratio_rows(ratios(report.results))),
        *(f"- {note}" for note in footnotes(report.results)),
    ]
    return "\n\n".join(parts)


def table(lines: Sequence[Sequence[str]]) -> str:
    """The first line is the heading; the first column is text, the others are figures."""
    alignment = ["---", *("---:" for _ in lines[0][1:])]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], alignment, *lines[1:]))
