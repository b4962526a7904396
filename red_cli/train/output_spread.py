"""The spread of each edited module's own output, by which a report judges the size of its bias."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from red_cli.files import write_json
from red_cli.train.session import Session

_ROWS = 8


def write_output_spread(session: Session) -> None:
    """Measure the output spread of a trained model, and write it to the run folder. Nothing else changes.

    A sharded base is not measured, nor a method without edits.
    """
    if not session.recipe.method_spec.edits or session.engine.sharded or not session.processes.main:
        return
    encoder, encoded = session.prepared.encoder, session.prepared.encoded["train"]
    rows = np.unique(np.linspace(0, len(encoded) - 1, _ROWS).astype(np.int64))

    def forward() -> None:
        for row in rows:  # one at a time: no padding
            encoder.loss(session.model, encoder.collate(encoded, np.array([row])).to(session.processes.device))

    tokens, modules = measure_output_spread(session.model, session.trained.modules, forward)
    write_json(session.folder.output_spread, {"rows": len(rows), "tokens": tokens, "modules": modules})


def measure_output_spread(
    model: nn.Module, paths: Sequence[str], forward: Callable[[], None]
) -> tuple[int, dict[str, float]]:
    """The most tokens that a module saw, and path -> standard deviation of its output before the edit, over tokens.

    The deviation is the root of the mean variance of the d values. Modes and generators stay as they are.

    Args:
        forward: runs `model` on a few rows without padding.
    """
    spreads = {path: _Spread() for path in paths}
    hooks = [
        model.get_submodule(path).register_forward_hook(spread.hook, prepend=True)  # before the edit
        for path, spread in spreads.items()
    ]
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng():
            forward()
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    tokens = max((spread.tokens for spread in spreads.values()), default=0)
    return tokens, {path: spread.value for path, spread in spreads.items() if spread.tokens > 1}


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
            values = output.detach().reshape(-1, output.shape[-1]).cpu().double()
            self.tokens += len(values)
            self.sums = self.sums + values.sum(dim=0)
            self.squares = self.squares + values.square().sum(dim=0)

        return add

    @property
    def value(self) -> float:
        """The standard deviation of the d values of the output spread, as one number."""
        mean = torch.as_tensor(self.sums) / self.tokens
        variance = torch.as_tensor(self.squares) / self.tokens - mean.square()
        return float(variance.clamp(min=0).mean().sqrt())
