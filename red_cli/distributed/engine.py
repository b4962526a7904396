"""Engines: how gradients become an optimiser step over all ranks. DeepSpeed's is in deepspeed.py.

The gradients are so few that one hand-written all-reduce per step replaces DistributedDataParallel and its buckets.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from red_cli.distributed.process_group import Processes
from red_cli.methods.method import Trained


class NotFinite(Exception):
    """The engine's error for a loss or a gradient that is not finite; the message says which."""


class Engine(Protocol):
    """Turns losses into optimiser steps.

    Attributes:
        model: the module whose forward pass trains.
        sharded: whether each rank holds only a part of the base, so that every forward pass is collective.
    """

    model: nn.Module
    sharded: bool

    def set_accumulation_boundary(self, last: bool) -> None:
        """Announce a forward and backward pass; `last` is true for the last micro-batch of a step."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of this rank's share of the step's loss."""

    def step(self, limit: float | None) -> float:
        """All-reduce the gradients, clip their norm to `limit`, and step; returns the norm before clipping.

        Raises:
            NotFinite: the norm is not finite; the run cannot continue.
        """

    def gathered_parameters(self, change: bool = False) -> AbstractContextManager[Any]:
        """Gather the full trainable parameters on this rank; with `change`, rank 0's writes are broadcast."""

    def optimizer_state(self) -> dict[str, Any]:
        """The unsharded optimiser state in the format of torch's AdamW. All ranks call it."""

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        """Load a state in the format of `optimizer_state`."""


class Replicated:
    """Keeps the trainable parameters and the optimiser on every rank, and all-reduces the gradients once a step.

    It works for replicated bases (single, ddp) and for sharded ones (fsdp).
    """

    def __init__(
        self, model: nn.Module, trained: Trained, optimizer: torch.optim.Optimizer, processes: Processes, sharded: bool
    ) -> None:
        self.model, self.sharded = model, sharded
        self.optimizer, self.processes = optimizer, processes
        self.parameters = trained.parameters(trained.names)

    def set_accumulation_boundary(self, last: bool) -> None: ...

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def reduce_and_clip_gradients(self, limit: float | None) -> float:
        """All-reduce and clip the gradients without stepping; the results and errors are those of `step`."""
        if self.processes.count > 1:
            self._all_reduce_gradients()
        norm = float(nn.utils.clip_grad_norm_(self.parameters, math.inf if limit is None else limit))
        if not math.isfinite(norm):
            raise NotFinite(f"gradient norm {norm}")
        return norm

    def step(self, limit: float | None) -> float:
        norm = self.reduce_and_clip_gradients(limit)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return norm

    def gathered_parameters(self, change: bool = False) -> AbstractContextManager[Any]:
        return nullcontext()

    def optimizer_state(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)

    @torch.no_grad()
    def _all_reduce_gradients(self) -> None:
        """Sum the gradients over the ranks; a parameter that has no gradient on any rank is not stepped."""
        had = torch.tensor([parameter.grad is not None for parameter in self.parameters], dtype=torch.float32)
        had = had.to(self.processes.device)
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self.processes.all_reduce_(
            [had, *(parameter.grad for parameter in self.parameters if parameter.grad is not None)]
        )
        for parameter, processes in zip(self.parameters, had.tolist(), strict=True):
            if processes == 0:
                parameter.grad = None
