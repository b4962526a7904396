"""Recipe -> the task regression."""

from __future__ import annotations

from transformers import PretrainedConfig

from red_cli.recipe.schema import Recipe
from red_cli.recipe.tasks.base import REGRESSION_METRICS
from red_cli.recipe.tasks.regression import RegressionSettings
from red_cli.tasks.base import builds
from red_cli.tasks.labels.answers import Numbers
from red_cli.tasks.labels.classification import SequenceTask
from red_cli.tasks.labels.text_to_text import in_words


@builds(RegressionSettings)
def regression_task(
    recipe: Recipe, settings: RegressionSettings, config: PretrainedConfig, label_names: list[str] | None
) -> SequenceTask:
    """The task."""
    metric = recipe.eval.metric or settings.metrics[0]
    task = SequenceTask(recipe.data, Numbers(), REGRESSION_METRICS, metric)
    return in_words(task, recipe, settings, config, decimals=settings.decimals)
