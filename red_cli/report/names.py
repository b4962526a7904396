"""What bases, methods, tasks and settings are called in tables, and the order of the paper's columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from red_cli.recipe.methods import METHODS
from red_cli.recipe.paper import RED, RED_PLUS_PLUS, is_plus_plus
from red_cli.recipe.tasks.base import TEXT_METRICS
from red_cli.report.runs import FinishedRun
from red_cli.tasks.labels.metrics import is_percentage

_METRICS = {"matthews_correlation": "Matthews correlation", "pearson": "Pearson's correlation",
            "spearman": "Spearman's correlation", "f1": "F1", "ROUGE_L": "ROUGE_L"}  # fmt: skip
_AFTER_PUBLISHED = 1000  # the place of columns that no published table has
_LONGEST_VALUE = 40


@dataclass(frozen=True)
class Column:
    """A task and a metric that it is scored by.

    Attributes:
        order: where the column stands: GLUE as in the paper, then the rest by name.
        usual_metric: whether it is a metric that the task's published figures are in.
        alone: whether the task has no other column and is told by a share, so that an average over tasks can count it.
    """

    order: tuple[int, str]
    title: str
    metric: str
    usual_metric: bool
    alone: bool = True

    @property
    def metric_title(self) -> str:
        """The metric in words."""
        return _METRICS.get(self.metric, self.metric.replace("_", " "))


def column_of(run: FinishedRun, metric: str, alone: bool) -> Column:
    """The column of a run's scores by `metric`; a task of the user's own is told from another by its data.

    Args:
        alone: whether no other metric of the run has a column.
    """
    task, data = run.recipe.task, run.recipe.data
    if (heading := task.heading) is not None:
        usual = metric == task.metrics[0]
        return Column((heading.place, "" if usual else metric), heading.title, metric, usual)
    source = data.path or data.train or ""
    title = f"{run.metrics['task']} {base_name(source)}".strip()
    order = f"{TEXT_METRICS.index(metric):02}" if metric in TEXT_METRICS else metric
    return Column(
        (_AFTER_PUBLISHED, f"{run.metrics['task']} {source} {order}"),
        title,
        metric,
        True,
        alone and is_percentage(metric),
    )


def base_name(name_or_path: str) -> str:
    """The end of a path or of a name on the Hub: the last two parts tell more than `model` alone."""
    return "/".join(Path(name_or_path).parts[-2:]).lstrip("/")


def method_name(keys: Mapping[str, Any]) -> str:
    """The method of a recipe, given by its dotted keys; for RED also what it edits where that is not the usual."""
    method = METHODS[keys["method"]]
    if not method.edits:
        return method.title
    positions = keys["red.positions"]
    parts = []
    if keys["red.target_modules"] is not None:
        parts.append(shown_value(keys["red.target_modules"]))
        name = RED
    elif is_plus_plus(positions):
        name = RED_PLUS_PLUS
    else:
        name = RED
        parts += [] if positions == ["ffn"] else ["+".join(positions)]
    components = keys["red.components"]
    parts += [f"{components[0]} only"] if len(components) == 1 else []
    parts += [] if keys["red.layers"] == "all" else [f"layers {shown_value(keys['red.layers'])}"]
    return f"{name} ({', '.join(parts)})" if parts else name


def shown_value(value: Any) -> str:
    """A recipe's value in a few characters; of a long one the end."""
    text = "unset" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST_VALUE else "…" + text[1 - _LONGEST_VALUE :]
