"""Find the largest micro-batch that fits into memory."""

from __future__ import annotations

from collections.abc import Callable

import psutil

from red_cli.base_model.peak_memory import out_of_memory
from red_cli.distributed.device import chosen_device, empty_cache, shares_memory
from red_cli.errors import RunFailed

_SAFE_SHARE = 0.8


def find_micro_batch_size(try_step: Callable[[int], None], batch_size: int, estimate: Callable[[int], int]) -> int:
    """Halve `batch_size` until a training step over the longest rows fits into memory.

    Where a device shares the machine's memory, running out of it ends the process or swaps: sizes whose estimate does
    not fit are not tried.

    Raises:
        RunFailed: not even one row fits.
    """
    size = batch_size
    device = chosen_device()
    if shares_memory(device):
        size = estimated_micro_batch_size(batch_size, estimate, psutil.virtual_memory().available)
    while True:
        try:
            try_step(size)
            return size
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            if size == 1:
                raise RunFailed(
                    "out-of-memory",
                    "not even one sequence fits into memory",
                    hint="Lower data.max_length, set train.gradient_checkpointing=true, or use a smaller base.",
                ) from error
        empty_cache(device)
        size = -(-size // 2)


def estimated_micro_batch_size(batch_size: int, estimate: Callable[[int], int], available: int) -> int:
    """Halve `batch_size` until its estimate fits into `available` bytes, or until it is 1."""
    size = batch_size
    while size > 1 and estimate(size) > available * _SAFE_SHARE:
        size = -(-size // 2)
    return size
