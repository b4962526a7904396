"""Full fine-tuning on several processes: gradients as large as the base are summed while the backward pass runs."""

from __future__ import annotations

import inspect
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from red_cli.distributed.engine import Replicated
from red_cli.distributed.process_group import Processes
from red_cli.distributed.step_numbers import OwnShare
from red_cli.methods.method import Trained

_BUFFERS = ("forward_sync_buffers", "broadcast_buffers")  # names of one option, the second before torch 2.13
_OPTIONS: dict[str, Any] = {
    "find_unused_parameters": True,  # such as experts that no token reached
    "gradient_as_bucket_view": True,
    next(name for name in _BUFFERS if name in inspect.signature(DistributedDataParallel).parameters): False,
}


class DataParallel(Replicated):
    """Does as `Replicated`, with torch's DistributedDataParallel instead of one all-reduce after the backward pass.

    It wraps the model at the first step, since it would count the backward passes that try micro-batches before.
    """

    _replica: DistributedDataParallel | None = None

    def __init__(self, trained: Trained, optimizer: torch.optim.Optimizer, processes: Processes) -> None:
        super().__init__(trained.model, trained, optimizer, processes, sharded=False)
        self._unsynchronised = ExitStack()

    def set_accumulation_boundary(self, last: bool) -> None:
        if self._replica is None:
            self.model = self._replica = DistributedDataParallel(self.model, **_OPTIONS)
        self._unsynchronised.close()
        if not last:
            self._unsynchronised.enter_context(self._replica.no_sync())

    def backward(self, loss: Tensor) -> None:
        (loss * self.processes.count).backward()  # DistributedDataParallel takes the mean over the processes

    def divisor(self, weight: float) -> float:
        """The weight of all ranks: the backward pass sums the gradients, and nothing is left to divide."""
        return self.processes.all_reduce_sum(weight)

    def _all_reduce(self, own: OwnShare) -> tuple[Tensor, Tensor]:
        """Sum losses and requests to stop; the backward pass of the last micro-batch has summed the gradients."""
        message = torch.stack([own.loss, torch.full_like(own.loss, own.stop)])
        self.processes.all_reduce_([message])
        loss, stop = message.unbind()
        return loss, stop
