"""The learning rate of each method in a comparison: as the user or the recipe sets it, else the method's usual one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from red_cli.recipe.load import LoadedRecipe
from red_cli.recipe.overrides import named_keys
from red_cli.recipe.schema import Recipe
from red_cli.runs.preflight import preflight

if TYPE_CHECKING:
    from red_cli.methods.method import Trained

RATE_KEY = "train.learning_rate"
Source = Literal["recipe", "usual", "override", "search", "grid"]


@dataclass(frozen=True)
class RateChoice:
    """Where a method's learning rate comes from, and the override that sets it; empty if the recipe does already."""

    source: Source
    overrides: tuple[str, ...] = ()


def choose_rate(
    given: LoadedRecipe, method: LoadedRecipe, overrides: Sequence[str], varied: Sequence[str]
) -> RateChoice:
    """Choose the learning rate of a method. A rate that the recipe names is meant for the recipe's own method.

    Args:
        given: the recipe without the method's keys.
        method: the recipe with them.
        overrides: those of the command line that apply to the method.
        varied: the keys of its grid.

    Raises:
        UserError: the base does not exist.
    """
    if RATE_KEY in varied:
        return RateChoice("grid")
    if any(named.key == RATE_KEY for named in named_keys(overrides)):
        return RateChoice("override")
    if method.recipe.train.learning_rate == "auto" and ("train", "learning_rate") in given.origins:
        return RateChoice("search")
    if _as_given(given.recipe, method.recipe) and ("train", "learning_rate") in given.origins:
        return RateChoice("recipe")
    return RateChoice("usual", (f"{RATE_KEY}={usual_rate(method.recipe)!r}",))


def _as_given(given: Recipe, method: Recipe) -> bool:
    """Whether a compared method is the recipe's own, so that the learning rate in the recipe is meant for it."""
    same = (given.method, given.options) == (method.method, method.options)
    return same and given.relative_rates == method.relative_rates


def usual_rate(recipe: Recipe) -> float:
    """The learning rate that the runs of a comparison have where none is set.

    Raises:
        UserError: the base does not exist.
    """
    from red_cli.methods.method import method_named  # torch, which checks do not need

    if recipe.relative_rates:
        assert recipe.method_spec.relative_rate is not None
        return recipe.method_spec.relative_rate
    method = method_named(recipe.method)
    if method.rates_of_several is None:
        return method.rates.usual
    preflight(recipe)
    return method.rates_for(without_weights(recipe).modules).usual


def without_weights(recipe: Recipe) -> Trained:
    """The trainable parameters whose learning rates a comparison sets, on a model without weights.

    Raises:
        UserError: the base does not exist, or the method does not fit it.
    """
    from red_cli.base_model.base_dtype import with_base_dtype
    from red_cli.base_model.load import load_config, load_skeleton
    from red_cli.edit.trained_head import head_parameter_names
    from red_cli.methods.attach_save_load import attach_method
    from red_cli.tasks.build import build_task

    config = load_config(recipe.model)
    recipe = with_base_dtype(recipe, config)
    model = load_skeleton(config, recipe.model, build_task(recipe, config).kind)
    return attach_method(model, recipe, head_parameter_names(model))
