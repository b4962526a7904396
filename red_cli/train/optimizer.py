"""AdamW over the trainable parameters, and the learning-rate scheduler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler
from transformers import get_scheduler

from red_cli.distributed.device import chosen_device, fuses_adamw
from red_cli.methods.method import Trained, most_in_a_layer
from red_cli.recipe.schema import Recipe

_MODULE, _UNIT = "module", "unit"  # of a parameter group with a relative learning rate
_SCALE_UNIT = 4.0  # of scales, where a bias's unit is the spread of its module's output; measured: docs/results.md


def build_optimizer(trained: Trained, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW with parameter groups: the method's without weight decay, the method's with it, and the head.

    Where learning rates are relative, each vector has its share of the rate: edits in the same layer add up. Scales
    take four times the rate. Each bias has a group of its own, for `set_units`. `train.learning_rate` must be a number.
    """
    settings = recipe.train
    rate, decay = settings.learning_rate, settings.weight_decay
    assert not isinstance(rate, str)
    relative = trained.module_of_bias if recipe.relative_rates else {}
    share = 1 / most_in_a_layer(trained.modules) if recipe.relative_rates else 1.0
    of_bias = {"lr": rate * share, _UNIT: share}
    of_scale = {"lr": rate * share * _SCALE_UNIT, _UNIT: share * _SCALE_UNIT} if recipe.relative_rates else {"lr": rate}
    spared = [name for name in trained.method_parameters if name in trained.no_decay]
    decayed = [name for name in trained.method_parameters if name not in trained.no_decay and name not in relative]
    groups: list[dict[str, Any]] = [
        {"params": trained.parameters(spared), "weight_decay": 0.0, **of_scale},
        {"params": trained.parameters(decayed), "weight_decay": decay, **of_scale},
        *(
            {"params": trained.parameters([name]), "weight_decay": decay, _MODULE: path, **of_bias}
            for name, path in relative.items()
        ),
        {
            "params": trained.parameters(trained.head),
            "lr": settings.head_learning_rate or rate,
            "weight_decay": decay,
        },
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon,
        fused=fuses_adamw(chosen_device()),
    )


def set_units(optimizer: torch.optim.Optimizer, spreads: Mapping[str, float]) -> None:
    """Multiply the relative learning rates of an optimiser that has not stepped by the spread of the module's output.

    A module without a spread, such as an expert that no row reached, has the median spread of the others.

    Args:
        spreads: path of a module -> the spread of its output.
    """
    known = sorted(value for value in spreads.values() if value > 0)
    middle = known[len(known) // 2] if known else 1.0
    for group in optimizer.param_groups:
        if _MODULE in group:
            spread = spreads.get(group[_MODULE]) or middle
            group[_UNIT] *= spread
            group["lr"] *= spread


def learning_rate_of(optimizer: torch.optim.Optimizer) -> float:
    """The optimiser's learning rate in its unit: of the first group, relative to the spread if it is relative."""
    group = optimizer.param_groups[0]
    return float(group["lr"]) / float(group.get(_UNIT, 1.0))


def build_scheduler(optimizer: torch.optim.Optimizer, name: str, warmup_steps: int, total_steps: int) -> LRScheduler:
    """The learning-rate scheduler `name` of transformers; it steps once per optimiser step."""
    return get_scheduler(name, optimizer, num_warmup_steps=warmup_steps, num_training_steps=total_steps)
