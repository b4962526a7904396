"""The trained head: the names of its parameters, and its inputs in its own dtype."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import MODEL_MAPPING, PreTrainedModel

from red_cli.edit.attached_adapters import vector_ids
from red_cli.edit.model_kinds import kind_of

POOLER = "pooler"  # the part of a base that may be missing in its files
LOADED = "_is_hf_initialized"  # transformers' mark of parameters that it loaded from files


def head_parameter_names(model: PreTrainedModel) -> list[str]:
    """The names of the trained head's parameters: those outside `model.base_model` and attached adapters.

    A language model has no head: its output layer is pretrained, and often shares the embedding table.
    """
    kind = kind_of(model)
    if not kind.trains_head if kind is not None else model.get_output_embeddings() is not None:
        return []
    base, vectors = model.base_model, vector_ids(model)
    if base is model:
        outside = {f"{part}." for part, _ in model.named_children()} - _parts_of_base(model)
        named = [name for name, _ in model.named_parameters() if name.startswith(tuple(outside))]
    else:
        inside = {id(parameter) for parameter in base.parameters()}
        named = [name for name, parameter in model.named_parameters() if id(parameter) not in inside]
    return [name for name in named if id(model.get_parameter(name)) not in vectors]


def head_and_new_poolers(model: PreTrainedModel) -> list[str]:
    """The names of the trained head's parameters and, with a head, of poolers that the base's files do not hold."""
    wanted = {*head_parameter_names(model), *new_parameter_names(model)}
    return [name for name, _ in model.named_parameters() if name in wanted]


def new_parameter_names(model: PreTrainedModel) -> list[str]:
    """The names of parameters of a trained head and its pooler that are random: the base's files do not hold them.

    transformers marks the parameters that it loads. In a model that was not loaded from files none is: no name then.
    """
    head = {*head_parameter_names(model)}
    marks = {name: getattr(parameter, LOADED, False) for name, parameter in model.named_parameters()}
    if not head or not any(marks.values()):
        return []
    return [name for name, loaded in marks.items() if not loaded and (name in head or POOLER in name.split("."))]


def _parts_of_base(model: PreTrainedModel) -> set[str]:
    """The parts of the base's class as beginnings of names, for a class that adds its head to them in one module."""
    kind = MODEL_MAPPING.get(type(model.config), None)
    if kind is None or isinstance(model, kind):
        return {f"{part}." for part, _ in model.named_children()}
    with torch.device("meta"):
        return {f"{part}." for part, _ in kind(model.config).named_children()}


def cast_to_weight(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The forward pre-hook of a trained head of another dtype than the base, which casts the head's inputs to it."""
    dtype = next(module.parameters(recurse=False)).dtype
    return tuple(
        value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value for value in inputs
    )
