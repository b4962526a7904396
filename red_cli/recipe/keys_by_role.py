"""Walk the schema: all keys of a recipe, their roles, and the values of the keys of given roles."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from red_cli.recipe.roles import FIRST_VERSION, SAME_RUN, LocalPath, Role, Since, Text
from red_cli.recipe.schema import Recipe

_Marker = TypeVar("_Marker", Role, LocalPath, Text, Since)


@dataclass(frozen=True)
class Key:
    """A key of the schema.

    Attributes:
        path: dotted, such as train.seed.
        role: of the key or of its section; None for a section whose keys have different roles.
        is_section: whether it contains keys.
        may_be_empty: whether the key, or its section, may have an empty text as value.
        since: the version of red that introduced it, such as 0.2.
    """

    path: str
    role: Role | None
    local_path: LocalPath | None
    is_section: bool
    may_be_empty: bool
    since: str


def walk(model: type[BaseModel], parent: Key | None = None) -> Iterator[Key]:
    """Yield the keys of a model, sections before their keys; a key in several branches of a union comes repeatedly."""
    for name, field in model.model_fields.items():
        sections = _sections(field)
        key = Key(
            path=name if parent is None else f"{parent.path}.{name}",
            role=_marker(field, Role) or (parent.role if parent else None),
            local_path=_marker(field, LocalPath),
            is_section=bool(sections),
            may_be_empty=_marker(field, Text) is not None or (parent is not None and parent.may_be_empty),
            since=_since(model, field, parent),
        )
        yield key
        for section in sections:
            yield from walk(section, key)


def _since(model: type[BaseModel], field: FieldInfo, parent: Key | None) -> str:
    """The version that introduced a key of the schema: by its own mark, or that of the sections around it."""
    own = _marker(field, Since) or getattr(model, "since", None)
    if own is not None:
        return own.version
    return FIRST_VERSION.version if parent is None else parent.since


def _marker(field: FieldInfo, kind: type[_Marker]) -> _Marker | None:
    """The marker of this kind that the walk of the schema finds at a key, such as its role; None if none."""
    return next((marker for marker in field.metadata if isinstance(marker, kind)), None)


def _sections(field: FieldInfo) -> list[type[BaseModel]]:
    """The sections that a field of the schema can hold: the models in its annotation."""
    candidates = (field.annotation, *get_args(field.annotation))
    return [kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel)]


@cache
def recipe_keys() -> dict[str, Key]:
    """Dotted path -> key, for every key of a recipe."""
    keys: dict[str, Key] = {}
    for key in walk(Recipe):
        keys.setdefault(key.path, key)
    return keys


def key_paths() -> list[str]:
    """Every key of a recipe as a dotted path."""
    return list(recipe_keys())


def key_at(path: str) -> Key | None:
    """The key at a dotted path, or the innermost known key around it; None if there is neither."""
    while path and path not in recipe_keys():
        path = path.rpartition(".")[0]
    return recipe_keys().get(path)


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
