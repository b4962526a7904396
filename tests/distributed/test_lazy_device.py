"""On a device that is no CPU, a run gives what it gives on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import make_data, read_lines

pytestmark = pytest.mark.slow  # each command is a process of its own, and the device traces every operation

ON = {"cpu": "red_cli", "lazy": "tests.distributed.lazy_device"}


def red(device: str, *arguments: object) -> str:
    command = [sys.executable, "-m", ON[device], *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_lines(run / "log.jsonl") if "loss" in line]


def test_training_evaluation_and_prediction(recipe: Path, tmp_path: Path) -> None:
    data, found = make_data(tmp_path / "few", train=8, validation=8, test=8), {}
    for device in ON:
        run = tmp_path / device
        few = [f"data.path={data}", "train.batch_size=4", "train.max_steps=2", "train.micro_batch_size=null"]
        options = [*few, "model.dropout=0", f"output.dir={run}"]
        metrics = json.loads(red(device, "train", recipe, *options, "--json"))
        assert metrics["training"]["device"] == device
        found[device] = losses(run)
    red("lazy", "eval", tmp_path / "lazy")
    red("lazy", "predict", tmp_path / "lazy", "--text", "ab cd")
    assert found["lazy"] == pytest.approx(found["cpu"], rel=1e-4)
