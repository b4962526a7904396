"""Names of bases, methods, tasks and settings in tables, and the order of the columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from red_cli.formatting import shortened
from red_cli.recipe.methods import METHODS, is_plus_plus
from red_cli.recipe.metrics import TEXT_METRICS, UNTUNED
from red_cli.recipe.paper import RED, RED_PLUS_PLUS
from red_cli.recipe.score_format import is_percentage
from red_cli.report.find_runs import FinishedRun

# Recipe key -> its words, where they are not those of the key itself
_WORDS = {
    "model.name_or_path": "base",
    "model.dtype": "number type of the base",
    "model.revision": "revision of the base",
    "red.positions": "edited outputs",
    "red.components": "trained vectors",
    "red.layers": "edited layers",
    "red.target_modules": "edited modules",
    "train.num_train_epochs": "epochs",
    "train.max_steps": "most steps",
    "train.lr_scheduler_type": "learning-rate schedule",
    "train.head_learning_rate": "learning rate of the head",
    "train.warmup_ratio": "warm-up, share of the steps",
    "train.warmup_steps": "warm-up steps",
    "train.adam_beta1": "Adam beta 1",
    "train.adam_beta2": "Adam beta 2",
    "train.adam_epsilon": "Adam epsilon",
    "train.max_grad_norm": "largest norm of the gradient",
    "train.bf16": "bfloat16",
    "train.eval_steps": "steps between evaluations",
    "train.micro_batch_size": "rows in a forward pass",
    "train.batch_size": "batch size, rows",
    "data.path": "source",
    "data.name": "configuration",
    "data.max_length": "most tokens of a row",
    "data.max_train_rows": "most training rows",
    "data.max_prompt_length": "most tokens of a prompt",
    "data.too_long": "longer rows",
    "data.bad_rows": "unusable rows",
    "data.validation_share": "share of validation",
}
_AFTER_PUBLISHED = 1000  # the place of columns that no published table has
_LONGEST_VALUE = 40


@dataclass(frozen=True)
class TaskColumn:
    """The names of a table's column: a task and one of its metrics.

    Attributes:
        order: the sort key of columns: GLUE as in the paper, then all others by name.
        metric_title: the metric in words, as its first run knows it.
        usual_metric: whether the task's published figures use this metric.
        alone: whether this is the task's only column and its metric is a share or coefficient, so that averages over
            tasks include it.
    """

    order: tuple[int, str]
    title: str
    metric: str
    usual_metric: bool
    alone: bool = True
    metric_title: str = field(default="", compare=False)  # runs of earlier versions name it with fewer words


def task_column(run: FinishedRun, metric: str, alone: bool) -> TaskColumn:
    """The name of a run's task in tables, and its column's order, for `metric`; own data adds the data's name.

    Args:
        alone: whether no other metric of the run has a column.
    """
    task, data = run.recipe.task, run.recipe.data
    if (heading := task.heading) is not None:
        usual = metric == task.metrics[0]
        place = (heading.place, "" if usual else metric)
        return TaskColumn(place, heading.title, metric, usual, metric_title=run.metric_title(metric))
    source = data.path or data.train or ""
    title = f"{run.metrics['task']} {base_name(source)}".strip()
    order = f"{TEXT_METRICS.index(metric):02}" if metric in TEXT_METRICS else metric
    return TaskColumn(
        (_AFTER_PUBLISHED, f"{run.metrics['task']} {source} {order}"),
        title,
        metric,
        True,
        alone and is_percentage(metric),
        run.metric_title(metric),
    )


def base_name(name_or_path: str) -> str:
    """The last two parts of a path or of a name on the Hub."""
    return "/".join(Path(name_or_path).parts[-2:]).lstrip("/")


def method_name(keys: Mapping[str, Any]) -> str:
    """The method of a recipe, given by its dotted keys; for RED also what it edits where that is not the usual."""
    if keys["method"] == UNTUNED:
        return "untuned"
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
    """A recipe's value as a name of at most 40 characters; long values are cut at the start."""
    text = "unset" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return shortened(text, _LONGEST_VALUE)


def method_title(run: FinishedRun) -> str:
    """The name of a run's method in a report; "the untuned base" for a run without one."""
    method = METHODS.get(run.metrics.get("method", "red"))
    return "the untuned base" if method is None else method.title


def setting_name(key: str) -> str:
    """The name of a setting: a key of the recipe in words."""
    words = key.rpartition(".")[2].replace("_", " ")
    return _WORDS.get(key) or (f"column of {words}" if key.startswith("data.columns.") else words)
