"""Trainer with a PEFT model of RED: its checkpoints are adapter folders, from which it resumes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments

import red_cli
from red_cli.edit.adapter_config import CONFIG_FILE, WEIGHTS_FILE
from tests.extras import has_extra
from tests.peft.conftest import Row

if has_extra("baselines"):
    from peft import PeftModel, get_peft_model

    from red_cli.peft import RedConfig

ROWS = [{"input_ids": [5 + (row * 7 + place) % 18 for place in range(8)], "labels": row % 3} for row in range(24)]


@pytest.fixture
def row(make_row: Callable[[str], Row]) -> Row:
    return make_row("bert")


def trainer(row: Row, folder: Path, **options: object) -> Trainer:
    settings = {
        "max_steps": 4, "save_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-2, "logging_steps": 1,
        "report_to": "none", "disable_tqdm": True, "use_cpu": True, "seed": 3,
    }  # fmt: skip
    model = get_peft_model(row.load(), RedConfig(task_type=row.task))
    return Trainer(
        model, TrainingArguments(str(folder), **{**settings, **options}), train_dataset=ROWS, eval_dataset=ROWS[:8]
    )


def test_checkpoints_are_adapters_and_resume(row: Row, tmp_path: Path) -> None:
    straight = trainer(row, tmp_path / "straight")
    straight.train()
    expected = row.outputs(straight.model)
    assert not torch.equal(expected, row.plain)
    checkpoint = tmp_path / "straight" / "checkpoint-2"
    assert {CONFIG_FILE, WEIGHTS_FILE} <= {path.name for path in checkpoint.iterdir()}
    shutil.copytree(checkpoint, tmp_path / "resumed" / "checkpoint-2")
    resumed = trainer(row, tmp_path / "resumed")
    resumed.train(resume_from_checkpoint=True)
    assert torch.equal(row.outputs(resumed.model), expected)
    resumed.save_model(str(tmp_path / "saved"))
    assert torch.equal(row.outputs(red_cli.load(tmp_path / "saved")), expected)
    assert torch.equal(row.outputs(PeftModel.from_pretrained(row.load(), str(tmp_path / "saved"))), expected)


def test_the_best_checkpoint_is_loaded_at_the_end(row: Row, tmp_path: Path) -> None:
    run = trainer(row, tmp_path, eval_strategy="steps", eval_steps=2, load_best_model_at_end=True,
                  metric_for_best_model="loss", greater_is_better=True, bf16=True, bf16_full_eval=True)  # fmt: skip
    run.train()
    best = Path(run.state.best_model_checkpoint)
    assert {tensor.dtype for tensor in load_file(best / WEIGHTS_FILE).values()} == {torch.float32}
    red_cli.load(best)


def test_a_model_that_was_cast_is_saved_as_float32(row: Row, tmp_path: Path) -> None:
    model = PeftModel.from_pretrained(row.load(), str(row.adapter)).to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    expected = {key: value.bfloat16().float() for key, value in load_file(row.adapter / WEIGHTS_FILE).items()}
    found = load_file(tmp_path / WEIGHTS_FILE)
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    red_cli.load(tmp_path)


def test_gradient_checkpointing(row: Row, tmp_path: Path) -> None:
    run = trainer(row, tmp_path, load_best_model_at_end=True, eval_strategy="steps", eval_steps=2,
                  gradient_checkpointing=True)  # fmt: skip
    run.train()
    assert torch.equal(row.outputs(run.model), row.outputs(red_cli.load(run.state.best_model_checkpoint)))
