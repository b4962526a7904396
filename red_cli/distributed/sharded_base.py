"""Shard a frozen base over the ranks: by FSDP, or for DeepSpeed's ZeRO-3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from transformers import PreTrainedModel

from red_cli.distributed.parameter_chunks import FreedMemory, Sharding, chunk_of, restore
from red_cli.edit.repeated_layers import blocks


def shard_base(model: PreTrainedModel, trained: Sequence[nn.Parameter], sharding: Sharding) -> None:
    """Shard the frozen parameters of `model` over the ranks by FSDP, block by block.

    Parameters that were loaded as chunks become shards as they are. The `trained` ones stay replicated; in training,
    the engine all-reduces their gradients.
    """
    from torch.distributed.fsdp import fully_shard

    device = sharding.processes.device
    for parameter in trained:
        restore(parameter, sharding)
        parameter.data = parameter.data.to(device)
    chunks = _without_memory(model)
    mesh = _mesh(sharding)
    for module in (*_of_other_dtype(model, trained), *blocks(model), model):
        kind, name = type(module), type(module).__name__
        fully_shard(module, mesh=mesh, ignored_params=set(trained))
        if type(module) is not kind:
            type(module).__name__ = name  # the class name identifies the architecture
    _fill(model, chunks)


def _of_other_dtype(model: PreTrainedModel, trained: Sequence[nn.Parameter]) -> list[nn.Module]:
    """The modules that a base keeps in another dtype, as float16 does for parts of T5; FSDP shards one at a time."""
    frozen = set(model.parameters()) - set(trained)
    return [
        module
        for module in model.modules()
        if any(own in frozen and own.dtype != model.dtype for own in module.parameters(recurse=False))
    ]


def partition_base(model: PreTrainedModel, sharding: Sharding, config: dict[str, Any]) -> None:
    """Partition for ZeRO-3 the parameters of a base that were loaded as chunks, one after the other.

    DeepSpeed itself takes whole parameters: all of them at once, if it finds them so.
    """
    import deepspeed

    first: Any = None
    freed = FreedMemory()
    freed.give_back()
    for parameter in model.parameters():
        if chunk_of(parameter) is None:
            continue
        freed.add(parameter.nbytes)  # those before it
        restore(parameter, sharding)
        if first is None:
            first = parameter
            deepspeed.zero.Init(module=nn.ParameterList([parameter]), config_dict_or_path=config)
        else:
            first.convert_to_zero_parameters(param_list=[parameter])
    freed.give_back()


def _mesh(sharding: Sharding) -> DeviceMesh:
    """The ranks as FSDP sees them: those that share a base, or rows of them, each of which has a copy."""
    kind, ranks = sharding.processes.device.type, sharding.processes.count
    if sharding.count == ranks:
        return init_device_mesh(kind, (ranks,))
    return init_device_mesh(kind, (ranks // sharding.count, sharding.count), mesh_dim_names=("replicate", "shard"))


def _without_memory(model: nn.Module) -> dict[str, Tensor]:
    """Move the parameters that were loaded as chunks to the meta device; the chunks by all of their names."""
    chunks: dict[str, Tensor] = {}
    moved: dict[nn.Parameter, nn.Parameter] = {}  # tied ones have several names
    for name, parameter in [*model.named_parameters(remove_duplicate=False)]:
        if (chunk := chunk_of(parameter)) is not None:
            if parameter not in moved:
                empty = torch.empty(parameter.shape, dtype=parameter.dtype, device="meta")
                moved[parameter] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
            chunks[name] = chunk
            _set(model, name, moved[parameter])
    return chunks


def _fill(model: nn.Module, chunks: dict[str, Tensor]) -> None:
    """Make the chunks the shards of a model that FSDP has divided."""
    from torch.distributed.tensor import DTensor

    filled: dict[nn.Parameter, nn.Parameter] = {}
    for name, chunk in chunks.items():
        parameter: Any = model.get_parameter(name)
        if parameter not in filled:
            shard = DTensor.from_local(
                chunk, parameter.device_mesh, parameter.placements, run_check=False, shape=parameter.shape,
                stride=parameter.stride(),
            )  # fmt: skip
            filled[parameter] = nn.Parameter(shard, requires_grad=parameter.requires_grad)
        _set(model, name, filled[parameter])


def _set(model: nn.Module, name: str, parameter: nn.Parameter) -> None:
    """Put a parameter into a sharded model."""
    path, _, own = name.rpartition(".")
    setattr(model.get_submodule(path), own, parameter)
