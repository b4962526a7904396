"""A base that several processes divide has the parameters and the gradients of a complete one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from red_cli.distributed.launch import free_port
from red_cli.distributed.parameter_chunks import sharding_of
from red_cli.distributed.process_group import Processes
from red_cli.errors import UserError
from red_cli.recipe.sections import Launch
from tests.tiny import tiny_model


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
