"""The learning rates of bundled recipes and their bases: whether a recipe's rate was chosen for its base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from red_cli.errors import UserError
from red_cli.formatting import some_of
from red_cli.recipe.bundled_recipes import recipe_folder, recipe_names
from red_cli.recipe.load import LoadedRecipe
from red_cli.recipe.schema import Recipe
from red_cli.recipe.sources import merge_sources, read_sources

_RATE = ("train", "learning_rate")
_FROM_COMMAND = "command line"


def unsearched_rate(loaded: LoadedRecipe) -> str | None:
    """Why the learning rate of a recipe may not fit its base: it is a bundled recipe's, for other bases.

    None if it is relative to the base, or the user chose it: on the command line, or in a file of their own with a
    value of their own.
    """
    recipe, rate = loaded.recipe, loaded.recipe.train.learning_rate
    origin = loaded.origins.get(_RATE)
    if rate == "auto" or recipe.relative_rates or origin is None or origin.startswith(_FROM_COMMAND):
        return None
    fits = recipe.method_spec.relative_rate is not None
    advice = f"Try {rate_advice(recipe)}{'' if fits else ', which searches one'}."
    for name in dict.fromkeys((loaded.name, recipe.task.name, *_named_in(origin))):
        if name not in recipe_names():
            continue
        bases = {PurePath(shipped).name for found, shipped in shipped_rates(name) if found == rate}
        if bases and PurePath(recipe.model.name_or_path).name not in bases:
            theirs = f"the recipe {name}'s for {some_of(sorted(bases))}"
            return f"The learning rate {rate:g} is {theirs}, not for this base. {advice}"
    return None


def rate_advice(recipe: Recipe) -> str:
    """The learning rate to try instead of the recipe's: one for its base, or another than that."""
    usual = recipe.method_spec.relative_rate
    if recipe.relative_rates:
        return "another train.learning_rate" if recipe.train.learning_rate == usual else "train.learning_rate=auto"
    return "train.learning_rate=auto" if usual is None else "train.rates=relative train.learning_rate=auto"


def shipped_rates(name: str) -> Iterator[tuple[float, str]]:
    """The learning rate and the base of a bundled recipe, and of each of its variants."""
    try:
        data = merge_sources(read_sources(recipe_folder() / f"{name}.yaml"))[0].data
    except UserError:
        return
    for part in ({}, *(data.get("variants") or {}).values()):
        rate, base = _value(part, data, *_RATE), _value(part, data, "model", "name_or_path")
        if isinstance(rate, int | float) and isinstance(base, str):
            yield float(rate), base


def _named_in(origin: str) -> list[str]:
    """The bundled recipe that the origin of a learning rate names; an empty list if it names none."""
    path = PurePath(origin.rpartition(", line")[0])
    return [path.stem] if path.parent == recipe_folder() else []


def _value(part: Any, whole: Mapping[str, Any], section: str, key: str) -> Any:
    """The value of a key in a variant, or else in the recipe."""
    for source in (part, whole):
        found = source.get(section) if isinstance(source, Mapping) else None
        if isinstance(found, Mapping) and key in found:
            return found[key]
    return None
