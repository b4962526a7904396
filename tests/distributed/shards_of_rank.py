"""A process of several that divide a base, started by `test_sharded_base.py`: its gradients are of a complete base."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

from red_cli.base_model.load import load_base, load_config
from red_cli.distributed.parameter_chunks import chunk_of, sharding_of
from red_cli.distributed.process_group import join_processes
from red_cli.distributed.sharded_base import shard_base
from red_cli.edit.attach import attach
from red_cli.edit.attached_adapters import edits
from red_cli.edit.config import RedConfig
from red_cli.edit.model_kinds import DECODER
from red_cli.recipe.sections import Launch, Model
from tests.tiny import random_vectors, tiny_inputs


def gradients(model: torch.nn.Module) -> list[torch.Tensor]:
    """The gradients of the vectors after a forward and a backward pass."""
    model(**tiny_inputs("gpt2")).logits.float().square().mean().backward()
    return [vector.grad for _, edit in edits(model) for vector in edit.parameters()]


def main(folder: Path, shard_size: int) -> None:
    launch = Launch(strategy="fsdp", shard_size=shard_size)
    processes = join_processes(launch)
    sharding = sharding_of(launch, processes)
    model = Model(name_or_path=str(folder), dtype="bfloat16")
    found = []
    for divided in (None, sharding):
        loaded, _ = load_base(model, load_config(model), DECODER, 0, processes.device, divided)
        attach(loaded, RedConfig(positions=["ffn"]))
        random_vectors(loaded)
        if divided is None:
            whole = dict(loaded.named_parameters(remove_duplicate=False))
        else:
            cut = sum(chunk_of(parameter) is not None for parameter in loaded.parameters())
            vectors = [vector for _, edit in edits(loaded) for vector in edit.parameters()]
            shard_base(loaded, vectors, divided)
            assert all(vector.dtype == torch.float32 and not isinstance(vector, DTensor) for vector in vectors)
        found.append(gradients(loaded))
    assert cut > 10, cut
    for name, parameter in loaded.named_parameters(remove_duplicate=False):
        if isinstance(parameter, DTensor):
            assert parameter.to_local().numel() <= parameter.numel() // shard_size + parameter.shape[-1]
            parameter = parameter.full_tensor()
        assert torch.equal(parameter, whole[name]), name
    assert len(found[0]) == len(found[1]) > 0
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
