"""The style of pictures, and the check for matplotlib, which is optional."""

from __future__ import annotations

import importlib.util
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NO_PICTURES = "no pictures: they need matplotlib. pip install 'red-cli[plot]'"
DPI = 160
INK, MUTED, GRID, NOTHING = "#1f2328", "#59636e", "#d0d7de", "#eaeef2"
# The colours of Okabe and Ito that have enough contrast on white: safe for colour-blind readers. Each has a marker, so
# that series also differ without colour.
SERIES = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "v"), ("#E69F00", "P"), ("#56B4E9", "X"))
# Colour maps from light (zero) to dark (the maximum), safe for colour-blind readers
HUES = {"scale": "YlGnBu", "bias": "YlOrRd"}


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def new_figure(width: float, height: float, gap: float = 0.02) -> Figure:
    """An empty figure without a window.

    Args:
        width: in inches.
        height: in inches.
        gap: between panels, as a fraction of their width.
    """
    from matplotlib import rcParams
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    rcParams.update({"font.family": "DejaVu Sans", "font.size": 9, "text.color": INK, "axes.labelcolor": INK,
                     "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": GRID, "axes.titlesize": 10,
                     "axes.titlelocation": "left", "text.parse_math": False})  # fmt: skip
    figure = Figure(
        figsize=(width, height), dpi=DPI, layout=ConstrainedLayoutEngine(wspace=gap, hspace=gap), facecolor="white"
    )
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


def png(figure: Figure) -> bytes:
    """The figure as a PNG file without a software version, so that equal data give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
