"""Damaged files of a base or a run: one message, exit code 2."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from red_cli.recipe.load import load_recipe
from red_cli.train.loop import train
from tests.tiny import make_base, make_data

HUGE = 10**40


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, data and a finished run."""
    folder = tmp_path_factory.mktemp("damaged")
    make_base(folder / "base")
    make_data(folder / "data", train=32, validation=8, test=8)
    (folder / "reviews.yaml").write_text(
        f"""task: {{name: classification}}
model: {{name_or_path: {folder / "base"}}}
data: {{path: {folder / "data"}}}
train: {{learning_rate: 1e-2, num_train_epochs: 1, batch_size: 16, micro_batch_size: 16}}
output: {{dir: {folder / "run"}}}
"""
    )
    train(load_recipe(str(folder / "reviews.yaml")))
    return folder


def put(content: Any, path: tuple[str | int, ...], value: Any) -> None:
    for key in path[:-1]:
        content = content[key]
    content[path[-1]] = value


STATE, TOKENIZER = "run/checkpoints/step-2/state.json", "base/tokenizer_config.json"
DAMAGES: list[tuple[str, tuple[str | int, ...], Any, str]] = [
    (STATE, ("rows",), HUGE, "train"),
    (STATE, ("step",), HUGE, "train"),
    (STATE, ("seconds",), float("inf"), "train"),
    (STATE, ("best_scores", "accuracy"), float("nan"), "train"),
    (STATE, ("inputs",), [], "train"),
    (STATE, ("inputs", "splits"), {"train": 3}, "train"),
    (STATE, ("inputs", "base", "config"), None, "train"),
    (TOKENIZER, ("model_input_names", 0), "words", "eval"),
    (TOKENIZER, ("model_input_names",), ["encodings"], "eval"),
    (TOKENIZER, ("model_max_length",), "", "eval"),
    (TOKENIZER, ("model_max_length",), 0, "check"),
    ("base/tokenizer.json", ("post_processor", "special_tokens"), {}, "check"),
    ("base/tokenizer.json", ("model", "vocab"), [], "check"),
    ("base/config.json", ("hidden_size",), "wide", "check"),
    ("base/config.json", ("num_hidden_layers",), -1, "eval"),
]


@pytest.mark.parametrize(
    ("name", "path", "value", "command"), DAMAGES, ids=[f"{row[0]} {'.'.join(map(str, row[1]))}" for row in DAMAGES]
)
def test_a_damaged_file(
    red: Callable, trained: Path, name: str, path: tuple[str | int, ...], value: Any, command: str
) -> None:
    file, metrics = trained / name, trained / "run" / "metrics.json"
    original, finished = file.read_bytes(), metrics.read_bytes()
    content = json.loads(original)
    put(content, path, value)
    file.write_text(json.dumps(content))
    scores = trained / "scores"
    commands = {
        "train": ("train", trained / "reviews.yaml"),
        "check": ("check", trained / "reviews.yaml"),
        "eval": ("eval", trained / "run", "--output", scores),
    }
    try:
        if command == "train":
            metrics.unlink()
        outcome = red(*commands[command], "--json")
    finally:
        file.write_bytes(original)
        metrics.write_bytes(finished)
    if command == "train":  # the checkpoint is skipped, and the run starts from the beginning
        assert (outcome.code, f"{file.parent} is damaged" in outcome.err) == (0, True), outcome.err
        return
    assert outcome.code == 2, outcome.err
    assert outcome.json["error"]["code"] in ("base-not-found", "unsupported-model", "unsupported-tokenizer")
    assert not scores.exists()
    shutil.rmtree(scores, ignore_errors=True)
