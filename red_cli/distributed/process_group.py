"""Collectives between the ranks of a run; with a single process they send nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, distributed
from torch.distributed.distributed_c10d import _get_default_store  # torch has no public name for it

from red_cli.distributed.device import CPU, chosen_device, set_device, sums_float64
from red_cli.distributed.launch import free_port
from red_cli.distributed.worker_process import expected_processes, is_worker
from red_cli.errors import UserError
from red_cli.recipe.sections import DEEPSPEED, Launch

_T = TypeVar("_T")
_BUCKET_BYTES = 1 << 25  # of gradients that are sent together


@dataclass(frozen=True)
class Processes:
    """The ranks of a run, seen from one of them. All ranks call every method, in the same order.

    Objects are Accelerate's to send. Its `PartialState` is not asked where one process runs alone: under a launcher's
    variables it would wait for the others. Its `reduce` takes no maximum in the earliest version that red allows.

    Attributes:
        index: the rank of this process, from 0.
        count: the number of ranks.
        device: the device of this process.
    """

    index: int = 0
    count: int = 1
    device: torch.device = CPU

    @property
    def main(self) -> bool:
        """Whether this is rank 0, which prints and writes."""
        return self.index == 0

    def any_rank(self, *flags: bool) -> tuple[bool, ...]:
        """Which of the flags are true on any rank."""
        if self.count == 1:
            return flags
        found = torch.tensor(flags, dtype=torch.float32, device=self.device)
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return tuple(bool(flag) for flag in found.tolist())

    def all_reduce_sum(self, number: float) -> float:
        """The sum of a number over the ranks, in float64."""
        if self.count == 1:
            return number
        if not sums_float64(self.device):
            return sum(self.gather(number))
        found = torch.tensor(number, dtype=torch.float64, device=self.device)
        distributed.all_reduce(found)
        return float(found)

    def max_over_ranks(self, number: int) -> int:
        """The maximum of a number over the ranks."""
        return max(self.gather(number))

    def gather(self, value: _T) -> list[_T]:
        """The values of all ranks in the order of ranks, on every rank."""
        return [value] if self.count == 1 else list(gather_object([value]))

    def broadcast(self, value: _T | None) -> _T:
        """The value of rank 0, on every rank."""
        return cast(_T, value if self.count == 1 else broadcast_object_list([value])[0])

    def store(self) -> distributed.Store | None:
        """The key-value store by which the ranks found each other; None for a single process."""
        return None if self.count == 1 else _get_default_store()

    def barrier(self) -> None:
        """Wait until all ranks have arrived."""
        if self.count > 1:
            self.any_rank(False)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Run the block on rank 0 before the other ranks, which then find what it has downloaded and cached."""
        if not self.main:
            self.barrier()
        yield
        if self.main:
            self.barrier()

    def all_reduce_(self, tensors: Sequence[Tensor]) -> None:
        """Sum each tensor over the ranks in place; small tensors share a message.

        No library does: Accelerate's `reduce` sends a message for each and copies it, and torch's buckets belong to
        DistributedDataParallel, which would wrap the model for a few vectors.
        """
        if self.count == 1:
            return
        bucket: list[Tensor] = []
        size = 0
        for number, tensor in enumerate(tensors, start=1):
            bucket.append(tensor)
            size += tensor.nbytes
            if size >= _BUCKET_BYTES or number == len(tensors):
                flat = torch.cat([part.reshape(-1) for part in bucket])
                distributed.all_reduce(flat)
                parts = flat.split([part.numel() for part in bucket])
                torch._foreach_copy_(bucket, [summed.view_as(part) for summed, part in zip(parts, bucket, strict=True)])
                bucket, size = [], 0


SINGLE_PROCESS = Processes()


def join_processes(launch: Launch) -> Processes:
    """Join the other processes of the run, if a launcher started several.

    Raises:
        UserError: their number differs from the recipe, or they cannot connect and would train separately.
    """
    if not is_worker():
        if launch.strategy not in DEEPSPEED:
            set_device(device := chosen_device())
            return Processes(device=device)
        _set_single_process_environment()
    options: dict[str, Any] = {} if PartialState._shared_state else {"timeout": timedelta(seconds=1800)}
    state = PartialState(cpu=chosen_device() == CPU, **options)
    expected = expected_processes()
    if state.num_processes != expected:
        raise UserError(
            "invalid-launch",
            f"{expected} processes were started, but this one sees {state.num_processes}",
            hint="Each would train its own model. Start them by the recipe's launch section or by torchrun.",
        )
    if launch.num_processes is not None and launch.num_processes != state.num_processes:
        raise UserError(
            "invalid-launch",
            f"launch.num_processes is {launch.num_processes}, but {state.num_processes} processes were started",
            hint="Omit it if another launcher starts the processes.",
        )
    set_device(device := chosen_device())
    return Processes(state.process_index, state.num_processes, device)


def _set_single_process_environment() -> None:
    """Set the environment of a process group with a single rank: ranks, sizes, address and a free port."""
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1",
                   "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}  # fmt: skip
