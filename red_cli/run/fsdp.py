"""FSDP2: the frozen base in parts, one for each process; what trains stays whole."""

from __future__ import annotations

from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import PreTrainedModel

from red_cli.methods.trained import Trained
from red_cli.run.blocks import blocks
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
