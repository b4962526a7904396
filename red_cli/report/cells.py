"""A comparison's table as text, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping

from red_cli.report.comparison import Average, Comparison, Row
from red_cli.report.document import Table
from red_cli.report.groups import Group
from red_cli.report.names import Column
from red_cli.tasks.labels.metrics import is_percentage

_UNIT = "percent, or 100 times a coefficient"
AVERAGE = "Avg."
_MARKS = "abcdefghijklmnopqrstuvwxyz"
_FEWEST_TASKS = 2  # that make an average


class Cells:
    """The text of a comparison's cells.

    What all cells of a column, or of the table, have in common stands in the legend and not in each of them: the split
    that is scored, and the number of seeds.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self.splits = list(dict.fromkeys(_split_text(group) for group in comparison.groups))
        self.by_column = {
            column: {_split_text(row.cells[column]) for row in comparison.rows if column in row.cells}
            for column in comparison.columns
        }
        counts = {len(group.runs) for group in comparison.groups}
        self.seeds = counts.pop() if len(counts) == 1 else None

    def mark(self, group: Group) -> str:
        """The letter of the split, where the rows of some column are scored on several."""
        if all(len(splits) == 1 for splits in self.by_column.values()):
            return ""
        return _MARKS[self.splits.index(_split_text(group)) % len(_MARKS)]

    def ours(self, group: Group | None) -> str:
        """Mean ± deviation, and in brackets the seeds and the mark of the split, as far as they are not common."""
        if group is None:
            return ""
        seeds = [str(len(group.runs))] if self.seeds is None else []
        mark = self.mark(group)
        aside = ", ".join([*seeds, *([mark] if mark else [])])
        return _spread(group.mean, group.std) + (f" ({aside})" if aside else "")

    def shown(self, average: Average | None) -> Average | None:
        """An average, where it is of several tasks."""
        return average if average is not None and average.tasks >= _FEWEST_TASKS else None

    def average(self, average: Average | None) -> str:
        """The mean over tasks, with their number where it is not that of all columns."""
        if self.shown(average) is None or average is None:
            return ""
        tasks = "" if average.tasks == len(self.comparison.averaged) else f" (of {average.tasks})"
        return _spread(average.value, average.std) + tasks

    def paper(self, row: Row, column: Column) -> str:
        """The paper's figure as it is printed there."""
        figure = row.figures.get(column)
        if figure is None:
            return ""
        return f"{figure.score}" + (f" ± {two_digits(figure.std)}" if figure.std is not None else "")

    @property
    def table(self) -> Table:
        """A row for each of ours, and beneath it the paper's."""
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
        """The splits: by their marks, or by the columns that each is of."""
        if len(self.splits) == 1:
            return self.splits[0]
        if any(len(splits) > 1 for splits in self.by_column.values()):
            return "; ".join(f"({_MARKS[number % len(_MARKS)]}) {text}" for number, text in enumerate(self.splits))
        return _by_value({column: next(iter(splits)) for column, splits in self.by_column.items()})

    @property
    def legend(self) -> str:
        """How to read a cell."""
        seeds = "seeds (how many)" if self.seeds is None else f"{self.seeds} seed{'' if self.seeds == 1 else 's'}"
        several = len(self.comparison.averaged) >= _FEWEST_TASKS
        return (
            f"Mean ± sample standard deviation over {seeds}, {unit(self.comparison)}; no seed is chosen or dropped. "
            f"Metric: {_by_value({column: column.metric_title for column in self.comparison.columns})}. "
            f"Scored on: {self.scored_on}."
            + (" Avg.: over the tasks that a row has, where it has several." if several else "")
        )


def unit(comparison: Comparison) -> str:
    """What scores are shown in."""
    others = [column.metric_title for column in comparison.columns if not is_percentage(column.metric)]
    listed = " and ".join(dict.fromkeys(others))
    return f"{_UNIT} ({listed}: as it is)" if others else _UNIT


def _by_value(values: Mapping[Column, str]) -> str:
    """What columns have: the commonest first and for the rest, the others with their columns' names."""
    by_value: dict[str, list[str]] = {}
    for column, value in values.items():
        by_value.setdefault(value, []).append(column.title)
    common, *others = sorted(by_value, key=lambda value: -len(by_value[value]))
    return "; ".join([common, *(f"{', '.join(by_value[value])}: {value}" for value in others)])


def parameters_text(row: Row) -> str:
    """How many parameters are trained; a range where tasks differ."""
    fewest, most = row.parameters
    return f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"


def headings(comparison: Comparison) -> list[str]:
    """Task names, with the metric where it is not the usual one, one of several, or no share."""
    return [
        column.title if column.usual_metric and column.alone else f"{column.title} {column.metric}"
        for column in comparison.columns
    ]


def two_digits(value: float | None) -> str:
    """A score with two digits after the point, where there is one."""
    return "" if value is None else f"{value:.2f}"


def _spread(mean: float, std: float | None) -> str:
    return two_digits(mean) if std is None else f"{two_digits(mean)} ± {two_digits(std)}"


def _split_text(group: Group) -> str:
    return f"{group.split}, which also chose the best evaluation" if group.chose_best else group.split
