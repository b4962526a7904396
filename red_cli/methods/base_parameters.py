"""Methods that train parameters of the base."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from red_cli.edit.attached_adapters import full_size
from red_cli.edit.recorded_base import BaseDigest, require_same_base
from red_cli.edit.trained_head import cast_to_weight
from red_cli.errors import UserError
from red_cli.methods.method import Method, Rates, Trained
from red_cli.methods.trained_description import read_trained_config
from red_cli.methods.trained_tensors import copy_trained, write_trained
from red_cli.recipe.methods import MethodName

_WEIGHTS_FILE = "trained.safetensors"


def names_of_parameters(model: PreTrainedModel) -> list[str]:
    """The names of the base parameters among which methods choose what they train: all of the model's."""
    return [name for name, _ in model.named_parameters()]


def method_of_base_parameters(name: MethodName, choose: Callable[[PreTrainedModel], list[str]], rates: Rates) -> Method:
    """A method that trains some of the base's parameters.

    Args:
        choose: model -> names of the trainable parameters; those of the head may be among them.
    """

    def attach(model: PreTrainedModel, options: None, head: list[str]) -> Trained:
        names = [parameter for parameter in choose(model) if parameter not in set(head)]
        if not names and not head:
            kind = model.config.model_type
            raise UserError("unsupported-model", f"method {name} has nothing to train: this {kind} model has no head")
        _require_float32(name, model, names)
        size = base_size(model, head)
        set_trainable(model, names, head)
        # biases and norms customarily have no weight decay
        vectors = {parameter for parameter in names if model.get_parameter(parameter).dim() == 1}
        return Trained(model, [], names, head, size, no_decay=vectors)

    def save(trained: Trained, folder: Path, options: None, revision: str | None, digest: BaseDigest | None) -> None:
        write_trained(
            folder, trained.model, name, {}, trained.head, _parameters(trained), _WEIGHTS_FILE, revision, digest
        )

    def load(model: PreTrainedModel, folder: Path) -> Trained:
        stored = read_trained_config(folder)
        require_same_base(model, stored, folder)
        trained = attach(model, None, stored.head)
        _load_weights(trained, folder)
        return trained

    return Method(attach, save, load, _load_weights, rates)


def _require_float32(method: MethodName, model: PreTrainedModel, names: list[str]) -> None:
    """Check that the base's parameters to be trained are float32."""
    dtypes = {model.get_parameter(name).dtype: None for name in names}
    if lower := [dtype for dtype in dtypes if dtype != torch.float32]:
        raise UserError(
            "unsupported-model",
            f"method {method} trains the base's own parameters, which are {str(lower[0]).removeprefix('torch.')} here",
            hint="Set model.dtype=float32 (train.bf16 still computes in bfloat16), without model.quantization.",
        )


def _parameters(trained: Trained) -> dict[str, nn.Parameter]:
    """The trained parameters of the base, by name."""
    return dict(zip(trained.names, trained.parameters(trained.names), strict=True))


def _load_weights(trained: Trained, folder: Path) -> None:
    """Load the saved values of the trained base parameters into the model."""
    copy_trained(folder, _parameters(trained))


def set_trainable(model: PreTrainedModel, names: list[str], head: list[str]) -> None:
    """Freeze all parameters except `names` and `head`, which become float32, as do the inputs of the head."""
    model.requires_grad_(False)
    lower = {name.rpartition(".")[0] for name in head if model.get_parameter(name).dtype != torch.float32}
    for name in (*names, *head):
        parameter = model.get_parameter(name)
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
    for owner in lower:
        model.get_submodule(owner).register_forward_pre_hook(cast_to_weight)


def base_size(model: PreTrainedModel, head: list[str]) -> int:
    """The number of the base's own parameters, without adapters and without its head."""
    return sum(full_size(parameter) for name, parameter in model.named_parameters() if name not in set(head))
