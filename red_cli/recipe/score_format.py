"""The format of scores: a score as text, the mean of several, and the unit of display."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from red_cli.recipe.metrics import metric_spec

_BOTH = 2  # scores, whose deviation says no more than the two


def format_untuned_remark(untuned: Mapping[str, Any], examples: int, head: int) -> str:
    """Format what stands after the untuned model's score: how it compares with the tuned one's.

    Args:
        examples: the rows that the tuned score of the same split is of.
        head: the trained parameters of the run's head; before training its values are random.
    """
    with_head = ", with a new head" if head else ""
    some = "" if untuned["examples"] == examples else f", on {untuned['examples']:,} of {examples:,} rows"
    return f"before training{with_head}{some}"


def is_percentage(metric: str) -> bool:
    """Whether the format of a metric's score is a percentage: a share or a coefficient, times 100."""
    return metric_spec(metric).format is None


def displayed_score(metric: str, value: float) -> float:
    """A score in the unit of its format, as publications have it: times 100 if it is a percentage."""
    return value * 100 if is_percentage(metric) else value


def format_score(metric: str, value: float) -> str:
    """Format the score of a metric, in the metric's own number format or with two decimals."""
    return f"{displayed_score(metric, value):{metric_spec(metric).format or '.2f'}}"


def mean_score(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean of several scores, and their sample standard deviation (n - 1), None for a single score."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def format_scores(metric: str, values: Sequence[float]) -> str:
    """Format the scores of one metric over seeds: mean ± sample deviation, but both scores of two."""
    if len(values) == _BOTH:
        return " / ".join(format_score(metric, value) for value in values)
    mean, spread = mean_score(values)
    return format_score(metric, mean) + ("" if spread is None else f" ± {format_score(metric, spread)}")
