"""The adapters attached to a model, kept as `model.red_attachment`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from red_cli.edit.config import RedConfig
from red_cli.edit.layer import Selection
from red_cli.errors import UserError


@dataclass
class Adapter:
    """One adapter attached to a model.

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
    adapters: dict[str, Adapter] = field(default_factory=dict)
    hooks: dict[str, RemovableHandle] = field(default_factory=dict)  # path of an edited module -> its forward hook
    call_hooks: list[RemovableHandle] = field(default_factory=list)  # on the model itself
    casts: dict[str, RemovableHandle] = field(default_factory=dict)  # path of a head module -> its input cast
    rows: AbstractContextManager[None] | None = None  # of the current call with adapter_names
    base_head: dict[str, Tensor] = field(default_factory=dict)  # the base's values of the head's parameters

    @property
    def active(self) -> Adapter | None:
        """The active adapter, or None."""
        return None if self.selection.active is None else self.adapters[self.selection.active]


def attachment(model: nn.Module) -> Attachment | None:
    """The model's attachment, or None if it has no edits."""
    return getattr(model, "red_attachment", None)


def require_attachment(model: nn.Module) -> Attachment:
    """The model's attachment.

    Raises:
        UserError: the model has no edits.
    """
    attached = attachment(model)
    if attached is None:
        raise UserError("invalid-adapter-name", "the model has no edits", hint="Attach or load an adapter first.")
    return attached


def active_adapter(model: nn.Module) -> Adapter:
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
