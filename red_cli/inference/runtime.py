"""A loaded model with its base, recipe, processes and listener, for prediction, chat and benchmarks."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from red_cli.base_model.load import to_device
from red_cli.base_model.prepare import longest_sequence, uses_bf16
from red_cli.distributed.device import chosen_device, set_device
from red_cli.distributed.process_group import SINGLE_PROCESS, Processes
from red_cli.recipe.schema import Recipe
from red_cli.runs.events import Listener
from red_cli.runs.load import load_model
from red_cli.runs.opened import Opened
from red_cli.tasks.base import Base


@dataclass(frozen=True)
class Runtime:
    """A model on its device, with all that prediction needs.

    Attributes:
        recipe: its precision, seed and evaluation options apply.
        processes: the ranks that share the rows.
        sharded: whether each rank holds a part of the base only, so that every forward pass is collective.
    """

    model: PreTrainedModel
    base: Base
    recipe: Recipe
    listener: Listener
    processes: Processes = SINGLE_PROCESS
    sharded: bool = False

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The base's tokenizer."""
        return self.base.tokenizer

    @property
    def context(self) -> int:
        """The context length of the base, in tokens."""
        return longest_sequence(self.model.config, self.base.tokenizer)

    def autocast(self) -> AbstractContextManager[Any]:
        """Compute in the recipe's precision inside the block."""
        if not uses_bf16(self.recipe.train):
            return nullcontext()
        return torch.autocast(self.model.device.type, torch.bfloat16)

    def without_gradients(self) -> AbstractContextManager[Any]:
        """Record no gradients inside the block; a sharded base cannot use inference mode."""
        return torch.no_grad() if self.sharded else torch.inference_mode()


def load_runtime(opened: Opened, base: Base, listener: Listener) -> Runtime:
    """Load a trained model to the device that training would use.

    Raises:
        UserError: as `load_model`.
    """
    device = chosen_device()
    set_device(device)
    model = load_model(opened, base, device)
    to_device(model, device)
    return Runtime(model, base, opened.recipe, listener, Processes(device=device))
