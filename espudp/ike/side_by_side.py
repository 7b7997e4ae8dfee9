"""What the peer has beside what is here, for the person who reads why nothing came of it."""

from collections.abc import Sequence

NOTHING_IN_COMMON = "nothing in common"

Line = tuple[str, str, str, str]
"""What it is, the peer's, ours, a remark."""


def side_by_side(lines: Sequence[Line]) -> str:
    """In columns; the first line is their heads."""
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    return "\n".join("  ".join((*map(str.ljust, line[:3], widths), line[3])).rstrip() for line in lines)
