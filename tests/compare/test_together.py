"""`--together`: runs that take turns on one base are the runs they would be alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.end_to_end.test_instruction_tuning import talk_data, talk_recipe, talking_base
from tests.tiny import read_lines
from tests.train.started import adapter_bytes

SEEDS = ("--seeds", "3,5,8")
TIMES = ("time", "examples_per_second", "seconds", "peak_memory_bytes", "folder")


@pytest.fixture
def recipe(recipe: Path) -> Path:
    """Six steps on a base with dropout, evaluated after every second."""
    recipe.write_text(recipe.read_text().replace("num_train_epochs: 2", "max_steps: 6\n  eval_steps: 2"))
    return recipe


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    """Instruction tuning of a decoder with dropout."""
    base = talking_base(tmp_path / "base")
    path = talk_recipe(tmp_path / "talks.yaml", base, talk_data(tmp_path / "talks"))
    return path


def content(value: object, place: Path) -> object:
    """What a file holds, without times, speeds and the run's own place."""
    if isinstance(value, dict):
        return {key: content(each, place) for key, each in value.items() if key not in TIMES}
    if isinstance(value, list):
        return [content(each, place) for each in value]
    return value.replace(str(place), "PLACE") if isinstance(value, str) else value


def assert_same_runs(alone: Path, together: Path) -> None:
    """The same files, with the same content: adapters bit for bit, metrics, logs, predictions, checkpoints."""
    names = sorted(path.relative_to(alone) for path in alone.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(together) for path in together.rglob("*") if path.is_file())
    assert any(name.name == "adapter_model.safetensors" for name in names)
    for name in names:
        one, other = alone / name, together / name
        if name.suffix == ".json":
            pair = [content(json.loads(path.read_text()), place) for path, place in ((one, alone), (other, together))]
            if name.name == "state.json":  # the digest of the optimiser's file: it is compared itself
                pair = [{key: each for key, each in part.items() if key != "digests"} for part in pair]
            assert pair[0] == pair[1], name
        elif name.suffix == ".jsonl":
            assert content(read_lines(one), alone) == content(read_lines(other), together), name
        elif name.suffix == ".pt":
            torch.testing.assert_close(state_of(one), state_of(other), rtol=0, atol=0)
        elif name.suffix in (".safetensors", ".csv"):
            assert one.read_bytes() == other.read_bytes(), name


def state_of(path: Path) -> dict:
    """A checkpoint's optimiser, scheduler and torch's generator; those of Python and NumPy are never drawn from."""
    stored = torch.load(path, weights_only=True)
    return {"optimizer": stored["optimizer"], "torch": stored["generators"][0]["torch"]}


CLASSIFICATION = ["data.max_train_rows=90", "train.logging_steps=1"]
CASES: dict[str, tuple[str, Sequence[str]]] = {
    "red, dropout": ("recipe", []),
    "red++, rows by seed": ("recipe", ["red.positions=red++", *CLASSIFICATION]),
    "micro-batch found, bf16": ("recipe", ["train.micro_batch_size=null", "train.bf16=true"]),
    "gradient checkpointing": ("recipe", ["train.gradient_checkpointing=true", "model.classifier_dropout=0.4"]),
    "instruction": ("talks", ["train.max_steps=4", "train.eval_steps=2", "eval.samples=1"]),
}


@pytest.mark.parametrize(("name", "keys"), CASES.values(), ids=CASES.keys())
def test_together_is_each_run_alone(
    red, request: pytest.FixtureRequest, tmp_path: Path, name: str, keys: Sequence[str]
) -> None:
    command = ("train", request.getfixturevalue(name), *SEEDS, *keys, "--json")
    alone = red(*command, f"output.dir={tmp_path / 'alone'}")
    assert alone.code == 0, alone.err
    together = red(*command, f"output.dir={tmp_path / 'together'}", "--together")
    assert together.code == 0, together.err
    assert content(together.json["splits"], tmp_path) == content(alone.json["splits"], tmp_path)
    adapters = set()
    for seed in (3, 5, 8):
        assert_same_runs(tmp_path / "alone" / f"seed{seed}", tmp_path / "together" / f"seed{seed}")
        adapters.add(adapter_bytes(tmp_path / "together" / f"seed{seed}"))
    assert len(adapters) == 3
