"""The interop matrix: every cell is a test with one peer in one role, and what was seen in it.

A test joins with the marks `peer(NAME, ROLE)`, usually its module's, and `cell(FEATURE)`; how it is
parametrized names the variant of the feature. What it wants shown it hands to the fixture `saw`.
"""

from collections.abc import Callable, Generator, Iterable
from dataclasses import asdict, dataclass
from itertools import groupby

import pytest

# espudp's own
INITIATOR, RESPONDER = "initiator", "responder"
ROLES = (INITIATOR, RESPONDER)

# Where a run leaves its cells, for `python -m tests.interop.table`.
CACHE = "interop/cells"

MARKERS = (
    "peer(name, role): the program of the interop matrix that is spoken to, and what espudp is meanwhile",
    "cell(feature, variant=None): a cell of the interop matrix; the test's parameters name the variant",
)


@dataclass(frozen=True)
class Cell:
    peer: str
    role: str
    feature: str
    variant: str  # empty where the feature has none
    passed: bool
    seen: str
    place: int
    """Of the test among all of the run: several processes come to them in another order."""

    @property
    def row(self) -> tuple[str, str]:
        return self.peer, self.feature


def rows(cells: Iterable[Cell]) -> dict[tuple[str, str], list[Cell]]:
    """The cells of each peer's features, variants in the order of the tests."""
    ordered = sorted(cells, key=lambda cell: (cell.peer.lower(), cell.feature.lower(), cell.place))
    return {row: list(group) for row, group in groupby(ordered, key=lambda cell: cell.row)}


def _cell(item: pytest.Item, place: int, report: pytest.TestReport) -> Cell | None:
    peer, cell = item.get_closest_marker("peer"), item.get_closest_marker("cell")
    if peer is None or cell is None:
        return None
    callspec = getattr(item, "callspec", None)
    variant = cell.kwargs.get("variant", callspec.id if callspec else "")
    seen = "; ".join(str(text) for name, text in item.user_properties if name == "saw")
    name, role = peer.args
    return Cell(name, role, cell.args[0], variant, report.passed, seen, place)


class Matrix:
    """The pytest plugin that collects the cells of a run, prints them and leaves them in pytest's cache.

    A cell travels with the report of its test: several processes may share the work (pytest-xdist).
    """

    def __init__(self) -> None:
        self._cells: dict[str, Cell] = {}
        self._places: dict[str, int] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._places = {item.nodeid: place for place, item in enumerate(session.items)}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        shows = report.when == "call" or report.failed  # a fixture that fails is the test's failure
        if shows and not report.skipped and (cell := _cell(item, self._places[item.nodeid], report)):
            report.user_properties = [*report.user_properties, ("cell", asdict(cell))]
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, cell in report.user_properties:
            if name == "cell" and isinstance(cell, dict):
                self._cells[report.nodeid] = Cell(**cell)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        cache = getattr(session.config, "cache", None)  # `-p no:cacheprovider` has none
        is_helper = hasattr(session.config, "workerinput")
        if self._cells and cache and not is_helper:
            cache.set(CACHE, [asdict(cell) for cell in self._cells.values()])

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._cells:
            terminalreporter.section("interop matrix")
            for line in lines(self._cells.values()):
                terminalreporter.write_line(line)


def lines(cells: Iterable[Cell]) -> Iterable[str]:
    """The matrix as text: a line for each cell, below its peer and its feature."""
    for (peer, feature), group in rows(cells).items():
        yield f"{peer}: {feature}"
        for cell in group:
            outcome = "ok  " if cell.passed else "FAIL"
            yield f"  {outcome} {cell.role:9}  {'  '.join(filter(None, (cell.variant, cell.seen)))}".rstrip()


@pytest.fixture
def saw(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Adds to what the cell shows."""
    return lambda text: record_property("saw", text)
