"""Recipe -> task."""

from __future__ import annotations

from transformers import PretrainedConfig

from red_cli.edit.kinds import language_model_kind
from red_cli.errors import UserError
from red_cli.recipe.commonsense import CommonsenseTask
from red_cli.recipe.instruction import InstructionTask
from red_cli.recipe.schema import ClassificationTask, GlueTask, Recipe
from red_cli.recipe.text import GenerationTask
from red_cli.tasks.answers import Labels, Numbers
from red_cli.tasks.base import Task
from red_cli.tasks.classification import SequenceTask
from red_cli.tasks.commonsense import commonsense_task
from red_cli.tasks.generation import CompletionTask
from red_cli.tasks.glue import glue_task, with_paper_cut
from red_cli.tasks.instruction import ConversationTask
from red_cli.tasks.metrics import CLASSIFICATION_METRICS, REGRESSION_METRICS
from red_cli.tasks.packing import require_packing
from red_cli.tasks.text_to_text import TextToTextTask


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
    named, decoding = recipe.task, recipe.eval.generation
    assert not isinstance(named, GenerationTask | CommonsenseTask | InstructionTask)
    return TextToTextTask.of(
        task,
        config=config,
        label_texts=getattr(named, "label_texts", None),
        decimals=getattr(named, "decimals", 1),
        prompt_template=named.prompt_template,
        max_new_tokens=None if decoding is None else decoding.max_new_tokens,
    )


def _generation_task(recipe: Recipe, named: GenerationTask, config: PretrainedConfig) -> CompletionTask:
    kind, decoding = language_model_kind(config), recipe.eval.generation
    if named.train_on_prompt and kind.encoder_decoder:
        raise UserError(
            f"task.train_on_prompt: {config.model_type} is an encoder-decoder, and its encoder predicts nothing"
        )
    return CompletionTask(
        data=recipe.data,
        settings=named,
        kind=kind,
        config=config,
        max_new_tokens=None if decoding is None else decoding.max_new_tokens,
        metric=recipe.eval.metric or "loss",
    )


def _conversation_task(recipe: Recipe, named: InstructionTask, config: PretrainedConfig) -> ConversationTask:
    kind, decoding = language_model_kind(config), recipe.eval.generation
    if kind.encoder_decoder:
        raise UserError(
            f"task instruction is for decoders; {config.model_type} is an encoder-decoder",
            hint="For prompts and completions there is  task={name: generation}.",
        )
    steps = recipe.train.max_steps
    return ConversationTask(
        data=recipe.data,
        settings=GenerationTask(name="generation", train_on_prompt=named.train_on_prompt),
        kind=kind,
        config=config,
        max_new_tokens=None if decoding is None else decoding.max_new_tokens,
        metric=recipe.eval.metric or "loss",
        instruction=named,
        stream_rows=None if steps is None else steps * recipe.train.batch_size,
    )
