"""Merge parts of a recipe, resolve their local paths, and record where each key was set."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from red_cli.recipe.keys import recipe_keys
from red_cli.recipe.roles import LocalPath
from red_cli.recipe.tasks.instruction import is_template_file
from red_cli.recipe.yaml_file import KeyPath


@dataclass
class Merged:
    """Merged recipe data.

    Attributes:
        origins: key path -> where the key was set, as messages show it.
    """

    data: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)

    def copy(self) -> Merged:
        """A copy, to merge more parts into."""
        return Merged(copy.deepcopy(self.data), dict(self.origins))

    def merge(self, data: dict[str, Any], where: Callable[[KeyPath], str]) -> None:
        """Merge `data` into this: mappings key by key; any other value replaces the earlier one."""
        self._merge(self.data, copy.deepcopy(data), where, ())

    def _merge(
        self, target: dict[str, Any], data: dict[str, Any], where: Callable[[KeyPath], str], prefix: KeyPath
    ) -> None:
        for key, value in data.items():
            path = (*prefix, key)
            self.origins[path] = where(path)
            if isinstance(value, dict) and isinstance(target.get(key), dict):
                self._merge(target[key], value, where, path)
            else:
                target[key] = value
                self.origins.update({inner: where(inner) for inner in _paths_in(value, path)})

    def origin(self, path: KeyPath) -> str:
        """Where a key was given; for an absent one, its section."""
        return origin_of(path, self.origins)


def origin_of(path: KeyPath, origins: Mapping[KeyPath, str]) -> str:
    """Where a key was given; for an absent one, its section."""
    while path and path not in origins:
        path = path[:-1]
    return origins.get(path, "the recipe")


def _paths_in(value: Any, path: KeyPath) -> list[KeyPath]:
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [inner for key, part in parts for inner in ((*path, key), *_paths_in(part, (*path, key)))]


def resolve_paths(data: dict[str, Any], folder: Path) -> None:
    """Make local paths in a part of a recipe absolute; other names stay unchanged.

    Relative paths start at `folder`: that of the recipe file, or the working directory for the command line.
    """
    for key in recipe_keys().values():
        if key.local_path is not None:
            section, _, name = key.path.partition(".")
            values = data.get(section)
            if isinstance(values, dict) and isinstance(values.get(name), str):
                values[name] = _anchored(values[name], key.local_path, folder)


def _anchored(text: str, kind: LocalPath, folder: Path) -> str:
    if not text.strip() or (kind is LocalPath.OR_TEMPLATE and not is_template_file(text)):
        return text
    try:
        anchored = (folder / expand_user(text)).resolve()
        hub_name = kind is LocalPath.OR_HUB_NAME and not text.startswith(".") and not anchored.exists()
    except (OSError, ValueError, RuntimeError):  # not a valid path; its reader reports that
        return text
    return text if hub_name else str(anchored)


def expand_user(text: str) -> Path:
    """A path with `~` expanded; unchanged if the user does not exist."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)
