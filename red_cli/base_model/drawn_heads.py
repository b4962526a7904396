"""The heads that several seeds draw for one base, as if the base was loaded for each of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel

from red_cli.base_model.load import load_base
from red_cli.edit.model_kinds import ModelKind
from red_cli.edit.trained_head import LOADED
from red_cli.recipe.sections import Model

Heads = dict[int, dict[str, Tensor]]  # seed -> name of a parameter -> its value


def load_with_heads(
    model: Model, config: PretrainedConfig, kind: ModelKind, seeds: Sequence[int], device: torch.device
) -> tuple[PreTrainedModel, list[str], Heads]:
    """Load the weights of a base once, and draw its head for each of the seeds.

    Where transformers does not draw the same head a second time, or changes more than the head, the base is loaded for
    every seed, and the last one is kept.

    Returns:
        The model, the names of its head's parameters, and the values that each seed gives them.

    Raises:
        UserError: as `load_base`.
    """
    loaded, head = load_base(model, config, kind, seeds[0], device)
    first = _values(loaded, head)
    fresh = [name for name in head if not getattr(loaded.get_parameter(name), LOADED, False)]
    if not fresh or len(seeds) == 1:
        return loaded, head, dict.fromkeys(seeds, first)
    others = _versions(loaded, fresh)
    buffers = {name: buffer.clone() for name, buffer in loaded.named_buffers()}
    heads = {seed: _redrawn(loaded, head, fresh, seed) for seed in seeds}
    same = all(torch.equal(heads[seeds[0]][name], first[name]) for name in head)
    if same and _versions(loaded, fresh) == others and _has_buffers(loaded, buffers):
        return loaded, head, heads
    heads = {}
    for seed in seeds:
        del loaded
        loaded, head = load_base(model, config, kind, seed, device)
        heads[seed] = _values(loaded, head)
    return loaded, head, heads


@torch.no_grad()
def _redrawn(model: PreTrainedModel, head: Sequence[str], fresh: Sequence[str], seed: int) -> dict[str, Tensor]:
    """The values of the head that `seed` draws, by transformers' own initialisation of what no file holds.

    Args:
        fresh: the names of the parameters that no file holds.
    """
    for name in fresh:
        model.get_parameter(name).fill_(math.nan)  # what is not drawn again shows
    for module in model.modules():
        setattr(module, LOADED, False)  # parameters that were loaded keep their own mark
    torch.manual_seed(seed)
    model.initialize_weights()
    return _values(model, head)


def _values(model: PreTrainedModel, names: Sequence[str]) -> dict[str, Tensor]:
    """Copies of the parameters of the head."""
    return {name: model.get_parameter(name).detach().clone() for name in names}


def _versions(model: PreTrainedModel, fresh: Sequence[str]) -> list[int]:
    """How often each parameter besides the fresh ones of the head was changed in place."""
    return [parameter._version for name, parameter in model.named_parameters() if name not in fresh]


def _has_buffers(model: PreTrainedModel, expected: Mapping[str, Tensor]) -> bool:
    """Whether the model's buffers are the expected ones. Initialising a module may write them, as it does a head."""
    found = dict(model.named_buffers())
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
