"""Open a run, an adapter or an exported model with its recipe, or one that is made for it. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from red_cli.base_model.base_files import stored_chat_template
from red_cli.edit.adapter_config import read_adapter_config
from red_cli.errors import UserError
from red_cli.files import ADAPTER_CONFIG_FILE, read_json
from red_cli.methods.trained_description import read_trained_files
from red_cli.recipe.keys_by_role import overrides_with_role, values_of
from red_cli.recipe.load import load_recorded_recipe
from red_cli.recipe.overrides import named_keys
from red_cli.recipe.roles import ROWS, TRAINED
from red_cli.recipe.schema import Recipe
from red_cli.recipe.yaml_file import dump
from red_cli.runs.consent import OpenedRecipe, recipe_with_consent
from red_cli.runs.folder import RunFolder
from red_cli.runs.folder_kind import RECIPE_FILE, is_trained_folder, not_trained, require_kind

_HEAD, _DECODER = "ForSequenceClassification", ("ForCausalLM", "LMHeadModel")
_WRITERS = ("ForConditionalGeneration",)  # of encoder-decoders


@dataclass(frozen=True)
class Opened:
    """A trained model on disk, and its recipe.

    Attributes:
        folder: the folder that the user named.
        adapter: the folder of the trained tensors; None if `folder` holds complete weights.
        opened_recipe: the recipe in the folder, or the one that the user named; None if there is no recipe.
        same_rows: whether the recipe is the run's own, with unchanged data and splits.
    """

    folder: Path
    adapter: Path | None
    opened_recipe: OpenedRecipe | None
    same_rows: bool

    @property
    def recipe(self) -> Recipe:
        """The recipe, with the base of the model.

        Raises:
            UserError: the folder has no recipe.
        """
        assert self.opened_recipe is not None
        return self.opened_recipe.recipe

    @property
    def identity(self) -> str:
        """What an opened model is recognised by: its weight files' names, sizes and times, and the model section."""
        place = self.adapter or self.folder
        files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(place.iterdir())]
        weights = [file for file in files if "safetensors" in file[0]]
        return f"{weights} {self.recipe.model.model_dump_json()}"

    def require_consent(self) -> None:
        """Check that the recipe in the folder does not ask to run Python code of the base.

        Raises:
            UserError: it does, the base has code, and the user has not allowed it.
        """
        recipe = self.recipe
        if self.opened_recipe is not None:
            self.opened_recipe.require_consent(recipe.model)


class OpenedRun(Opened):
    """A run folder, finished or not. Its adapter exists after the first evaluation."""


@dataclass(frozen=True)
class OpenedAdapter(Opened):
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


class OpenedModel(Opened):
    """A model with complete weights: an exported one, or any other with a named recipe."""

    @property
    def recipe(self) -> Recipe:
        if self.opened_recipe is None:
            raise not_trained(self.folder)
        return _with_base(self.opened_recipe.recipe, str(self.folder.resolve()), None)


@dataclass(frozen=True)
class OpenedBase(Opened):
    """An untuned base with a recipe: `folder` takes its results; the head, if it has one, is new.

    Attributes:
        label_names: those of the data; None for numbers and texts.
    """

    label_names: list[str] | None


def open_trained(path: Path, recipe: str | None = None, overrides: Sequence[str] = ()) -> Opened:
    """Open a folder with a trained model: a run, an adapter or an exported model.

    Args:
        recipe: the name of a recipe to use instead of the one in the folder.
        overrides: overrides of the recipe, as KEY=VALUE.

    Raises:
        UserError: the folder is something else, or its recipe cannot be used.
    """
    kind = require_kind(path, recipe)
    near = [path / RECIPE_FILE, *([path.resolve().parent / RECIPE_FILE] if kind == "adapter" else [])]
    own = next((file for file in near if file.is_file()), None)
    opened, same_rows = (None, False) if recipe is None and own is None else _read_recipe(own, recipe, overrides)
    if kind == "adapter":
        named = any(named.key == "model.name_or_path" for named in named_keys(overrides))
        return OpenedAdapter(path, path, opened, same_rows, named)
    if kind == "exported model":
        return OpenedModel(path, None, opened, same_rows)
    return OpenedRun(path, RunFolder(path).adapter, opened, same_rows)


def open_for_inference(path: Path, recipe: str | None, overrides: Sequence[str]) -> Opened:
    """Open a trained model together with its recipe; no override may change training.

    Raises:
        UserError: the folder cannot be opened, has no adapter or recipe, or an override names a key of the training.
    """
    if path.is_dir() and (late := overrides_with_role(overrides, TRAINED)):
        raise UserError("invalid-option", f"{late[0]} has no effect: {path} is already trained")
    opened = open_trained(path, recipe, overrides)
    require_adapter(opened)
    _ = opened.recipe
    return opened


