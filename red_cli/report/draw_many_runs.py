"""A picture that compares runs with the paper's figures, with error bars."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from red_cli.recipe.score_format import is_percentage
from red_cli.report.many_runs import Row, RunComparison
from red_cli.report.many_runs_cells import AVERAGE, BOTH, spread_text, unit
from red_cli.report.names import TaskColumn
from red_cli.report.picture import GRID, INK, MUTED, PAGE, SERIES, SMALL, Picture, picture_of, styled_figure
from red_cli.report.write import COMPARISON

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ACROSS = 2  # panels in a row
_LINE, _TEXT_LINE, _AROUND = (
    0.26,
    0.14,
    0.62,
)  # inches: height of a series, of a line of its name, and of a panel's rest
_LABEL_WIDTH = 17  # characters
_TITLE_WIDTH = 24  # characters
_ROOM = 0.55  # fraction of the span left free on each side for digits
_LEAST_SPAN, _LEAST_OTHER_SPAN = 4.0, 0.5  # of percentages, and of other scores
_GAP = 0.06  # between panels, as a fraction of their width
_MOST = 100.0  # the highest possible score
_BELOW = 0.24  # distance of each seed's dot below the mean, as a fraction of a series' height


@dataclass(frozen=True)
class _Mark:
    """One figure: its mean, its standard deviation, and the value of each seed."""

    value: float
    std: float | None
    seeds: Sequence[float] = ()


@dataclass(frozen=True)
class _Series:
    """One line of every panel: its name, and its figure in each panel."""

    name: str
    is_paper: bool
    marks: dict[str, _Mark]


def draw_comparison(comparison: RunComparison) -> Picture:
    """A panel for each task, which has a line for each row of the table and for the paper's figures.

    Each panel has its own range of scores, at least a few points wide.
    """
    names = {column: _panel_title(column) for column in comparison.columns}
    series = _series(comparison, names)
    averages = len(comparison.averaged) > 1 and any(AVERAGE in line.marks for line in series)
    panels = [*names.values(), *([AVERAGE] if averages else [])]
    others = {title for column, title in names.items() if not is_percentage(column.metric)}
    across = min(_ACROSS, len(panels))
    down = math.ceil(len(panels) / across)
    lines = max(len(_label(line.name).splitlines()) for line in series)
    figure = styled_figure(down * (_AROUND + (_LINE + _TEXT_LINE * lines) * len(series)) + 0.2, _GAP)
    grid = figure.subplots(down, across, sharey=True, squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _draw_panel(axes, panel, series, _LEAST_OTHER_SPAN if panel in others else _LEAST_SPAN)
    for axes in list(grid.flat)[len(panels) :]:
        axes.set_visible(False)
    figure.supxlabel(unit(comparison), fontsize=SMALL)
    return picture_of(figure, COMPARISON, _caption(comparison))


def _caption(comparison: RunComparison) -> str:
    """The caption of the picture that compares runs with the paper's figures: what its error bars are."""
    paper = any(row.paper for row in comparison.rows)
    return (
        "Mean and standard deviation over seeds (filled; the dots below: each seed)"
        + (", and the paper's figure with its deviation (hollow diamond)" if paper else "")
        + "; no bar where there are fewer than three seeds, or the paper has none. Each panel has its own range."
    )


def _label(name: str) -> str:
    """The name of a series on as many lines as it needs next to a panel."""
    return textwrap.fill(name, _LABEL_WIDTH)


