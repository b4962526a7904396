"""Pictures of one run: a heat map of its vectors, and its learning curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from red_cli.formatting import shortened, three_digits
from red_cli.recipe.metrics import display_value, format_score, is_percentage
from red_cli.report.adapter_changes import AdapterChanges
from red_cli.report.style import HUES, INK, MUTED, NOTHING, SERIES, new_figure, png, tidy
from red_cli.report.training_log import Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLES = {
    "scale": "scale − 1: root mean square (a factor, no unit)",
    "bias": "bias: root mean square (in the unit of the module's output)",
}
_CELL, _NARROW_CELL = 0.44, 0.22  # inches
_MOST_LEVEL, _MOST_VALUES = 32, 80  # layers up to which cells have room for horizontal, and for vertical digits
_ROW, _AROUND = 0.42, 0.8
_CHARACTER, _BAR = 0.085, 0.95  # width of a label's character, and of the colour bar
_LEAST_CELLS, _MOST_CELLS = 5.4, 17.0  # width of all cells, above which a title must fit
_LONGEST_LABEL = 36
_DARK = 0.5  # luminance below which ink on a cell is white
_LUMINANCE = (0.2126, 0.7152, 0.0722)  # of red, green and blue (ITU-R BT.709)
_SMOOTH_FROM = 40  # log lines
_TINY = 0.0005


def draw_heat_map(changes: AdapterChanges) -> bytes:
    """A PNG with a row for each kind of module and a column for each layer, coloured by the root mean square.

    Each component has its own panel, hue and colour scale, because a factor and a bias have different units. Every
    colour scale starts at 0. Cells also show the value if there is room.
    """
    cell = _CELL if len(changes.layers) <= _MOST_LEVEL else _NARROW_CELL
    labels = _CHARACTER * min(max(map(len, changes.labels)), _LONGEST_LABEL)
    width = labels + min(max(cell * len(changes.layers), _LEAST_CELLS), _MOST_CELLS) + _BAR
    height = (_AROUND + _ROW * len(changes.labels)) * len(changes.components)
    figure = new_figure(width, height)
    panels = figure.subplots(len(changes.components), 1, squeeze=False)[:, 0]
    for axes, component in zip(panels, changes.components, strict=True):
        _heat_panel(figure, axes, changes, component)
    panels[-1].set_xlabel("layer")
    return png(figure)


def _heat_panel(figure: Figure, axes: Axes, changes: AdapterChanges, component: str) -> None:
    """Draw the heat map of one component's vectors: kinds of module by layers."""
    values = np.array([[np.nan if rms is None else rms for rms in row] for row in changes.grid(component)])
    most = float(np.nanmax(values)) or 1.0
    axes.set_facecolor(NOTHING)
    image = axes.imshow(values, cmap=HUES[component], vmin=0, vmax=most, aspect="auto", interpolation="nearest")
    axes.set_title(_TITLES[component])
    axes.set_yticks(range(len(changes.labels)), [shortened(label, _LONGEST_LABEL) for label in changes.labels])
    every = 1 if len(changes.layers) <= _MOST_LEVEL else 5
    shown = [index for index, layer in enumerate(changes.layers) if layer is None or layer % every == 0]
    axes.set_xticks(shown, ["none" if changes.layers[index] is None else str(changes.layers[index]) for index in shown])
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    _white_lines(axes, changes)
    _write_values(axes, values, image.to_rgba(values))
    bar = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.015, aspect=max(6, 5 * len(changes.labels)))
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=8)
    remarks = ["every value is exactly 0"] if not np.nanmax(values) else []
    remarks += ["grey: not edited"] if np.isnan(values).any() else []
    axes.set_title("; ".join(remarks), loc="right", fontsize=8, color=MUTED)


