"""Which runs can train together, in one process on one base. Checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from red_cli.distributed.worker_process import expected_processes
from red_cli.errors import UserError
from red_cli.formatting import some_of
from red_cli.recipe.keys_by_role import values_of
from red_cli.recipe.roles import Role
from red_cli.recipe.schema import Recipe

_OPTION = "--together"
_APART = f"Leave out {_OPTION}: the runs then train one after another."
_SAME = ("train.bf16", "train.gradient_checkpointing")  # how the base computes, besides the section model
_STRATEGIES = ("auto", "single")
_TRACKERS = ("tensorboard",)  # that can hold several runs of one process at a time


def require_together(recipes: Mapping[str, Recipe]) -> None:
    """Check that runs can train together: methods that edit a frozen base, one base, one process.

    Args:
        recipes: by the names of the runs.

    Raises:
        UserError: two runs need different bases, a method changes the base or wraps it, a tracker holds one run at a
            time, a run caches its frozen prefix or compiles layers, or there are several processes.
    """
    for name, recipe in recipes.items():
        if not recipe.method_spec.edits:
            title = recipe.method_spec.title
            raise _refusal(f"{name}: {title} cannot share a base with others; edits of RED can", _APART)
        if others := [tracker for tracker in recipe.train.report_to if tracker not in _TRACKERS]:
            raise _refusal(
                f"train.report_to: {some_of(others)} can hold one run of a process at a time",
                f"Take tensorboard, which holds several, or none. {_APART}",
            )
        if recipe.train.cache_prefix:
            raise _refusal(
                "train.cache_prefix: each run would keep a copy of the same states on disk",
                f"train.cache_prefix=false. {_APART}",
            )
        if recipe.train.compile:
            raise _refusal(
                "train.compile: the graphs of layers are made for a single adapter", f"train.compile=false. {_APART}"
            )
    _require_one_process(list(recipes.values()))
    (first, base), *rest = [(name, _base_keys(recipe)) for name, recipe in recipes.items()]
    for name, keys in rest:
        if differing := [key for key in sorted(base.keys() | keys.keys()) if base.get(key) != keys.get(key)]:
            listed = ", ".join(f"{key} {base.get(key)} and {keys.get(key)}" for key in differing)
            raise _refusal(f"{first} and {name} need different bases: {listed}", _APART)


def _base_keys(recipe: Recipe) -> dict[str, Any]:
    """The recipe keys that decide which base is loaded, and how it computes."""
    values = values_of(recipe, frozenset(Role))
    return {key: value for key, value in values.items() if key.startswith("model.") or key in _SAME}


def _require_one_process(recipes: Sequence[Recipe]) -> None:
    """Check that no recipe and no launcher asks for several processes.

    Raises:
        UserError: one of them does.
    """
    for launch in (recipe.launch for recipe in recipes):
        if launch.strategy not in _STRATEGIES:
            raise _refusal(f"launch.strategy={launch.strategy}: runs train together in one process", _APART)
        count = max(expected_processes(), launch.num_processes or 1, launch.num_machines)
        if count > 1:
            raise _refusal(f"runs train together in one process, not {count}", f"launch.num_processes=1. {_APART}")


def _refusal(message: str, hint: str) -> UserError:
    """The error for runs that cannot train together."""
    return UserError("invalid-option", f"{_OPTION}: {message}", hint=hint)
