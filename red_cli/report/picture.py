"""A picture: its style, and both of its forms, SVG for the page, which follows its colours, and PNG for Markdown."""

from __future__ import annotations

import importlib.util
import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from red_cli.escape import terminal_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NO_PICTURES = "no pictures: they need matplotlib. pip install 'red-finetune[plot]'"
_DPI = 200
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
_HEX = re.compile(r"#[0-9a-fA-F]{6}\b")
_REFERENCE = re.compile(r"#(?=[A-Za-z])")
_FONT = "system-ui, 'DejaVu Sans', sans-serif"
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
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


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        name: the file name of its PNG form.
        svg: an `<svg>` element for an HTML page, without a fixed size, in the variables of the page's style sheet.
        caption: describes it in words.
    """

    name: str
    png: bytes
    svg: str
    caption: str


def picture_of(figure: Figure, name: str, caption: str) -> Picture:
    """The picture of a figure. Equal figures give equal bytes.

    Args:
        name: its file name, unique in a report.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        text.set_text(terminal_text(text.get_text()))  # XML has no control characters
    png, svg = io.BytesIO(), io.StringIO()
    figure.savefig(png, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    figure.savefig(svg, format="svg", metadata=_NO_METADATA)
    return Picture(name, png.getvalue(), _for_pages(svg.getvalue(), name.partition(".")[0], caption), caption)


def _for_pages(svg: str, prefix: str, caption: str) -> str:
    """The `<svg>` element of a file of matplotlib's, which scales to its page and takes the page's colours."""
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(svg)  # noqa: S314 - written by matplotlib just now
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
                parent.remove(child)
    for element in root.iter():
        if element.tag == f"{{{_SVG}}}g":
            element.attrib.pop("id", None)  # not referred to, and the same in every picture
        for name, value in element.attrib.items():
            element.set(name, _for_page(name, value, prefix))
        if element.tag == f"{{{_SVG}}}text":
            element.set("style", f"{_without_font(element.get('style', ''))}; font-family: {_FONT}")
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", terminal_text(caption))
    return ElementTree.tostring(root, encoding="unicode")


def _for_page(name: str, value: str, prefix: str) -> str:
    """The value of an attribute of an SVG element on a page: colours as variables, ids with the picture's name."""
    if name == "id":
        return f"{prefix}-{value}"
    if name in ("style", "fill", "stroke"):
        return _HEX.sub(lambda match: _variable(match[0]), value)
    if name in ("clip-path", f"{{{_XLINK}}}href"):
        return _REFERENCE.sub(f"#{prefix}-", value)
    return value


def _variable(colour: str) -> str:
    """The variable for a colour, with the colour itself for viewers without the page's style sheet."""
    name = VARIABLES.get(colour.lower())
    return colour if name is None else f"var({name}, {colour})"


def _without_font(style: str) -> str:
    """A style whose font is reduced to its size, since matplotlib names its own; it writes one property or several."""
    size = re.search(r"font(?:-size)?:[^;]*?([\d.]+)px", style)
    kept = [part.strip() for part in style.split(";") if part.strip() and not part.strip().startswith("font")]
    return "; ".join([*kept, *([f"font-size: {size[1]}px"] if size else [])])


def can_draw() -> bool:
    """Whether pictures can be drawn: matplotlib, which is optional, is installed."""
    return importlib.util.find_spec("matplotlib") is not None


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
