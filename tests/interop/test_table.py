"""The matrix's table in README is what a run found, whatever stood there before."""

import pytest

from tests.interop.matrix import INITIATOR, RESPONDER, Cell, lines
from tests.interop.table import BEGIN, END, markdown, replaced

CELLS = [
    Cell("a peer", INITIATOR, "suites", "y", False, "", 7),
    Cell("a peer", INITIATOR, "suites", "x", True, "9 packets", 6),
    Cell("a peer", RESPONDER, "suites", "x", True, "8 packets", 9),
    Cell("a peer", RESPONDER, "DELETE", "", True, "heard and answered", 8),
    Cell("Another", INITIATOR, "suites", "", False, "", 5),
]

ROWS = [
    "| a peer | DELETE | heard and answered | - | yes |",
    "| a peer | suites | x, y | 1 of 2 | 1 |",
    "| Another | suites |  | 0 of 1 | - |",
]


def test_a_row_for_each_feature_of_each_peer() -> None:
    assert list(markdown(CELLS))[2:] == ROWS


def test_the_text_between_the_marks_is_replaced() -> None:
    text = f"above\n{BEGIN}\n| what was there |\n{END}\nbelow\n"
    table = "\n".join(markdown(CELLS))
    assert replaced(text, CELLS) == f"above\n{BEGIN}\n{table}\n{END}\nbelow\n"
    assert replaced(replaced(text, CELLS[:1]), CELLS) == replaced(text, CELLS)


@pytest.mark.parametrize("text", ["nothing", BEGIN, END, f"{END}{BEGIN}"])
def test_without_marks_there_is_no_place(text: str) -> None:
    with pytest.raises(ValueError, match="marks"):
        replaced(text, CELLS)


def test_the_terminal_shows_every_cell() -> None:
    shown = list(lines(CELLS))
    assert "  ok   initiator  x  9 packets" in shown
    assert "  FAIL initiator  y" in shown
    assert len(shown) == len(CELLS) + len(ROWS)
