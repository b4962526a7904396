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
from red_cli.methods.method import Trained

_OPTIONS = inspect.signature(DistributedDataParallel).parameters
_SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _OPTIONS else "broadcast_buffers"  # torch < 2.13


class DataParallel(Replicated):
    """Does as `Replicated`, with torch's DistributedDataParallel instead of one all-reduce after the backward pass."""

    def __init__(self, trained: Trained, optimizer: torch.optim.Optimizer, processes: Processes) -> None:
        super().__init__(trained.model, trained, optimizer, processes, sharded=False)
        options: dict[str, Any] = {
            "find_unused_parameters": True,  # such as experts that no token reached
            "gradient_as_bucket_view": True,
            _SYNC_BUFFERS: False,  # they are the same on every rank
        }
        self._replica = DistributedDataParallel(trained.model, **options)
        self.model = self._replica
        self._unsynchronised = ExitStack()

    def set_accumulation_boundary(self, last: bool) -> None:
        self._unsynchronised.close()
        if not last:
            self._unsynchronised.enter_context(self._replica.no_sync())

    def backward(self, loss: Tensor) -> None:
        (loss * self.processes.count).backward()  # DistributedDataParallel takes the mean over the processes

    def _sum_over_ranks(self, message: Tensor, gradients: list[Tensor]) -> None:
        """Sum the message alone: the backward pass of the last micro-batch has summed the gradients."""
        self.processes.all_reduce_([message])
