"""Many runs as one table laid out like the paper's: a column for each task, a row for each base and method."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from red_cli.errors import UserError
from red_cli.recipe.metrics import UNTUNED
from red_cli.recipe.paper import RED, Figure, Paper
from red_cli.recipe.score_format import mean_score
from red_cli.report.find_runs import LeftOut, find_runs
from red_cli.report.groups import Group, group_runs
from red_cli.report.names import TaskColumn, base_name, method_name, shown_value, task_column

_MOST_LISTED = 5
_STANDARD = "standard"
_LOSS = "loss"


@dataclass(frozen=True)
class Average:
    """The mean over the tasks of a row.

    Attributes:
        std: its sample standard deviation over seeds; None unless all tasks have the same seeds, at least two.
        tasks: the number of tasks.
        by_seed: the means under each seed, where there is a deviation.
    """

    value: float
    std: float | None
    tasks: int
    by_seed: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """A row of the report of many runs: those of one base and method, by task.

    Attributes:
        protocol: the recipe's eval.split, which decides which rows select and which are scored.
        settings: (recipe key, value) pairs that distinguish rows of the same base, method and protocol.
    """

    base: str
    method: str
    protocol: str
    settings: tuple[tuple[str, str], ...]
    cells: dict[TaskColumn, Group]

    @property
    def title(self) -> str:
        """The method, the protocol if it is not the standard one, and the settings."""
        protocol = [] if self.protocol == _STANDARD else [f"split {self.protocol}"]
        return ", ".join([self.method, *protocol, *(f"{key} {value}" for key, value in self.settings)])

    @property
    def is_untuned(self) -> bool:
        """Whether nothing is trained."""
        return all(group.keys["method"] == UNTUNED for group in self.cells.values())

    @property
    def parameters(self) -> tuple[int, int]:
        """The lowest and highest number of parameters that the method trains over the tasks, without the head."""
        counts = [int(group.first.metrics["parameters"]["edited"]) for group in self.cells.values()]
        return min(counts), max(counts)

    @property
    def average(self) -> Average | None:
        """The average over the tasks that report a single metric; None if no task does."""
        groups = [group for column, group in self.cells.items() if column.alone]
        if not groups:
            return None
        seeds = [list(group.scores) for group in groups]
        std, by_seed = None, list[float]()
        if all(each == seeds[0] for each in seeds):
            by_seed = [statistics.fmean(group.scores[seed] for group in groups) for seed in seeds[0]]
            _, std = mean_score(by_seed)
        means = statistics.fmean(group.mean for group in groups)
        return Average(means, std, len(groups), [] if std is None else by_seed)

    @property
    def paper(self) -> dict[TaskColumn, Paper]:
        """The published results of the same method in the column's metric, by column."""
        return {
            column: group.paper
            for column, group in self.cells.items()
            if group.paper is not None and column.usual_metric and group.paper.figure(column.metric) is not None
        }

    @property
    def figures(self) -> dict[TaskColumn, Figure]:
        """The paper's figures for this row, by column."""
        figures = {column: paper.figure(column.metric) for column, paper in self.paper.items()}
        return {column: figure for column, figure in figures.items() if figure is not None}

    @property
    def paper_title(self) -> str:
        """The source of those figures."""
        papers = self.paper.values()
        sources = dict.fromkeys(f"{paper.model}, Table {paper.table}" for paper in papers)
        return f"paper: {'; '.join(sources)}"

    @property
    def paper_average(self) -> Average | None:
        """The mean of the paper's figures over the same tasks; None if the paper does not report all of them."""
        average = self.average
        scores = [figure.score for column, figure in self.figures.items() if column.alone]
        complete = average is not None and len(scores) == average.tasks
        return Average(statistics.fmean(scores), None, len(scores)) if complete else None


@dataclass(frozen=True)
class RunComparison:
    """The table, the runs left out of it, and notes on how to read it."""

    columns: list[TaskColumn]
    rows: list[Row]
    left_out: list[LeftOut]
    notes: list[str]

    @property
    def averaged(self) -> list[TaskColumn]:
        """The columns that count in an average over tasks."""
        return [column for column in self.columns if column.alone]

    @property
    def groups(self) -> list[Group]:
        return [group for row in self.rows for group in row.cells.values()]


def compare_runs(paths: Sequence[Path]) -> RunComparison:
    """Read all finished runs in `paths` and their subfolders as one table of many runs.

    Raises:
        UserError: a path is not a folder, or there is no finished run.
    """
    runs, left_out = find_runs(paths)
    if not runs:
        listed = "\n".join(f"  {left.path}: {left.reason}" for left in left_out[:_MOST_LISTED])
        raise UserError(
            "not-a-run", f"no finished run in {', '.join(map(str, paths))}", hint=f"Found, and left out:\n{listed}"
        )
    groups, repeated, notes = group_runs(runs)
    bases = _base_names([group.first.recipe.model.name_or_path for group in groups])
    rows = [row for family in _families(groups) for row in _rows(family, bases)]
    rows += _untuned_rows(rows)
    order = list(bases.values())
    rows.sort(key=lambda row: (order.index(row.base), -row.parameters[1]))  # as in the paper's tables
    columns = sorted({column for row in rows for column in row.cells}, key=lambda column: column.order)
    comparison = RunComparison(columns, rows, [*left_out, *repeated], notes)
    comparison.notes.extend(dict.fromkeys(note for row in rows for note in _caveats(row)))
    return comparison


