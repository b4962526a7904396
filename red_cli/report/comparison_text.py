"""A comparison's table for a terminal of any width."""

from __future__ import annotations

from collections.abc import Sequence

from red_cli.formatting import aligned, two_digits
from red_cli.report.cells import AVERAGE, Cells, headings, parameters_text
from red_cli.report.comparison import Row, RunComparison

_GAP = 2


def comparison_lines(comparison: RunComparison, width: int) -> list[str]:
    """The lines of the table for a terminal of `width` columns.

    If a single table is too wide, mean, deviation and the paper's figure get a line each and the tasks are split into
    several tables. `rich.table` would instead break numbers and names across lines at the usual 80 columns.
    """
    lines = aligned(_wide_rows(comparison))
    return lines if max(map(len, lines)) <= width else _stacked_lines(comparison, width)


def _wide_rows(comparison: RunComparison) -> list[list[str]]:
    table = Cells(comparison).table
    rows, shown = [["", *table.header[2:]]], ""
    for base, title, *figures in table.rows:
        if base not in ("", shown):
            rows.append([base])
            shown = base
        rows.append([" " * _GAP + title, *figures])
    return rows


def _stacked_lines(comparison: RunComparison, width: int) -> list[str]:
    """Each row as several lines with one number per task."""
    names = [*headings(comparison), *([AVERAGE] if len(comparison.averaged) > 1 else [])]
    blocks = [(row, _stacked(row, comparison)) for row in comparison.rows]
    label = max(len(name) for _, lines in blocks for name in lines) + 2 * _GAP
    widths = [max(len(name), *(len(line[column]) for _, lines in blocks for line in lines.values()))
              for column, name in enumerate(names)]  # fmt: skip
    lines: list[str] = []
    for chosen in _portions(widths, width - label):
        table, base = [["", *(names[column] for column in chosen)]], ""
        for row, parts in blocks:
            table += [[row.base]] if row.base != base else []
            base = row.base
            counts = f"{parameters_text(row)} parameters{_seeds_text(row)}{_tasks_text(row, comparison)}"
            table.append([" " * _GAP + f"{row.title}: {counts}"])
            cells = {name: [figures[column] for column in chosen] for name, figures in parts.items()}
            table += [[" " * 2 * _GAP + name, *figures] for name, figures in cells.items() if any(figures)]
        lines += aligned(table)
    return lines


def _stacked(row: Row, comparison: RunComparison) -> dict[str, list[str]]:
    """The lines of a row: name -> a figure for each column, then for the average."""
    cells = Cells(comparison)
    groups = [row.cells.get(column) for column in comparison.columns]
    papers = [row.figures.get(column) for column in comparison.columns]
    average, paper_average = cells.shown(row.average), cells.shown(row.paper_average)
    lines = {
        "mean": [*(two_digits(group.mean if group else None) for group in groups),
                 two_digits(average.value if average else None)],
        "±": [*(two_digits(group.std if group else None) for group in groups),
              two_digits(average.std if average else None)],
        "seeds": ["" if group is None or _seeds_text(row) else str(len(group.runs)) for group in groups],
        "scored": [cells.mark(group) if group is not None else "" for group in groups],
        "paper": [*(str(paper.score) if paper else "" for paper in papers),
                  two_digits(paper_average.value if paper_average else None)],
        "paper ±": [two_digits(paper.std if paper else None) for paper in papers],
    }  # fmt: skip
    length = len(comparison.columns) + (len(comparison.averaged) > 1)
    filled = {name: [*figures, *[""] * length][:length] for name, figures in lines.items()}
    return {name: figures for name, figures in filled.items() if any(figures)}


def _seeds_text(row: Row) -> str:
    """The number of seeds if it is the same for all tasks of the row, else empty."""
    counts = {len(group.runs) for group in row.cells.values()}
    count = counts.pop()
    return "" if counts else f", {count} seed{'' if count == 1 else 's'}"


def _tasks_text(row: Row, comparison: RunComparison) -> str:
    """The number of tasks in the average if it does not cover all columns, else empty."""
    tasks = 0 if row.average is None else row.average.tasks
    return f", {AVERAGE} of {tasks} tasks" if 1 < tasks < len(comparison.averaged) else ""


def _portions(widths: Sequence[int], room: int) -> list[list[int]]:
    """Indices of neighbouring columns, split so that each part fits into `room` characters."""
    portions: list[list[int]] = [[]]
    for column in range(len(widths)):
        if portions[-1] and sum(widths[other] + _GAP for other in [*portions[-1], column]) > room:
            portions.append([])
        portions[-1].append(column)
    return portions
