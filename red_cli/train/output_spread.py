"""The spread of each edited module's own output: the unit of its bias's learning rate, and of reports on biases."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from red_cli.distributed.device import chosen_device, forked_generators
from red_cli.distributed.process_group import Processes
from red_cli.edit.attached_adapters import require_attachment
from red_cli.methods.method import Trained
from red_cli.plan.prepare import Prepared
from red_cli.runs.output_spread_file import OutputSpread

_LEAST_ROWS, _MOST_ROWS = 8, 32


def output_spread_of(trained: Trained, prepared: Prepared, batch_size: int, processes: Processes) -> OutputSpread:
    """Measure the output spread of the base without its edits on some training rows. All ranks call it.

    The rows are as many as a batch has, 8 to 32, evenly spaced in the split, so that the seed does not matter.
    """
    encoder, encoded = prepared.encoder, prepared.encoded["train"]
    count = min(max(batch_size, _LEAST_ROWS), _MOST_ROWS)
    rows = np.unique(np.linspace(0, len(encoded) - 1, count).astype(np.int64))

    def forward() -> None:
        for row in rows:  # one at a time: no padding
            encoder.loss(trained.model, encoder.collate(encoded, np.array([row])).to(processes.device))

    selection = require_attachment(trained.model).selection
    active, selection.active = selection.active, None
    try:
        tokens, modules = measure_output_spread(trained.model, trained.modules, forward)
    finally:
        selection.active = active
    # The last bits of the ranks may differ.
    return processes.broadcast(OutputSpread(len(rows), tokens, modules))


def measure_output_spread(
    model: nn.Module, paths: Sequence[str], forward: Callable[[], None]
) -> tuple[int, dict[str, float]]:
    """The most tokens that a module saw, and path -> spread of its output before the edit.

    The spread is the median over the d values of their standard deviation over tokens. A mean would be that of the few
    values that are far larger than all others in many decoders. Modes and generators stay as they are.

    Args:
        forward: runs `model` on a few rows without padding.
    """
    spreads = {path: _Spread() for path in paths}
    hooks = [
        model.get_submodule(path).register_forward_hook(spread.hook, prepend=True)  # before the edit
        for path, spread in spreads.items()
    ]
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad(), forked_generators(chosen_device()):
            forward()
    finally:
        for module in training:
            module.training = True
        for hook in hooks:
            hook.remove()
    tokens = max((spread.tokens for spread in spreads.values()), default=0)
    return tokens, {path: value for path, spread in spreads.items() if math.isfinite(value := spread.value)}


class _Spread:
    """The running variance of the d values of a module's output."""

    def __init__(self) -> None:
        self.tokens = 0
        self.sums: Tensor | float = 0.0
        self.squares: Tensor | float = 0.0

    @property
    def hook(self) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
        """A forward hook that adds the output, of shape (..., d)."""

        def add(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            values = output.detach().reshape(-1, output.shape[-1])
            if not len(values):  # an expert that no token reached
                return
            variance, mean = (each.cpu().double() for each in torch.var_mean(values.float(), dim=0, correction=0))
            self.tokens += len(values)
            self.sums = self.sums + len(values) * mean
            self.squares = self.squares + len(values) * (variance + mean.square())

        return add

    @property
    def value(self) -> float:
        """The median of the standard deviations of the d values; NaN of fewer than two tokens."""
        if self.tokens < 2:
            return math.nan
        mean = torch.as_tensor(self.sums) / self.tokens
        variance = torch.as_tensor(self.squares) / self.tokens - mean.square()
        return float(variance.clamp(min=0).sqrt().median())
