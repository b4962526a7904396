"""Parameter groups for a training loop of one's own, with the relative learning rates of `red train`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from red_cli.edit.attached_adapters import attachment, require_attachment
from red_cli.errors import UserError
from red_cli.methods.red import trained_red
from red_cli.recipe.methods import METHODS
from red_cli.train.optimizer import relative_groups, set_units
from red_cli.train.output_spread import measure_output_spread

_MASK = "attention_mask"


def parameter_groups(
    model: nn.Module,
    batches: Iterable[Mapping[str, Any]],
    *,
    learning_rate: float | None = None,
    head_learning_rate: float | None = None,
    weight_decay: float = 0.0,
) -> list[dict[str, Any]]:
    """Parameter groups of a model with edits, in a training loop of one's own: the learning rates of `red train`.

    The learning rate of each bias is relative to the spread of its module's output, which a forward pass without edits
    over `batches` measures. Give the groups to any optimiser of torch before it steps. They stay valid when training
    resumes, since the optimiser's state has the learning rates.

    Args:
        model: with the edits of `attach`, or in PEFT's model.
        batches: inputs of the model, such as what a tokenizer returns for 8 to 32 texts. Values are tensors of shape
            (rows, …); an `attention_mask` of shape (rows, tokens) tells the padding, which is not measured.
        learning_rate: relative; None: the usual one of the method, 2e-2.
        head_learning_rate: of all that trains besides the vectors; None: `learning_rate`.
        weight_decay: of biases and the head. Scales have none.

    Returns:
        The groups: the scales, each bias, and what trains besides the vectors.

    Raises:
        UserError: the model has no edits, no adapter is active, or `batches` has no row.
    """
    edited = _edited_model(model)
    trained = trained_red(edited)
    rate = METHODS["red"].relative_rate if learning_rate is None else learning_rate
    assert rate is not None
    groups = relative_groups(trained, rate, weight_decay)
    set_units(groups, _output_spreads(edited, trained.modules, batches))
    vectors = {id(parameter) for group in groups for parameter in group["params"]}
    others = [each for each in model.parameters() if each.requires_grad and id(each) not in vectors]
    groups.append({"params": others, "lr": head_learning_rate or rate, "weight_decay": weight_decay})
    return [group for group in groups if group["params"]]


def _edited_model(model: nn.Module) -> PreTrainedModel:
    """The model itself, or the model in it, that has the edits."""
    found = next((module for module in model.modules() if attachment(module) is not None), model)
    require_attachment(found)
    assert isinstance(found, PreTrainedModel)
    return found


def _output_spreads(
    model: PreTrainedModel, paths: list[str], batches: Iterable[Mapping[str, Any]]
) -> Mapping[str, float]:
    """Path of an edited module -> the spread of its output over the rows of `batches`, without the edits."""
    rows = [row for batch in batches for row in _rows_without_padding(batch)]
    if not rows:
        raise UserError("no-rows", "no batch to measure the outputs with", hint="Give at least one batch of inputs.")
    device = next(model.parameters()).device

    def forward() -> None:
        for row in rows:
            model(**{name: value.to(device) for name, value in row.items()})

    selection = require_attachment(model).selection
    active, selection.active = selection.active, None
    try:
        return measure_output_spread(model, paths, forward)[1]
    finally:
        selection.active = active


def _rows_without_padding(batch: Mapping[str, Any]) -> Iterable[dict[str, Tensor]]:
    """Each row of a batch as a batch of one, cut to the tokens that its attention mask shows."""
    tensors = {name: torch.as_tensor(value) for name, value in batch.items() if value is not None}
    mask = tensors.get(_MASK)
    for row in range(len(next(iter(tensors.values()), []))):
        kept = None if mask is None else mask[row].bool()
        yield {
            name: value[row : row + 1, kept] if mask is not None and value.shape == mask.shape else value[row : row + 1]
            for name, value in tensors.items()
        }
