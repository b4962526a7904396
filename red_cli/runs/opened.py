"""Open a run, an adapter or an exported model, with the recipe that says what it is for. Without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from red_cli.errors import UserError
from red_cli.methods.trained_files import read_trained_files
from red_cli.recipe.keys import values_of
from red_cli.recipe.load import load_trained_recipe
from red_cli.recipe.overrides import named_keys, named_with_role
from red_cli.recipe.roles import ROWS, TRAINED
from red_cli.recipe.schema import Recipe
from red_cli.runs.consent import OpenedRecipe, is_consent, open_recipe
from red_cli.runs.folder import RunFolder
from red_cli.runs.folder_kind import RECIPE_FILE, is_trained_folder, not_trained, require_kind


@dataclass(frozen=True)
class Opened:
    """A trained model on disk, and the recipe that says what it is for.

    Attributes:
        folder: the folder that was named.
        adapter: the folder of the trained tensors; None where the weights of `folder` are complete.
        opened_recipe: the recipe in the folder, or the one that was named; None for an adapter that has none.
        same_rows: whether the recipe is the run's own, with the data and splits that it was trained with.
    """

    folder: Path
    adapter: Path | None
    opened_recipe: OpenedRecipe | None
    same_rows: bool

    @property
    def recipe(self) -> Recipe:
        """The recipe, with the base that the model belongs to.

        Raises:
            UserError: the folder has no recipe.
        """
        assert self.opened_recipe is not None
        return self.opened_recipe.recipe

    def require_consent(self) -> None:
        """Refuse a recipe in the folder that asks for Python code of the base to run.

        Raises:
            UserError: it does, there is such code, and the user has not allowed it.
        """
        recipe = self.recipe
        if self.opened_recipe is not None:
            self.opened_recipe.require_consent(recipe.model)


class Run(Opened):
    """A run folder, finished or not; its adapter exists from the first evaluation on."""


@dataclass(frozen=True)
class Adapter(Opened):
    """A folder of trained tensors.

    Attributes:
        base_is_named: whether an override names the base.
    """

    base_is_named: bool

    @property
    def recipe(self) -> Recipe:
        if self.opened_recipe is None:
            hint = f"Name one: red eval {self.folder} --recipe RECIPE"
            raise UserError("not-a-run", f"{self.folder} is an adapter without a recipe", hint=hint)
        files = read_trained_files(self.folder)
        recipe = self.opened_recipe.recipe.model_copy(update={"method": files.method})
        return recipe if self.base_is_named else _with_base(recipe, files.base_model_name_or_path, files.revision)


class ExportedModel(Opened):
    """A model with complete weights: an export, or any other that a recipe is named for."""

    @property
    def recipe(self) -> Recipe:
        if self.opened_recipe is None:
            raise not_trained(self.folder)
        return _with_base(self.opened_recipe.recipe, str(self.folder.resolve()), None)


def open_trained(path: Path, recipe: str | None = None, overrides: Sequence[str] = ()) -> Run | Adapter | ExportedModel:
    """Open a folder with a trained model.

    Args:
        recipe: names a recipe to use instead of the one in the folder.
        overrides: of the recipe, as KEY=VALUE.

    Raises:
        UserError: the folder is something else, or its recipe cannot be used.
    """
    kind = require_kind(path, recipe)
    near = [path / RECIPE_FILE, *([path.resolve().parent / RECIPE_FILE] if kind == "adapter" else [])]
    own = next((file for file in near if file.is_file()), None)
    opened, same_rows = (None, False) if recipe is None and own is None else _read_recipe(own, recipe, overrides)
    if kind == "adapter":
        named = any(named.key == "model.name_or_path" for named in named_keys(overrides))
        return Adapter(path, path, opened, same_rows, named)
    if kind == "exported model":
        return ExportedModel(path, None, opened, same_rows)
    return Run(path, RunFolder(path).adapter, opened, same_rows)


def open_for_inference(path: Path, recipe: str | None, overrides: Sequence[str]) -> Run | Adapter | ExportedModel:
    """Open a folder whose model is to answer. The arguments are those of `open_trained`.

    Raises:
        UserError: as there; or the model has no adapter yet or no recipe, or an override would change what is trained.
    """
    if path.is_dir() and (late := named_with_role(overrides, TRAINED)):
        raise UserError("invalid-option", f"{late[0]} has no effect any more: {path} is trained already")
    opened = open_trained(path, recipe, overrides)
    require_adapter(opened)
    _ = opened.recipe
    return opened


def evaluation_folder(folder: Path, overrides: Sequence[str]) -> Path:
    """Where an evaluation writes: the folder that is scored, or, where anything was changed, a new one inside it."""
    if all(is_consent(override) for override in overrides):
        return folder
    RunFolder(folder).require_own_folders()
    number = 1
    while (folder / "evaluations" / str(number)).exists():
        number += 1
    return folder / "evaluations" / str(number)


def require_adapter(opened: Opened) -> None:
    """Refuse a run that has not saved anything yet.

    Raises:
        UserError: it has no adapter.
    """
    if opened.adapter is not None and not is_trained_folder(opened.adapter):
        raise UserError(
            "run-unfinished",
            f"{opened.folder} has no adapter yet",
            hint="The run has not reached its first evaluation.",
        )


def _read_recipe(own: Path | None, named: str | None, overrides: Sequence[str]) -> tuple[OpenedRecipe, bool]:
    """The recipe, and whether it means the rows that the run was trained with."""
    opened = open_recipe(named, own, overrides)
    if named is not None or own is None:
        return opened, False
    if not overrides:
        return opened, True
    try:
        before = load_trained_recipe(own).recipe
    except UserError:  # a file that only the overrides make readable
        return opened, False
    return opened, values_of(before, ROWS) == values_of(opened.recipe, ROWS)


def _with_base(recipe: Recipe, name: str, revision: str | None) -> Recipe:
    model = recipe.model.model_copy(update={"name_or_path": name, "revision": revision})
    return recipe.model_copy(update={"model": model})
