"""Recipe -> task."""

from __future__ import annotations

from dataclasses import replace

from transformers import PretrainedConfig

from red_cli.edit.kinds import language_model_kind
from red_cli.errors import UserError
from red_cli.recipe.commonsense import CommonsenseTask
from red_cli.recipe.instruction import InstructionTask
from red_cli.recipe.metric_names import CLASSIFICATION_METRICS, REGRESSION_METRICS
from red_cli.recipe.schema import ClassificationTask, GlueTask, Recipe, text_metrics
from red_cli.recipe.text import E2eTask, GenerationTask
from red_cli.tasks.base import Task
from red_cli.tasks.chat.instruction import ConversationTask
from red_cli.tasks.labels.answers import Labels, Numbers
from red_cli.tasks.labels.classification import SequenceTask
from red_cli.tasks.labels.text_to_text import TextToTextTask
from red_cli.tasks.presets.commonsense import commonsense_task
from red_cli.tasks.presets.e2e import e2e_task
from red_cli.tasks.presets.glue import glue_task, with_paper_cut
from red_cli.tasks.text.generation import CompletionTask
from red_cli.tasks.text.packing import require_packing


def build_task(recipe: Recipe, config: PretrainedConfig, label_names: list[str] | None = None) -> Task:
    """The task that the recipe names, for a base of this configuration, with nothing of its data read yet.

    `label_names` are those a trained model knows.

    Raises:
        UserError: the base is of a kind that the task cannot be learnt with.
    """
    if recipe.train.packing:
        require_packing(config)
    if isinstance(recipe.task, InstructionTask):
        return _conversation_task(recipe, recipe.task, config)
    if isinstance(recipe.task, GenerationTask):
        return _generation_task(recipe, recipe.task, config)
    if isinstance(recipe.task, E2eTask):
        return _e2e_task(recipe, recipe.task, config)
    if isinstance(recipe.task, CommonsenseTask):
        return commonsense_task(recipe, recipe.task, config)
    task = _labelled_task(recipe, label_names, config.is_encoder_decoder)
    return _text_to_text(recipe, task, config) if recipe.task.text_to_text else task


def _labelled_task(recipe: Recipe, label_names: list[str] | None, encoder_decoder: bool) -> SequenceTask:
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


def _text_to_text(recipe: Recipe, task: SequenceTask, config: PretrainedConfig) -> TextToTextTask:
    if not config.is_encoder_decoder:
        raise UserError(
            f"task.text_to_text is for encoder-decoders; {config.model_type} is none",
            hint="Leave it out: other bases answer with a head.",
        )
    named = recipe.task
    assert not isinstance(named, GenerationTask | E2eTask | InstructionTask | CommonsenseTask)
    return TextToTextTask.of(
        task,
        config=config,
        label_texts=getattr(named, "label_texts", None),
        decimals=getattr(named, "decimals", 1),
        prompt_template=named.prompt_template,
        max_new_tokens=_most_tokens(recipe),
    )


def _generation_task(recipe: Recipe, named: GenerationTask, config: PretrainedConfig) -> CompletionTask:
    kind = language_model_kind(config)
    if named.train_on_prompt and kind.encoder_decoder:
        raise UserError(
            f"task.train_on_prompt: {config.model_type} is an encoder-decoder, and its encoder predicts nothing"
        )
    task = CompletionTask(recipe.data, named, kind, config, _most_tokens(recipe), recipe.eval.metric or "loss")
    return replace(task, metrics=(*task.metrics, *text_metrics(recipe)))


def _e2e_task(recipe: Recipe, named: E2eTask, config: PretrainedConfig) -> CompletionTask:
    task = e2e_task(named, recipe.data, language_model_kind(config), config, _most_tokens(recipe))
    return replace(task, metric=recipe.eval.metric or "loss", metrics=("loss", "perplexity", *text_metrics(recipe)))


def _conversation_task(recipe: Recipe, named: InstructionTask, config: PretrainedConfig) -> ConversationTask:
    kind = language_model_kind(config)
    if kind.encoder_decoder:
        raise UserError(
            f"task instruction is for decoders; {config.model_type} is an encoder-decoder",
            hint="For prompts and completions there is  task={name: generation}.",
        )
    steps = recipe.train.max_steps
    task = ConversationTask(
        data=recipe.data,
        settings=GenerationTask(name="generation", train_on_prompt=named.train_on_prompt),
        kind=kind,
        config=config,
        max_new_tokens=_most_tokens(recipe),
        metric=recipe.eval.metric or "loss",
        instruction=named,
        stream_rows=None if steps is None else steps * recipe.train.batch_size,
    )
    return replace(task, metrics=(*task.metrics, *text_metrics(recipe)))


def _most_tokens(recipe: Recipe) -> int | None:
    return None if recipe.eval.generation is None else recipe.eval.generation.max_new_tokens
