"""The table of many runs as text: lines for a terminal; LaTeX, CSV and Markdown to paste."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Literal

from red_cli.escape import latex_text, terminal_line
from red_cli.formatting import aligned, number_of, two_digits
from red_cli.report.document import markdown_table
from red_cli.report.many_runs import Row, RunComparison
from red_cli.report.many_runs_cells import AVERAGE, BOTH, Cells, headings, parameters_text

TableFormat = Literal["latex", "csv", "md"]
_GAP = 2


def formatted_table(comparison: RunComparison, form: TableFormat) -> str:
    """The table of many runs in one of the formats."""
    return _WRITERS[form](comparison)


def _latex(comparison: RunComparison) -> str:
    """The table of a comparison in LaTeX, with the rules of booktabs; bases have lines of their own if several."""
    cells = Cells(comparison)
    table = cells.table
    bases = {row.base for row in comparison.rows}
    header = [title.capitalize() if title in ("method", "parameters") else title for title in table.header[1:]]
    lines, shown = [], ""
    for base, *row in table.rows:
        if len(bases) > 1 and base not in ("", shown):
            lines += [r"\midrule"] if shown else []
            lines.append(rf"\multicolumn{{{len(header)}}}{{l}}{{\textit{{{latex_text(base)}}}}} \\")
            shown = base
        lines.append(_latex_row(row))
    base = "" if len(bases) > 1 else f" Base: {' '.join(bases)}."
    comment = terminal_line(f"{cells.legend}{base}")
    columns = "l" + "r" * (len(header) - 1)
    body = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", _latex_row(header), r"\midrule", *lines, r"\bottomrule",
            r"\end{tabular}"]  # fmt: skip
    return "\n".join([f"% {comment}", r"% It needs \usepackage{booktabs}.", *body]) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    """A row of a comparison's table in LaTeX."""
    return " & ".join(map(latex_text, cells)) + r" \\"


def _csv(comparison: RunComparison) -> str:
    """The table of a comparison as CSV: a line for each row and task, with numbers that programs can read."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["base", "method", "parameters", "task", "metric", "split", "rows", "seeds", "mean", "std",
                     "by_seed", "paper", "paper_std"])  # fmt: skip
    for row in comparison.rows:
        figures = row.figures
        for column, group in sorted(row.cells.items(), key=lambda cell: cell[0].order):
            figure = figures.get(column)
            std = "" if group.std is None else f"{group.std:.4f}"
            paper = ["", ""] if figure is None else [figure.score, "" if figure.std is None else figure.std]
            by_seed = " ".join(f"{seed}={score:.4f}" for seed, score in group.scores.items())
            parameters = int(group.first.metrics["parameters"]["edited"])
            writer.writerow([row.base, row.title, parameters, column.title, column.metric, group.split, group.examples,
                             len(group.runs), f"{group.mean:.4f}", std, by_seed, *paper])  # fmt: skip
    return text.getvalue()


def _markdown(comparison: RunComparison) -> str:
    """The table of many runs in Markdown, to paste."""
    return markdown_table(Cells(comparison).table)


_WRITERS: dict[TableFormat, Callable[[RunComparison], str]] = {"latex": _latex, "csv": _csv, "md": _markdown}


def terminal_lines(comparison: RunComparison, width: int) -> list[str]:
    """The table of many runs as lines for a terminal of `width` columns.

    If a single table is too wide, mean, deviation and the paper's figure get a line each and the tasks are split into
    several tables. `rich.table` would instead break numbers and names across lines at the usual 80 columns.
    """
    lines = aligned(_wide_rows(comparison))
    return lines if max(map(len, lines)) <= width else _stacked_lines(comparison, width)


def _wide_rows(comparison: RunComparison) -> list[list[str]]:
    """A comparison on a wide terminal: its rows, with each method indented under its base."""
    table = Cells(comparison).table
    rows, shown = [["", *table.header[2:]]], ""
    for base, title, *figures in table.rows:
        if base not in ("", shown):
            rows.append([base])
            shown = base
        rows.append([" " * _GAP + title, *figures])
    return rows


def _stacked_lines(comparison: RunComparison, width: int) -> list[str]:
    """A comparison on a narrow terminal: each row stacked as several lines with one number per task."""
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
    """The lines of a row for a narrow terminal: name -> a figure for each column, then for the average."""
    cells = Cells(comparison)
    groups = [row.cells.get(column) for column in comparison.columns]
    papers = [row.figures.get(column) for column in comparison.columns]
    average, paper_average = cells.shown(row.average), cells.shown(row.paper_average)
    lines = {
        "mean": [*(two_digits(group.mean if group else None) for group in groups),
                 two_digits(average.value if average else None)],
        "±": [*(two_digits(group.std) if group and len(group.runs) != BOTH else "" for group in groups),
              two_digits(average.std) if average and len(average.by_seed) != BOTH else ""],
        "lower": [*(cells.both(group, min) for group in groups), ""],
        "higher": [*(cells.both(group, max) for group in groups), ""],
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
    """The number of seeds in a line for the terminal, if it is the same for all tasks of the row, else empty."""
    counts = {len(group.runs) for group in row.cells.values()}
    count = counts.pop()
    return "" if counts else f", {number_of(count, 'seed')}"


def _tasks_text(row: Row, comparison: RunComparison) -> str:
    """The number of tasks in a line for the terminal, if the average does not cover all columns, else empty."""
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
