"""A picture of many runs: their score against the number of parameters that their method trains."""

from __future__ import annotations

import textwrap

from red_cli.formatting import short_count
from red_cli.report.many_runs import Row, RunComparison
from red_cli.report.many_runs_cells import AVERAGE
from red_cli.report.picture import GRID, SERIES, SMALL, Picture, picture_of, styled_figure, tidy
from red_cli.report.write import SCORE_BY_PARAMETERS

_HEIGHT, _LEGEND_LINE = 2.9, 0.19  # inches
_LEGEND_WIDTH = 56  # characters
_ROOM = 3.0  # factor of the number of parameters left free on each side


def has_scores_by_parameters(comparison: RunComparison) -> bool:
    """Whether a comparison has scores of different numbers of parameters in one unit."""
    points = [row.parameters[1] for row in comparison.rows if _seeds(row, comparison)]
    return len(set(points)) > 1 and any(points)


def draw_score_by_parameters(comparison: RunComparison) -> Picture:
    """The score of each row and seed against its trained parameters on a logarithmic axis.

    The score is the average over tasks where all rows have one, else that of the first task. A row that trains no
    parameters but the head's is a dashed line.
    """
    drawn = [(row, seeds) for row in comparison.rows if (seeds := _seeds(row, comparison))]
    one_base = len({row.base for row, _ in drawn}) == 1
    names = [textwrap.fill(row.title if one_base else f"{row.title}, {row.base}", _LEGEND_WIDTH) for row, _ in drawn]
    lines = sum(name.count("\n") + 1 for name in names)
    figure = styled_figure(_HEIGHT + _LEGEND_LINE * lines)
    axes = figure.subplots()
    tidy(axes)
    counts = [row.parameters[1] for row, _ in drawn if row.parameters[1]]
    for number, ((row, seeds), name) in enumerate(zip(drawn, names, strict=True)):
        colour, marker = SERIES[number % len(SERIES)]
        mean, count = sum(seeds) / len(seeds), row.parameters[1]
        if not count:
            axes.axhline(mean, color=colour, linestyle="--", linewidth=1.4, label=name)
            continue
        axes.plot(count, mean, marker, color=colour, markersize=8, label=name, linestyle="none")
        if len(seeds) > 1:
            axes.plot([count] * len(seeds), seeds, ".", color=colour, markersize=4, linestyle="none")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda count, _: short_count(count))
    axes.xaxis.set_minor_formatter("")
    axes.tick_params(which="minor", length=0)
    axes.set_xlim(min(counts) / _ROOM, max(counts) * _ROOM)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.margins(y=0.15)
    axes.set_xlabel("trained parameters, without the head")
    axes.set_ylabel(_score_title(comparison))
    figure.legend(loc="outside lower left", frameon=False, fontsize=SMALL)
    caption = f"{_score_title(comparison)} by the number of trained parameters; large: the mean, small: each seed"
    caption += "; dashed: no parameters but the head's." if not all(row.parameters[1] for row, _ in drawn) else "."
    return picture_of(figure, SCORE_BY_PARAMETERS, caption)


def _score_title(comparison: RunComparison) -> str:
    """The score that is drawn against the trained parameters."""
    if _averages(comparison):
        return f"{AVERAGE} over {len(comparison.averaged)} tasks"
    column = comparison.columns[0]
    return f"{column.title}, {column.metric_title}"


def _averages(comparison: RunComparison) -> bool:
    """Whether every row of a comparison has an average over the same several tasks, to be drawn by parameters."""
    tasks = len(comparison.averaged)
    return tasks > 1 and all(row.average is not None and row.average.tasks == tasks for row in comparison.rows)


def _seeds(row: Row, comparison: RunComparison) -> list[float]:
    """The scores of a row that are drawn against its parameters: of each seed, or the mean alone; empty if none."""
    if _averages(comparison) and row.average is not None:
        return list(row.average.by_seed) or [row.average.value]
    group = row.cells.get(comparison.columns[0])
    return [] if group is None else list(group.scores.values())
