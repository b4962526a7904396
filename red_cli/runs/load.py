"""Load a trained model: its task and base, then its weights with the adapter on them."""

from __future__ import annotations

from transformers import PretrainedConfig, PreTrainedModel

from red_cli.base_model.load import load_base
from red_cli.base_model.prepare import load_config, prepare
from red_cli.base_model.record import require_unchanged_base
from red_cli.edit.kinds import KINDS
from red_cli.errors import UserError
from red_cli.methods.table import load_trained
from red_cli.methods.trained_files import read_trained_files
from red_cli.runs.opened import Adapter, Opened
from red_cli.tasks.base import Base, Task
from red_cli.tasks.build import build_task


def open_task(opened: Opened) -> tuple[Task, Base]:
    """The task that a trained model is for, and its base; no data and no weights are read.

    Raises:
        UserError: the configuration or the tokenizer cannot be loaded, the model was trained for another kind of task,
            or the folder asks for Python code to run.
    """
    recipe = opened.recipe
    opened.require_consent()
    config = load_config(recipe.model)
    label_names = _label_names(opened, config)
    task = build_task(recipe, config, label_names)
    if opened.adapter is not None:
        trained_as = read_trained_files(opened.adapter).task_type
        if trained_as != task.kind.task_type and trained_as in [kind.task_type for kind in KINDS]:
            raise UserError(
                "base-mismatch",
                f"{opened.adapter} was trained for another kind of task: {trained_as}, not {task.kind.task_type}",
            )
    return task, prepare(config, recipe, task.kind, label_names)


def _label_names(opened: Opened, config: PretrainedConfig) -> list[str] | None:
    """The label names that the model was trained with; None for regression."""
    regression = opened.recipe.task.is_regression
    if opened.adapter is None:
        return None if regression else [str(config.id2label[index]) for index in sorted(config.id2label)]
    files = read_trained_files(opened.adapter)
    if isinstance(opened, Adapter) and files.head and regression != (len(files.label_names or ()) == 1):
        raise UserError(
            "base-mismatch", f"{opened.folder} was trained for another kind of task than {opened.recipe.task.name}"
        )
    return None if regression else files.label_names


def load_model(opened: Opened, base: Base) -> PreTrainedModel:
    """The model in evaluation mode, with its adapter on it where it has one.

    Raises:
        UserError: base or adapter cannot be loaded or do not fit, or the base has changed since the training.
    """
    recipe = opened.recipe
    model, _ = load_base(recipe.model, base.config, base.kind, recipe.train.seed)
    if opened.adapter is not None:
        load_trained(model, opened.adapter)  # first: of another architecture it says more
        digest = read_trained_files(opened.adapter).base_digest
        require_unchanged_base(recipe.model.name_or_path, recipe.model.revision, digest, opened.adapter)
    return model.eval()
