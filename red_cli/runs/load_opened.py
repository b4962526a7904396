"""Load a trained model: task and base, then the weights and the adapter."""

from __future__ import annotations

import torch
from transformers import PretrainedConfig, PreTrainedModel

from red_cli.base_model.base_dtype import with_base_dtype
from red_cli.base_model.digest import require_same_digest
from red_cli.base_model.load import load_base, load_config
from red_cli.base_model.prepare import prepare_base
from red_cli.distributed.parameter_chunks import Sharding
from red_cli.edit.model_kinds import NO_TASK
from red_cli.errors import UserError
from red_cli.methods.attach_save_load import load_trained
from red_cli.methods.trained_description import read_trained_files
from red_cli.recipe.methods import METHODS
from red_cli.runs.open_trained import Opened, OpenedAdapter, OpenedBase
from red_cli.tasks.base import Base, Task
from red_cli.tasks.build import build_task


def load_task(opened: Opened) -> tuple[Task, Base]:
    """Load the task and the base of an opened folder. Data and weights are not read.

    Raises:
        UserError: the configuration or the tokenizer cannot be loaded, the model was trained for another kind of task,
            or the folder asks to run Python code.
    """
    recipe = opened.recipe
    opened.require_consent()
    config = load_config(recipe.model)
    label_names = _label_names(opened, config)
    task = build_task(recipe, config, label_names)
    if opened.adapter is not None:
        trained_as = read_trained_files(opened.adapter).task_type
        if trained_as != task.kind.task_type and trained_as not in (None, NO_TASK):
            raise UserError(
                "base-mismatch",
                f"{opened.adapter} was trained for another kind of task: {trained_as}, not {task.kind.task_type}",
            )
    return task, prepare_base(config, recipe, task.kind, label_names)


def _label_names(opened: Opened, config: PretrainedConfig) -> list[str] | None:
    """The label names of the training; None for regression."""
    regression = opened.recipe.task.is_regression
    if isinstance(opened, OpenedBase):
        return opened.label_names
    if opened.adapter is None:
        return None if regression else [str(config.id2label[index]) for index in sorted(config.id2label)]
    files = read_trained_files(opened.adapter)
    if isinstance(opened, OpenedAdapter) and files.head and regression != (len(files.label_names or ()) == 1):
        raise UserError(
            "base-mismatch", f"{opened.folder} was trained for another kind of task than {opened.recipe.task.name}"
        )
    return None if regression else files.label_names


def load_model(
    opened: Opened, base: Base, device: torch.device, sharding: Sharding | None = None
) -> tuple[PreTrainedModel, list[torch.nn.Parameter]]:
    """Load the model of an opened folder, with its adapter if it has one, in evaluation mode; and the parameters.

    Args:
        device: the device of a quantised base; any other stays on the CPU.
        sharding: how the ranks will divide the base; None if they do not.

    Raises:
        UserError: base or adapter cannot be loaded or do not match, or the base changed since the training.
    """
    recipe = opened.recipe
    if opened.adapter is not None and METHODS[read_trained_files(opened.adapter).method].base_parameters != "none":
        sharding = None  # such an adapter is loaded into complete parameters
    settings = with_base_dtype(recipe, base.config).model
    model, _ = load_base(settings, base.config, base.kind, recipe.train.seed, device, sharding)
    parameters: list[torch.nn.Parameter] = []
    if opened.adapter is not None:
        trained = load_trained(
            model, opened.adapter
        )  # before the digest: for another architecture its error is more precise
        digest = read_trained_files(opened.adapter).base_digest
        require_same_digest(recipe.model.name_or_path, recipe.model.revision, digest, opened.adapter)
        parameters = trained.parameters(trained.names)
    return model.eval(), parameters
