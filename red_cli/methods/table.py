"""What is asked of a method by name, or of the folder of what it trained."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from red_cli.edit.adapter_config import CONFIG_FILE, BaseDigest, read_adapter_config
from red_cli.methods.method import Method
from red_cli.methods.trained import Trained
from red_cli.methods.trained_json import TRAINED_FILE, read_stored
from red_cli.recipe.methods import MethodName
from red_cli.recipe.schema import Recipe


def method_named(name: MethodName) -> Method:
    """The method that the file of its name in this package ends with."""
    method: Method = importlib.import_module(f"{__package__}.{name}").METHOD
    return method


@dataclass(frozen=True)
class TrainedFiles:
    """What a folder of trained tensors says of itself."""

    method: MethodName
    base_model_name_or_path: str
    revision: str | None
    head: list[str]
    label_names: list[str] | None
    base_digest: BaseDigest | None
    task_type: str | None = None  # of the model's kind, where the files say it


def attach_method(model: PreTrainedModel, recipe: Recipe, head: list[str]) -> Trained:
    """Put the recipe's method on `model`; everything else is frozen.

    Raises:
        UserError: it does not fit the model, or a package is missing.
    """
    return method_named(recipe.method).attach(model, recipe.options, head)


def save_trained(
    trained: Trained, recipe: Recipe, folder: Path, revision: str | None, digest: BaseDigest | None
) -> None:
    """Write what was trained to `folder`, each file whole or not at all; `revision` and `digest` are the base's."""
    method_named(recipe.method).save(trained, folder, recipe.options, revision, digest)


def load_trained_weights(trained: Trained, recipe: Recipe, folder: Path) -> None:
    """Copy what `folder` holds into a model with the recipe's method on it."""
    method_named(recipe.method).load_weights(trained, folder)


def load_trained(model: PreTrainedModel, folder: Path) -> Trained:
    """Attach to `model` whatever method's tensors `folder` holds."""
    return method_named(read_trained_files(folder).method).load(model, folder)


def is_trained_folder(folder: Path) -> bool:
    """Whether a folder holds what a method trained."""
    return (folder / TRAINED_FILE).is_file() or (folder / CONFIG_FILE).is_file()


def read_trained_files(folder: Path) -> TrainedFiles:
    """What a folder of trained tensors says of itself.

    Raises:
        UserError: it is no such folder, or damaged.
    """
    if not (folder / TRAINED_FILE).is_file():
        adapter = read_adapter_config(folder)
        return TrainedFiles(
            "red",
            adapter.base_model_name_or_path,
            adapter.revision,
            adapter.head,
            adapter.label_names,
            adapter.base_digest,
            adapter.task_type,
        )
    stored = read_stored(folder)
    return TrainedFiles(
        stored.method,
        stored.base_model_name_or_path,
        stored.revision,
        stored.head,
        stored.label_names,
        stored.base_digest,
    )
