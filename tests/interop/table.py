"""Put the interop matrix of the last run between its marks in a file, or look whether it stands there.

python -m tests.interop.table README.md
python -m tests.interop.table --check README.md
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.interop.matrix import CACHE, ROLES, Cell, rows

BEGIN, END = "<!-- what `pytest tests/interop` found -->", "<!-- the end of the matrix -->"
LAST_RUN = Path(__file__).parents[2] / ".pytest_cache" / "v" / CACHE


def _outcome(cells: Sequence[Cell]) -> str:
    """What one role came to: how many variants passed, and how many there are if not all did."""
    passed = sum(cell.passed for cell in cells)
    if not cells:
        return "-"
    if passed < len(cells):
        return f"{passed} of {len(cells)}"
    return "yes" if not any(cell.variant for cell in cells) else str(passed)


def _variants(cells: Sequence[Cell]) -> str:
    """The variants of a feature; of what has none, what was seen."""
    return ", ".join(dict.fromkeys(filter(None, (cell.variant or cell.seen for cell in cells))))


def markdown(cells: Sequence[Cell]) -> Iterator[str]:
    """The table, one row for each feature of each peer."""
    yield "| peer | feature | what was seen to work | espudp initiates | espudp responds |"
    yield "| --- | --- | --- | ---: | ---: |"
    for (peer, feature), group in rows(cells).items():
        outcomes = [_outcome([cell for cell in group if cell.role == role]) for role in ROLES]
        yield f"| {' | '.join([peer, feature, _variants(group), *outcomes])} |"


def replaced(text: str, cells: Sequence[Cell]) -> str:
    """The text with the table of these cells between the marks. Raises ValueError without marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the marks {BEGIN} and {END} are missing")
    return "\n".join([f"{before}{BEGIN}", *markdown(cells), f"{END}{after}"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if it differs")
    parser.add_argument("file", type=Path, help="has the two marks in it")
    options = parser.parse_args()
    if not LAST_RUN.exists():
        sys.exit(f"No run has left its cells in {LAST_RUN}: run `pytest tests/interop` first.")
    cells = [Cell(**cell) for cell in json.loads(LAST_RUN.read_text())]
    text = options.file.read_text()
    try:
        renewed = replaced(text, cells)
    except ValueError as error:
        sys.exit(f"{options.file}: {error}.")
    if not options.check:
        options.file.write_text(renewed)
    elif renewed != text:
        print(*markdown(cells), sep="\n")
        print(f"\n{options.file} shows another matrix: `python -m tests.interop.table {options.file}`.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
