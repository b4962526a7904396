"""Make the recipe of a model folder or an adapter folder that has none, from its configuration. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from red_cli.base_model.base_files import stored_chat_template
from red_cli.edit.adapter_config import read_adapter_config
from red_cli.errors import UserError
from red_cli.files import ADAPTER_CONFIG_FILE, read_json
from red_cli.methods.trained_description import read_trained_files
from red_cli.recipe.keys_by_role import overrides_with_role
from red_cli.recipe.overrides import named_keys
from red_cli.recipe.roles import TRAINED
from red_cli.recipe.yaml_file import dump
from red_cli.runs.consent import recipe_with_consent
from red_cli.runs.folder_kind import RECIPE_FILE, require_kind
from red_cli.runs.open_trained import Opened, OpenedAdapter, OpenedModel, open_for_inference, open_trained

_HEAD, _DECODER = "ForSequenceClassification", ("ForCausalLM", "LMHeadModel")
_WRITERS = ("ForConditionalGeneration",)  # of encoder-decoders


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
