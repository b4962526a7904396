"""Recipe -> task."""

from __future__ import annotations

from red_cli.errors import UserError
from red_cli.recipe.schema import ClassificationTask, GlueTask, Recipe
from red_cli.tasks.answers import Labels, Numbers
from red_cli.tasks.base import Task
from red_cli.tasks.classification import SequenceTask
from red_cli.tasks.glue import glue_task, with_paper_cut
from red_cli.tasks.metrics import CLASSIFICATION_METRICS, REGRESSION_METRICS


def build_task(recipe: Recipe, label_names: list[str] | None = None, encoder_decoder: bool = False) -> Task:
    """The task that the recipe names, with nothing read yet.

    `label_names` are those a trained model knows; whether the base is an `encoder_decoder` decides the paper's cut.
    """
    named, metric = recipe.task, recipe.eval.metric
    if isinstance(named, GlueTask):
        task = glue_task(named.subset, recipe.data, metric)
        return task if recipe.eval.split == "standard" else with_paper_cut(task, named.subset, encoder_decoder)
    if isinstance(named, ClassificationTask):
        if named.labels and label_names and named.labels != label_names:
            raise UserError(f"task.labels is {named.labels}, but the model was trained with {label_names}")
        answers = Labels(named.labels or label_names, given=named.labels is not None)
        return SequenceTask(recipe.data, answers, CLASSIFICATION_METRICS, metric or CLASSIFICATION_METRICS[0])
    return SequenceTask(recipe.data, Numbers(), REGRESSION_METRICS, metric or REGRESSION_METRICS[0])
