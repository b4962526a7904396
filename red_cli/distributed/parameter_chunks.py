"""Parameters of which a rank keeps its chunk alone, from their loading until the base is sharded.

A base that fits no single device often fits no single process either. While it loads, each parameter is cut as soon as
it is complete; its place is held by one value that is expanded to the parameter's shape.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from transformers import PreTrainedModel

from red_cli.distributed.device import CPU
from red_cli.distributed.process_group import Processes
from red_cli.edit.trained_head import LOADED
from red_cli.errors import UserError
from red_cli.recipe.sections import Launch

_CHUNK = "red_chunk"  # the attribute of a parameter whose place is held
_TRIMMED_EVERY = 1 << 23  # bytes of parameters that were complete and are freed
_SYNCHRONOUS = "HF_DEACTIVATE_ASYNC_LOAD"  # transformers then reads a tensor when the model takes it, not earlier


@dataclass(frozen=True)
class Sharding:
    """How the ranks divide a base.

    Attributes:
        count: the number of chunks; the number of ranks is a multiple of it, and rank r has chunk r % count.
        device: where the chunks are.
    """

    processes: Processes
    count: int
    device: torch.device

    @property
    def index(self) -> int:
        """The number of this rank's chunk."""
        return self.processes.index % self.count


def sharding_of(launch: Launch, processes: Processes) -> Sharding:
    """How the ranks divide a base by a recipe's section launch.

    Raises:
        UserError: launch.shard_size does not divide the number of processes that were started.
    """
    count = launch.shard_size or processes.count
    if processes.count % count:
        raise UserError(
            "invalid-launch",
            f"launch.shard_size is {count}, which does not divide the {processes.count} processes",
            hint="Set it to the processes of one machine, or omit it.",
        )
    return Sharding(processes, count, CPU if launch.offload else processes.device)


def chunk_of(parameter: nn.Parameter) -> Tensor | None:
    """This rank's chunk of a parameter, (rows of the chunk, …); None if the parameter is complete."""
    return getattr(parameter, _CHUNK, None)


@contextmanager
def keeping_chunks(sharding: Sharding) -> Iterator[None]:
    """Keep only this rank's chunk of each matrix that is loaded inside the block.

    Tensors are read one after the other: threads that read ahead would hold more of them than the chunks.
    Parameters with one dimension stay complete: they are small, and methods may train them.
    """

    def cut(parameter: nn.Parameter) -> nn.Parameter | None:
        if chunk_of(parameter) is not None:  # another name of it
            return None
        if parameter.dim() < 2 or not parameter.is_floating_point():
            parameter.data = parameter.data.clone()  # a view would keep the whole file mapped
            return None
        rows = rows_of_chunk(parameter.shape[0], sharding.count)
        chunk = parameter.data[sharding.index * rows : (sharding.index + 1) * rows]
        chunk = chunk.to(sharding.device, copy=True, memory_format=torch.contiguous_format)
        # Whoever reads the values before they are restored gets no number
        held = torch.full((), torch.nan, dtype=parameter.dtype, device=parameter.device).expand(parameter.shape)
        place = nn.Parameter(held, requires_grad=parameter.requires_grad)
        setattr(place, LOADED, True)
        setattr(place, _CHUNK, chunk)
        return place

    freed = FreedMemory()

    def on_loaded(module: nn.Module, name: str, parameter: nn.Parameter) -> Any:
        if not getattr(parameter, LOADED, False):
            return None
        freed.add(parameter.nbytes)
        return cut(parameter)

    earlier = os.environ.get(_SYNCHRONOUS)
    os.environ[_SYNCHRONOUS] = "1"
    handle = register_module_parameter_registration_hook(on_loaded)
    try:
        yield
    finally:
        handle.remove()
        del os.environ[_SYNCHRONOUS]
        if earlier is not None:
            os.environ[_SYNCHRONOUS] = earlier


class FreedMemory:
    """What glibc's heap keeps of freed tensors, returned to the system in steps.

    Chunks, which stay, are allocated between complete parameters, which are freed. Without this the heap would keep the
    memory of both.
    """

    def __init__(self) -> None:
        self._bytes = 0

    def add(self, size: int) -> None:
        """Count a complete parameter of `size` bytes, which is freed or soon will be."""
        self._bytes += size
        if self._bytes >= _TRIMMED_EVERY:
            self.give_back()

    def give_back(self) -> None:
        """Return all of it; other C libraries return it themselves."""
        self._bytes = 0
        if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
            library.malloc_trim(0)


def tie_chunks(model: PreTrainedModel, sharding: Sharding) -> None:
    """Tie parameters that files hold under both of their names, as .bin files do. All ranks call it.

    transformers ties two names if their values are equal. It cannot compare places without values, but their chunks
    can be compared.
    """
    found = []
    for target, source in model.get_expanded_tied_weights_keys(all_submodels=True).items():
        one, other = model.get_parameter(target), model.get_parameter(source)
        own, others = chunk_of(one), chunk_of(other)
        if one is not other and own is not None and others is not None:
            found.append((target, other, not torch.equal(own, others)))
    if not found:
        return
    differ = sharding.processes.any_rank(*(different for *_, different in found))
    for (target, source, _), different in zip(found, differ, strict=True):
        if not different:
            path, _, name = target.rpartition(".")
            setattr(model.get_submodule(path), name, source)


def rows_of_chunk(rows: int, count: int) -> int:
    """The rows of a chunk as FSDP cuts them, along the first dimension; the last chunks may be shorter, or empty."""
    return -(-rows // count)


def restore(parameter: nn.Parameter, sharding: Sharding) -> None:
    """Gather the chunks of a parameter, so that it is complete on this rank's device. All ranks call it.

    A complete parameter is left as it is.
    """
    chunk = chunk_of(parameter)
    if chunk is None:
        return
    processes = sharding.processes
    rows = rows_of_chunk(parameter.shape[0], sharding.count)
    complete = torch.empty(parameter.shape, dtype=chunk.dtype, device=processes.device)
    parts = complete.split(rows)
    if sharding.index < len(parts):
        parts[sharding.index].copy_(chunk)
    delattr(parameter, _CHUNK)
    del chunk
    # One rank sends after the other, since gloo's all-gather would hold the complete parameter twice
    if processes.count > 1:
        for rank, part in enumerate(parts):
            distributed.broadcast(_as_bytes(part), rank)
    parameter.data = complete


def _as_bytes(tensor: Tensor) -> Tensor:
    """The bytes of a contiguous tensor; every backend can send them."""
    return tensor.view(-1).view(torch.uint8)
