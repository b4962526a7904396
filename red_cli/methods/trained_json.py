"""What `trained.json` says of a folder that a method other than RED trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from red_cli.edit.adapter_config import BaseDigest, BaseIdentity, ModelPath
from red_cli.errors import UserError
from red_cli.files import read_json
from red_cli.recipe.methods import METHODS, MethodName

TRAINED_FILE = "trained.json"


class Stored(BaseModel):
    """The content of `trained.json`."""

    model_config = ConfigDict(extra="forbid")

    method: MethodName
    options: dict[str, Any]  # the recipe's section of that method
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


def read_stored(folder: Path) -> Stored:
    """Read `trained.json`.

    Raises:
        UserError: it is missing, not JSON, or lacks a key.
    """
    file = folder / TRAINED_FILE
    content = read_json(file)
    try:
        return Stored.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{file}: key {key!r}: {first['msg']}") from None


def trained_method(folder: Path) -> MethodName:
    """The method that trained what a folder holds."""
    return read_stored(folder).method if (folder / TRAINED_FILE).is_file() else "red"
