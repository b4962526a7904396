"""Local paths in a recipe: relative ones start at the recipe file's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from red_cli.recipe.keys import recipe_keys
from red_cli.recipe.roles import LocalPath
from red_cli.recipe.tasks.instruction import is_template_file


def anchor_paths(data: dict[str, Any], folder: Path) -> None:
    """Make relative local paths in a part of a recipe start at `folder`; names that are no local path stay as they are.

    Those of a recipe file start at the file's folder, those on the command line where you are.
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
        anchored = (folder / expanded(text)).resolve()
        hub_name = kind is LocalPath.OR_HUB_NAME and not text.startswith(".") and not anchored.exists()
    except (OSError, ValueError, RuntimeError):  # no path at all; what reads it will say so
        return text
    return text if hub_name else str(anchored)


def expanded(text: str) -> Path:
    """A path with `~` taken for the home folder, where there is such a user."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)
