"""Engines: how gradients become an optimiser step over all ranks. DeepSpeed's is in deepspeed.py.

The gradients are so few that one hand-written all-reduce per step replaces DistributedDataParallel and its buckets. The
loss, the number of labelled items and the requests to stop travel with them. Full fine-tuning is in data_parallel.py.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from red_cli.distributed.device import skips_adamw
from red_cli.distributed.process_group import Processes
from red_cli.distributed.step_numbers import OwnShare, StepNumbers
from red_cli.methods.method import Trained
from red_cli.tasks.base import moved

_DIGIT = 4096  # a weight is sent as two float32 digits, whose sums over 4096 ranks are exact


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

    def divisor(self, weight: float) -> float:
        """What this rank divides the losses of a step by before their backward pass.

        Args:
            weight: of this rank's rows in the step.
        """

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of this rank's share of the step's loss."""

    def step(self, limit: float | None, own: OwnShare) -> StepNumbers:
        """All-reduce the gradients, clip their norm to `limit`, and step; return loss, norm and stop flag to be read.

        A step whose loss or norm is not finite is left out, and reading its numbers says so.
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

    def divisor(self, weight: float) -> float:
        """The weight of this rank, so that gradients have the size of a mean; the step weighs the ranks' means.

        Sums over all tokens may exceed float16. A rank without rows of its own has the weight 0.
        """
        return weight if self.processes.count == 1 else weight or 1.0

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def reduce_and_clip_gradients(self, limit: float | None, own: OwnShare) -> StepNumbers:
        """All-reduce and clip the gradients without stepping."""
        loss, stop = own.loss, torch.full_like(own.loss, own.stop)
        if self.processes.count > 1:
            loss, stop = self._all_reduce(own)
        norm = nn.utils.clip_grad_norm_(self.parameters, math.inf if limit is None else limit)
        return StepNumbers(loss, norm, stop)

    def step(self, limit: float | None, own: OwnShare) -> StepNumbers:
        numbers = self.reduce_and_clip_gradients(limit, own)
        if skips_adamw(self.processes.device) and all(group["fused"] for group in self.optimizer.param_groups):
            self.optimizer.found_inf = numbers.not_finite  # type: ignore[attr-defined]  # as torch's GradScaler does
        elif numbers.not_finite:
            return numbers
        self.optimizer.step()
        self.optimizer.zero_grad()
        return numbers

    def gathered_parameters(self, change: bool = False) -> AbstractContextManager[Any]:
        return nullcontext()

    def optimizer_state(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        # The run may have begun on a device with another kernel
        kernels = [
            {key: group[key] for key in ("fused", "foreach") if key in group} for group in self.optimizer.param_groups
        ]
        groups = [{**stored, **own} for stored, own in zip(state["param_groups"], kernels, strict=True)]
        self.optimizer.load_state_dict({**state, "param_groups": groups})

    @torch.no_grad()
    def _all_reduce(self, own: OwnShare) -> tuple[Tensor, Tensor]:
        """Turn the gradients of the ranks' mean losses into those of the mean over all ranks' items, by one message.

        A parameter that has no gradient on any rank gets none, and is not stepped.

        Returns:
            The mean loss over the labelled items of all ranks, and the number of ranks that were asked to stop.
        """
        has = [parameter.grad is not None for parameter in self.parameters]
        for parameter in self.parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        known = torch.tensor([float(own.stop), *divmod(own.weight, _DIGIT), *has])
        message = torch.cat([own.loss.reshape(1) * own.weight, moved(known, self.processes.device)])
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        torch._foreach_mul_(gradients, own.weight)
        self.processes.all_reduce_([message, *gradients])
        loss, stop, high, low, *_ = message[:4].unbind()
        weight = high * _DIGIT + low
        torch._foreach_div_(gradients, weight)
        if not all(has):  # else every parameter has a gradient, and the host need not wait for the message
            for parameter, ranks in zip(self.parameters, message[4:].tolist(), strict=True):
                if ranks == 0:
                    parameter.grad = None
        return loss / weight, stop
