"""Load adapters into a model: the trained vectors, and the trained head."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from red_cli.edit.adapter_config import CONFIG_FILE, WEIGHTS_FILE, read_adapter_config, require_same_modules
from red_cli.edit.attach import DEFAULT, attach, detach
from red_cli.edit.recorded_base import require_same_base
from red_cli.edit.save import adapter_tensors as adapter_tensors
from red_cli.edit.save import parameters_to_save
from red_cli.edit.save import save_adapter as save_adapter
from red_cli.edit.tensor_file import copy_into


def load_adapter(model: PreTrainedModel, folder: str | Path, name: str = DEFAULT) -> list[str]:
    """Attach the adapter in `folder` to `model` under `name` and make it the active one.

    Keys, shapes and dtypes must match exactly; otherwise an error is raised and the model is unchanged.

    Returns:
        The paths of the edited modules.

    Raises:
        UserError: a file is missing or damaged; the base has another architecture, width or vocabulary; a key is
            missing, unexpected or of another shape; or a value is not finite.
    """
    folder = Path(folder)
    config = read_adapter_config(folder)
    require_same_base(model, config, folder)
    paths = attach(model, config.red, name, train_head=config.head)
    try:
        require_same_modules(paths, config, folder)
        load_adapter_weights(model, folder)
    except BaseException:
        detach(model, name)
        raise
    return paths


def load_adapter_weights(model: PreTrainedModel, folder: str | Path) -> None:
    """Load the adapter in `folder` into the existing edits and head of `model`; raises what `load_adapter` raises."""
    file = Path(folder) / WEIGHTS_FILE
    copy_into(parameters_to_save(model), file, read_adapter_config(folder).weights_sha256, CONFIG_FILE, "float32")
