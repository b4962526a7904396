"""Recipe -> the task instruction."""

from __future__ import annotations

from dataclasses import replace

from transformers import PretrainedConfig

from red_cli.edit.kinds import language_model_kind
from red_cli.errors import UserError
from red_cli.recipe.schema import Recipe, text_metrics
from red_cli.recipe.tasks.generation import GenerationSettings
from red_cli.recipe.tasks.instruction import InstructionSettings
from red_cli.tasks.base import builds
from red_cli.tasks.chat.instruction import InstructionTask


@builds(InstructionSettings)
def instruction_task(
    recipe: Recipe, settings: InstructionSettings, config: PretrainedConfig, label_names: list[str] | None
) -> InstructionTask:
    """The task.

    Raises:
        UserError: the base is no decoder.
    """
    kind = language_model_kind(config)
    if kind.encoder_decoder:
        raise UserError(
            f"task instruction is for decoders; {config.model_type} is an encoder-decoder",
            hint="For prompts and completions there is  task={name: generation}.",
        )
    steps = recipe.train.max_steps
    task = InstructionTask(
        data=recipe.data,
        settings=GenerationSettings(name="generation", train_on_prompt=settings.train_on_prompt),
        kind=kind,
        config=config,
        max_new_tokens=recipe.eval.max_new_tokens,
        metric=recipe.eval.metric or settings.metrics[0],
        instruction=settings,
        stream_rows=None if steps is None else steps * recipe.train.batch_size,
    )
    return replace(task, metrics=(*task.metrics, *text_metrics(recipe)))
