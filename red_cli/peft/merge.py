"""The model after merging: its configuration declares the biases that modules gained, as an exported model's does."""

from __future__ import annotations

import re

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

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


def _add_zeros(module: nn.Linear | Conv1D) -> None:
    """Give a module without a bias one of zeros."""
    if module.bias is None:
        width = module.out_features if isinstance(module, nn.Linear) else module.nf
        zeros = torch.zeros(width, dtype=module.weight.dtype, device=module.weight.device)
        module.bias = nn.Parameter(zeros, requires_grad=False)
