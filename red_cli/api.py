"""Public functions that use rooms above `edit`."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from red_cli.base_model.digest import require_unchanged_base
from red_cli.edit import adapter
from red_cli.edit.adapter_config import read_adapter_config, require_same_base
from red_cli.edit.attach import DEFAULT


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
        require_unchanged_base(
            model.config._name_or_path, revision, config.base_digest, Path(folder),
            "Load the unchanged base: from_pretrained(FOLDER), or with its revision.",
        )  # fmt: skip
    return adapter.load_adapter(model, folder, name)
