"""The names of metrics in words, and the names that results have stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from red_cli.errors import one_line
from red_cli.recipe.metrics import metric_spec

_TWO = 2  # classes, of which F1 is that of the second
_MACRO_F1 = "f1 (macro)"  # the name that metrics.json has
_LONGEST_LABEL = 30  # characters of a class in the name of a metric


def metric_name(metric: str, label_names: Sequence[str] | None) -> str:
    """The name of a metric to show: F1's says of which class it is, or that it is the mean over all classes.

    Args:
        label_names: in the order of class ids; None if unknown, or if answers are numbers or texts.
    """
    classes = 0 if label_names is None else len(label_names)
    if metric == "macro_f1" or (metric == "f1" and classes > _TWO):
        return _MACRO_F1
    return f"f1 of {one_line(label_names[1], _LONGEST_LABEL)}" if label_names and metric == "f1" else metric


def metric_names(metrics: Iterable[str], label_names: Sequence[str] | None) -> dict[str, str]:
    """Metric -> its name to show, for those whose name says more than the metric."""
    names = {metric: metric_name(metric, label_names) for metric in metrics}
    return {metric: name for metric, name in names.items() if name != metric}


def stored_name(result: Mapping[str, Any], metric: str) -> str:
    """The name to show of a metric in a result, such as metrics.json, which has these names."""
    return str(result.get("metric_names", {}).get(metric, metric))


def stored_title(result: Mapping[str, Any], metric: str) -> str:
    """The name of a metric in a result, in words for titles and tables: `macro F1` or `F1 of spam`, where known.

    A part of a metric, such as accuracy.boolq, is `accuracy of boolq`.
    """
    metric, _, part = metric.partition(".")
    name = stored_name(result, metric)
    if name == _MACRO_F1:
        metric = name = "macro_f1"
    title = metric_spec(metric).title or metric.replace("_", " ")
    return f"{title}{name.removeprefix(metric)}{f' of {part}' if part else ''}"