def _write_values(axes: Axes, values: NDArray[np.float64], colours: NDArray[np.float64]) -> None:
    """Write the value of each cell, in white if its colour is dark. `colours` has shape (rows, columns, 4)."""
    columns = values.shape[1]
    if columns > _MOST_VALUES:
        return
    vertical = columns > _MOST_LEVEL
    luminance = colours[..., :3] @ np.array(_LUMINANCE)
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            ink = "white" if luminance[row, column] < _DARK else INK
            axes.text(column, row, _in_a_cell(value), ha="center", va="center", fontsize=7 if vertical else 8,
                      rotation=90 if vertical else 0, color=ink)  # fmt: skip


def _white_lines(axes: Axes, changes: AdapterChanges) -> None:
    """Draw gaps between cells, wider ones between an encoder and a decoder."""
    rows, columns = len(changes.labels), len(changes.layers)
    for column in range(1, columns):
        axes.axvline(column - 0.5, color="white", linewidth=1)
    for row in range(1, rows):
        same = changes.stacks[row] == changes.stacks[row - 1]
        axes.axhline(row - 0.5, color="white", linewidth=1 if same else 6)


def draw_curve(curve: Curve, best_step: int | None) -> bytes:
    """Draw a PNG of one run: the training loss by step and, below it, the score with the best evaluation."""
    figure = new_figure(7.5, 5.4 if curve.scores else 3.0, gap=0.06)
    panels = figure.subplots(2 if curve.scores else 1, 1, sharex=True, squeeze=False)[:, 0]
    _loss_panel(panels[0], curve)
    if curve.scores:
        _score_panel(panels[1], curve, best_step)
    panels[-1].set_xlabel("optimiser step")
    panels[-1].set_xlim(left=0)
    return png(figure)


def _loss_panel(axes: Axes, curve: Curve) -> None:
    """Draw the training loss of the learning curve, smoothed if it has many points."""
    tidy(axes)
    axes.set_ylabel("training loss")
    if not curve.losses:
        return
    steps, losses = np.array(curve.losses).T
    colour = SERIES[0][0]
    if len(losses) < _SMOOTH_FROM:
        axes.plot(steps, losses, color=colour, linewidth=1.5, marker=".", markersize=6)
        return
    window = max(3, len(losses) // 20)
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    axes.plot(steps, losses, color=colour, linewidth=0.8, alpha=0.35, label="as logged")
    axes.plot(
        steps[window // 2 :][: len(smooth)],
        smooth,
        color=colour,
        linewidth=1.8,
        label=f"mean of {window} lines of the log",
    )
    axes.legend(frameon=False, fontsize=8, loc="upper right")


def _score_panel(axes: Axes, curve: Curve, best_step: int | None) -> None:
    """Draw the scores of the learning curve by step, and circle the best evaluation."""
    tidy(axes)
    steps, scores = np.array(curve.scores).T
    colour, mark = SERIES[1]
    heights = [display_value(curve.metric, score) for score in scores]
    axes.plot(steps, heights, color=colour, linewidth=1.5, marker=mark, markersize=4)
    unit = " × 100" if is_percentage(curve.metric) else ""
    axes.set_ylabel(f"{curve.split}\n{curve.metric.replace('_', ' ')}{unit}")
    axes.margins(y=0.2)
    for step, score in curve.scores:
        if step == best_step:
            height = display_value(curve.metric, score)
            axes.plot(step, height, mark, markersize=10, markerfacecolor="none", markeredgecolor=INK)
            axes.annotate(f"best: {format_score(curve.metric, score)} at step {step:,}", (step, height), xytext=(0, 10),
                          textcoords="offset points", ha=_inwards(step, steps), fontsize=8,
                          bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip


def _inwards(step: float, steps: NDArray[np.float64]) -> str:
    """The horizontal alignment that keeps a label at `step` inside the picture."""
    share = step / max(steps.max(), 1)
    return "left" if share < 1 / 4 else "right" if share > 3 / 4 else "center"


def _in_a_cell(value: float) -> str:
    """A number in few enough characters for a cell."""
    if 0 < value < _TINY:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:.3f}".lstrip("0") if 0 < value < 1 else three_digits(value)
