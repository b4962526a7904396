"""A model with a method attached: its trainable parameters by role."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import PreTrainedModel

from red_cli.edit.layer import cast_to_float32
from red_cli.edit.model import Counts, full_size


@dataclass
class Trained:
    """A model with a method attached.

    Attributes:
        modules: paths of the modules that the method adds parameters to.
        method_parameters: names of the method's own parameters.
        head: names of the trainable parameters of the head.
        no_decay: those of `method_parameters` without weight decay, since they do not start at 0.
        base_size: number of parameters of the base without its head.
    """

    model: PreTrainedModel
    modules: list[str]
    method_parameters: list[str]
    head: list[str]
    base_size: int
    no_decay: set[str] = field(default_factory=set)

    def parameters(self, names: list[str]) -> list[nn.Parameter]:
        """The parameters of these names, in order."""
        return [self.model.get_parameter(name) for name in names]

    @property
    def names(self) -> list[str]:
        """The names of all trainable parameters."""
        return [*self.method_parameters, *self.head]

    @property
    def counts(self) -> Counts:
        """Numbers of parameters by role; `edited` counts those of the method."""
        sizes = [
            sum(parameter.numel() for parameter in self.parameters(names))
            for names in (self.method_parameters, self.head)
        ]
        return Counts(edited=sizes[0], head=sizes[1], base=self.base_size)


def base_size(model: PreTrainedModel, head: list[str]) -> int:
    """The number of parameters of a model without adapters and without its head."""
    return sum(full_size(parameter) for name, parameter in model.named_parameters() if name not in set(head))


def set_trainable(model: PreTrainedModel, names: list[str], head: list[str]) -> None:
    """Freeze all parameters except `names` and `head`, which become float32, as do the inputs of the head."""
    model.requires_grad_(False)
    lower = {name.rpartition(".")[0] for name in head if model.get_parameter(name).dtype != torch.float32}
    for name in (*names, *head):
        parameter = model.get_parameter(name)
        parameter.data = parameter.data.float()
        parameter.requires_grad_(True)
    for owner in lower:
        model.get_submodule(owner).register_forward_pre_hook(cast_to_float32)
