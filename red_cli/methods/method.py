"""The interface of a method: attach, save and load; its learning rates; the package it needs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from red_cli.edit.adapter_config import BaseDigest
from red_cli.methods.trained import Trained


@dataclass(frozen=True)
class Rates:
    """Learning rates of a method. Those of the methods here were set on GLUE tasks and one base (docs/results.md).

    Attributes:
        lowest, highest: that a search may choose.
        usual: a good one where nothing is known of the base and the data.
        below_edge: by what factor a good rate lies below the one at which a short run becomes unstable.
    """

    lowest: float
    highest: float
    usual: float
    below_edge: float = 2.5


def most_in_a_layer(modules: Sequence[str]) -> int:
    """The most modules in one layer, a layer being the part of a path up to its first number."""
    layers = [match[0] if (match := re.match(r".*?\.\d+(?=\.)", path)) else path for path in modules]
    return max(Counter(layers).values(), default=0)


@dataclass(frozen=True)
class Method:
    """A method; `red_cli.recipe.methods` says what is known of it before anything is loaded.

    Attributes:
        attach: puts it on a model, given its options and the names of the head's parameters.
        save: writes what was trained to a folder, given its options, and the base's revision and digest.
        load: attaches what a folder holds to a model.
        load_weights: copies what a folder holds into a model with the method on it.
        rates: its learning rates.
        rates_of_several: those where it has several modules in a layer, if they differ.
    """

    attach: Callable[[PreTrainedModel, Any, list[str]], Trained]
    save: Callable[[Trained, Path, Any, str | None, BaseDigest | None], None]
    load: Callable[[PreTrainedModel, Path], Trained]
    load_weights: Callable[[Trained, Path], None]
    rates: Rates
    rates_of_several: Rates | None = None

    def rates_for(self, modules: Sequence[str]) -> Rates:
        """The rates for a model on which the method has these modules, given by their paths."""
        if self.rates_of_several is not None and most_in_a_layer(modules) > 1:
            return self.rates_of_several
        return self.rates
