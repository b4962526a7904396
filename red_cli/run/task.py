"""The task of a recipe, where the base has a say in it."""

from __future__ import annotations

from red_cli.recipe.schema import Recipe
from red_cli.run.base_model import load_own_config
from red_cli.tasks.base import Task
from red_cli.tasks.build import build_task


def recipe_task(recipe: Recipe, label_names: list[str] | None = None) -> Task:
    """The task, with the rows that the paper's code takes for this kind of base where the recipe asks for them.

    Raises:
        UserError: the base's configuration cannot be read.
    """
    encoder_decoder = recipe.eval.split == "paper" and bool(load_own_config(recipe.model).is_encoder_decoder)
    return build_task(recipe, label_names, encoder_decoder)
