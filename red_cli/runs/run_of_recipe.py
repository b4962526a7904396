"""Find the run of a recipe that is named where a run is expected, and runs with similar names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from red_cli.errors import UserError, nearest
from red_cli.formatting import some_of
from red_cli.recipe.bundled_recipes import recipe_names
from red_cli.recipe.roles import TRAINED, Role
from red_cli.runs.folder_kind import folder_kind

_RECIPES = (".yaml", ".yml")


def run_of(target: Path, overrides: Sequence[str]) -> tuple[Path, list[str]]:
    """Find the run of a recipe that `target` names in a run's place, and the overrides that remain for it.

    A file inside such a folder means the folder. A recipe means its run folder, which overrides of the training
    (`train.seed=43`) and `output.dir` choose. Anything else is returned unchanged.

    Raises:
        UserError: the recipe has faults, or has not been trained.
    """
    if target.is_file() and folder_kind(target.parent) is not None:
        return target.parent, list(overrides)
    is_file = target.suffix in _RECIPES and target.is_file()
    if not is_file and (target.exists() or str(target) not in recipe_names()):
        return target, list(overrides)
    from red_cli.recipe.keys_by_role import overrides_with_role
    from red_cli.recipe.load import load_recipe  # the schema, which a wrong name does not need

    choosing = [override for override in overrides if overrides_with_role([override], TRAINED | {Role.OUTPUT})]
    folder = load_recipe(str(target), None, choosing).run_folder
    if folder_kind(folder) is not None:
        return folder, [override for override in overrides if override not in choosing]
    others = sorted(str(path) for path in folder.parent.glob(f"{target.stem}-*") if folder_kind(path) is not None)
    trained = f"Its other runs: {some_of(others)}. " if others else ""
    train = " ".join(["red train", str(target), *choosing])
    raise UserError(
        "folder-not-found",
        f"{target} is a recipe, and its run folder {folder} does not exist",
        hint=f"{trained}To train it: {train}",
    )


def similar_runs(path: Path) -> list[str]:
    """The runs of a recipe, or with similar names, that a path may mean: those inside it, else those next to it."""
    if path.is_dir():
        return [str(inner) for inner in sorted(path.iterdir()) if inner.is_dir() and folder_kind(inner) is not None]
    places = [path.parent, *([Path("runs")] if path.parent == Path() else [])]
    known = {
        inner.name: str(inner) for place in places if place.is_dir() for inner in place.iterdir() if inner.is_dir()
    }
    return [known[name] for name in nearest(path.name, known, most=3) if folder_kind(Path(known[name])) is not None]
