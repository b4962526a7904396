"""Estimate the memory of a machine that all of its processes take together, while the base loads and in training."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch
from transformers import PretrainedConfig, PreTrainedModel

from red_cli.base_model.base_dtype import mapped_numbers
from red_cli.distributed.device import CPU, shares_memory
from red_cli.distributed.launch import processes_to_start
from red_cli.distributed.machine_memory import total_memory
from red_cli.distributed.process_group import Processes
from red_cli.distributed.worker_process import expected_processes, is_worker, processes_here
from red_cli.edit.repeated_layers import blocks
from red_cli.errors import RunFailed, UserError
from red_cli.formatting import byte_size
from red_cli.plan.memory import GATHERED_BLOCKS, MemoryEstimate, bytes_per_parameter
from red_cli.plan.strategy import StrategyChoice
from red_cli.recipe.schema import Recipe
from red_cli.recipe.sections import Launch


@dataclass(frozen=True)
class HostMemory:
    """The memory of one machine, in bytes, for all of its processes together.

    Attributes:
        processes: those on this machine.
        loading: the peak while the base loads.
        training: the peak in training, with the longest rows in every process at once. The memory of GPUs and such
            devices does not count.
        machine: what this machine has.
    """

    processes: int
    strategy: str
    loading: int
    training: int
    machine: int

    @property
    def fits(self) -> bool:
        """Whether this machine has the memory that loading and training take."""
        return max(self.loading, self.training) <= self.machine


def planned_processes(launch: Launch) -> int:
    """The number of processes on all machines that `red train` would have here, also where devices are missing.

    Only for plans of runs that are not starting: one that trains knows its processes.
    """
    if is_worker():
        return expected_processes()
    try:
        return max(1, processes_to_start(launch))  # 0 of a kind of device that is named and missing
    except UserError:
        return launch.num_processes or 1


def host_memory(
    model: PreTrainedModel,
    config: PretrainedConfig,
    recipe: Recipe,
    memory: MemoryEstimate | None,
    strategy: StrategyChoice,
    count: int,
    device: torch.device,
) -> HostMemory:
    """Estimate a machine's memory for a run.

    Args:
        model: the base on the meta device, with the method attached.
        config: the base's configuration, by which model.dtype=auto may be found.
        count: the number of processes on all machines.
        device: the kind of device of a process.
    """
    here = processes_here(count, recipe.launch.num_machines)
    each = bytes_per_parameter(recipe.model, config)
    sizes = [parameter.numel() for parameter in model.parameters()]
    base, tensor = int(sum(sizes) * each), int(max(sizes, default=0) * each)
    libraries = psutil.Process().memory_info().rss * here
    on_host = shares_memory(device)
    rows = recipe.train.micro_batch_size or 1
    own = 0 if memory is None or not on_host else memory.of_rows(rows) - memory.libraries - memory.base
    # A method that trains the base's parameters has all of the base before it is sharded
    in_chunks = strategy.sharded and recipe.method_spec.base_parameters == "none"
    complete = 0 if in_chunks else _complete_bases(model, config, recipe, here, device)
    kept = complete if on_host else 0
    if strategy.sharded:
        chunks = base * here // (recipe.launch.shard_size or count)
        kept = chunks if on_host or recipe.launch.offload else 0
        block = max((sum(own.numel() for own in block.parameters()) for block in blocks(model)), default=0)
        own += int(GATHERED_BLOCKS * block * each) if on_host else 0
    return HostMemory(
        processes=here,
        strategy=strategy.strategy,
        loading=libraries + (kept if in_chunks else complete) + tensor * here,
        training=libraries + kept + own * here,
        machine=total_memory(),
    )


def _complete_bases(
    model: PreTrainedModel, config: PretrainedConfig, recipe: Recipe, here: int, device: torch.device
) -> int:
    """The bytes that a machine holds of a base that each of its processes loads completely."""
    each = bytes_per_parameter(recipe.model, config)
    base = int(sum(parameter.numel() for parameter in model.parameters()) * each)
    mapped = int(mapped_numbers(recipe.model, config, model) * each)
    if not shares_memory(device):
        return (base - mapped) * here  # each tensor moves to the device; the system can drop the pages of files
    shared = device == CPU and recipe.method_spec.base_parameters == "none"  # neither copied to a device nor changed
    return mapped + (base - mapped) * here if shared else base * here


def require_host_memory(host: HostMemory, processes: Processes) -> None:
    """Check on all ranks that every machine has the memory for loading the base, before one begins. Swap counts.

    Raises:
        RunFailed: a machine has less; all ranks name the one with the largest gap.
    """
    machines = processes.gather((host, psutil.swap_memory().total))
    host, swap = max(machines, key=lambda each: each[0].loading - each[0].machine - each[1])
    if host.loading > host.machine + swap:
        has = byte_size(host.machine) + (f" and {byte_size(swap)} of swap" if swap else "")
        raise RunFailed(
            "out-of-memory",
            f"loading the base takes about {byte_size(host.loading)} of memory in {host.processes} "
            f"process{'es' if host.processes > 1 else ''} by {host.strategy}, and a machine has {has}",
            hint="launch.strategy=fsdp or zero3 divides the base among processes; 16 bits (model.dtype) halve it.",
        )
