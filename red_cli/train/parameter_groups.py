"""Parameter groups for a training loop of one's own, with the relative learning rates of `red train`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from red_cli.edit.layer import RedEdit, Vectors
from red_cli.edit.pass_without_cache import output_without_cache
from red_cli.errors import UserError
from red_cli.recipe.methods import METHODS
from red_cli.train.optimizer import relative_groups, set_units
from red_cli.train.output_spread import measure_output_spread


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
            (rows, …); an `attention_mask` of shape (rows, tokens) tells the padding, which is not measured. Labels of
            an encoder-decoder are cut where they are -100 or padding, its decoder's inputs by their own mask.
        learning_rate: relative; None: the usual one of the method, 5e-2.
        head_learning_rate: of all that trains besides the vectors; None: `learning_rate`.
        weight_decay: of biases and the head. Scales have none.

    Returns:
        The groups: the scales, each bias, and what trains besides the vectors.

    Raises:
        UserError: no edit of the model trains, or `batches` has no row.
    """
    edits = {path.removesuffix(".red"): edit for path, edit in model.named_modules() if isinstance(edit, RedEdit)}
    trained = [(path, vectors) for path, edit in edits.items() for vectors in _trained_vectors(edit)]
    if not trained:
        raise UserError("invalid-adapter-name", "no edit of the model trains", hint="Attach an adapter first.")
    rate = METHODS["red"].relative_rate if learning_rate is None else learning_rate
    assert rate is not None
    modules = list(dict.fromkeys(path for path, _ in trained))
    scales = [vectors.scale for _, vectors in trained if isinstance(vectors.scale, nn.Parameter)]
    biases = [(path, vectors.bias) for path, vectors in trained if isinstance(vectors.bias, nn.Parameter)]
    groups = relative_groups(modules, scales, biases, rate, weight_decay)
    set_units(groups, _output_spreads(model, edits, modules, batches))
    known = {id(parameter) for group in groups for parameter in group["params"]}
    others = [parameter for parameter in model.parameters() if parameter.requires_grad and id(parameter) not in known]
    groups.append(
        {
            "params": others,
            "lr": rate if head_learning_rate is None else head_learning_rate,
            "weight_decay": weight_decay,
        }
    )
    return [group for group in groups if group["params"]]


def _trained_vectors(edit: RedEdit) -> list[Vectors]:
    """The vectors of the adapters of one module that train."""
    every = [edit.vectors(name) for name in edit.names()]
    return [
        vectors
        for vectors in every
        if vectors is not None
        and any(part is not None and part.requires_grad for part in (vectors.scale, vectors.bias))
    ]


def _output_spreads(
    model: nn.Module, edits: Mapping[str, RedEdit], modules: Sequence[str], batches: Iterable[Mapping[str, Any]]
) -> Mapping[str, float]:
    """Path of an edited module -> the spread of its output over the rows of `batches`, without the edits."""
    config: PretrainedConfig = model.config
    rows = [row for batch in batches for row in _rows_without_padding(batch, config)]
    if not rows:
        raise UserError("no-rows", "no batch to measure the outputs with", hint="Give at least one batch of inputs.")
    device = next(model.parameters()).device

    def forward() -> None:
        for row in rows:
            output_without_cache(model, {name: value.to(device) for name, value in row.items()})

    selections = {id(edit.selection): edit.selection for edit in edits.values()}.values()
    for selection in selections:
        selection.rows = [None]  # the one row of each batch is not edited
    try:
        return measure_output_spread(model, modules, forward)[1]
    finally:
        for selection in selections:
            selection.rows = None


def _rows_without_padding(batch: Mapping[str, Any], config: PretrainedConfig) -> Iterable[dict[str, Tensor]]:
    """Each row of a batch as a batch of one, cut to the tokens that are no padding."""
    tensors = {name: torch.as_tensor(value) for name, value in batch.items() if value is not None}
    for row in range(len(next(iter(tensors.values()), []))):
        kept = {name: _no_padding(name, tensors, row, config) for name in tensors}
        yield {
            name: value[row : row + 1] if kept[name] is None else value[row : row + 1, kept[name]]
            for name, value in tensors.items()
        }


def _no_padding(name: str, tensors: Mapping[str, Tensor], row: int, config: PretrainedConfig) -> Tensor | None:
    """The tokens of one row of the input `name` that are no padding, as truth values; None: all."""
    value, mask = tensors[name], tensors.get("attention_mask")
    if config.is_encoder_decoder and name == "labels":
        return (value[row] != -100) & (value[row] != config.pad_token_id)
    if name.startswith("decoder_"):
        mask = tensors.get("decoder_attention_mask")
    return mask[row].bool() if mask is not None and mask.shape == value.shape else None
