"""Which strategy a run takes, and why, in one line."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

import psutil
import torch

from red_cli.distributed.processes import Processes
from red_cli.plan.memory import MemoryEstimate
from red_cli.recipe.schema import Recipe
from red_cli.recipe.sections import DEEPSPEED, SHARDED

USABLE_SHARE = 0.9  # of a device's memory
_GIB = 2**30


@dataclass(frozen=True)
class Choice:
    """A strategy and why it was taken; `reason` None: the recipe names it."""

    strategy: str
    reason: str | None = None

    @property
    def deepspeed(self) -> bool:
        return self.strategy in DEEPSPEED

    @property
    def sharded(self) -> bool:
        """Whether each process holds a part of the base only."""
        return self.strategy in SHARDED


def device_memory(processes_here: int) -> int:
    """Bytes that one process may take: of its GPU, or its share of the machine's memory."""
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory)
    return psutil.virtual_memory().total // processes_here


def choose_strategy(recipe: Recipe, memory: MemoryEstimate | None, processes: Processes) -> Choice:
    """The recipe's strategy; for `auto`: one process single, several ddp where base and one row fit on each device."""
    wanted = recipe.launch.strategy
    if wanted in DEEPSPEED:
        return Choice(wanted)
    if processes.count == 1:
        return Choice("single", None if wanted == "single" else "one process")
    if wanted != "auto":
        return Choice(wanted)
    here = max(1, processes.count // recipe.launch.num_machines)
    room = int(device_memory(here) * USABLE_SHARE)
    rows = recipe.train.micro_batch_size or 1
    needed = 0 if memory is None else memory.of_rows(rows)
    sizes = f"{needed / _GIB:.2f} GiB of {room / _GIB:.2f} usable on each"
    if recipe.model.quantization is not None:
        return Choice("ddp", "the base is quantised")
    if needed <= room:
        return Choice("ddp", f"base and activations fit on each device: {sizes}")
    if importlib.util.find_spec("deepspeed") is not None and recipe.train.learning_rate != "auto":
        return Choice("zero3", f"base and activations do not fit on each device: {sizes}")
    return Choice("fsdp", f"base and activations do not fit on each device: {sizes}; DeepSpeed is not there")
