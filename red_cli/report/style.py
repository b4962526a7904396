"""The style of pictures: sizes, colours, and figures without a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches. An inch is 72 units of an SVG picture, so on a phone, about 370 pixels wide, a unit is a pixel.
WIDTH = 5.2
TEXT, SMALL = 11, 10  # points; smaller text cannot be read on a phone
INK, MUTED, GRID, NOTHING, PAGE = "#1f2328", "#59636e", "#d0d7de", "#eaeef2", "#ffffff"
# The colours of Okabe and Ito that have enough contrast on white: safe for colour-blind readers. Each has a marker, so
# that series also differ without colour.
SERIES = (("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"), ("#cc79a7", "v"), ("#e69f00", "P"), ("#56b4e9", "X"))
# The colour of a heat map's largest value; smaller values are more transparent, on light and dark pages alike.
HUES = {"scale": "#4a9fe0", "bias": "#f0883e"}
# Colour in a figure -> the variable of the page's style sheet that replaces it, so that a page can be light or dark
VARIABLES = {
    INK: "--ink", MUTED: "--muted", GRID: "--line", NOTHING: "--nothing", PAGE: "--page",
    HUES["scale"]: "--heat-scale", HUES["bias"]: "--heat-bias",
    **{colour: f"--series-{number}" for number, (colour, _) in enumerate(SERIES, start=1)},
}  # fmt: skip


def styled_figure(height: float, gap: float = 0.02) -> Figure:
    """An empty figure in the reports' style and width, without a window and a background.

    Args:
        height: in inches.
        gap: between panels, as a fraction of their width.
    """
    from matplotlib import rcParams
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rcParams.update({"font.family": "DejaVu Sans", "font.size": TEXT, "text.color": INK, "axes.labelcolor": INK,
                     "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": GRID, "axes.titlesize": TEXT,
                     "axes.titlelocation": "left", "axes.facecolor": "none", "text.parse_math": False,
                     "svg.fonttype": "none", "svg.hashsalt": "red"})  # fmt: skip
    layout = ConstrainedLayoutEngine(wspace=gap, hspace=gap)
    figure = Figure(figsize=(WIDTH, height), layout=layout, facecolor="none")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Axes) -> None:
    """Remove the frame and ticks of `axes`, and add a few faint horizontal lines."""
    from matplotlib.ticker import MaxNLocator

    for side in axes.spines.values():
        side.set_visible(False)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
