"""Public functions that use rooms above `edit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedModel

from red_cli.base_model.digest import require_same_digest
from red_cli.base_model.hub import require_local_base
from red_cli.edit import load_adapters
from red_cli.edit.adapter_config import AdapterConfig, read_adapter_config
from red_cli.edit.attach import DEFAULT
from red_cli.edit.model_kinds import HEAD_TASK_TYPES, KINDS
from red_cli.edit.recorded_base import require_same_base
from red_cli.errors import UserError
from red_cli.export.transformers_classes import auto_class


def load_adapter(model: PreTrainedModel, folder: str | Path, name: str = DEFAULT) -> list[str]:
    """Attach the adapter in `folder` to `model` under `name` and make it the active one.

    Keys, shapes and dtypes must match exactly; otherwise an error is raised and the model is unchanged. If the files
    that the model was loaded from are available, they are compared with those that the adapter was trained on.

    Returns:
        The paths of the edited modules.

    Raises:
        UserError: files are missing or damaged; the base has another architecture, width or vocabulary, or its
            configuration, weights or tokenizer changed since the training; a key is missing, unexpected or of another
            shape; or a value is not finite.
    """
    config = read_adapter_config(folder)
    require_same_base(model, config, Path(folder))
    revision = getattr(model.config, "_commit_hash", None)
    if model.config._name_or_path:  # empty for a model that was not loaded from files
        require_same_digest(
            model.config._name_or_path, revision, config.base_digest, Path(folder),
            "Load the unchanged base: from_pretrained(FOLDER), or with its revision.",
        )  # fmt: skip
    return load_adapters.load_adapter(model, folder, name)


def load(folder: str | Path, base: str | Path | None = None, **options: Any) -> PreTrainedModel:
    """Load the base of the adapter in `folder`, in the class that it was trained in, with the adapter.

    Args:
        folder: what `save_adapter`, `save_pretrained`, Trainer or `red train` wrote.
        base: a folder or a name on the Hub, where the base is not found by its recorded name.
        options: of transformers' `from_pretrained`, such as `dtype` or `device_map`.

    Returns:
        The model in evaluation mode, the adapter active and trainable.

    Raises:
        UserError: there is no adapter or no base, or `load_adapter` refuses them.
    """
    if not Path(folder).is_dir():
        hint = f"Download one from the Hub first: red_cli.load(huggingface_hub.snapshot_download({str(folder)!r}))"
        raise UserError("folder-not-found", f"no such folder: {folder}", hint=hint)
    config = read_adapter_config(folder)
    name = config.base_model_name_or_path if base is None else str(base)
    try:
        require_local_base(name)
    except UserError as error:
        raise UserError(error.code, error.message, hint=f"Name it: red_cli.load({str(folder)!r}, base=…)") from None
    labels = config.label_names and {
        "id2label": dict(enumerate(config.label_names)),
        "label2id": {label: index for index, label in enumerate(config.label_names)},
    }
    try:
        model = _class_of(config).from_pretrained(
            name,
            **{"revision": config.revision if base is None else None, **(labels or {})},
            # a base with a head for other labels: that of the adapter replaces it
            **{"ignore_mismatched_sizes": bool(config.head), **options},
        )
    except ValueError as error:
        if "trust_remote_code" not in str(error):
            raise
        raise UserError(
            "code-not-allowed", f"{name} needs its own Python code", hint="Allow it: trust_remote_code=True"
        ) from None
    if config.architecture not in (None, type(model).__name__):
        raise UserError(
            "base-mismatch",
            f"{folder} was trained in the class {config.architecture}; the base loads as {type(model).__name__}",
            hint="If the base brings that class: red_cli.load(…, trust_remote_code=True). Or load the base in it "
            f"yourself, then: red_cli.load_adapter(model, {str(folder)!r})",
        )
    load_adapter(model, folder)
    return model.eval()


def train_recipe(recipe: str | Path, *overrides: str, variant: str | None = None) -> dict[str, Any]:
    """Train a recipe in this process, or resume its run, as `red train` does; a finished run is not trained again.

    Lines of progress go to standard error. Only the command starts several processes.

    Args:
        recipe: a recipe by name, or a YAML file.
        overrides: KEY=VALUE, as on the command line.
        variant: one of the recipe's variants.

    Returns:
        The content of metrics.json, and the run folder's path under "folder".

    Raises:
        UserError: the recipe, data, base or folder cannot be used; nothing has been trained.
        RunFailed: the loss is not finite, or not even one row fits into memory.
        Interrupted: the user stopped the run; a checkpoint is saved.
    """
    from red_cli.console import silenced_libraries
    from red_cli.progress import Terminal
    from red_cli.recipe.load import load_recipe
    from red_cli.train.loop import train
    from red_cli.train.resume import finished_result, require_new_or_resumable_folder

    loaded = load_recipe(str(recipe), variant, list(overrides))
    if (result := finished_result(loaded)) is not None:
        return result
    require_new_or_resumable_folder(loaded)
    with silenced_libraries(), Terminal() as terminal:
        return train(loaded, terminal)


def _class_of(config: AdapterConfig) -> Any:
    """The class of an adapter's model; the auto class that loads it where it is not one of transformers."""
    found = getattr(transformers, config.architecture or "", None)
    if isinstance(found, type) and issubclass(found, PreTrainedModel) and found is not PreTrainedModel:
        return found
    kinds = [kind.auto_class for kind in KINDS if kind.task_type == config.task_type]
    if kinds:
        return kinds[0]
    ends = {task_type: end for end, task_type in HEAD_TASK_TYPES.items()}
    return getattr(transformers, auto_class(ends.get(config.task_type, config.architecture or "")))
