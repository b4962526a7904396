"""Copy recipes with the files that they need."""

from __future__ import annotations

import filecmp
import os
import shutil
from pathlib import Path

from red_cli.errors import UserError
from red_cli.recipe.bundled_recipes import find_recipe, is_bundled_name, recipe_folder
from red_cli.recipe.sources import Source, read_sources


def copy_recipe(name: str, folder: Path) -> list[Path]:
    """Copy a recipe to `folder`, with the files that it extends and the files bundled with it.

    Raises:
        UserError: the recipe does not exist or extends a file outside its folder, or a file would be overwritten.
    """
    recipe = find_recipe(name)
    copies = {
        path: folder / place.with_suffix(path.suffix)
        for source, place in _places(read_sources(recipe))
        for path in (source, *_companions(source))
    }
    for path, copy in copies.items():
        if os.path.lexists(copy) and (path == recipe or not _same(path, copy)):
            raise UserError("output-exists", f"{copy} exists", hint="Delete it, or copy to another folder.")
    for path, copy in copies.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        if not copy.exists():
            (shutil.copytree if path.is_dir() else shutil.copyfile)(path, copy)
    return list(copies.values())


def _places(sources: list[Source]) -> list[tuple[Path, Path]]:
    """(file, path in a copy) of the recipe and of the files that it extends by a path, not by a name."""
    recipe = sources[-1].path
    places = [(recipe, Path(recipe.name))]
    for above, source in zip(sources[:0:-1], sources[-2::-1], strict=True):
        if is_bundled_name(above.document.data["extends"]):
            break
        place = Path(os.path.relpath(source.path, recipe.parent))
        if ".." in place.parts:
            where = f"{above.where(('extends',))}: extends"
            raise UserError(
                "path-outside-folder",
                f"{where}: {source.path} is outside the recipe's folder",
                hint="Copy both files yourself.",
            )
        places.append((source.path, place))
    return places


def _companions(path: Path) -> list[Path]:
    """The companion folder of a packaged recipe, which is copied with it; empty if there is none."""
    companion = path.with_suffix("")
    return [companion] if path.resolve().parent == recipe_folder() and companion.is_dir() else []


def _same(path: Path, copy: Path) -> bool:
    """Whether a file of a recipe and its copy have the same content."""
    return path.is_file() and copy.is_file() and filecmp.cmp(path, copy, shallow=False)
