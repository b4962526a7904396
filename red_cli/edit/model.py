"""Attach edits to a model, detach them, choose what trains, count it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from red_cli.edit.config import RedConfig
from red_cli.edit.layer import RedEdit, apply_edit
from red_cli.edit.targets import find_targets
from red_cli.errors import UserError


@dataclass
class Attachment:
    """What `attach` did to a model, kept on it as `model.red_attachment`."""

    config: RedConfig
    handles: dict[str, RemovableHandle]  # path of the edited module -> its forward hook
    trained_before: set[str]  # names of the parameters that required gradients
    head: list[str] = field(default_factory=list)  # names of the base's parameters that train beside the edits


def attach(model: PreTrainedModel, config: RedConfig) -> list[str]:
    """Put an edit after every module that `config` names and freeze everything else.

    Each edit becomes the submodule `red` of the module it follows and is applied by a forward hook: the base's
    parameter names, state-dict keys and classes stay what they were. Works on the meta device too.

    Returns:
        The paths of the edited modules. Their vectors are float32, shape (d,), 1 and 0 at the start.

    Raises:
        UserError: the model has edits already, or nothing fits `config`; the model is then unchanged.
    """
    if attachment(model) is not None:
        raise UserError("the model already has edits", hint="Detach or fold them first.")
    targets = find_targets(model, config)
    trained_before = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    model.requires_grad_(False)
    handles = {}
    for target in targets:
        module = model.get_submodule(target.path)
        device = next(module.parameters()).device
        module.red = RedEdit(target.width, config.components, device=device)
        handles[target.path] = module.register_forward_hook(apply_edit)
    model.red_attachment = Attachment(config, handles, trained_before)
    return list(handles)


def detach(model: PreTrainedModel) -> None:
    """Remove every edit; the base is what it was before `attach`, bit for bit, with its `requires_grad` flags."""
    attached = require_attachment(model)
    for path, handle in attached.handles.items():
        handle.remove()
        del model.get_submodule(path).red
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in attached.trained_before)
    del model.red_attachment


def train_head(model: PreTrainedModel, names: list[str]) -> None:
    """Let the named parameters of the base train beside the edits; they are saved with the adapter."""
    attached = require_attachment(model)
    for name in names:
        model.get_parameter(name).requires_grad_(True)
    attached.head = list(names)


def head_parameter_names(model: PreTrainedModel) -> list[str]:
    """The parameters outside the base model proper: the task's head (a classifier and what leads to it)."""
    base = model.base_model
    if base is model:
        return []
    inside = {id(parameter) for parameter in base.parameters()}
    return [name for name, parameter in model.named_parameters() if id(parameter) not in inside]


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


def edits(model: nn.Module) -> Iterator[tuple[str, RedEdit]]:
    """(path of the edited module, its edit), in the model's order."""
    for path in require_attachment(model).handles:
        edit = model.get_submodule(f"{path}.red")
        assert isinstance(edit, RedEdit)
        yield path, edit


@dataclass(frozen=True)
class Counts:
    """Parameters by role. The paper counts only `edited` ("#Params")."""

    edited: int
    head: int
    base: int

    @property
    def share(self) -> float:
        """Edited parameters as a share of the base's."""
        return self.edited / self.base


def count(model: PreTrainedModel) -> Counts:
    """Count edited, head and frozen base parameters. Closed form: edited = 2 * d for each edited module."""
    attached = require_attachment(model)
    edited = sum(vector.numel() for _, edit in edits(model) for vector in edit.parameters())
    head = sum(model.get_parameter(name).numel() for name in attached.head)
    total = sum(parameter.numel() for parameter in model.parameters())
    return Counts(edited=edited, head=head, base=total - edited - head)
