"""Choose the strategy of a run."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from red_cli.distributed.device import USABLE_SHARE, chosen_device, device_memory
from red_cli.distributed.process_group import Processes
from red_cli.distributed.worker_process import processes_here
from red_cli.formatting import byte_size
from red_cli.plan.memory import MemoryEstimate
from red_cli.recipe.schema import Recipe
from red_cli.recipe.sections import DEEPSPEED, SHARDED


@dataclass(frozen=True)
class StrategyChoice:
    """A strategy and the reason for it; None if the recipe names the strategy."""

    strategy: str
    reason: str | None = None

    @property
    def deepspeed(self) -> bool:
        return self.strategy in DEEPSPEED

    @property
    def sharded(self) -> bool:
        """Whether each rank holds only a part of the base."""
        return self.strategy in SHARDED


def choose_strategy(recipe: Recipe, memory: MemoryEstimate | None, processes: Processes) -> StrategyChoice:
    """The strategy of the recipe. `auto`: single for one process, ddp if the base fits on each device, else sharded."""
    wanted = recipe.launch.strategy
    if wanted in DEEPSPEED:
        return StrategyChoice(wanted)
    if processes.count == 1:
        return StrategyChoice("single", None if wanted == "single" else "one process")
    if wanted != "auto":
        return StrategyChoice(wanted)
    here = processes_here(processes.count, recipe.launch.num_machines)
    usable = int(device_memory(chosen_device(), here) * USABLE_SHARE)
    rows = recipe.train.micro_batch_size or 1
    needed = 0 if memory is None else memory.of_rows(rows)
    sizes = f"{byte_size(needed)} of {byte_size(usable)} usable on each"
    if recipe.model.quantization is not None:
        return StrategyChoice("ddp", "the base is quantised")
    if needed <= usable:
        return StrategyChoice("ddp", f"base and activations fit on each device: {sizes}")
    if importlib.util.find_spec("deepspeed") is not None:
        return StrategyChoice("zero3", f"base and activations do not fit on each device: {sizes}")
    why = f"base and activations do not fit on each device: {sizes}; zero3 needs DeepSpeed"
    return StrategyChoice("fsdp", why)
