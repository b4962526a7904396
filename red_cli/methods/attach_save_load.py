"""Attach, save and load what is trained, by the method of a recipe or of a folder."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from red_cli.edit.recorded_base import BaseDigest
from red_cli.methods.method import Trained, method_named
from red_cli.methods.trained_description import read_trained_files
from red_cli.recipe.schema import Recipe


def attach_method(model: PreTrainedModel, recipe: Recipe, head: list[str]) -> Trained:
    """Attach the recipe's method to `model` and freeze everything else.

    Raises:
        UserError: the method does not fit the model, or a package is missing.
    """
    return method_named(recipe.method).attach(model, recipe.options, head)


def save_trained(
    trained: Trained, recipe: Recipe, folder: Path, revision: str | None, digest: BaseDigest | None
) -> None:
    """Write what was trained to `folder`, each file atomically; `revision` and `digest` are those of the base."""
    method_named(recipe.method).save(trained, folder, recipe.options, revision, digest)


def load_trained_weights(trained: Trained, recipe: Recipe, folder: Path) -> None:
    """Copy the trained tensors of `folder` into a model with the recipe's method attached."""
    method_named(recipe.method).load_weights(trained, folder)


def load_trained(model: PreTrainedModel, folder: Path) -> Trained:
    """Attach the trained tensors of `folder`, of any method, to `model`."""
    return method_named(read_trained_files(folder).method).load(model, folder)
