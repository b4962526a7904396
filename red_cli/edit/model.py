"""Attach adapters to a model, switch between them, detach them, choose what trains, count it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from red_cli.edit.attachment import Adapter, Attachment, active_adapter, attachment, require_attachment
from red_cli.edit.config import RedConfig
from red_cli.edit.kinds import kind_of
from red_cli.edit.layer import RedEdit, Selection, Vectors, apply_edit, cast_to_float32
from red_cli.edit.rows import release_adapter_names, take_adapter_names
from red_cli.edit.targets import find_targets, spelled_out
from red_cli.errors import UserError

DEFAULT = "default"


def attach(model: PreTrainedModel, config: RedConfig, name: str = DEFAULT) -> list[str]:
    """Put an edit after every module that `config` names, make the adapter the active one, freeze everything else.

    Each edit becomes the submodule `red` of the module it follows and is applied by a forward hook: the base's
    parameter names, state-dict keys and classes stay what they were. Works on the meta device too. Several adapters
    can be attached under different names: see `activate`. Called with `adapter_names=[…]`,
    one for each row of the batch, the model edits each row with its own (None: not at all).

    Returns:
        The paths of the edited modules. Their vectors are float32, shape (d,), 1 and 0 at the start.

    Raises:
        UserError: the name is taken, or nothing fits `config`; the model is then unchanged.
    """
    attached = attachment(model)
    if attached is not None and name in attached.adapters:
        raise UserError(f"the model already has edits named {name!r}", hint="Detach or fold them first.")
    if not name.isidentifier() or hasattr(nn.Module, name) or name == "selection":
        raise UserError(f"{name!r} cannot be the name of an adapter", hint="Take a word of letters, digits and _.")
    config = spelled_out(config, model.config.model_type)
    targets = find_targets(model, config)
    if attached is None:
        trained_before = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
        attached = model.red_attachment = Attachment(Selection(), trained_before)
        attached.call_hooks = [
            model.register_forward_pre_hook(take_adapter_names, with_kwargs=True),
            model.register_forward_hook(release_adapter_names, always_call=True),
        ]
        model.requires_grad_(False)
    for target in targets:
        module = model.get_submodule(target.path)
        device = _device(module)
        if target.path not in attached.hooks:
            module.red = RedEdit(attached.selection)
            attached.hooks[target.path] = module.register_forward_hook(apply_edit)
        module.red.add_module(name, Vectors(target.width, config.components, device=device))
    attached.adapters[name] = Adapter(config, [target.path for target in targets])
    activate(model, name)
    return list(attached.adapters[name].paths)


def detach(model: PreTrainedModel, name: str | None = None) -> None:
    """Remove the adapter `name`, or all; without any, the base is what it was, bit for bit, head and flags included.

    Raises:
        UserError: the model has no edits, or none of that name.
    """
    attached = require_attachment(model)
    activate(model, None)
    for gone in [name] if name is not None else list(attached.adapters):
        if gone not in attached.adapters:
            raise UserError(f"no adapter {gone!r}", hint=f"There is: {', '.join(attached.adapters)}")
        for path in attached.adapters.pop(gone).paths:
            module = model.get_submodule(path)
            delattr(module.red, gone)
            if not list(module.red.children()):
                attached.hooks.pop(path).remove()
                del module.red
    if not attached.adapters:
        for key, parameter in model.named_parameters():
            parameter.requires_grad_(key in attached.trained_before)
        for name, value in attached.base_head.items():
            model.get_parameter(name).data = value
        for hook in (*attached.call_hooks, *attached.casts.values()):
            hook.remove()
        del model.red_attachment


def activate(model: PreTrainedModel, name: str | None) -> None:
    """Let the adapter `name` edit and its head answer, and let both train; None gives the plain base.

    Raises:
        UserError: the model has no edits, or none of that name.
    """
    attached = require_attachment(model)
    if name is not None and name not in attached.adapters:
        raise UserError(f"no adapter {name!r}", hint=f"There is: {', '.join(attached.adapters)}")
    if attached.active is not None:
        before = attached.active
        before.head = {key: model.get_parameter(key).detach().clone() for key in before.head}
        _put_head(model, {key: attached.base_head[key] for key in before.head}, trained=False)
        _edits_train(model, before, attached.selection.active, trained=False)
    attached.selection.active = name
    if attached.active is not None:
        _put_head(model, attached.active.head, trained=True)
        _edits_train(model, attached.active, name, trained=True)


def train_head(model: PreTrainedModel, names: list[str]) -> None:
    """Let the named parameters of the base train beside the active adapter's edits; they are saved with it.

    They become float32, for the reason the vectors are; what comes in is cast to them.
    """
    attached, active = require_attachment(model), active_adapter(model)
    for name in names:
        parameter = model.get_parameter(name)
        attached.base_head.setdefault(name, parameter.detach().clone())
        parameter.data = parameter.data.float()
        active.head[name] = parameter.requires_grad_(True).detach().clone()
    for owner in {name.rpartition(".")[0] for name in names}:
        if owner not in attached.casts and any(attached.base_head[name].dtype != torch.float32 for name in names):
            attached.casts[owner] = model.get_submodule(owner).register_forward_pre_hook(cast_to_float32)


def head_parameter_names(model: PreTrainedModel) -> list[str]:
    """The parameters outside the base model proper: the task's head (a classifier and what leads to it).

    A language model has none: its output layer was pretrained with it, and is often its embedding table.
    """
    base, kind = model.base_model, kind_of(model)
    if base is model or (kind is not None and not kind.trains_head):
        return []
    inside = {id(parameter) for parameter in base.parameters()} | _vector_ids(model)
    return [name for name, parameter in model.named_parameters() if id(parameter) not in inside]


def edits(model: nn.Module) -> Iterator[tuple[str, Vectors]]:
    """(path of the edited module, its vectors) of the active adapter, in the model's order."""
    name = require_attachment(model).selection.active
    for path in active_adapter(model).paths:
        vectors = model.get_submodule(f"{path}.red.{name}")
        assert isinstance(vectors, Vectors)
        yield path, vectors


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
    """Count the active adapter's edited and head parameters, and the base's. Closed form: edited = 2 d per module."""
    edited = sum(vector.numel() for _, vectors in edits(model) for vector in vectors.parameters())
    head = sum(model.get_parameter(name).numel() for name in active_adapter(model).head)
    vectors = _vector_ids(model)
    plain = sum(full_size(parameter) for parameter in model.parameters() if id(parameter) not in vectors)
    return Counts(edited=edited, head=head, base=plain - head)


