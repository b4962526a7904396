"""A base that several processes divide has the parameters and the gradients of a complete one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from red_cli import RedConfig, attach
from red_cli.distributed.launch import free_port
from red_cli.distributed.parameter_chunks import sharding_of
from red_cli.distributed.process_group import Processes
from red_cli.distributed.sharded_base import shard_base
from red_cli.edit.attached_adapters import edits
from red_cli.edit.repeated_layers import blocks
from red_cli.errors import UserError
from red_cli.recipe.sections import Launch
from tests.tiny import random_vectors, tiny_funnel, tiny_inputs, tiny_model


@pytest.fixture
def alone() -> Iterator[Processes]:
    """A group of this process alone."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield Processes()
    distributed.destroy_process_group()


def gradients(model: PreTrainedModel) -> list[torch.Tensor]:
    """Those of the vectors, which are forgotten afterwards."""
    model(**tiny_inputs()).logits.float().square().mean().backward()
    found = [vector.grad for _, edit in edits(model) for vector in edit.parameters()]
    model.zero_grad()
    return found


@pytest.mark.parametrize("model_type", ["bert", "funnel"])
def test_layers_are_sharded_one_by_one_and_vectors_are_not(alone: Processes, model_type: str) -> None:
    """The layers of Funnel are in lists of a list, which have no forward pass that could be sharded."""
    model = tiny_funnel() if model_type == "funnel" else tiny_model(model_type)
    attach(model, RedConfig(target_modules=r".*\.(linear_2|output\.dense)"), train_head=False)
    random_vectors(model)
    vectors = [vector for _, edit in edits(model) for vector in edit.parameters()]
    layers, kinds, expected = blocks(model), [type(block) for block in blocks(model)], gradients(model)
    shard_base(model, vectors, sharding_of(Launch(), alone))
    assert blocks(model) == layers
    assert all(type(block) is not kind for block, kind in zip(layers, kinds, strict=True))
    sharded = {name for name, parameter in model.named_parameters() if isinstance(parameter, DTensor)}
    assert len(sharded) == sum(1 for _ in model.parameters()) - len(vectors)
    torch.testing.assert_close(gradients(model), expected)


@pytest.mark.slow  # starts four Python processes
def test_processes_of_a_machine_divide_a_base_and_machines_have_copies(tmp_path: Path) -> None:
    """Two pairs of processes; tied embeddings, chunks of unequal size, and a conversion of dtype while loading."""
    tiny_model("gpt2").half().save_pretrained(tmp_path)
    shared = {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "4", "MASTER_ADDR": "127.0.0.1",
              "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "1",
              "PYTHONPATH": str(Path(__file__).parents[2])}  # fmt: skip
    program = [sys.executable, "-m", "tests.distributed.shards_of_rank", str(tmp_path), "2"]
    ranks = [
        subprocess.Popen(
            program, env={**os.environ, **shared, "RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE
        )
        for rank in "0123"
    ]
    errors = [rank.communicate()[1].decode() for rank in ranks]
    assert all(rank.returncode == 0 for rank in ranks), errors


def test_the_started_processes_come_out_even() -> None:
    assert [sharding_of(Launch(shard_size=2), Processes(rank, 6)).index for rank in range(6)] == [0, 1, 0, 1, 0, 1]
    assert sharding_of(Launch(), Processes(1, 6)).count == 6
    with pytest.raises(UserError, match=r"launch.shard_size is 4.* 6 processes"):
        sharding_of(Launch(shard_size=4), Processes(0, 6))
