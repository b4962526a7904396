"""The record of a base in adapter files: its identity and its digests. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from red_cli.errors import UserError, shown
from red_cli.formatting import some_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_Size = Annotated[int, Field(ge=0, le=10**9)]


class BaseIdentity(BaseModel):
    """The recorded identity of a base: what distinguishes it without reading its weights."""

    model_config = ConfigDict(extra="forbid")

    model_type: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    hidden_size: _Size | None
    num_hidden_layers: Annotated[int, Field(ge=0, le=99_999)] | None
    vocab_size: _Size | None

    @classmethod
    def of(cls, model: PreTrainedModel) -> BaseIdentity:
        """The identity of the base under `model`.

        Raises:
            UserError: a size in its configuration is not a valid number.
        """
        values = {name: getattr(model.config, name, None) for name in cls.model_fields}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            key = str(error.errors()[0]["loc"][0])
            raise UserError(
                "unsupported-model", f"the base's configuration: {key} cannot be {shown(values[key])}"
            ) from None


class BaseDigest(BaseModel):
    """The recorded SHA-256 digests of a base's files at the time of the training.

    Attributes:
        config: of config.json, without the keys that change with every saving.
        tensors: of the stored weights and biases of the edited modules; None for methods other than RED.
        weights: of samples of every tensor; None if the files cannot be read without loading them, if every
            parameter is trained, and in adapters of version 0.1.
        tokenizer: of the tokenizer's files and chat template; None if there are none, and in version 0.1.
    """

    model_config = ConfigDict(extra="forbid")

    config: str
    tensors: str | None = None
    weights: str | None = None
    tokenizer: str | None = None


class OnBase(Protocol):
    """A record of something trained, with the recorded base."""

    base_model_name_or_path: str
    base: BaseIdentity
    head: list[str]


def require_same_base(model: PreTrainedModel, recorded: OnBase, folder: Path) -> None:
    """Check that a model is the recorded base, and has the parameters of the recorded head.

    Raises:
        UserError: architecture, width, depth or vocabulary differ, or a head parameter does not exist.
    """
    require_same_identity(BaseIdentity.of(model), {name for name, _ in model.named_parameters()}, recorded, folder)


def require_same_identity(here: BaseIdentity, parameters: Container[str], recorded: OnBase, folder: Path) -> None:
    """Check that an identity, and the names of parameters, are the recorded base's, as `require_same_base` does."""
    own, there = here.model_dump(), recorded.base.model_dump()
    differing = [f"{name} {there[name]} (here {own[name]})" for name in there if own[name] != there[name]]
    if differing:
        raise UserError(
            "base-mismatch",
            f"{folder} belongs to another base, {recorded.base_model_name_or_path}: {', '.join(differing)}",
            hint="Give that base, or train again for this one.",
        )
    if missing := [name for name in recorded.head if name not in parameters]:
        raise UserError("base-mismatch", f"{folder}: this base has no such head parameters: {some_of(missing)}")