def _families(groups: Sequence[Group]) -> list[list[Group]]:
    """The parts of the table of many runs, each with one base, method and protocol, in order of first runs."""
    families: dict[tuple[str, str, str], list[Group]] = {}
    for group in groups:
        recipe = group.first.recipe
        key = (recipe.model.name_or_path, method_name(group.keys), _protocol(group))
        families.setdefault(key, []).append(group)
    return list(families.values())


def _base_names(bases: Sequence[str]) -> dict[str, str]:
    """Base in the table of many runs -> its short name in the rows, or the full one if that is ambiguous."""
    short = {base: base_name(base) for base in bases}
    return {base: name if list(short.values()).count(name) == 1 else base for base, name in short.items()}


def _rows(family: list[Group], bases: Mapping[str, str]) -> list[Row]:
    """One row; if a task has several groups, one row for each combination of the settings in which they differ."""
    by_column: dict[TaskColumn, list[Group]] = {}
    for runs in family:
        groups = runs.by_metric
        for group in groups:
            by_column.setdefault(task_column(group.first, group.metric, len(groups) == 1), []).append(group)
    differing = sorted({key for members in by_column.values() for key in _differing_keys(members)})
    rows: dict[tuple[tuple[int, float, str], ...], Row] = {}
    for column, members in by_column.items():
        for group in members:
            values = tuple(group.keys.get(key) for key in differing)
            settings = [
                (key.rpartition(".")[2], shown_value(value)) for key, value in zip(differing, values, strict=True)
            ]
            base = bases[group.first.recipe.model.name_or_path]
            row = Row(base, method_name(group.keys), _protocol(group), tuple(settings), {})
            rows.setdefault(tuple(map(_order, values)), row).cells[column] = group
    return [rows[values] for values in sorted(rows)]


def _untuned_rows(rows: Sequence[Row]) -> list[Row]:
    """For each base and protocol a row of the scores before training, as far as many compared runs record them."""
    if any(row.is_untuned for row in rows):  # trained by no method, which a comparison may have as well
        return []
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        untuned = Row(row.base, "untuned", row.protocol, (), {})
        cells = found.setdefault((row.base, row.protocol), untuned).cells
        for column, group in row.cells.items():
            before = group.untuned
            if before is not None and (column not in cells or len(before.runs) > len(cells[column].runs)):
                cells[column] = before
    return [row for row in found.values() if row.cells]


def _order(value: Any) -> tuple[int, float, str]:
    """A sort key: numbers by size, before anything else by its text."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (0, float(value), "") if number else (1, 0.0, repr(value))


def _differing_keys(groups: Sequence[Group]) -> set[str]:
    """The recipe keys whose values differ, which makes a task's runs several rows of the table."""
    keys = {key for group in groups for key in group.keys}
    return {key for key in keys if any(group.keys.get(key) != groups[0].keys.get(key) for group in groups)}


def _caveats(row: Row) -> list[str]:
    """Notes on comparing a row with other rows and with the paper's figures."""
    notes, papers = [], row.paper
    if keys := ", ".join(key for key, _ in row.settings):
        notes.append(f"{row.base}, {row.method}: a task has runs of several {keys}, so each has its own row.")
    unscored = [
        group
        for group in row.cells.values()
        if group.paper is not None and group.paper.figure(group.metric) is None and group.metric == _LOSS
    ]
    for group in unscored:
        notes.append(f"{row.title}: the metrics of the paper's figures are not scored yet; red eval {group.first.path}")
    reasons = {group.first.recipe.paper_mismatch for group in row.cells.values() if group not in unscored} - {None}
    if reasons and not papers and row.method.startswith(RED):
        notes.append(f"{row.title}: no figure of the paper is shown: {'; '.join(sorted(map(str, reasons)))}.")
    of: dict[str, list[str]] = {}
    for column, paper in papers.items():
        if paper.note:
            of.setdefault(f"{paper.model}, Table {paper.table}: {paper.note}", []).append(column.title)
    titled = {note: ", ".join(dict.fromkeys(titles)) for note, titles in of.items()}
    return [*notes, *(f"The paper's figures of {note} ({titles})" for note, titles in titled.items())]


def _protocol(group: Group) -> str:
    """The protocol of a row in the table of many runs: its eval.split, or `standard`."""
    return str(group.keys.get("eval.split", _STANDARD))