def _device(module: nn.Module) -> torch.device:
    """Where a module computes; one whose weights are read from disk at each call has them on the meta device."""
    hook = getattr(module, "_hf_hook", None)
    executes_on = getattr(hook, "execution_device", None)
    return next(module.parameters()).device if executes_on is None else torch.device(executes_on)


def full_size(parameter: nn.Parameter) -> int:
    """How many numbers a parameter stands for, also where it is packed (4-bit) or sharded (ZeRO-3)."""
    packed = getattr(parameter, "quant_state", None)
    if packed is not None:
        return math.prod(packed.shape)
    return getattr(parameter, "ds_numel", parameter.numel())


def _vector_ids(model: nn.Module) -> set[int]:
    """Which parameters are vectors, of any adapter."""
    every = [module for module in model.modules() if isinstance(module, Vectors)]
    return {id(parameter) for vectors in every for parameter in vectors.parameters()}


@torch.no_grad()
def _put_head(model: PreTrainedModel, values: dict[str, Tensor], trained: bool) -> None:
    for key, value in values.items():
        model.get_parameter(key).requires_grad_(trained).copy_(value)


def _edits_train(model: PreTrainedModel, adapter: Adapter, name: str | None, trained: bool) -> None:
    for path in adapter.paths:
        model.get_submodule(f"{path}.red.{name}").requires_grad_(trained)
