"""What `red eval` and `red export` are pointed at: a run folder, an adapter folder, or an exported model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from red_cli.edit.kinds import KINDS
from red_cli.errors import UserError
from red_cli.methods.table import is_trained_folder, load_trained, read_trained_files
from red_cli.recipe.keys import values_of
from red_cli.recipe.load import load_trained_recipe
from red_cli.recipe.overrides import named_keys, named_with_role
from red_cli.recipe.roles import ROWS, TRAINED
from red_cli.recipe.schema import Recipe, is_regression
from red_cli.base_model.config import load_config
from red_cli.base_model.load import load_base
from red_cli.base_model.prepare import prepare
from red_cli.base_model.record import require_unchanged_base
from red_cli.runs.consent import OpenedRecipe, open_recipe
from red_cli.runs.folder import RECIPE_FILE, RunFolder
from red_cli.tasks.base import Base, Task
from red_cli.tasks.build import build_task


@dataclass(frozen=True)
class Target:
    """A trained model on disk, and the recipe that says what it is for.

    Attributes:
        folder: what was named.
        adapter: the adapter folder, or None where the weights of `folder` are complete.
        label_names: those the model was trained with; None for regression.
        same_rows: the recipe is the run's own, with the data and splits that it was trained with.
    """

    folder: Path
    recipe: Recipe
    adapter: Path | None
    label_names: list[str] | None
    same_rows: bool


def open_target(folder: Path, recipe_name: str | None, overrides: Sequence[str]) -> Target:
    """Find out what `folder` is.

    Raises:
        UserError: it is none of the three, the run has no adapter yet, an adapter comes without a recipe, or an
            override would change what is trained already; or the folder asks for Python code to run.
    """
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder}", hint="Give a run folder, an adapter folder or an exported model.")
    if late := named_with_role(overrides, TRAINED):
        raise UserError(f"{late[0]} has no effect any more: {folder} is trained already")
    if is_trained_folder(folder):
        return _open_adapter(folder, recipe_name, overrides)
    if recipe_name is None and not (folder / RECIPE_FILE).is_file():
        raise UserError(
            f"{folder} is not a run folder: it has no {RECIPE_FILE}",
            hint="For any other model name a recipe: red eval FOLDER --recipe RECIPE",
        )
    opened, same_rows = _read_recipe(folder / RECIPE_FILE, recipe_name, overrides)
    recipe = opened.recipe
    if (folder / "config.json").is_file():
        recipe = _with_base(recipe, str(folder.resolve()), None)
        opened.require_consent(recipe.model)
        names = load_config(recipe.model).id2label
        labels = None if is_regression(recipe) else [str(names[index]) for index in sorted(names)]
        return Target(folder, recipe, None, labels, same_rows)
    adapter = RunFolder(folder).adapter
    if not is_trained_folder(adapter):
        raise UserError(f"{folder} has no adapter yet", hint="The run has not reached its first evaluation.")
    opened.require_consent(recipe.model)
    labels = None if is_regression(recipe) else read_trained_files(adapter).label_names
    return Target(folder, recipe, adapter, labels, same_rows)


@dataclass(frozen=True)
class Opened:
    """A target's task and base; everything but the weights."""

    target: Target
    task: Task
    base: Base


def open_task(target: Target) -> Opened:
    """What `target` is for, with nothing of its data read and no weights loaded.

    Raises:
        UserError: the configuration or the tokenizer cannot be had, or the task is not one for this kind of model.
    """
    config = load_config(target.recipe.model)
    task = build_task(target.recipe, config, target.label_names)
    if target.adapter is not None:
        trained_as = read_trained_files(target.adapter).task_type
        if trained_as != task.kind.task_type and trained_as in [kind.task_type for kind in KINDS]:
            raise UserError(
                f"{target.adapter} was trained for another kind of task: {trained_as}, not {task.kind.task_type}"
            )
    return Opened(target, task, prepare(config, target.recipe, task.kind, target.label_names))


def load_model(opened: Opened) -> PreTrainedModel:
    """The model, with its edits attached where it has an adapter, in evaluation mode.

    Raises:
        UserError: the base or the adapter cannot be loaded or do not fit, or the base has changed since the training.
    """
    target = opened.target
    model, _ = load_base(target.recipe.model, opened.base.config, opened.task.kind, target.recipe.train.seed)
    if target.adapter is not None:
        base = target.recipe.model
        digest = read_trained_files(target.adapter).base_digest
        load_trained(model, target.adapter)  # first: of another architecture it says more
        require_unchanged_base(base.name_or_path, base.revision, digest, target.adapter)
    return model.eval()


def _open_adapter(folder: Path, recipe_name: str | None, overrides: Sequence[str]) -> Target:
    adapter = read_trained_files(folder)
    near = [place / RECIPE_FILE for place in (folder, folder.resolve().parent)]
    own = next((file for file in near if file.is_file()), near[0])
    if recipe_name is None and not own.is_file():
        raise UserError(f"{folder} is an adapter without a recipe", hint=f"Name one: red eval {folder} --recipe RECIPE")
    opened, same_rows = _read_recipe(own, recipe_name, overrides)
    recipe = opened.recipe.model_copy(update={"method": adapter.method})
    if all(named.key != "model.name_or_path" for named in named_keys(overrides)):
        recipe = _with_base(recipe, adapter.base_model_name_or_path, adapter.revision)
    opened.require_consent(recipe.model)
    regression = is_regression(recipe)
    if adapter.head and regression != (len(adapter.label_names or ()) == 1):
        raise UserError(f"{folder} was trained for another kind of task than {recipe_name or own}")
    return Target(folder, recipe, folder, None if regression else adapter.label_names, same_rows)


def _read_recipe(own: Path, recipe_name: str | None, overrides: Sequence[str]) -> tuple[OpenedRecipe, bool]:
    """The recipe that is named, else the run's own, with `overrides`; and whether it means the run's own rows."""
    opened = open_recipe(recipe_name, own, overrides)
    if recipe_name is not None:
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
