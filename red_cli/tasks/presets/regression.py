"""Build the regression task."""

from __future__ import annotations

from transformers import PretrainedConfig

from red_cli.recipe.metrics import REGRESSION_METRICS
from red_cli.recipe.schema import Recipe
from red_cli.recipe.tasks.regression import RegressionSettings
from red_cli.tasks.base import builds
from red_cli.tasks.labels.targets import RegressionTarget
from red_cli.tasks.labels.task import LabelTask
from red_cli.tasks.labels.text_to_text import answer_texts


@builds(RegressionSettings)
def regression_task(
    recipe: Recipe, settings: RegressionSettings, config: PretrainedConfig, label_names: list[str] | None
) -> LabelTask:
    """The task."""
    metric = recipe.eval.metric or settings.metrics[0]
    texts = answer_texts(recipe, settings, config, decimals=settings.decimals)
    return LabelTask(recipe.data, RegressionTarget(), REGRESSION_METRICS, metric, texts=texts)
