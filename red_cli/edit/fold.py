"""Fold edits into the weights of the modules they follow: the same function, at no cost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from red_cli.edit.attachment import attachment, require_attachment
from red_cli.edit.layer import Vectors, apply_edit
from red_cli.edit.model import detach, edits
from red_cli.errors import UserError

# How a module's weight is scaled along its output dimension: Linear holds (out, in), Conv1D (in, out), norms (d,).
_FOLDABLE = (nn.Linear, Conv1D, nn.LayerNorm)


def fold(model: PreTrainedModel) -> list[str]:
    """Fold the active adapter's edits into their modules and remove them, keeping its head.

    W' = diag(scale) W and b' = scale * b + bias, from equation (3) of the paper and the module's y = W x + b. The
    arithmetic is float32, the result has the weight's dtype. A module without a bias gets one where the edit has one.

    Returns:
        The paths of the modules that gained a bias (their configuration has to say so before the model is saved).

    Raises:
        UserError: there is another adapter (it was made for the base as it was), or an edited module is of a kind that
            cannot hold the edit; nothing is changed.
    """
    attached = require_attachment(model)
    if len(attached.adapters) > 1:
        raise UserError(f"the model has several adapters: {', '.join(attached.adapters)}", hint="Detach the others.")
    edited = dict(edits(model))
    for path in edited:
        module = model.get_submodule(path)
        if not _holds_edits(module):
            raise UserError(f"{path} ({type(module).__name__}) cannot hold an edit in its weights")
    gained = [path for path, edit in edited.items() if _fold_module(model.get_submodule(path), edit)]
    for key, value in attached.base_head.items():  # the trained head stays, in the base's dtype
        attached.base_head[key] = model.get_parameter(key).detach().to(value.dtype, copy=True)
    detach(model)
    return gained


@contextmanager
def folded(model: PreTrainedModel) -> Iterator[None]:
    """Inside the block the active adapter's edits are in the weights; afterwards the model is what it was, bit for bit.

    An edit whose module cannot hold it, or whose weights are rounded more coarsely than float32, stays as it is.
    """
    attached = attachment(model)
    edited = [] if attached is None or attached.active is None or attached.selection.rows else list(edits(model))
    kept: list[tuple[str, Any, Any, Any]] = []
    try:
        for path, edit in edited:
            module: Any = model.get_submodule(path)
            if attached is None or not _holds_edits(module) or module.weight.dtype != torch.float32:
                continue
            with torch.no_grad():
                outputs_first = isinstance(module, nn.Linear)
                weight, bias = fold_tensors(module.weight, module.bias, edit.scale, edit.bias, outputs_first)
            kept.append((path, module, module.weight, module.bias))
            attached.hooks.pop(path).remove()
            module.weight = nn.Parameter(weight, requires_grad=False)
            module.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        yield
    finally:
        for path, module, weight, bias in kept:
            module.weight, module.bias = weight, bias
            if attached is not None:
                attached.hooks[path] = module.register_forward_hook(apply_edit)


def _holds_edits(module: nn.Module) -> bool:
    """Whether an edit can be folded into a module's weights."""
    quantised = type(module).__module__.startswith("bitsandbytes")
    return isinstance(module, _FOLDABLE) and not quantised and module.weight is not None


@torch.no_grad()
def _fold_module(module: Any, edit: Vectors) -> bool:
    weight, bias = fold_tensors(module.weight, module.bias, edit.scale, edit.bias, isinstance(module, nn.Linear))
    module.weight.copy_(weight)
    if bias is None:
        return False
    if module.bias is not None:
        module.bias.copy_(bias)
        return False
    module.bias = nn.Parameter(bias)
    return True


def fold_tensors(
    weight: Tensor, bias: Tensor | None, scale: Tensor | None, shift: Tensor | None, outputs_first: bool
) -> tuple[Tensor, Tensor | None]:
    """Fold one edit into one module's tensors.

    Args:
        weight: (out, in) if `outputs_first`, else (in, out) or (out,).
        bias: (out,) or None.
        scale, shift: the edit's vectors, (out,) float32, or None.

    Returns:
        The new weight and bias in the old dtype; the bias is None if there was none and none is needed.
    """
    new_weight, new_bias = weight.float(), None if bias is None else bias.float()
    if scale is not None:
        new_weight = new_weight * (scale[:, None] if outputs_first else scale)
        new_bias = None if new_bias is None else new_bias * scale
    if shift is not None:
        new_bias = shift if new_bias is None else new_bias + shift
    return new_weight.to(weight.dtype), None if new_bias is None else new_bias.to(weight.dtype)
