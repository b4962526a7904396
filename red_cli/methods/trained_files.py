"""What a folder of trained tensors says of itself, whatever the method; nothing heavy is imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from red_cli.edit.adapter_config import BaseDigest, read_adapter_config
from red_cli.files import TRAINED_FILE
from red_cli.methods.trained_json import read_stored
from red_cli.recipe.methods import MethodName


@dataclass(frozen=True)
class TrainedFiles:
    """What was trained, and on which base.

    Attributes:
        task_type: of the model that was trained, where the files name it.
    """

    method: MethodName
    base_model_name_or_path: str
    revision: str | None
    head: list[str]
    label_names: list[str] | None
    base_digest: BaseDigest | None
    task_type: str | None = None


def read_trained_files(folder: Path) -> TrainedFiles:
    """Read the description of a folder of trained tensors.

    Raises:
        UserError: the folder has no description, or it is damaged.
    """
    if (folder / TRAINED_FILE).is_file():
        stored = read_stored(folder)
        return TrainedFiles(
            stored.method, stored.base_model_name_or_path, stored.revision, stored.head, stored.label_names,
            stored.base_digest,
        )  # fmt: skip
    adapter = read_adapter_config(folder)
    return TrainedFiles(
        "red", adapter.base_model_name_or_path, adapter.revision, adapter.head, adapter.label_names,
        adapter.base_digest, adapter.task_type,
    )  # fmt: skip
