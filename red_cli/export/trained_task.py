"""The task of a trained adapter, bound to its base: what its run encoded, and where its answers end."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PretrainedConfig

from red_cli.base_model.base_files import BaseFiles
from red_cli.base_model.prepare import prepare_base
from red_cli.edit.adapter_config import AdapterConfig
from red_cli.export.exported_model import exported_config
from red_cli.export.transformers_classes import build_configuration
from red_cli.recipe.schema import Recipe
from red_cli.tasks.base import Base, Encoder, Task
from red_cli.tasks.build import build_task
from red_cli.tasks.special_ids import SpecialIds


@dataclass(frozen=True)
class TrainedTask:
    """A task and its base, without weights and data.

    Attributes:
        label_names: in the order of class ids; None for numbers and texts.
    """

    task: Task
    base: Base
    label_names: list[str] | None

    def encoder(self, label_names: list[str] | None = None) -> Encoder:
        """The task's encoder; `label_names` are those that reading the data found."""
        return self.task.bind(self.base, label_names or self.label_names)

    @property
    def special_ids(self) -> SpecialIds | None:
        """The ids that end and pad a generated text; None for a task that generates none.

        Raises:
            UserError: the tokenizer has no end token, or the chat template does not end the assistant's turns.
        """
        return getattr(self.encoder(), "special_ids", None)


def trained_task(recipe: Recipe, adapter: AdapterConfig, base: BaseFiles) -> TrainedTask:
    """The task of a recipe, bound to the base in `base.folder`.

    Raises:
        UserError: the tokenizer or the configuration cannot be used.
    """
    names = None if recipe.task.is_regression else adapter.label_names
    config = base_config(base, adapter)
    task = build_task(recipe, config, names)
    model = recipe.model.model_copy(update={"name_or_path": str(base.folder), "revision": None})
    prepared = prepare_base(config, recipe.model_copy(update={"model": model}), task.kind, names)
    return TrainedTask(task, prepared, names)


def base_config(base: BaseFiles, adapter: AdapterConfig) -> PretrainedConfig:
    """The configuration of the trained task's base, with the adapter's class and labels."""
    return build_configuration(exported_config(base, adapter, None))
