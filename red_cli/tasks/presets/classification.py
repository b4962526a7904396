"""Build the classification task."""

from __future__ import annotations

from transformers import PretrainedConfig

from red_cli.errors import UserError
from red_cli.recipe.metrics import LABEL_METRICS
from red_cli.recipe.schema import Recipe
from red_cli.recipe.tasks.classification import ClassificationSettings
from red_cli.tasks.base import builds
from red_cli.tasks.labels.targets import LabelTarget
from red_cli.tasks.labels.task import LabelTask
from red_cli.tasks.labels.text_to_text import answer_texts


@builds(ClassificationSettings)
def classification_task(
    recipe: Recipe, settings: ClassificationSettings, config: PretrainedConfig, label_names: list[str] | None
) -> LabelTask:
    """The task, with the label names of the recipe, else those of a trained model.

    Raises:
        UserError: the recipe and the trained model have different label names.
    """
    if settings.labels and label_names and settings.labels != label_names:
        raise UserError(
            "labels-mismatch", f"task.labels is {settings.labels}, but the model was trained with {label_names}"
        )
    target = LabelTarget(settings.labels or label_names, given=settings.labels is not None)
    metric = recipe.eval.metric or settings.metrics[0]
    metrics = LABEL_METRICS if metric in LABEL_METRICS else (metric, *LABEL_METRICS)
    texts = answer_texts(recipe, settings, config, label_texts=settings.label_texts)
    return LabelTask(recipe.data, target, metrics, metric, texts=texts)
