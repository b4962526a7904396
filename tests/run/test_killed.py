"""A training that is killed, again and again, at any moment, and started again by the same command."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from tests.run.started import adapter_bytes, logged, losses, start, train

pytestmark = pytest.mark.slow

_STEPS = 130
_KILLS = {1: 20, 2: 10}  # by processes


@pytest.mark.parametrize("processes", _KILLS)
def test_killed_at_random_moments(recipe: Path, tmp_path: Path, processes: int) -> None:
    """Dropout is on: the generators of every process have to go on as well."""
    keys = (f"train.max_steps={_STEPS}", "train.save_steps=1", "train.eval_steps=20", "train.micro_batch_size=4",
            f"launch.num_processes={processes}")  # fmt: skip
    whole, run = tmp_path / "whole", tmp_path / "killed"
    started = time.monotonic()
    code, _, err = train(recipe, whole, *keys)
    assert code == 0, err
    startup = (time.monotonic() - started) / 2
    moments = random.Random(processes)
    kills = _KILLS[processes]
    for _ in range(kills):
        command = start("train", recipe, *keys, run=run)
        if moments.random() < 0.3:  # while it starts
            time.sleep(moments.uniform(0, startup))
        else:  # somewhere in a step, an evaluation or a checkpoint
            before = logged(run) if (run / "log.jsonl").is_file() else 0
            command.wait_for_step(min(before, _STEPS // 2) + moments.randint(1, _STEPS // kills - 2))
            time.sleep(moments.uniform(0, 0.1))
        assert command.process.poll() is None, command.wait()[2]
        command.kill()
    code, _, err = train(recipe, run, *keys)
    assert code == 0, err
    assert adapter_bytes(run) == adapter_bytes(whole)
    assert losses(run) == losses(whole)
    assert (run / "predictions" / "validation.jsonl").read_text() == (
        whole / "predictions" / "validation.jsonl"
    ).read_text()
    names = [{path.name for path in folder.rglob("*")} for folder in (run, whole)]
    assert names[0] == names[1]  # nothing half-written is left
