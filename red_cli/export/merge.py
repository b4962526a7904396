"""Fold a model's edits into its weights and write an ordinary model that plain transformers loads."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from red_cli.edit.architectures import ARCHITECTURES
from red_cli.edit.fold import fold
from red_cli.errors import UserError


def merge(model: PreTrainedModel) -> PreTrainedModel:
    """Fold the edits of `model`; the result is saved and loaded like any model of its architecture.

    Where projections gain a bias that the architecture makes optional, its configuration says so and the other
    projections under the same key get zeros.

    Raises:
        UserError: a projection gains a bias for which the architecture has no place.
    """
    gained = fold(model)
    if not gained:
        return model
    architecture = ARCHITECTURES.get(model.config.model_type)
    if architecture is None or architecture.bias_switch is None:
        raise UserError(
            f"a {model.config.model_type} model has no place for the bias of {gained[0]}",
            hint="Train with red.components=[scale], which folds everywhere, or keep the adapter.",
        )
    setattr(model.config, architecture.bias_switch, True)
    with torch.device("meta"):
        housed = type(model)(model.config)
    lacking = {name for name, _ in housed.named_parameters()} - {name for name, _ in model.named_parameters()}
    for name in lacking:
        module, _, kind = name.rpartition(".")
        zeros = torch.zeros(housed.get_parameter(name).shape, dtype=model.dtype, device=model.device)
        model.get_submodule(module).register_parameter(kind, torch.nn.Parameter(zeros))
    return model
