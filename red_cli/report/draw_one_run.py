"""Pictures of one run: its learning curve, and a heat map of its vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from red_cli.formatting import shortened, three_digits
from red_cli.recipe.score_format import displayed_score, format_score, is_percentage
from red_cli.report.adapter_changes import AdapterChanges
from red_cli.report.module_paths import readable_kind
from red_cli.report.picture import (
    HUES,
    INK,
    MUTED,
    NOTHING,
    PAGE,
    SERIES,
    SMALL,
    Picture,
    picture_of,
    styled_figure,
    tidy,
)
from red_cli.report.training_log import Curve
from red_cli.report.write import HEAT_MAP, LEARNING_CURVE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLES = {"scale": "scale − 1", "bias": "bias"}
STRONGEST = 0.8  # opacity of the largest value: digits stay readable on it
_ROW, _AROUND = 0.34, 0.75  # inches: height of a kind of module, and of a panel's title and axis
_MOST_WITH_DIGITS = 8  # layers
_LONGEST_LABEL = 18
_MOST_TICKS = 13
_SMOOTH_FROM = 40  # log lines
_TINY = 0.0005


def draw_heat_map(changes: AdapterChanges) -> Picture:
    """A row for each kind of module and a column for each layer, the stronger the colour the farther it moved.

    Each component has its own panel, hue and range, because a factor and a bias have different units. Every range
    starts at 0. Cells also show the value if there is room.
    """
    figure = styled_figure((_AROUND + _ROW * len(changes.labels)) * len(changes.components))
    panels = figure.subplots(len(changes.components), 1, squeeze=False)[:, 0]
    for axes, component in zip(panels, changes.components, strict=True):
        _heat_panel(axes, changes, component)
    panels[-1].set_xlabel("layer")
    vectors = " and of ".join(TITLES[component] for component in changes.components)
    return picture_of(figure, HEAT_MAP, f"Size of {vectors} by kind of module and layer.")


def _heat_panel(axes: Axes, changes: AdapterChanges, component: str) -> None:
    """Draw the heat map of one component's vectors: kinds of module by layers."""
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Rectangle

    grid = changes.grid(component)
    values = [value for row in grid for value in row if value is not None]
    most = max(values) or 1.0
    layers = changes.layers
    for row, cells in enumerate(grid):
        for column, value in enumerate(cells):
            colour = NOTHING if value is None else (*to_rgb(HUES[component]), STRONGEST * value / most)
            cell = Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=colour, edgecolor=PAGE, linewidth=0.8)
            axes.add_patch(cell)
            if value is not None and len(layers) <= _MOST_WITH_DIGITS:
                axes.text(column, row, _in_a_cell(value), ha="center", va="center", fontsize=SMALL)
    axes.set_xlim(-0.5, len(layers) - 0.5)
    axes.set_ylim(len(grid) - 0.5, -0.5)
    axes.set_yticks(range(len(grid)), [shortened(readable_kind(label), _LONGEST_LABEL) for label in changes.labels])
    every = 1 if len(layers) <= _MOST_TICKS else -(-len(layers) // _MOST_TICKS)
    shown = [index for index, layer in enumerate(layers) if layer is None or layer % every == 0]
    axes.set_xticks(shown, ["none" if layers[index] is None else str(layers[index]) for index in shown])
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_title(TITLES[component])
    remarks = [f"strongest: {three_digits(max(values))}" if max(values) else "every value is exactly 0"]
    remarks += ["grey: not edited"] if any(value is None for row in grid for value in row) else []
    axes.set_title("; ".join(remarks), loc="right", fontsize=SMALL, color=MUTED)


def draw_curve(curve: Curve, best_step: int | None) -> Picture:
    """The training loss by step and epoch and, below it, the score of each evaluation with the best one circled."""
    scores = curve.all_scores
    figure = styled_figure(4.6 if scores else 2.6, gap=0.06)
    panels = figure.subplots(2 if scores else 1, 1, sharex=True, squeeze=False)[:, 0]
    _loss_panel(panels[0], curve)
    if scores:
        _score_panel(panels[1], curve, best_step)
    panels[-1].set_xlabel("optimiser step")
    panels[-1].set_xlim(left=0, right=1.02 * max(step for step, _ in [*curve.losses, *scores]))
    if (per_epoch := curve.steps_per_epoch) is not None:
        above = panels[0].secondary_xaxis(
            "top", functions=(lambda step: step / per_epoch, lambda epoch: epoch * per_epoch)
        )
        above.set_xlabel("epoch")
        above.spines["top"].set_visible(False)
        above.tick_params(length=0)
    score = f", and the {curve.split} {curve.title} that chooses the best evaluation" if scores else ""
    return picture_of(figure, LEARNING_CURVE, f"Training loss{score}, by optimiser step.")


def _loss_panel(axes: Axes, curve: Curve) -> None:
    """Draw the training loss of the learning curve, smoothed if it has many points."""
    tidy(axes)
    axes.set_ylabel("training loss")
    if not curve.losses:
        return
    steps, losses = np.array(curve.losses).T
    colour = SERIES[0][0]
    if len(losses) < _SMOOTH_FROM:
        axes.plot(steps, losses, color=colour, linewidth=1.6, marker="o", markersize=3)
        return
    window = max(3, len(losses) // 20)
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    axes.plot(steps, losses, color=colour, linewidth=0.8, alpha=0.35, label="as logged")
    label = f"mean of {window} lines of the log"
    axes.plot(steps[window // 2 :][: len(smooth)], smooth, color=colour, linewidth=1.8, label=label)
    axes.legend(frameon=False, fontsize=SMALL, loc="upper right")


def _score_panel(axes: Axes, curve: Curve, best_step: int | None) -> None:
    """Draw the scores of the learning curve by step, circle the best evaluation, and name the untuned score."""
    tidy(axes)
    steps, scores = np.array(curve.all_scores).T
    colour, mark = SERIES[1]
    heights = [displayed_score(curve.metric, score) for score in scores]
    axes.plot(steps, heights, color=colour, linewidth=1.6, marker=mark, markersize=4, clip_on=False)
    unit = " × 100" if is_percentage(curve.metric) else ""
    axes.set_ylabel(f"{curve.split}\n{curve.title}{unit}")
    axes.margins(y=0.22)
    if curve.untuned is not None:
        _name_point(axes, f"untuned: {format_score(curve.metric, curve.untuned)}", (0, heights[0]), steps, below=True)
    for step, height in zip(steps, heights, strict=True):
        if step == best_step:
            axes.plot(step, height, mark, markersize=10, markerfacecolor="none", markeredgecolor=INK, clip_on=False)
            score = format_score(curve.metric, dict(curve.all_scores)[int(step)])
            _name_point(axes, f"best: {score} at step {int(step):,}", (step, height), steps, below=False)


def _name_point(axes: Axes, text: str, point: tuple[float, float], steps: NDArray[np.float64], *, below: bool) -> None:
    """Write a text next to a point of the learning curve, so that it stays inside the picture."""
    side = _inwards(point[0], steps)
    axes.annotate(text, point, xytext=(6 if side == "left" else -6 if side == "right" else 0, -10 if below else 10),
                  textcoords="offset points", ha=side, va="top" if below else "bottom", fontsize=SMALL,
                  bbox={"facecolor": PAGE, "edgecolor": "none", "pad": 1, "alpha": 0.8})  # fmt: skip


def _inwards(step: float, steps: NDArray[np.float64]) -> str:
    """The horizontal alignment that keeps a label at `step` inside the picture."""
    share = step / max(steps.max(), 1)
    return "left" if share < 1 / 3 else "right" if share > 2 / 3 else "center"


def _in_a_cell(value: float) -> str:
    """The text drawn in a cell of the heat map of one run's vectors: a number in few characters."""
    if 0 < value < _TINY:
        return f"{value:.0e}".replace("e-0", "e-")
    return f"{value:.3f}".lstrip("0") if 0 < value < 1 else three_digits(value)
