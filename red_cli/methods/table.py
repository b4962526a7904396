"""What is asked of a method by name, or of the folder of what it trained."""

from __future__ import annotations

import importlib
from pathlib import Path

from transformers import PreTrainedModel

from red_cli.edit.adapter_config import BaseDigest
from red_cli.methods.method import Method
from red_cli.methods.trained import Trained
from red_cli.methods.trained_files import read_trained_files
from red_cli.recipe.methods import MethodName
from red_cli.recipe.schema import Recipe


def method_named(name: MethodName) -> Method:
    """The method that the file of its name in this package ends with."""
    method: Method = importlib.import_module(f"{__package__}.{name}").METHOD
    return method


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
