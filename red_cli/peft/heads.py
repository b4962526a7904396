"""The heads that an adapter trains in full: their dtypes in training, and after PEFT's merge.

PEFT calls them `modules_to_save`.
"""

from __future__ import annotations

import torch
from peft.utils.other import ModulesToSaveWrapper
from torch import nn

from red_cli.edit.trained_head import cast_to_weight


def float32_heads(model: nn.Module, adapter_name: str) -> None:
    """Make the heads that an adapter trains float32, as its vectors are, and cast their inputs."""
    for wrapper in _wrappers(model).values():
        if adapter_name not in wrapper.modules_to_save:
            continue
        module = wrapper.modules_to_save[adapter_name]
        if any(parameter.dtype != torch.float32 for parameter in module.parameters()):
            module.float()
            module.register_forward_pre_hook(cast_to_weight)


def head_dtypes(model: nn.Module) -> dict[str, torch.dtype]:
    """The dtypes of the heads in the base, by path."""
    return {path: next(wrapper.original_module.parameters()).dtype for path, wrapper in _wrappers(model).items()}


def restore_head_dtypes(model: nn.Module, dtypes: dict[str, torch.dtype]) -> None:
    """Cast the trained head to the base's dtypes once the adapter is merged."""
    for path, dtype in dtypes.items():
        module = model.get_submodule(path).to(dtype)
        for number, hook in [*module._forward_pre_hooks.items()]:
            if hook is cast_to_weight:
                del module._forward_pre_hooks[number]


def _wrappers(model: nn.Module) -> dict[str, ModulesToSaveWrapper]:
    """The modules of `modules_to_save` by path."""
    return {path: module for path, module in model.named_modules() if isinstance(module, ModulesToSaveWrapper)}
