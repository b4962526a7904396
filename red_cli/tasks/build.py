"""Build the task of a recipe."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from transformers import PretrainedConfig

from red_cli.recipe.schema import Recipe
from red_cli.tasks import presets
from red_cli.tasks.base import BUILDERS, Task
from red_cli.tasks.text.packing import require_packing

for _module in pkgutil.iter_modules(presets.__path__):  # each registers its builder
    import_module(f"{presets.__name__}.{_module.name}")


def build_task(recipe: Recipe, config: PretrainedConfig, label_names: list[str] | None = None) -> Task:
    """Build the recipe's task for a base of this configuration; no data is read.

    Args:
        label_names: those of a trained model; None before training.

    Raises:
        UserError: the task cannot be trained with this kind of base.
    """
    if recipe.train.packing:
        require_packing(config)
    return BUILDERS[type(recipe.task)](recipe, recipe.task, config, label_names)
