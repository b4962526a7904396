"""How gradients become an optimiser step over all processes: on what is whole everywhere, or by DeepSpeed (zero.py)."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from red_cli.distributed.processes import Processes
from red_cli.edit.search import blocks
from red_cli.methods.trained import Trained


class NotFinite(Exception):
    """The loss, or the gradient, is not finite; the message says which."""


class Engine(Protocol):
    """What turns losses into steps.

    Attributes:
        model: what is called to train.
        sharded: whether each process holds a part of the base only, so that every forward pass is a matter of all.
    """

    model: nn.Module
    sharded: bool

    def set_accumulation_boundary(self, last: bool) -> None:
        """A forward and backward pass follows; `last` of its step."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of this process's share of the step's loss."""

    def step(self, limit: float | None) -> float:
        """Sum the gradients over the processes, clip their norm to `limit`, step; returns the norm before.

        Raises:
            NotFinite: it is not finite; the run cannot go on.
        """

    def gathered_parameters(self, change: bool = False) -> AbstractContextManager[Any]:
        """Inside the block what trains is whole in this process, to be read, or changed by the main one alike."""

    def optimizer_state(self) -> dict[str, Any]:
        """The optimiser's state, whole, as torch's AdamW gives it, whatever the engine; called by all."""

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        """Take up such a state."""


class Replicated:
    """What trains and its optimiser are whole in every process; gradients are summed by one message for each step.

    That is all the base needs to know of other processes, be it whole in each (single, ddp) or in parts (fsdp).
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
        """Sum and clip the gradients, and stop there; the same results and errors as `step`."""
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
        """Sum the gradients over the processes; what has none in any of them keeps none, and is not stepped."""
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


def shard_base(model: PreTrainedModel, trained: Trained, processes: Processes) -> None:
    """Spread the frozen parameters of `model` over the processes, block by block; each is whole while it computes.

    What trains is left to the engine: the same tensor in every process, its gradients summed by one message.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    device = processes.device
    mesh = init_device_mesh(device.type, (processes.count,))
    parameters = set(trained.parameters(trained.names))
    for parameter in parameters:
        parameter.data = parameter.data.to(device)
    for module in (*blocks(model), model):
        kind, name = type(module), type(module).__name__
        fully_shard(module, mesh=mesh, ignored_params=parameters)
        if type(module) is not kind:
            type(module).__name__ = name  # an architecture is known by its class's name
