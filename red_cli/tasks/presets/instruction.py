"""Build the instruction task."""

from __future__ import annotations

from transformers import PretrainedConfig

from red_cli.edit.model_kinds import language_model_kind
from red_cli.errors import UserError
from red_cli.recipe.chosen_metrics import loss_metrics, text_metrics
from red_cli.recipe.schema import Recipe
from red_cli.recipe.tasks.instruction import InstructionSettings
from red_cli.tasks.base import builds
from red_cli.tasks.chat.conversations import column_of_answers
from red_cli.tasks.chat.instruction import InstructionTask
from red_cli.tasks.data.splits import Source
from red_cli.tasks.data.streaming import StreamSource


@builds(InstructionSettings)
def instruction_task(
    recipe: Recipe, settings: InstructionSettings, config: PretrainedConfig, label_names: list[str] | None
) -> InstructionTask:
    """The task; a stream provides as many training rows as train.max_steps need.

    Raises:
        UserError: the base is not a decoder.
    """
    kind, data, steps = language_model_kind(config), recipe.data, recipe.train.max_steps
    if kind.encoder_decoder:
        raise UserError(
            "unsupported-model",
            f"task instruction is for decoders; {config.model_type} is an encoder-decoder",
            hint="For prompts and completions use  task={name: generation}.",
        )
    source = Source.of(data, column_of_answers(data.columns))
    if data.streaming:
        train_rows = None if steps is None else steps * recipe.train.batch_size
        source = StreamSource(data, source.find, train_rows=train_rows)
    return InstructionTask(
        data=data,
        source=source,
        kind=kind,
        metric=recipe.eval.metric or settings.metrics[0],
        metrics=(*loss_metrics(recipe), "exact_match", *text_metrics(recipe)),
        max_new_tokens=recipe.eval.max_new_tokens,
        template=settings.chat_template,
        train_on_prompt=settings.train_on_prompt,
    )
