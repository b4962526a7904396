"""Metrics of classification and regression, by scikit-learn and SciPy."""

from __future__ import annotations

import math
import statistics
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from red_cli.recipe.tasks.base import TEXT_METRICS

_LOWER_IS_BETTER = ("loss", "perplexity")
# Scores that are neither shares nor coefficients, and how they are written; all others are written times 100.
_AS_THEY_ARE = {"NIST": ".3f", "CIDEr": ".3f", "loss": ".4f", "perplexity": ".4g",
                "unfinished": ",.0f", "no_label": ",.0f", "no_number": ",.0f", "no_answer": ",.0f"}  # fmt: skip


def classification_metrics(
    names: Sequence[str], predicted: Sequence[str], actual: Sequence[str], label_names: Sequence[str]
) -> dict[str, float]:
    """Metrics of label predictions, each between -1 or 0 and 1.

    f1 is that of the second label where there are two (the positive one in GLUE), the mean over labels elsewhere.
    A constant prediction gives a Matthews correlation of 0.
    """
    from sklearn import metrics

    position = {name: index for index, name in enumerate(label_names)}
    guesses, truths = [position[name] for name in predicted], [position[name] for name in actual]
    average: dict[str, Any] = {"average": "binary" if len(label_names) == 2 else "macro", "zero_division": 0}
    functions = {
        "accuracy": lambda: metrics.accuracy_score(truths, guesses),
        "f1": lambda: metrics.f1_score(truths, guesses, **average),
        "matthews_correlation": lambda: metrics.matthews_corrcoef(truths, guesses),
    }
    return {name: float(functions[name]()) for name in names}


def regression_metrics(names: Sequence[str], predicted: Sequence[float], actual: Sequence[float]) -> dict[str, float]:
    """Pearson's and Spearman's correlation; 0 where a side is constant and none is defined."""
    from scipy import stats

    functions = {"pearson": stats.pearsonr, "spearman": stats.spearmanr}
    values = {}
    for name in names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = float(functions[name](predicted, actual).statistic) if len(actual) > 1 else math.nan
        values[name] = 0.0 if math.isnan(value) else value
    return values


def is_better(metric: str, value: float, best: float | None) -> bool:
    """Whether an evaluation is better than the best before it (None: there was none)."""
    if best is None or math.isnan(best):
        return True
    return value < best if metric in _LOWER_IS_BETTER else value > best


def is_percentage(metric: str) -> bool:
    """Whether a score is a share or a coefficient, which is shown times 100."""
    return metric not in _AS_THEY_ARE


def display_value(metric: str, value: float) -> float:
    """A score in the unit that it is shown in, and published in: times 100, but for those that are no share."""
    return value * 100 if is_percentage(metric) else value


def format_score(metric: str, value: float) -> str:
    """A score as it is shown."""
    return f"{display_value(metric, value):{_AS_THEY_ARE.get(metric, '.2f')}}"


def headline_metrics(metric: str, scores: Mapping[str, Any]) -> list[str]:
    """The metrics of a split that results are told by: those of generated texts, else `metric`, which chose the best.

    Args:
        scores: metric -> figure, as in metrics.json; a metric that could not be computed is not among them.
    """
    return [name for name in TEXT_METRICS if name in scores] or [metric]


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation (n - 1); None where there is but one value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None
