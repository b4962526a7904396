"""Differences between the methods of a comparison, paired by seed, with their 95% intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from red_cli.compare.paired_differences import PairedDifferences, paired, signed_difference
from red_cli.recipe.paper import RED
from red_cli.report.document import Section, Table
from red_cli.report.many_runs import Row, RunComparison
from red_cli.report.names import TaskColumn

_TEXT = (
    "Each seed's score less that of the same seed in the reference, {reference}, and the mean with its 95% interval by "
    "Student's t. An interval that contains 0 shows no difference. Two seeds have both differences instead."
)


@dataclass(frozen=True)
class Difference:
    """A row's score less that of a reference on one task, by seed, in the unit of display."""

    column: TaskColumn
    row: Row
    reference: Row
    paired: PairedDifferences

    def to_json(self) -> dict[str, Any]:
        return {
            "base": self.row.base,
            "task": self.column.title,
            "metric": self.column.metric,
            "method": self.row.title,
            "reference": self.reference.title,
            "seeds": {str(seed): value for seed, value in self.paired.by_seed.items()},
            "mean": self.paired.mean,
            "interval": None if self.paired.interval is None else list(self.paired.interval),
        }


def differences_to_reference(comparison: RunComparison) -> list[Difference]:
    """The differences of a section: each row to the reference of its base and protocol, by task and common seeds."""
    found = []
    for row in comparison.rows:
        others = [other for other in comparison.rows if (other.base, other.protocol) == (row.base, row.protocol)]
        reference = _reference(others)
        if row is reference:
            continue
        for column in comparison.columns:
            ours, theirs = row.cells.get(column), reference.cells.get(column)
            if ours is None or theirs is None or ours.split != theirs.split:
                continue
            if (pair := paired(ours.scores, theirs.scores)) is not None:
                found.append(Difference(column, row, reference, pair))
    return found


def _reference(rows: Sequence[Row]) -> Row:
    """The row that the differences of its base are taken to: RED, if it is among them."""
    red = [row for row in rows if row.method == RED] or [row for row in rows if row.method.startswith(RED)]
    return (red or list(rows))[0]


def differences_section(comparison: RunComparison) -> list[Section]:
    """The section of a report on the differences between methods, with 95% intervals; empty if there are none."""
    found = differences_to_reference(comparison)
    if not found:
        return []
    references = " or ".join(dict.fromkeys(difference.reference.title for difference in found))
    several_bases = len({row.base for row in comparison.rows}) > 1
    rows = [
        [f"{each.row.title}, {each.row.base}" if several_bases else each.row.title, each.column.title,
         signed_difference(each.column.metric, each.paired.mean), _interval(each), _seeds(each)]
        for each in found
    ]  # fmt: skip
    table = Table(["method", "task", "mean", "95% interval", "seed: difference"], rows)
    return [Section(f"Differences from {references} by seed", text=_TEXT.format(reference=references), table=table)]


def _seeds(difference: Difference) -> str:
    """The difference of each seed in a report's table."""
    by_seed, metric = difference.paired.by_seed, difference.column.metric
    return ", ".join(f"{seed}: {signed_difference(metric, value)}" for seed, value in by_seed.items())


def _interval(difference: Difference) -> str:
    """The 95% interval in a report's table of paired differences; empty for fewer than three seeds."""
    ends = difference.paired.interval or ()
    return " to ".join(signed_difference(difference.column.metric, end) for end in ends)
