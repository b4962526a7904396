"""A comparison's table as text, cell by cell."""

from __future__ import annotations

from red_cli.report.comparison import Average, Comparison, Row
from red_cli.report.document import Table
from red_cli.report.groups import Group
from red_cli.report.names import Column

UNIT = "percent, or 100 times a coefficient"
AVERAGE = "Avg."
_MARKS = "abcdefghijklmnopqrstuvwxyz"
_FEWEST_TASKS = 2  # that make an average


class Cells:
    """The text of a comparison's cells; where splits differ, a mark says which one a cell is scored on."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison
        self.splits = list(dict.fromkeys(_split_text(group) for group in comparison.groups))

    def mark(self, group: Group) -> str:
        """The letter of the split, where there are several."""
        return _MARKS[self.splits.index(_split_text(group)) % len(_MARKS)] if len(self.splits) > 1 else ""

    def ours(self, group: Group | None) -> str:
        """Mean ± deviation (seeds), and the mark of the split."""
        if group is None:
            return ""
        mark = self.mark(group)
        return f"{_spread(group.mean, group.std)} ({len(group.runs)}{', ' + mark if mark else ''})"

    def shown(self, average: Average | None) -> Average | None:
        """An average, where it is of several tasks."""
        return average if average is not None and average.tasks >= _FEWEST_TASKS else None

    def average(self, average: Average | None) -> str:
        """The mean over tasks, with their number where it is not that of all columns."""
        if self.shown(average) is None or average is None:
            return ""
        tasks = "" if average.tasks == len(self.comparison.columns) else f" (of {average.tasks})"
        return _spread(average.value, average.std) + tasks

    def paper(self, row: Row, column: Column) -> str:
        """The paper's figure as it is printed there."""
        paper = row.paper.get(column)
        return "" if paper is None else f"{paper.score}" + (f" ± {paper.std}" if paper.std is not None else "")

    @property
    def table(self) -> Table:
        """A row for each of ours, and beneath it the paper's."""
        rows: list[list[str]] = []
        reference = set()
        columns = self.comparison.columns
        for row in self.comparison.rows:
            figures = [self.ours(row.cells.get(column)) for column in columns]
            rows.append([row.base, row.title, row.parameters, *figures, self.average(row.average)])
            if row.paper:
                reference.add(len(rows))
                figures = [self.paper(row, column) for column in columns]
                rows.append(["", row.paper_title, "", *figures, self.average(row.paper_average)])
        header = ["base", "method", "parameters", *headings(self.comparison), AVERAGE]
        if len(columns) == 1:
            header, rows = header[:-1], [row[:-1] for row in rows]
        return Table(header, rows, left=2, reference=frozenset(reference))

    @property
    def scored_on(self) -> str:
        """The splits, with their marks where there are several."""
        if len(self.splits) == 1:
            return self.splits[0]
        return "; ".join(f"({_MARKS[number % len(_MARKS)]}) {text}" for number, text in enumerate(self.splits))

    @property
    def legend(self) -> str:
        """How to read a cell."""
        columns = self.comparison.columns
        metrics = list(dict.fromkeys(column.metric_title for column in columns))
        scored = metrics[0] if len(metrics) == 1 else "; ".join(f"{c.title}: {c.metric_title}" for c in columns)
        return (
            f"Mean ± sample standard deviation over seeds (how many), {UNIT}; no seed is chosen or dropped. "
            f"Metric: {scored}. Scored on: {self.scored_on}."
            + (" Avg.: over the tasks that a row has, where it has several." if len(columns) > 1 else "")
        )


def headings(comparison: Comparison) -> list[str]:
    """Task names, with the metric where it is not the usual one."""
    return [column.title if column.usual_metric else f"{column.title} {column.metric}" for column in comparison.columns]


def two_digits(value: float | None) -> str:
    """A score with two digits after the point, where there is one."""
    return "" if value is None else f"{value:.2f}"


def _spread(mean: float, std: float | None) -> str:
    return two_digits(mean) if std is None else f"{two_digits(mean)} ± {two_digits(std)}"


def _split_text(group: Group) -> str:
    return f"{group.split}, which also chose the best evaluation" if group.chose_best else group.split
