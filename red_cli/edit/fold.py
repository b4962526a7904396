"""Fold edits into the weights of the edited modules: the same function at no cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from red_cli.edit.attach import detach
from red_cli.edit.attached_adapters import FOLDED, attachment, edits, require_attachment
from red_cli.edit.layer import Vectors, apply_edit
from red_cli.errors import UserError

# Weight shapes: Linear (out, in), Conv1D (in, out), LayerNorm (d,). The output dimension is scaled.
_FOLDABLE = (nn.Linear, Conv1D, nn.LayerNorm)
_ROWS_BYTES = 1 << 20  # of a half-precision weight that are converted to float32 at once


def fold(model: PreTrainedModel) -> list[str]:
    """Fold the active adapter's edits into their modules, then remove the edits. The trained head stays.

    W' = diag(scale) W and b' = scale * b + bias, from equation (3) of the paper and the module's y = W x + b. The
    arithmetic is float32; the result has the weight's dtype. A module without a bias gets one if the edit has one. A
    mixture-of-experts block takes a scale into the last weights of its experts.

    The modules stay marked: no later adapter of this model can be saved, since it would name the unfolded base.

    Returns:
        The paths of the modules that gained a bias. The configuration must declare it before the model is saved.

    Raises:
        UserError: the model has another adapter, which fits the unfolded base alone; or an edited module cannot hold
            the edit, or shares its weight with another module. The model is unchanged then.
    """
    attached = require_attachment(model)
    if len(attached.adapters) > 1:
        raise UserError(
            "invalid-adapter-name",
            f"the model has several adapters: {', '.join(attached.adapters)}",
            hint="Detach the others.",
        )
    edited = dict(edits(model))
    require_foldable(model, edited)
    gained = fold_vectors(model, edited)
    for key, value in attached.base_head.items():  # the trained head stays, in the base's dtype
        attached.base_head[key] = model.get_parameter(key).detach().to(value.dtype, copy=True)
    detach(model)
    return gained


def require_foldable(model: nn.Module, edited: Mapping[str, Vectors]) -> None:
    """Check that modules can hold vectors, by the path of the module, in their weights.

    Raises:
        UserError: a module cannot hold them, or shares its weight with another module.
    """
    owners = Counter(id(weight) for module in model.modules() for weight in module.parameters(recurse=False))
    for path, edit in edited.items():
        module = model.get_submodule(path)
        if not _can_hold(module, edit):
            raise UserError("unsupported-model", f"{path} ({type(module).__name__}) cannot hold an edit in its weights")
        if any(owners[id(weight)] > 1 for weight in module.parameters(recurse=False)):
            raise UserError(
                "unsupported-model", f"{path} shares its weight with another module: folding would edit both"
            )


def fold_vectors(model: nn.Module, edited: Mapping[str, Vectors]) -> list[str]:
    """Fold vectors, by the path of the module, into weights that can hold them, and mark the modules as folded.

    Returns:
        The paths of the modules that gained a bias.
    """
    gained = [path for path, edit in edited.items() if fold_module(model.get_submodule(path), edit)]
    for path in edited:
        module = model.get_submodule(path)
        setattr(module, FOLDED, path in gained or getattr(module, FOLDED, False))
    return gained


@contextmanager
def folded(model: PreTrainedModel) -> Iterator[None]:
    """Fold the active adapter's edits inside the block; restore the model bit for bit afterwards.

    An edit stays unfolded if its module cannot hold it, or if the module's weights are not float32.
    """
    attached = attachment(model)
    edited = [] if attached is None or attached.active is None or attached.selection.rows else list(edits(model))
    kept: list[tuple[str, Any, Any, Any]] = []
    try:
        for path, edit in edited:
            module: Any = model.get_submodule(path)
            if attached is None or not isinstance(module, _FOLDABLE) or not _can_hold(module, edit):
                continue
            if module.weight.dtype != torch.float32:
                continue
            kept.append((path, module, module.weight, module.bias))
            attached.hooks.pop(path).remove()
            module.weight = nn.Parameter(module.weight.detach().clone(), requires_grad=False)
            if module.bias is not None:
                module.bias = nn.Parameter(module.bias.detach().clone(), requires_grad=False)
            fold_module(module, edit)
            if module.bias is not None:
                module.bias.requires_grad_(False)
        yield
    finally:
        for path, module, weight, bias in kept:
            module.weight, module.bias = weight, bias
            if attached is not None:
                attached.hooks[path] = module.register_forward_hook(apply_edit)


def _can_hold(module: nn.Module, edit: Vectors) -> bool:
    """Whether an edit can be folded into the weights of this module."""
    if isinstance(module, nn.LayerNorm):
        return type(module).forward is nn.LayerNorm.forward  # some subclasses scale by (1 + weight)
    if isinstance(module, _FOLDABLE):
        return not type(module).__module__.startswith("bitsandbytes")
    return edit.bias is None and bool(_last_weights(module))


def _last_weights(block: nn.Module) -> list[nn.Parameter]:
    """The output weights of a mixture-of-experts block, each (experts, out, in) or (out, in)."""
    names = ("experts.down_proj", "down_proj.weight")
    return [parameter for name, parameter in block.named_parameters() if name in names]


def foldable_parameters(module: nn.Module) -> dict[str, nn.Parameter | None]:
    """The parameters that folding changes, by their names in the module; None is a bias that it may gain."""
    if isinstance(module, _FOLDABLE):
        return {name: module._parameters[name] for name in ("weight", "bias")}
    last = {id(weight) for weight in _last_weights(module)}
    return {name: parameter for name, parameter in module.named_parameters() if id(parameter) in last}


@torch.no_grad()
def fold_module(module: Any, edit: Vectors) -> bool:
    """Fold vectors into one module in place; return whether the module gained a bias."""
    if not isinstance(module, _FOLDABLE):
        for weight in _last_weights(module):
            _scale(weight, edit, weight.dim() - 2)
        return False
    _scale(module.weight, edit, 0 if isinstance(module, nn.Linear) else module.weight.dim() - 1)
    if module.bias is None:
        if edit.bias is not None:
            module.bias = nn.Parameter(edit.bias.detach().to(module.weight.dtype, copy=True))
        return edit.bias is not None
    bias = module.bias.float() if edit.scale is None else module.bias.float() * edit.scale
    module.bias.copy_(bias if edit.bias is None else bias + edit.bias)
    return False


def _scale(weight: Tensor, edit: Vectors, dimension: int) -> None:
    """Multiply `weight` along `dimension` by the edit's scale, in float32 and without a full copy."""
    if edit.scale is None:
        return
    factors = edit.scale.view([-1 if index == dimension else 1 for index in range(weight.dim())])
    if weight.dtype == torch.float32:
        weight.mul_(factors)
        return
    rows = max(1, _ROWS_BYTES // (weight[0].numel() * weight.element_size()))
    for first in range(0, len(weight), rows):  # the product is float32, rounded once
        weight[first : first + rows].mul_(factors[first : first + rows] if dimension == 0 else factors)
