"""FSDP2: the frozen base in parts, one for each process; what trains stays whole."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import PreTrainedModel

from red_cli.methods.trained import Trained
from red_cli.run.processes import Processes


def shard_base(model: PreTrainedModel, trained: Trained, processes: Processes) -> None:
    """Spread the frozen parameters of `model` over the processes, block by block; each is whole while it computes.

    What trains is left to the engine: the same tensor in every process, its gradients summed by one message.
    """
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


def blocks(model: nn.Module) -> list[nn.Module]:
    """The layers that a model repeats: what its outermost lists of modules hold."""
    found: list[nn.Module] = []

    def look(module: nn.Module) -> None:
        for child in module.children():
            if isinstance(child, nn.ModuleList):
                found.extend(child)
            else:
                look(child)

    look(model)
    return [block for block in found if _has_parameters(block)]


def _has_parameters(module: Any) -> bool:
    return next(module.parameters(), None) is not None
