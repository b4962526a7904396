"""What a method can do: attach to a model, save what it trained, load it; and the learning rates that suit it."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from red_cli.edit.adapter_config import BaseDigest
from red_cli.errors import UserError
from red_cli.methods.rates import Rates, most_in_a_layer
from red_cli.methods.trained import Trained
from red_cli.recipe.methods import METHODS, MethodName


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


def require_package(name: MethodName) -> None:
    """Check that the package that a method needs is there.

    Raises:
        UserError: it is not.
    """
    spec = METHODS[name]
    if spec.package is not None and importlib.util.find_spec(spec.package) is None:
        raise UserError(
            f"method {name}: {spec.package} is not installed", hint=f"Install it: pip install 'red-cli[{spec.extra}]'"
        )
