"""A DeepSpeed configuration of the user's: what agrees with the recipe is taken, and the rest is DeepSpeed's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from red_cli.distributed.deepspeed_config import deepspeed_config
from red_cli.errors import UserError
from red_cli.recipe.sections import Launch
from red_cli.recipe.train_section import Train

TRAIN = Train(batch_size=16, micro_batch_size=4, max_grad_norm=None)
OWN = {"train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 1, "gradient_clipping": 0.0}
# keys of a file -> what becomes of them beyond the keys that are red's
TAKEN: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"wall_clock_breakdown": True, "steps_per_print": 5}, {"wall_clock_breakdown": True, "steps_per_print": 5}),
    ({"zero_force_ds_cpu_optimizer": True}, {"zero_force_ds_cpu_optimizer": True}),
    ({"train_batch_size": 16, "train_micro_batch_size_per_gpu": 4, "gradient_clipping": 0}, {}),
    ({"train_batch_size": "auto", "gradient_accumulation_steps": "auto", "gradient_clipping": "auto"}, {}),
    ({"fp16": {"enabled": "auto", "loss_scale": 0}, "bf16": {"enabled": False}, "amp": {}}, {}),
    ({"aio": {"block_size": "auto", "thread_count": 2}}, {"aio": {"thread_count": 2}}),
]


def written(folder: Path, content: dict[str, Any]) -> str:
    path = folder / "deepspeed.json"
    path.write_text(json.dumps(content))
    return str(path)


@pytest.mark.parametrize(("content", "taken"), TAKEN)
def test_keys_of_a_file(tmp_path: Path, content: dict[str, Any], taken: dict[str, Any]) -> None:
    config = deepspeed_config(Launch(strategy="zero2", deepspeed_config=written(tmp_path, content)), "zero2", TRAIN)
    assert config.pop("zero_optimization")["stage"] == 2
    assert config == {"zero_force_ds_cpu_optimizer": False, **OWN, **taken}


def test_the_section_of_zero(tmp_path: Path) -> None:
    section = {"stage": 3, "overlap_comm": True, "reduce_bucket_size": "auto", "offload_param": {"buffer_count": 3}}
    path = written(tmp_path, {"zero_optimization": section})
    launch = Launch(strategy="zero3", offload=True, deepspeed_config=path)
    zero = deepspeed_config(launch, "zero3", TRAIN)["zero_optimization"]
    assert zero.pop("stage3_param_persistence_threshold") > 0
    offload = {"device": "cpu", "pin_memory": False, "buffer_count": 3}
    assert zero == {"stage": 3, "overlap_comm": True, "offload_param": offload}
    section["offload_param"] = {"device": "nvme"}
    written(tmp_path, {"zero_optimization": section})
    with pytest.raises(UserError) as caught:
        deepspeed_config(launch, "zero3", TRAIN)
    assert caught.value.code == "invalid-launch"
    assert "offload_param.device is nvme" in caught.value.message
    alone = deepspeed_config(Launch(strategy="zero3", deepspeed_config=path), "zero3", TRAIN)
    assert alone["zero_optimization"]["offload_param"] == {"device": "nvme"}