def require_adapter(opened: Opened) -> None:
    """Check that an opened run has saved an adapter.

    Raises:
        UserError: it has not reached its first evaluation.
    """
    if opened.adapter is not None and not is_trained_folder(opened.adapter):
        raise UserError(
            "run-unfinished",
            f"{opened.folder} has no adapter yet",
            hint="The run has not reached its first evaluation.",
        )


def _read_recipe(own: Path | None, named: str | None, overrides: Sequence[str]) -> tuple[OpenedRecipe, bool]:
    """Read the recipe of a folder that is opened; returns it, and whether its data and splits are those of the run."""
    opened = recipe_with_consent(named, own, overrides)
    if named is not None or own is None:
        return opened, False
    if not overrides:
        return opened, True
    try:
        before = load_recorded_recipe(own).recipe
    except UserError:  # the recipe is valid only with the overrides
        return opened, False
    return opened, values_of(before, ROWS) == values_of(opened.recipe, ROWS)


def _with_base(recipe: Recipe, name: str, revision: str | None) -> Recipe:
    """A copy of an opened recipe with another base and revision."""
    model = recipe.model.model_copy(update={"name_or_path": name, "revision": revision})
    return recipe.model_copy(update={"model": model})


def open_with_any_recipe(path: Path, recipe: str | None, overrides: Sequence[str]) -> Opened:
    """Open a trained model as `open_for_inference` does, or by its configuration if it has no recipe.

    Raises:
        UserError: as there; or the configuration does not say what the model predicts.
    """
    kind = require_kind(path, recipe)
    if recipe is not None or kind == "run" or open_trained(path, None, overrides).opened_recipe is not None:
        return open_for_inference(path, recipe, overrides)
    if late := overrides_with_role(overrides, TRAINED):
        raise UserError("invalid-option", f"{late[0]} has no effect: {path} is already trained")
    content = _of_adapter(path) if kind == "adapter" else _of_model(path)
    content["data"] = {"path": str(path.resolve())}  # a recipe names its data, but none are read
    with TemporaryDirectory() as folder:
        file = Path(folder) / RECIPE_FILE
        file.write_text(dump(content), encoding="utf-8")
        made = replace(recipe_with_consent(None, file, overrides), asks=None)
    if kind == "adapter":
        named = any(named.key == "model.name_or_path" for named in named_keys(overrides))
        return OpenedAdapter(path, path, made, False, named)
    return OpenedModel(path, None, made, False)


def _of_model(folder: Path) -> dict[str, Any]:
    """The recipe of a folder that transformers loads: the task by the class of the model."""
    config = read_json(folder / "config.json")
    classes = config.get("architectures") if isinstance(config, dict) else None
    name = str(classes[0]) if isinstance(classes, list) and classes else ""
    if name.endswith(_HEAD):
        labels = config.get("id2label")
        number = config.get("problem_type") == "regression" or (isinstance(labels, dict) and len(labels) == 1)
        task = "regression" if number else "classification"
    elif name.endswith(_DECODER):
        task = "instruction" if stored_chat_template(folder) else "generation"
    elif name.endswith(_WRITERS):
        task = "generation"
    else:
        raise UserError(
            "unsupported-model",
            f"{folder} has no recipe, and its config.json names no model that predicts: {name or 'no architecture'}",
            hint=f"It may name one that ends with {_HEAD}, {_DECODER[0]} or {_WRITERS[0]}; or name a recipe: --recipe "
            "RECIPE",
        )
    return {"task": {"name": task}, "model": {"name_or_path": str(folder.resolve()), "dtype": "auto"}}


def _of_adapter(folder: Path) -> dict[str, Any]:
    """The recipe of an adapter folder: the task by the kind of model and the labels that it names."""
    files = read_trained_files(folder)
    kind, labelled = files.task_type, bool(files.label_names)
    if (folder / ADAPTER_CONFIG_FILE).is_file():
        config = read_adapter_config(folder)
        kind = config.task_type
        labelled &= (config.architecture or _HEAD).endswith(_HEAD)  # tokens and answers have label names too
    if kind == "SEQ_CLS" or labelled:
        task = "regression" if len(files.label_names or ()) == 1 else "classification"
    elif kind == "CAUSAL_LM":
        base = Path(files.base_model_name_or_path)
        task = "instruction" if base.is_dir() and stored_chat_template(base) else "generation"
    elif kind == "SEQ_2_SEQ_LM":
        task = "generation"
    else:
        raise UserError("not-a-run", f"{folder} is an adapter without a recipe", hint="Name one: --recipe RECIPE")
    return {"task": {"name": task}, "model": {"name_or_path": files.base_model_name_or_path}}
