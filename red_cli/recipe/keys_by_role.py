"""The roles of keys, and the values and overrides of the keys of given roles."""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from typing import Any

from red_cli.recipe.overrides import NamedKey, named_keys
from red_cli.recipe.roles import SAME_RUN, Role
from red_cli.recipe.schema import Recipe, key_at


def role_of(path: str) -> Role | None:
    """The role of a key, by its dotted path; None for unknown keys and mixed sections."""
    key = key_at(path)
    return None if key is None else key.role


def training_keys(recipe: Recipe) -> dict[str, Any]:
    """Dotted path -> value of the keys whose role is to determine the result of training."""
    return values_of(recipe, frozenset(Role) - SAME_RUN)


def values_of(recipe: Recipe, roles: Collection[Role]) -> dict[str, Any]:
    """Dotted path -> value as plain data, of the keys with one of these roles."""
    flat = _flat(recipe.model_dump(mode="json"))
    return {path: value for path, value in flat.items() if role_of(path) in roles}


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Walk nested recipe data: all its keys in dotted form -> their values."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def overrides_with_role(overrides: Sequence[str], roles: Container[Role]) -> list[NamedKey]:
    """The `KEY=VALUE` overrides that set a key with one of these roles."""
    return [named for named in named_keys(overrides) if role_of(named.key) in roles]
