"""Find recipes: bundled ones by name, others by path."""

from __future__ import annotations

from pathlib import Path

from red_cli.errors import UserError, nearest

_PACKAGE = Path(__file__).resolve().parent.parent


def recipe_folder() -> Path:
    """The folder of the bundled recipes: inside the wheel, or next to the package in a checkout."""
    inside = _PACKAGE / "recipes"
    return inside if inside.is_dir() else _PACKAGE.parent / "recipes"


def recipe_names() -> list[str]:
    """The names of the bundled recipes."""
    return sorted(path.stem for path in recipe_folder().glob("*.yaml"))


def recipe_title(path: Path) -> str:
    """The first sentence of a recipe's first comment."""
    first = path.read_text(encoding="utf-8").split("\n", 1)[0]
    return first.lstrip("# ").split(". ")[0].rstrip(".") if first.startswith("#") else ""


def find_recipe(name_or_path: str) -> Path:
    """The file of a recipe, given by its path or by the name of a bundled one.

    Raises:
        UserError: the file or name does not exist; the nearest names are shown.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    is_name = path.name == name_or_path and path.suffix == ""
    if is_name and (recipe_folder() / f"{name_or_path}.yaml").is_file():
        return recipe_folder() / f"{name_or_path}.yaml"
    if path.is_dir() and (path / "recipe.yaml").is_file():
        raise UserError("recipe-not-found", f"{name_or_path} is a folder", hint=f"Its recipe is {path / 'recipe.yaml'}")
    base = "A base has a key of its own: model.name_or_path=NAME. "
    if path.is_dir():
        hint = f"{base if (path / 'config.json').is_file() else ''}All names: red recipes"
        raise UserError("recipe-not-found", f"{name_or_path} is a folder without a recipe.yaml", hint=hint)
    kind = "recipe" if is_name else "file"
    recipe, colon, variant = name_or_path.rpartition(":")
    if colon and ((recipe_folder() / f"{recipe}.yaml").is_file() or Path(recipe).is_file()):
        hint = f"A variant has an option of its own: {recipe} --variant {variant}"
        raise UserError("recipe-not-found", f"no such {kind}: {name_or_path}", hint=hint)
    hint = _names_like(path) or (base if is_name else "")
    raise UserError("recipe-not-found", f"no such {kind}: {name_or_path}", hint=f"{hint}All names: red recipes")


def _names_like(path: Path) -> str:
    """The hint with the recipes whose name is similar: files of the same folder, else bundled ones."""
    try:
        files = {file.name: str(file) for file in path.parent.glob("*.y*ml")}
    except OSError:  # not a valid path
        files = {}
    near = [files[name] for name in nearest(path.name, files, cutoff=0.8)] or nearest(path.stem, recipe_names(), most=3)
    return f"Did you mean {' or '.join(near)}? " if near else ""


def is_bundled_name(name: str) -> bool:
    """Whether the value of `extends` names a bundled recipe rather than a file."""
    return Path(name).name == name and Path(name).suffix == ""
