"""On a device that is no CPU, a run gives what it gives on a CPU."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import run_red
from tests.tiny import make_data, read_lines

pytestmark = pytest.mark.slow  # each command is a process of its own, and the device traces every operation


def on_lazy(*arguments: object) -> str:
    """Run `red` on the lazy device, and return what it prints."""
    command = [sys.executable, "-m", "tests.distributed.lazy_device", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_lines(run / "log.jsonl") if "loss" in line]


def test_training_evaluation_and_prediction(recipe: Path, tmp_path: Path) -> None:
    data = make_data(tmp_path / "few", train=8, validation=8, test=8)
    few = [f"data.path={data}", "train.batch_size=4", "train.max_steps=2", "train.micro_batch_size=null"]
    options = ["train", recipe, *few, "model.dropout=0", "--json"]
    on_cpu = run_red(*options, f"output.dir={tmp_path / 'cpu'}")
    assert on_cpu.json["training"]["device"] == "cpu", on_cpu.err
    metrics = json.loads(on_lazy(*options, f"output.dir={tmp_path / 'lazy'}"))
    assert metrics["training"]["device"] == "lazy"
    on_lazy("eval", tmp_path / "lazy")
    on_lazy("predict", tmp_path / "lazy", "--text", "ab cd")
    assert losses(tmp_path / "lazy") == pytest.approx(losses(tmp_path / "cpu"), rel=1e-4)
