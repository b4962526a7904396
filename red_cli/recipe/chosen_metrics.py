"""The metrics that a recipe chooses: those of texts, those of the loss, and those that sum up its results.

`recipe/metrics.py` says what the metrics are, and `recipe/metric_names.py` what they are called where they are shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from red_cli.recipe.metrics import TEXT_METRICS, Metric
from red_cli.recipe.schema import Recipe


def with_metric(recipe: Recipe, metric: Metric) -> Recipe:
    """The recipe with another metric chosen in eval.metric."""
    return recipe.model_copy(update={"eval": recipe.eval.model_copy(update={"metric": metric})})


def text_metrics(recipe: Recipe) -> tuple[str, ...]:
    """The chosen metrics of generated texts: of eval.metrics (default: the task's) and eval.metric."""
    named = recipe.task.default_text_metrics if recipe.eval.metrics is None else recipe.eval.metrics
    return tuple(dict.fromkeys(name for name in (*named, recipe.eval.metric) if name in TEXT_METRICS))


def loss_metrics(recipe: Recipe) -> tuple[str, ...]:
    """The chosen metrics of the loss: both, but none if eval.metrics lists others alone."""
    named = recipe.eval.metrics
    return () if named and "loss" not in named else ("loss", "perplexity")


def headline_metrics(metric: str, scores: Mapping[str, Any]) -> list[str]:
    """The metrics that summarise a split: those of generated texts, else the metric that selects the best evaluation.

    None if neither was computed, as of metrics that need Java.

    Args:
        scores: metric -> value, as in metrics.json, without metrics that were not computed.
    """
    return [name for name in TEXT_METRICS if name in scores] or [name for name in (metric,) if name in scores]