def _series(comparison: RunComparison, names: dict[TaskColumn, str]) -> list[_Series]:
    """The series to draw with error bars: one for each tuned row, and the paper's after the last row with it."""
    averaged = len(comparison.averaged)
    one_base = len({row.base for row in comparison.rows}) == 1
    found: list[_Series] = []
    for row in comparison.rows:
        if row.is_untuned:  # so far below the others that these would look the same
            continue
        marks = {names[column]: _Mark(group.mean, group.std, list(group.scores.values()))
                 for column, group in row.cells.items()}  # fmt: skip
        if row.average is not None and row.average.tasks == averaged:  # averages over different tasks do not compare
            marks[AVERAGE] = _Mark(row.average.value, row.average.std, row.average.by_seed)
        base = row.base.rpartition("/")[2]
        found.append(_Series(row.title if one_base else f"{row.title}, {base}", False, marks))
        if papers := _paper_marks(row, names, averaged):
            # One line for figures that several rows share, after the last of them
            earlier = [series for series in found if series.is_paper and series.name == row.paper_title]
            found = [series for series in found if series not in earlier]
            shared = {panel: mark for series in earlier for panel, mark in series.marks.items()}
            found.append(_Series(row.paper_title, True, shared | papers))
    return found


def _paper_marks(row: Row, names: dict[TaskColumn, str], averaged: int) -> dict[str, _Mark]:
    """The paper's figures in a row as marks, one for each panel of the picture, also the average."""
    marks = {names[column]: _Mark(figure.score, figure.std) for column, figure in row.figures.items()}
    if row.paper_average is not None and row.paper_average.tasks == averaged:
        marks[AVERAGE] = _Mark(row.paper_average.value, None)
    return marks


def _limits(marks: Sequence[_Mark], least: float) -> tuple[float, float]:
    """The limits of a panel's axis, which include all error bars and leave room for digits on both sides."""
    ends = [value for mark in marks for value in (mark.value - (mark.std or 0), mark.value + (mark.std or 0))]
    ends += [seed for mark in marks for seed in mark.seeds]
    middle, half = (min(ends) + max(ends)) / 2, max(least, max(ends) - min(ends)) * (0.5 + _ROOM)
    return middle - half, middle + half


def _draw_panel(axes: Axes, panel: str, series: Sequence[_Series], least: float) -> None:
    """Draw one panel of the comparison: a mark with an error bar for each series."""
    from matplotlib.ticker import MaxNLocator

    marks = [line.marks[panel] for line in series if panel in line.marks]
    low, high = _limits(marks, least)
    axes.set_title(textwrap.fill(panel, _TITLE_WIDTH))
    axes.set_xlim(low, high)
    ticks = MaxNLocator(nbins=3, steps=[1, 2, 5, 10]).tick_values(low, min(high, _MOST))
    axes.set_xticks([tick for tick in ticks if low <= tick <= min(high, _MOST)])
    for side in axes.spines.values():
        side.set_visible(False)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=SMALL)
    axes.set_ylim(len(series) - 0.5, -0.75)
    axes.set_yticks(range(len(series)), [_label(line.name) for line in series], fontsize=SMALL)
    colours = iter(range(len(series)))
    for height, line in enumerate(series):
        colour, marker = (INK, "D") if line.is_paper else SERIES[next(colours) % len(SERIES)]
        mark = line.marks.get(panel)
        if mark is None:
            continue
        if len(mark.seeds) > 1:
            axes.plot(mark.seeds, [height + _BELOW] * len(mark.seeds), ".", color=colour, markersize=4)
        bar = None if len(mark.seeds) == BOTH else mark.std  # the dots of two seeds say all
        axes.errorbar(mark.value, height, xerr=bar, fmt=marker, color=colour, markersize=6, capsize=3,
                      elinewidth=1.4, markerfacecolor=PAGE if line.is_paper else colour)  # fmt: skip
        text = spread_text(mark.value, mark.std, mark.seeds)
        axes.annotate(text, (mark.value, height), xytext=(0, 5), textcoords="offset points", ha="center", va="bottom",
                      fontsize=SMALL, color=MUTED if line.is_paper else INK)  # fmt: skip


def _panel_title(column: TaskColumn) -> str:
    """The title of a panel of the comparison's picture: task and metric."""
    return f"{column.title}, {column.metric_title}"
