"""What is attached to a model, kept on the model as `model.red_attachment`."""

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
    """One adapter on a model.

    Attributes:
        paths: of the modules it edits.
        head: its own values of the head's parameters, by name; those of the active adapter are in the model instead.
    """

    config: RedConfig
    paths: list[str]
    head: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Attachment:
    """What is attached to a model, kept on it as `model.red_attachment`."""

    selection: Selection
    trained_before: set[str]  # names of the parameters that required gradients
    adapters: dict[str, Adapter] = field(default_factory=dict)
    hooks: dict[str, RemovableHandle] = field(default_factory=dict)  # path of the edited module -> its forward hook
    call_hooks: list[RemovableHandle] = field(default_factory=list)  # on the model itself
    casts: dict[str, RemovableHandle] = field(default_factory=dict)  # path of the head's module -> its cast of inputs
    rows: AbstractContextManager[None] | None = None  # of a call with adapter_names that is under way
    base_head: dict[str, Tensor] = field(default_factory=dict)  # the base's own values of the head's parameters

    @property
    def active(self) -> Adapter | None:
        """The adapter that edits, if one does."""
        return None if self.selection.active is None else self.adapters[self.selection.active]


def attachment(model: nn.Module) -> Attachment | None:
    """What `attach` left on the model, or None."""
    return getattr(model, "red_attachment", None)


def require_attachment(model: nn.Module) -> Attachment:
    """What `attach` left on the model.

    Raises:
        UserError: the model has no edits.
    """
    attached = attachment(model)
    if attached is None:
        raise UserError("the model has no edits", hint="Attach or load an adapter first.")
    return attached


def active_adapter(model: nn.Module) -> Adapter:
    """The adapter that edits.

    Raises:
        UserError: the model has no edits, or they are turned off.
    """
    attached = require_attachment(model)
    if attached.active is None:
        raise UserError("no adapter is active", hint=f"Activate one of: {', '.join(attached.adapters)}")
    return attached.active
