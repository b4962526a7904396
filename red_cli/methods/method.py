"""The interface of a method: attach, save and load, and its learning rates; and the method of a name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from red_cli.edit.attached_adapters import Counts
from red_cli.edit.recorded_base import BaseDigest
from red_cli.edit.repeated_layers import most_in_a_layer
from red_cli.recipe.methods import MethodName


@dataclass
class Trained:
    """A model with a method attached.

    Attributes:
        modules: paths of the modules that the method adds parameters to.
        method_parameters: names of the method's own parameters.
        head: names of the trainable parameters of the head.
        no_decay: those of `method_parameters` without weight decay, since they do not start at 0.
        module_of_bias: those of `method_parameters` that are added to a module's output -> the path of the module.
        base_size: number of parameters of the base without its head.
    """

    model: PreTrainedModel
    modules: list[str]
    method_parameters: list[str]
    head: list[str]
    base_size: int
    no_decay: set[str] = field(default_factory=set)
    module_of_bias: dict[str, str] = field(default_factory=dict)

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


@dataclass(frozen=True)
class Rates:
    """A method's learning rates, tuned on GLUE tasks and one base (docs/results.md).

    Attributes:
        lowest, highest: bounds of the search.
        usual: a good rate for an unknown base and unknown data.
        below_edge: the rate at which a short run becomes unstable, divided by a good rate.
    """

    lowest: float
    highest: float
    usual: float
    below_edge: float = 2.5


@dataclass(frozen=True)
class Method:
    """A method. `red_cli.recipe.methods` has the properties that are known before anything is loaded.

    Attributes:
        attach: (model, options, names of the head's parameters) -> what trains.
        save: write (what was trained) to (a folder), with (options, revision and digest of the base).
        load: attach the trained tensors of a folder to a model.
        load_weights: copy the trained tensors of a folder into a model with this method attached.
        rates: its learning rates.
        rates_of_several: its learning rates with several modules per layer, if they differ.
    """

    attach: Callable[[PreTrainedModel, Any, list[str]], Trained]
    save: Callable[[Trained, Path, Any, str | None, BaseDigest | None], None]
    load: Callable[[PreTrainedModel, Path], Trained]
    load_weights: Callable[[Trained, Path], None]
    rates: Rates
    rates_of_several: Rates | None = None

    def rates_for(self, modules: Sequence[str]) -> Rates:
        """The learning rates for a model with the method on these module paths."""
        if self.rates_of_several is not None and most_in_a_layer(modules) > 1:
            return self.rates_of_several
        return self.rates


def method_named(name: MethodName) -> Method:
    """The `METHOD` of the module of this name, to attach, save or load."""
    method: Method = importlib.import_module(f"{__package__}.{name}").METHOD
    return method
