"""Read the description of a folder of trained tensors, of any method. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from red_cli.edit.adapter_config import ModelPath, read_adapter_config
from red_cli.edit.recorded_base import BaseDigest, BaseIdentity
from red_cli.errors import UserError
from red_cli.files import TRAINED_FILE, read_json
from red_cli.recipe.methods import METHODS, MethodName


class TrainedConfig(BaseModel):
    """The content of `trained.json`."""

    model_config = ConfigDict(extra="forbid")

    method: MethodName
    options: dict[str, Any]  # the method's section of the recipe
    base_model_name_or_path: str
    revision: str | None = None
    head: list[ModelPath]
    label_names: list[str] | None = None
    base: BaseIdentity
    base_digest: BaseDigest | None = None  # None in files of version 0.1
    weights_file: Annotated[str, Field(pattern=r"^\w+\.safetensors$")]  # in the same folder
    weights_sha256: str
    library_versions: dict[str, str]

    @field_validator("options")
    @classmethod
    def _of_the_method(cls, options: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        spec = METHODS.get(info.data.get("method", ""))
        try:
            if spec is not None and spec.options is not None:
                spec.options.model_validate(options)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from None
        return options


def read_trained_config(folder: Path) -> TrainedConfig:
    """Read `trained.json`.

    Raises:
        UserError: the file is missing, is not JSON, or has a wrong or missing key.
    """
    file = folder / TRAINED_FILE
    content = read_json(file)
    try:
        return TrainedConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError("file-damaged", f"{file}: key {key!r}: {first['msg']}") from None


def trained_method(folder: Path) -> MethodName:
    """The method that trained the tensors in a folder; RED if `trained.json` does not exist."""
    return read_trained_config(folder).method if (folder / TRAINED_FILE).is_file() else "red"


@dataclass(frozen=True)
class TrainedFiles:
    """What was trained, and on which base.

    Attributes:
        task_type: of the trained model, if the files have it.
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
        UserError: the description is missing or damaged.
    """
    if (folder / TRAINED_FILE).is_file():
        stored = read_trained_config(folder)
        return TrainedFiles(
            stored.method, stored.base_model_name_or_path, stored.revision, stored.head, stored.label_names,
            stored.base_digest,
        )  # fmt: skip
    adapter = read_adapter_config(folder)
    return TrainedFiles(
        "red", adapter.base_model_name_or_path, adapter.revision, adapter.head, adapter.label_names,
        adapter.base_digest, adapter.task_type,
    )  # fmt: skip
