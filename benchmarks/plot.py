"""The results as one drawing: the tunnels side by side, a panel for each kind of figure."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")  # before pyplot looks for a screen

from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.figures import (
    CPU_CLIENT,
    CPU_SERVER,
    RTT_IDLE,
    RTT_LOADED,
    TCP_DOWN,
    TCP_FOUR,
    TCP_UP,
    UDP_LARGE,
    UDP_SMALL,
    Figure,
    Results,
)

# What each panel shows, and whether its scale is one of ratios.
PANELS: tuple[tuple[str, tuple[Figure, ...], bool], ...] = (
    ("TCP, Gbit/s", (TCP_UP, TCP_DOWN, TCP_FOUR), True),
    ("UDP without loss, kpps", (UDP_SMALL, UDP_LARGE), False),
    ("round trip, ms", (RTT_IDLE, RTT_LOADED), True),
    ("CPU, s/GB", (CPU_CLIENT, CPU_SERVER), True),
)
COLOURS = "#1f5a96", "#5b9bd5", "#b4d2ef"
CEILING = "ceiling"
WIDTH_INCHES = 9.5
ROW_INCHES = 0.42
MARGIN_INCHES = 1.0


def draw(results: Sequence[Results], path: Path) -> None:
    """Write an SVG. Text stays text, and the same figures make the same file."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "espudp", "font.size": 9}):
        height = ROW_INCHES * len(results) + MARGIN_INCHES
        drawing, axes = pyplot.subplots(2, 2, sharey=True, figsize=(WIDTH_INCHES, 2 * height))
        for ax, (title, figures, logarithmic) in zip(axes.flat, PANELS, strict=True):
            if logarithmic and any(found.median(figure) for found in results for figure in figures):
                ax.set_xscale("log")
            _panel(ax, title, figures, results)
        drawing.tight_layout()
        drawing.savefig(path, metadata={"Date": None})
        pyplot.close(drawing)


def _panel(ax: Axes, title: str, figures: Sequence[Figure], results: Sequence[Results]) -> None:
    """Bars that lie, a group for each tunnel, the first tunnel on top."""
    height = 0.8 / len(figures)
    for number, (figure, colour) in enumerate(zip(figures, COLOURS, strict=False)):
        places = [row + (number - (len(figures) - 1) / 2) * height for row in range(len(results))]
        values = [found.median(figure) or 0.0 for found in results]
        bars = ax.barh(places, values, height, color=colour, label=figure.title)
        labels = [f"{value:.{figure.digits}f}" if value else "" for value in values]
        ax.bar_label(bars, labels, padding=2, fontsize=7)
    for found in results:
        if found.name == CEILING and (ceiling := found.median(figures[0])):
            ax.axvline(ceiling, color="#a03030", linestyle=":", linewidth=1)
    ax.set_title(title)
    ax.set_yticks(range(len(results)), [found.title for found in results])
    if not ax.yaxis_inverted():
        ax.invert_yaxis()
    ax.margins(x=0.15)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.07), ncols=len(figures), frameon=False, fontsize=8)
