"""The content of `adapter_config.json`: what an adapter edits and the base it belongs to. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from red_cli.edit.config import RedConfig
from red_cli.edit.recorded_base import BaseDigest, BaseIdentity
from red_cli.errors import UserError
from red_cli.files import ADAPTER_CONFIG_FILE, read_json
from red_cli.formatting import some_of

if TYPE_CHECKING:
    pass

CONFIG_FILE = ADAPTER_CONFIG_FILE
WEIGHTS_FILE = "adapter_model.safetensors"
KEY_PREFIX = "base_model.model."
ClassName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
# Path of a module or parameter in a model; numbers are layers
ModelPath = Annotated[str, Field(pattern=r"^([A-Za-z_][\w-]*|\d{1,5})(\.([A-Za-z_][\w-]*|\d{1,5}))*$")]


class AdapterConfig(BaseModel):
    """The content of `adapter_config.json`."""

    model_config = ConfigDict(extra="forbid")

    peft_type: str = "RED"
    base_model_name_or_path: str
    revision: str | None = None
    task_type: str
    architecture: ClassName | None = None  # the model's class; keys are its parameter names
    red: RedConfig
    target_modules: Annotated[list[ModelPath], Field(min_length=1)]
    head: list[ModelPath]
    label_names: list[str] | None = None
    base: BaseIdentity
    base_digest: BaseDigest | None = None  # None if the base's files were not available
    weights_sha256: str  # of the tensor file, since a flipped bit would otherwise be just another value
    library_versions: dict[str, str]

    @property
    def classifies(self) -> bool:
        """Whether it holds the trained head of a sequence classifier. Other parts of a base may train too."""
        return bool(self.head) and self.task_type == "SEQ_CLS"


def read_adapter_config(folder: str | Path) -> AdapterConfig:
    """Read `adapter_config.json`.

    Raises:
        UserError: the folder or file is missing, is not JSON or not of a RED adapter, or a key is missing or wrong.
    """
    file = Path(folder) / CONFIG_FILE
    if not file.is_file():
        raise UserError("not-an-adapter", f"{folder} is not an adapter folder: it has no {CONFIG_FILE}")
    content = read_json(file)
    kind = content.get("peft_type") if isinstance(content, dict) else None
    if kind != "RED":
        raise UserError("not-an-adapter", f"{file}: not a RED adapter (peft_type is {kind!r})")
    try:
        return AdapterConfig.model_validate_json(file.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise UserError("file-damaged", f"{file}: key {key!r}: {first['msg']}") from None


def require_same_modules(paths: Iterable[str], recorded: AdapterConfig, folder: Path) -> None:
    """Check the modules in `adapter_config.json`: its configuration selects the same ones in this base.

    Raises:
        UserError: it selects others.
    """
    if differing := sorted({*paths} ^ {*recorded.target_modules}):
        raise UserError(
            "base-mismatch", f"{folder}: the adapter edits other modules than this base has: {some_of(differing)}"
        )
