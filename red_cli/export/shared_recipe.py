"""Remove local paths from files that are shared: each path is replaced by its last part."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from red_cli.recipe.roles import DATA, PLACE, LocalPath
from red_cli.recipe.schema import Key, recipe_keys

_PLACE = [key.path for key in recipe_keys().values() if key.is_section and key.role in PLACE]
# Keys of a recipe that may hold a local path; a resolved recipe holds the text of a template instead
_PATHS = [key for key in recipe_keys().values() if key.local_path not in (None, LocalPath.OR_TEMPLATE)]


def is_local(name_or_path: str) -> bool:
    """Whether a name in the recipe to share is a local path rather than a name on the Hub."""
    return is_absolute(name_or_path) or name_or_path.startswith((".", "~")) or Path(name_or_path).is_dir()


def shared_name(name_or_path: str) -> str:
    """A name on the Hub unchanged; a local path as `./` and its last part, which cannot be a name on the Hub."""
    if not is_local(name_or_path):
        return name_or_path
    flavour = PurePosixPath if "/" in name_or_path else PureWindowsPath
    return f"./{flavour(name_or_path).name}"


def exported_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved recipe to share in an export: without `output`, `launch` and local paths other than the data's."""
    exported = {key: copy.deepcopy(value) for key, value in recipe.items() if key not in _PLACE}
    _shorten(exported, [key for key in _PATHS if key.role not in DATA])
    train = exported.get("train", {})
    if isinstance(train.get("resume_from_checkpoint"), str):
        del train["resume_from_checkpoint"]
    return exported


def shared_recipe(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved recipe to share: without `output`, `launch` and any local path."""
    shared = exported_recipe(recipe)
    _shorten(shared, _PATHS)
    return shared


def _shorten(recipe: dict[str, Any], keys: Iterable[Key]) -> None:
    """Replace absolute paths at these keys of a recipe to share by their last part."""
    for section, key in (key.path.split(".") for key in keys):
        values = recipe.get(section, {})
        if isinstance(values.get(key), str) and is_absolute(values[key]):
            values[key] = shared_name(values[key])


def is_absolute(text: str) -> bool:
    """Whether a text in a shared file is an absolute local path of any system, or starts with a tilde."""
    return PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute() or text.startswith("~")
