"""The summary of one run's report for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from red_cli.formatting import aligned, number_of, shortened, three_digits, two_digits
from red_cli.report.adapter_changes import AdapterChanges
from red_cli.report.draw_one_run import TITLES
from red_cli.report.many_runs import Row, RunComparison
from red_cli.report.many_runs_cells import AVERAGE, BOTH, Cells, headings, parameters_text

_BARS = "▁▂▃▄▅▆▇█"
_NOTHING = "·"
_ROOM, _LEAST_ROOM = 44, 12  # characters for label and bars, and the minimum for bars
_LONGEST_LABEL = 30
_MOST_ROWS = 5  # kinds of modules shown for each component
_MOST_NAMED, _LONGEST_LIST = 4, 54  # modules listed as changed most, and characters for the list


def change_rows(changes: AdapterChanges) -> list[tuple[str, str]]:
    """Label and value rows: for each component bars by layer, and the modules that changed most."""
    names = [shortened(label, _LONGEST_LABEL) for label in changes.labels]
    width = max(map(len, names))
    rows = []
    for component in changes.components:
        grid = changes.grid(component)
        tops = [max(value for value in row if value is not None) for row in grid]
        shown = sorted(sorted(range(len(grid)), key=lambda row: -tops[row])[:_MOST_ROWS])
        for row in shown:
            drawn = bars(grid[row], max(tops), max(_LEAST_ROOM, _ROOM - width))
            text = f"{names[row]:<{width}}  {drawn}  {_range([value for value in grid[row] if value is not None])}"
            rows.append((TITLES[component] if row == shown[0] else "", text))
        if hidden := len(grid) - len(shown):
            rows.append(("", f"and {hidden} more kinds of modules, in the report"))
    named = [f"{TITLES[component]}: {_most_changed(changes, component)}" for component in changes.components]
    return [*rows, *zip(["changed most", *[""] * len(named)], named, strict=False)]


def bars(values: Sequence[float | None], most: float, room: int) -> str:
    """One character for each layer: a bar of height value / `most`, or a dot if the layer is not edited.

    If there are more layers than `room`, neighbouring layers share a bar, which shows their maximum.
    """
    together = -(-len(values) // room)
    drawn = []
    for start in range(0, len(values), together):
        some = [value for value in values[start : start + together] if value is not None]
        share = max(some, default=0.0) / (most or 1.0)
        drawn.append(_BARS[round(share * (len(_BARS) - 1))] if some else _NOTHING)
    return "".join(drawn)


def _most_changed(changes: AdapterChanges, component: str) -> str:
    """The modules that changed most in one component, as a line of the terminal's summary."""
    modules = changes.most_changed(component, _MOST_NAMED)
    if not modules[0].changes[component].rms:
        return "nothing, every value is where it started"
    named = [f"{module.name} ({three_digits(module.changes[component].rms)})" for module in modules]
    while len(", ".join(named)) > _LONGEST_LIST and len(named) > 1:
        named.pop()
    return ", ".join(named)


def _range(values: Sequence[float]) -> str:
    """The smallest and the largest value as text for the terminal's summary of a report."""
    low, high = three_digits(min(values)), three_digits(max(values))
    return low if low == high else f"{low} to {high}"


_GAP = 2


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
