"""The model after merging: its configuration declares the biases that modules gained, as an exported model's does."""

from __future__ import annotations

import re

import torch
from peft.utils.other import ModulesToSaveWrapper
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from red_cli.edit.layer import cast_to_weight
from red_cli.errors import UserError
from red_cli.export.bias_placement import place_biases


def declare_biases(model: PreTrainedModel, gained: list[str]) -> None:
    """After PEFT's merge, turn on the configuration's switches for the biases of the modules `gained`.

    Biases that a switch turns on and that no module gained are added as zeros.

    The switches are those that `red export` turns on. Where the architecture has none, the configuration stays, and
    `save_pretrained` of the model refuses.
    """
    try:
        placement = place_biases(model.config.model_type, model.config.to_dict(), gained)
    except UserError:
        return
    if placement.as_llama:
        return
    for key in placement.switches:
        setattr(model.config, key, True)
    pattern = re.compile(rf"(?:.*\.)?(?:{'|'.join(placement.also_biased)})")
    for path, module in model.named_modules():
        if placement.also_biased and pattern.fullmatch(path) and isinstance(module, (nn.Linear, Conv1D)):
            _add_zeros(module)


def name_labels(model: PreTrainedModel, names: list[str] | None) -> None:
    """Take the label names of a merged adapter into the configuration, where the model has as many labels."""
    if names is not None and len(names) == model.config.num_labels:
        model.config.id2label = dict(enumerate(names))
        model.config.label2id = {name: index for index, name in enumerate(names)}


def float32_heads(model: nn.Module, adapter_name: str) -> None:
    """Make the modules that an adapter trains in full float32, as its vectors are, and cast their inputs."""
    for wrapper in _wrappers(model).values():
        if adapter_name not in wrapper.modules_to_save:
            continue
        module = wrapper.modules_to_save[adapter_name]
        if any(parameter.dtype != torch.float32 for parameter in module.parameters()):
            module.float()
            module.register_forward_pre_hook(cast_to_weight)


def head_dtypes(model: nn.Module) -> dict[str, torch.dtype]:
    """The base's dtypes of the modules that train in full, by path."""
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


def _add_zeros(module: nn.Linear | Conv1D) -> None:
    """Give a module without a bias one of zeros."""
    if module.bias is None:
        width = module.out_features if isinstance(module, nn.Linear) else module.nf
        zeros = torch.zeros(width, dtype=module.weight.dtype, device=module.weight.device)
        module.bias = nn.Parameter(zeros, requires_grad=False)
