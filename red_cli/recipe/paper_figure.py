"""Whether the paper's figures in a recipe are of what it trains."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from red_cli.recipe.paper import RED, red_method
from red_cli.recipe.schema import Recipe


def paper_figure(recipe: Recipe) -> dict[str, Any] | None:
    """The paper's figure; None where the recipe has none, or trains another base, task or method than the paper."""
    if recipe.paper is None or paper_mismatch(recipe) is not None:
        return None
    return recipe.paper.model_dump(exclude_none=True)


def paper_mismatch(recipe: Recipe) -> str | None:
    """Why the figures in a recipe are not of what it trains: the first of task, base and method that differs."""
    paper = recipe.paper
    if paper is None:
        return None
    base = PurePath(recipe.model.name_or_path).name
    if paper.task not in (None, recipe.task.title):
        return f"the task is {recipe.task.title}, the paper's is {paper.task}"
    if base != paper.model:
        return f"the base is {base}, the paper's is {paper.model}"
    if not recipe.method_spec.edits or paper.method not in (None, red_method(recipe.red)):
        return f"the edits are not those of the paper's {paper.method or RED}"
    return None
