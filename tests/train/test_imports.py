"""A training imports no library that it does not use, such as those that transformers' Trainer brings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Seconds to import, or a compiler.
UNUSED = ("peft", "bitsandbytes", "deepspeed", "datasets", "pandas", "sklearn", "scipy", "matplotlib", "networkx",
          "torch._dynamo", "torch._inductor", "torch._inductor.compile_fx", "torch.utils.tensorboard",
          "transformers.trainer", "transformers.trainer_utils")  # fmt: skip
# Trains one step of the quickstart, and prints what it imported beyond what any training with these libraries does.
PROGRAM = """
import json, sys
import torch
from transformers import RobertaForSequenceClassification
torch.optim.AdamW([torch.zeros(1)])
before = set(sys.modules)
from red_cli.recipe.load import load_recipe
from red_cli.train import loop
take_step = loop.optimizer_step
def one_step(session, rows):
    take_step(session, rows)
    print(json.dumps(sorted(set(sys.modules) - before)))
    raise SystemExit
loop.optimizer_step = one_step
loop.train(load_recipe("quickstart", overrides=["output.dir={folder}", "train.micro_batch_size=8"]))
"""


@pytest.mark.slow
def test_a_step_of_the_quickstart_imports_nothing_unused(tmp_path: Path) -> None:
    program = PROGRAM.replace("{folder}", str(tmp_path / "run"))
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported = json.loads(process.stdout.splitlines()[-1])
    assert "red_cli.train.step" in imported
    assert [name for name in UNUSED if name in imported] == []
