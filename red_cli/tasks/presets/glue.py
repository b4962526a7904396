"""Build a task of GLUE, with the Hub's nyu-mll/glue unless the recipe names files with the same columns."""

from __future__ import annotations

from dataclasses import replace

from transformers import PretrainedConfig

from red_cli.recipe.schema import Recipe
from red_cli.recipe.sections import Columns, Data
from red_cli.recipe.tasks.glue import GLUE, GlueSettings, GlueSubset
from red_cli.tasks.base import builds
from red_cli.tasks.data.paper_cut import SCORED, SELECTION, PaperCut
from red_cli.tasks.labels.targets import LabelTarget, RegressionTarget
from red_cli.tasks.labels.task import LabelTask
from red_cli.tasks.labels.text_to_text import answer_texts

HUB_NAME = "nyu-mll/glue"


@builds(GlueSettings)
def build(recipe: Recipe, settings: GlueSettings, config: PretrainedConfig, label_names: list[str] | None) -> LabelTask:
    """The GLUE task, with the paper's selection split if the recipe asks for it."""
    task = glue_task(settings.subset, recipe.data, recipe.eval.metric)
    if recipe.eval.split == "paper":
        task = with_paper_cut(task, settings.subset, config.is_encoder_decoder)
    return replace(task, texts=answer_texts(recipe, settings, config, label_texts=settings.label_texts))


def glue_task(subset: GlueSubset, data: Data, metric: str | None) -> LabelTask:
    """The task, with the Hub's data unless `data` names files with the same columns."""
    spec = GLUE[subset]
    first, second = (*spec.columns, None)[:2]
    named = data.columns
    changes: dict[str, object] = {
        "columns": Columns(text=named.text or first, text_pair=named.text_pair or second, label=named.label or "label")
    }
    if data.path is None and data.train is None:
        changes |= {"path": HUB_NAME, "name": subset}
    metrics: tuple[str, ...] = spec.metrics
    return LabelTask(
        data=data.model_copy(update=changes),
        target=RegressionTarget() if spec.labels is None else LabelTarget(list(spec.labels), given=True),
        metrics=metrics if metric is None or metric in metrics else (metric, *metrics),
        metric=metric or metrics[0],
        validation_splits=spec.validation_splits,
    )


def with_paper_cut(task: LabelTask, subset: GlueSubset, encoder_decoder: bool) -> LabelTask:
    """The task with the selection split and the scored split of the published code.

    That code has one rule for RoBERTa and another for T5, which applies to encoder-decoders. MNLI is scored on matched
    genres only.
    """
    spec = GLUE[subset]
    cut = PaperCut(
        spec.validation_splits[0],
        from_training=encoder_decoder and spec.large,
        swapped=spec.swapped and not encoder_decoder,
    )
    return replace(task, paper_cut=cut, validation_splits=(SELECTION, SCORED))
