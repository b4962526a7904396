"""The adapters attached to a model, kept as `model.red_attachment`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from red_cli.edit.config import RedConfig
from red_cli.edit.layer import RedVectors, Selection
from red_cli.errors import UserError

FOLDED = "red_folded"  # the mark of a module with a folded edit: whether it gained a bias


@dataclass
class AttachedAdapter:
    """An adapter that is attached to a model.

    Attributes:
        paths: the paths of the modules it edits.
        head: its values of the head's parameters, by name; the active adapter's values are in the model.
    """

    config: RedConfig
    paths: list[str]
    head: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Attachment:
    """All adapters attached to a model, the active one, and the hooks that apply them."""

    selection: Selection
    trained_before: set[str]  # names of the parameters that required gradients before
    adapters: dict[str, AttachedAdapter] = field(default_factory=dict)
    hooks: dict[str, RemovableHandle] = field(default_factory=dict)  # path of an edited module -> its forward hook
    call_hooks: list[RemovableHandle] = field(default_factory=list)  # on the model itself
    casts: dict[str, RemovableHandle] = field(default_factory=dict)  # path of a head module -> its input cast
    rows: AbstractContextManager[None] | None = None  # of the current call with adapter_names
    base_head: dict[str, Tensor] = field(default_factory=dict)  # the base's values of the head's parameters

    @property
    def active(self) -> AttachedAdapter | None:
        """The active adapter, or None."""
        return None if self.selection.active is None else self.adapters[self.selection.active]


def attachment(model: nn.Module) -> Attachment | None:
    """The attached adapters of a model, or None if it has no edits."""
    return getattr(model, "red_attachment", None)


def require_attachment(model: nn.Module) -> Attachment:
    """The attached adapters of a model.

    Raises:
        UserError: the model has no edits.
    """
    attached = attachment(model)
    if attached is None:
        raise UserError("invalid-adapter-name", "the model has no edits", hint="Attach or load an adapter first.")
    return attached


def active_adapter(model: nn.Module) -> AttachedAdapter:
    """The active adapter.

    Raises:
        UserError: the model has no edits, or no adapter is active.
    """
    attached = require_attachment(model)
    if attached.active is None:
        raise UserError(
            "invalid-adapter-name", "no adapter is active", hint=f"Activate one of: {', '.join(attached.adapters)}"
        )
    return attached.active


def edits(model: nn.Module) -> Iterator[tuple[str, RedVectors]]:
    """Yield (path of the edited module, its vectors) of the active adapter, in the model's order."""
    name = require_attachment(model).selection.active
    for path in active_adapter(model).paths:
        vectors = model.get_submodule(f"{path}.red.{name}")
        assert isinstance(vectors, RedVectors)
        yield path, vectors


@dataclass(frozen=True)
class Counts:
    """Numbers of parameters of a model with an attached adapter, by role. The paper's "#Params" is `edited` alone."""

    edited: int
    head: int
    base: int

    @property
    def share(self) -> float:
        """Edited parameters as a share of the base's parameters."""
        return self.edited / self.base


def count(model: PreTrainedModel) -> Counts:
    """Count the active adapter's edited and head parameters, and the base's. Closed form: edited = 2 d per module."""
    edited = sum(vector.numel() for _, vectors in edits(model) for vector in vectors.parameters())
    head = sum(model.get_parameter(name).numel() for name in active_adapter(model).head)
    vectors = vector_ids(model)
    plain = sum(full_size(parameter) for parameter in model.parameters() if id(parameter) not in vectors)
    return Counts(edited=edited, head=head, base=plain - head)


def full_size(parameter: nn.Parameter) -> int:
    """The number of values of a parameter in a model with attached adapters, also if it is packed or sharded."""
    packed = getattr(parameter, "quant_state", None)
    if packed is not None:
        return math.prod(packed.shape)
    return getattr(parameter, "ds_numel", parameter.numel())


def gained_biases(model: nn.Module) -> list[str]:
    """The names of the biases that a model with attached adapters gained when they were folded."""
    return [f"{path}.bias" for path, module in model.named_modules() if getattr(module, FOLDED, False)]


def is_folded(model: nn.Module) -> bool:
    """Whether a model had attached adapters whose edits were folded, so that it is no longer the base in the files."""
    return any(hasattr(module, FOLDED) for module in model.modules())


def vector_ids(model: nn.Module) -> set[int]:
    """The ids of the parameters that are vectors of any adapter."""
    every = [module for module in model.modules() if isinstance(module, RedVectors)]
    return {id(parameter) for vectors in every for parameter in vectors.parameters()}
