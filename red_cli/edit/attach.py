"""Attach adapters to a model, switch and detach them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from red_cli.edit.adapter_names import pop_adapter_names, push_adapter_names
from red_cli.edit.attached_adapters import (
    AttachedAdapter,
    Attachment,
    attachment,
    is_folded,
    require_attachment,
)
from red_cli.edit.config import RedConfig
from red_cli.edit.layer import RedEdit, RedVectors, Selection, apply_edit
from red_cli.edit.save_pretrained import (
    expect_no_base,
    refuse_whole,
    save_adapter_instead,
    save_if_declared,
    save_whole_again,
)
from red_cli.edit.targets import find_targets, resolve_positions
from red_cli.edit.trained_head import (
    new_parameter_names,
    parameters_to_train,
    train_head,
)
from red_cli.errors import UserError
from red_cli.formatting import some_of

DEFAULT = "default"


def attach(
    model: PreTrainedModel,
    config: RedConfig | None = None,
    name: str = DEFAULT,
    *,
    train_head: bool | Sequence[str] = True,
) -> list[str]:
    """Attach an edit to every module that `config` selects, make the adapter active, and freeze everything else.

    Each edit becomes the submodule `red` of the edited module and is applied by a forward hook, so the base's parameter
    names, state-dict keys and classes stay unchanged. The model may be on the meta device. Several adapters can be
    attached under different names; `activate` selects one. A forward pass with `adapter_names=[…]`, one name for each
    row of the batch, edits each row with its own adapter (None: not at all).

    `save_pretrained` of the model writes the adapter until it is detached or folded.

    Args:
        config: None: the paper's RED, an edit after each feed-forward network.
        train_head: whether the model's head trains with the vectors and is saved with them. A head is what stands
            outside the base, such as a classifier, and a pooler that is not in the base's files; a language model has
            none. False is for a head that is part of the base's files: others start at random. Or the names of
            parameters or modules of the base that train, be they of a head or not.

    Returns:
        The paths of the edited modules. Scale and bias are float32 of shape (d,); they start at 1 and 0.

    Raises:
        UserError: the name is taken, a part or a model around this one has edits, no module matches `config`, or a
            parameter of `train_head` does not exist or cannot train. The model is unchanged then.
    """
    attached = attachment(model)
    if attached is not None and name in attached.adapters:
        raise UserError(
            "invalid-adapter-name", f"the model already has edits named {name!r}", hint="Detach or fold them first."
        )
    if not name.isidentifier() or hasattr(nn.Module, name) or name == "selection":
        raise UserError(
            "invalid-adapter-name",
            f"{name!r} cannot be the name of an adapter",
            hint="Take a word of letters, digits and _.",
        )
    if attached is None and any(isinstance(module, RedEdit) for module in model.modules()):
        raise UserError(
            "invalid-adapter-name",
            f"a part of the {type(model).__name__}, or a model around it, has edits already",
            hint="Detach those first, or attach to that model.",
        )
    config = resolve_positions(config or RedConfig(), model.config.model_type)
    targets = find_targets(model, config)
    trained = parameters_to_train(model, train_head)
    if random := [name for name in new_parameter_names(model) if name not in trained]:
        warnings.warn(
            f"{some_of(random)}: not in the base's files, and neither trained nor saved; "
            "whoever loads the adapter gets others at random",
            stacklevel=2,
        )
    if is_folded(model):
        warnings.warn(
            "edits were folded into this model: an adapter attached to it can be folded too, but not saved",
            stacklevel=2,
        )
    if attached is None:
        trained_before = {key for key, parameter in model.named_parameters() if parameter.requires_grad}
        attached = model.red_attachment = Attachment(Selection(), trained_before)
        attached.call_hooks = [
            model.register_forward_pre_hook(push_adapter_names, with_kwargs=True),
            model.register_forward_hook(pop_adapter_names, always_call=True),
            model.register_load_state_dict_post_hook(expect_no_base),
            model.register_state_dict_pre_hook(refuse_whole),
        ]
        model.requires_grad_(False)
    for target in targets:
        module = model.get_submodule(target.path)
        device = device_of(module)
        if target.path not in attached.hooks:
            module.red = RedEdit(attached.selection)
            attached.hooks[target.path] = module.register_forward_hook(apply_edit)
        module.red.add_module(name, RedVectors(target.width, config.components, device=device))
    attached.adapters[name] = AttachedAdapter(config, [target.path for target in targets])
    activate(model, name)
    train_parameters(model, trained)
    save_adapter_instead(model)
    return list(attached.adapters[name].paths)


def detach(model: PreTrainedModel, name: str | None = None) -> None:
    """Remove the adapter `name`, or all adapters if it is None.

    Removing the last one restores the base bit for bit, with its head and its `requires_grad` flags. Parameters that
    the user unfroze keep their trained values.

    Raises:
        UserError: the model has no edits, or no adapter `name`.
    """
    attached = require_attachment(model)
    activate(model, None)
    for gone in [name] if name is not None else list(attached.adapters):
        if gone not in attached.adapters:
            raise UserError(
                "invalid-adapter-name", f"no adapter {gone!r}", hint=f"There is: {', '.join(attached.adapters)}"
            )
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
        save_whole_again(model)
        save_if_declared(model)
        del model.red_attachment


def activate(model: PreTrainedModel, name: str | None) -> None:
    """Attach `name` as the active, trainable adapter, with its head; None deactivates all adapters.

    Raises:
        UserError: the model has no edits, or no adapter `name`.
    """
    attached = require_attachment(model)
    if name is not None and name not in attached.adapters:
        raise UserError(
            "invalid-adapter-name", f"no adapter {name!r}", hint=f"There is: {', '.join(attached.adapters)}"
        )
    if attached.active is not None:
        before = attached.active
        before.head = {key: model.get_parameter(key).detach().clone() for key in before.head}
        _load_head(model, {key: attached.base_head[key] for key in before.head}, trained=False)
        _set_requires_grad(model, before, attached.selection.active, trained=False)
    attached.selection.active = name
    if attached.active is not None:
        _load_head(model, attached.active.head, trained=True)
        _set_requires_grad(model, attached.active, name, trained=True)


@torch.no_grad()
def _load_head(model: PreTrainedModel, values: dict[str, Tensor], trained: bool) -> None:
    """Copy head tensors into the model when an attached adapter becomes active, and make them trainable or frozen."""
    for key, value in values.items():
        model.get_parameter(key).requires_grad_(trained).copy_(value)


def _set_requires_grad(model: PreTrainedModel, adapter: AttachedAdapter, name: str | None, trained: bool) -> None:
    """Make the vectors that `attach` added under a name trainable, or freeze them."""
    for path in adapter.paths:
        model.get_submodule(f"{path}.red.{name}").requires_grad_(trained)


train_parameters = train_head  # inside `attach`, whose argument has that name


def device_of(module: nn.Module) -> torch.device:
    """The device on which a module computes, where `attach` puts its vectors.

    An offloaded module has its weights on the meta device between calls.
    """
    hook = getattr(module, "_hf_hook", None)
    executes_on = getattr(hook, "execution_device", None)
    return next(module.parameters()).device if executes_on is None else torch.device(executes_on)
