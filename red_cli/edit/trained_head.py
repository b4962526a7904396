"""The trained head: the names of its parameters, their training, and its inputs in its own dtype."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import MODEL_MAPPING, PreTrainedModel

from red_cli.edit.attached_adapters import active_adapter, require_attachment, vector_ids
from red_cli.edit.model_kinds import kind_of
from red_cli.errors import UserError
from red_cli.formatting import some_of

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


def parameters_to_train(model: PreTrainedModel, wanted: bool | Sequence[str]) -> list[str]:
    """The names of the parameters of the base that train once the edits are attached: the head's, or those named.

    Raises:
        UserError: there is no parameter or module of a name, or a parameter is quantised.
    """
    if isinstance(wanted, bool):
        names = head_and_new_poolers(model) if wanted else []
    else:
        names = _named(model, [wanted] if isinstance(wanted, str) else wanted)
    for name in names:
        if not model.get_parameter(name).is_floating_point():
            raise UserError(
                "unsupported-model",
                f"{name} is quantised and cannot train",
                hint=f"Load the base with llm_int8_skip_modules=[{name.split('.')[0]!r}], or set train_head=False.",
            )
    return names


def _named(model: PreTrainedModel, wanted: Sequence[str]) -> list[str]:
    """The parameters of these names and those in modules of these names, in the model's order, tied ones once."""
    vectors = vector_ids(model)
    every = {
        name: parameter
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if id(parameter) not in vectors
    }
    found: set[int] = set()
    for each in wanted:
        chosen = {id(parameter) for name, parameter in every.items() if f"{name}.".startswith(f"{each}.")}
        if not chosen:
            known = head_parameter_names(model) or [name for name, _ in model.named_children()]
            raise UserError(
                "unknown-name",
                f"train_head: the model has no parameter or module {each!r}",
                hint=f"There is: {some_of(known)}",
            )
        found |= chosen
    return [name for name, parameter in model.named_parameters() if id(parameter) in found]


def train_head(model: PreTrainedModel, names: list[str]) -> None:
    """Make parameters of the base trainable as part of the active adapter, which is saved with them.

    Those of a head become float32, as the vectors are; their modules' inputs are cast to match.
    """
    attached, active = require_attachment(model), active_adapter(model)
    float32 = {*head_parameter_names(model), *(name for name in names if POOLER in name.split("."))}
    for name in names:
        parameter = model.get_parameter(name)
        attached.base_head.setdefault(name, parameter.detach().clone())
        if name in float32:
            parameter.data = parameter.data.float()
        active.head[name] = parameter.requires_grad_(True).detach().clone()
    for owner in {name.rpartition(".")[0] for name in names if name in float32}:
        if owner not in attached.casts and any(attached.base_head[name].dtype != torch.float32 for name in names):
            attached.casts[owner] = model.get_submodule(owner).register_forward_pre_hook(cast_to_weight)
