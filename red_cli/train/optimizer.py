"""AdamW over the trainable parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from red_cli.distributed.device import chosen_device, fuses_adamw
from red_cli.edit.repeated_layers import most_in_a_layer
from red_cli.methods.method import Trained
from red_cli.recipe.schema import Recipe

_MODULE, _UNIT = "module", "unit"  # of a parameter group with a relative learning rate


def build_optimizer(trained: Trained, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW over the trainable parameters, in groups, with the recipe's learning rates.

    Where they are relative, `set_units` follows. `train.learning_rate` must be a number.
    """
    settings = recipe.train
    rate, decay = settings.learning_rate, settings.weight_decay
    assert not isinstance(rate, str)
    if recipe.relative_rates:
        biases = trained.module_of_bias
        scales = [name for name in trained.method_parameters if name not in biases]
        named_biases = [(path, trained.model.get_parameter(name)) for name, path in biases.items()]
        groups = relative_groups(trained.modules, trained.parameters(scales), named_biases, rate, decay)
    else:
        groups = _absolute_groups(trained, rate, decay)
    groups.append(
        {"params": trained.parameters(trained.head), "lr": settings.head_learning_rate or rate, "weight_decay": decay}
    )
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        betas=(settings.adam_beta1, settings.adam_beta2),
        eps=settings.adam_epsilon,
        fused=fuses_adamw(chosen_device()),
    )


def relative_groups(
    modules: Sequence[str],
    scales: Sequence[nn.Parameter],
    biases: Sequence[tuple[str, nn.Parameter]],
    rate: float,
    decay: float,
) -> list[dict[str, Any]]:
    """Parameter groups of RED's vectors for the relative learning rate `rate`: all scales, and each bias by itself.

    The rate is divided by the number of edited modules in a layer, since their edits add up. Scales have no weight
    decay. `set_units` multiplies the rate of each bias by the spread of its module's output. Measured: docs/results.md.

    Args:
        modules: the paths of the edited modules.
        biases: (path of the edited module, its bias).
    """
    share = 1 / most_in_a_layer(modules)
    return [
        {"params": list(scales), "lr": rate * share, "weight_decay": 0.0, _UNIT: share},
        *(
            {"params": [bias], "lr": rate * share, "weight_decay": decay, _MODULE: path, _UNIT: share}
            for path, bias in biases
        ),
    ]


def _absolute_groups(trained: Trained, rate: float, decay: float) -> list[dict[str, Any]]:
    """Parameter groups of a method for one learning rate: those without weight decay, and those with it."""
    spared = [name for name in trained.method_parameters if name in trained.no_decay]
    decayed = [name for name in trained.method_parameters if name not in trained.no_decay]
    return [
        {"params": trained.parameters(spared), "lr": rate, "weight_decay": 0.0},
        {"params": trained.parameters(decayed), "lr": rate, "weight_decay": decay},
    ]


def set_units(groups: Iterable[dict[str, Any]], spreads: Mapping[str, float]) -> None:
    """Multiply the relative learning rates of groups that have not stepped by the spread of the module's output.

    A module without a spread, such as an expert that no row reached, has the median spread of the others.

    Args:
        groups: of `relative_groups`, or of an optimiser that has them.
        spreads: path of a module -> the spread of its output.
    """
    known = sorted(value for value in spreads.values() if value > 0)
    middle = known[len(known) // 2] if known else 1.0
    for group in groups:
        if _MODULE in group:
            spread = spreads.get(group[_MODULE]) or middle
            group[_UNIT] *= spread
            group["lr"] *= spread


def learning_rate_of(optimizer: torch.optim.Optimizer) -> float:
    """The optimiser's learning rate in its unit: of the first group, relative to the spread if it is relative."""
    group = optimizer.param_groups[0]
    return float(group["lr"]) / float(group.get(_UNIT, 1.0))
