"""The text of each cell of a comparison's table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from red_cli.formatting import plus_minus, two_digits
from red_cli.recipe.score_format import is_percentage
from red_cli.report.document import Table
from red_cli.report.groups import Group
from red_cli.report.many_runs import Average, Row, RunComparison
from red_cli.report.names import TaskColumn

_UNIT = "percent, or 100 times a coefficient"
AVERAGE = "Avg."
_MARKS = "abcdefghijklmnopqrstuvwxyz"
_FEWEST_TASKS = 2  # that an average covers
BOTH = 2  # seeds, which are shown one by one


class Cells:
    """The text of a comparison's cells.

    The legend states what all cells of a column or of the table share, such as the scored split and the number of
    seeds; the cells do not repeat it.
    """

    def __init__(self, comparison: RunComparison) -> None:
        self.comparison = comparison
        self.splits = list(dict.fromkeys(_split_text(group) for group in comparison.groups))
        self.by_column = {
            column: {_split_text(row.cells[column]) for row in comparison.rows if column in row.cells}
            for column in comparison.columns
        }
        counts = {len(group.runs) for group in comparison.groups}
        self.seeds = counts.pop() if len(counts) == 1 else None

    def mark(self, group: Group) -> str:
        """The letter of the group's split; empty if every column has only one split."""
        if all(len(splits) == 1 for splits in self.by_column.values()):
            return ""
        return _MARKS[self.splits.index(_split_text(group)) % len(_MARKS)]

    def ours(self, group: Group | None) -> str:
        """Mean ± standard deviation, followed in brackets by the number of seeds and the split's mark if they vary."""
        if group is None:
            return ""
        seeds = [str(len(group.runs))] if self.seeds is None else []
        mark = self.mark(group)
        details = ", ".join([*seeds, *([mark] if mark else [])])
        return spread_text(group.mean, group.std, list(group.scores.values())) + (f" ({details})" if details else "")

    def both(self, group: Group | None, which: Callable[[Collection[float]], float]) -> str:
        """The lower or the higher value of two seeds; empty for another number of seeds."""
        if group is None or len(group.runs) != BOTH:
            return ""
        return two_digits(which(group.scores.values()))

    def shown(self, average: Average | None) -> Average | None:
        """The average, or None if it covers fewer than two tasks."""
        return average if average is not None and average.tasks >= _FEWEST_TASKS else None

    def average(self, average: Average | None) -> str:
        """The mean over tasks, with the number of tasks if it does not cover all columns."""
        if self.shown(average) is None or average is None:
            return ""
        tasks = "" if average.tasks == len(self.comparison.averaged) else f" (of {average.tasks})"
        return spread_text(average.value, average.std, average.by_seed) + tasks

    def paper(self, row: Row, column: TaskColumn) -> str:
        """The paper's figure as printed in the paper."""
        figure = row.figures.get(column)
        if figure is None:
            return ""
        return plus_minus(str(figure.score), two_digits(figure.std))

    @property
    def table(self) -> Table:
        """One row for each of our rows, followed by the paper's figures for it if there are any."""
        rows: list[list[str]] = []
        reference = set()
        columns = self.comparison.columns
        for row in self.comparison.rows:
            figures = [self.ours(row.cells.get(column)) for column in columns]
            rows.append([row.base, row.title, parameters_text(row), *figures, self.average(row.average)])
            if row.paper:
                reference.add(len(rows))
                figures = [self.paper(row, column) for column in columns]
                rows.append(["", row.paper_title, "", *figures, self.average(row.paper_average)])
        header = ["base", "method", "parameters", *headings(self.comparison), AVERAGE]
        if len(self.comparison.averaged) < _FEWEST_TASKS:
            header, rows = header[:-1], [row[:-1] for row in rows]
        return Table(header, rows, left=2, reference=frozenset(reference))

    @property
    def scored_on(self) -> str:
        """The scored splits, listed by mark or by column."""
        if len(self.splits) == 1:
            return self.splits[0]
        if any(len(splits) > 1 for splits in self.by_column.values()):
            return "; ".join(f"({_MARKS[number % len(_MARKS)]}) {text}" for number, text in enumerate(self.splits))
        return _by_value({column: next(iter(splits)) for column, splits in self.by_column.items()})

    @property
    def legend(self) -> str:
        """An explanation of how to read a cell."""
        several = len(self.comparison.averaged) >= _FEWEST_TASKS
        return (
            f"{self._over_seeds}, {unit(self.comparison)}; no seed is chosen or dropped. "
            f"Metric: {_by_value({column: column.metric_title for column in self.comparison.columns})}. "
            f"Scored on: {self.scored_on}."
            + (" Avg.: over the tasks that a row has, where it has several." if several else "")
        )

    @property
    def _over_seeds(self) -> str:
        """What a cell of a comparison shows of its seeds."""
        if self.seeds == 1:
            return "One seed"
        if self.seeds == BOTH:
            return "The values of both seeds"
        seeds = "seeds (how many); of two seeds both values" if self.seeds is None else f"{self.seeds} seeds"
        return f"Mean ± sample standard deviation over {seeds}"


def unit(comparison: RunComparison) -> str:
    """The unit of the scores in the cells of a report on many runs."""
    others = [column.metric_title for column in comparison.columns if not is_percentage(column.metric)]
    listed = " and ".join(dict.fromkeys(others))
    return f"{_UNIT} ({listed}: as it is)" if others else _UNIT


def _by_value(values: Mapping[TaskColumn, str]) -> str:
    """The most common value of cells, then each other value with the names of its columns."""
    by_value: dict[str, list[str]] = {}
    for column, value in values.items():
        by_value.setdefault(value, []).append(column.title)
    common, *others = sorted(by_value, key=lambda value: -len(by_value[value]))
    return "; ".join([common, *(f"{', '.join(by_value[value])}: {value}" for value in others)])


def parameters_text(row: Row) -> str:
    """The number of trained parameters; a range if it differs between tasks."""
    fewest, most = row.parameters
    return f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"


def headings(comparison: RunComparison) -> list[str]:
    """The headings of cells: task names, with the metric unless it is the usual and only one of the task."""
    return [
        column.title if column.usual_metric and column.alone else f"{column.title} {column.metric_title}"
        for column in comparison.columns
    ]


def spread_text(mean: float, std: float | None, seeds: Sequence[float]) -> str:
    """The text of a cell for a mean and its deviation over seeds; of two seeds both values."""
    if len(seeds) == BOTH:
        return " / ".join(map(two_digits, seeds))
    return plus_minus(two_digits(mean), two_digits(std))


def _split_text(group: Group) -> str:
    """The split of a cell's scores, for the table's legend, and whether it also chose the best evaluation."""
    return f"{group.split}, which also chose the best evaluation" if group.chose_best else group.split
