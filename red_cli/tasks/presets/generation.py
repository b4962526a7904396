"""Build the generation task."""

from __future__ import annotations

from transformers import PretrainedConfig

from red_cli.edit.model_kinds import language_model_kind
from red_cli.errors import UserError
from red_cli.recipe.chosen_metrics import loss_metrics, text_metrics
from red_cli.recipe.schema import Recipe
from red_cli.recipe.tasks.generation import GenerationSettings
from red_cli.tasks.base import builds
from red_cli.tasks.data.splits import Source
from red_cli.tasks.text.generation import GenerationTask, TemplateTexts


@builds(GenerationSettings)
def generation_task(
    recipe: Recipe, settings: GenerationSettings, config: PretrainedConfig, label_names: list[str] | None
) -> GenerationTask:
    """The task.

    Raises:
        UserError: task.train_on_prompt is set, but the base is an encoder-decoder.
    """
    kind = language_model_kind(config)
    if settings.train_on_prompt and kind.encoder_decoder:
        raise UserError(
            "unsupported-model",
            f"task.train_on_prompt: {config.model_type} is an encoder-decoder, whose encoder predicts no tokens",
        )
    texts = TemplateTexts(recipe.data.columns, settings.prompt_template, settings.completion_template)
    return GenerationTask(
        data=recipe.data,
        source=Source.of(recipe.data, texts.label_column),
        kind=kind,
        metric=recipe.eval.metric or settings.metrics[0],
        metrics=(*loss_metrics(recipe), "exact_match", *text_metrics(recipe)),
        max_new_tokens=recipe.eval.max_new_tokens,
        texts=texts,
        train_on_prompt=settings.train_on_prompt,
        end_token=settings.end_token,
    )
