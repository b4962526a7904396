"""Recipe -> task."""

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
    """The task that the recipe names, for a base of this configuration, with nothing of its data read yet.

    `label_names` are those a trained model knows.

    Raises:
        UserError: the base is of a kind that the task cannot be trained with.
    """
    if recipe.train.packing:
        require_packing(config)
    return BUILDERS[type(recipe.task)](recipe, recipe.task, config, label_names)
