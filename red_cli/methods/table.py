"""The one table of methods, and what is asked of a method by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from red_cli.edit.adapter_config import BaseDigest
from red_cli.methods import peft_adapters, red, weights
from red_cli.methods.trained import Trained
from red_cli.methods.trained_files import read_trained_files
from red_cli.recipe.schema import MethodName, Recipe


@dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
        options: the part of a recipe that belongs to it.
        attach: puts it on a model, given those options and the names of the head's parameters.
        save: writes what was trained to a folder.
        load: attaches what a folder holds to a model.
        load_weights: copies what a folder holds into a model with the method on it.
        require: checks that the packages it needs are there.
    """

    options: Callable[[Recipe], Any]
    attach: Callable[[PreTrainedModel, Any, list[str]], Trained]
    save: Callable[[Trained, Path, Any, str | None, BaseDigest | None], None]
    load: Callable[[PreTrainedModel, Path], Trained]
    load_weights: Callable[[Trained, Path], None]
    require: Callable[[], None] = lambda: None


METHODS: dict[MethodName, Method] = {
    "red": Method(
        lambda recipe: recipe.red,
        red.attach_red, red.save_red, red.load_red, red.load_red_weights,
    ),
    "full": Method(
        lambda recipe: None,
        weights.attach_full, weights.save_full, weights.load_full, weights.load_weights,
    ),
    "head": Method(
        lambda recipe: None,
        weights.attach_head, weights.save_head, weights.load_head, weights.load_weights,
    ),
    "bitfit": Method(
        lambda recipe: None,
        weights.attach_bitfit, weights.save_bitfit, weights.load_bitfit, weights.load_weights,
    ),
    "lora": Method(
        lambda recipe: recipe.lora,
        peft_adapters.attach_lora, peft_adapters.save_lora, peft_adapters.load_lora, peft_adapters.load_weights,
        require=lambda: peft_adapters.require_peft("lora"),
    ),
    "ia3": Method(
        lambda recipe: recipe.ia3,
        peft_adapters.attach_ia3, peft_adapters.save_ia3, peft_adapters.load_ia3, peft_adapters.load_weights,
        require=lambda: peft_adapters.require_peft("ia3"),
    ),
}  # fmt: skip


def attach_method(model: PreTrainedModel, recipe: Recipe, head: list[str]) -> Trained:
    """Put the recipe's method on `model`; everything else is frozen.

    Raises:
        UserError: it does not fit the model, or a package is missing.
    """
    method = METHODS[recipe.method]
    return method.attach(model, method.options(recipe), head)


def save_trained(
    trained: Trained, recipe: Recipe, folder: Path, revision: str | None, digest: BaseDigest | None
) -> None:
    """Write what was trained to `folder`, each file whole or not at all; `revision` and `digest` are the base's."""
    method = METHODS[recipe.method]
    method.save(trained, folder, method.options(recipe), revision, digest)


def load_trained_weights(trained: Trained, recipe: Recipe, folder: Path) -> None:
    """Copy what `folder` holds into a model with the recipe's method on it."""
    METHODS[recipe.method].load_weights(trained, folder)


def load_trained(model: PreTrainedModel, folder: Path) -> Trained:
    """Attach to `model` whatever method's tensors `folder` holds."""
    return METHODS[read_trained_files(folder).method].load(model, folder)
