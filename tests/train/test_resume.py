"""A stopped run resumes, and ends in the same adapter as an uninterrupted one."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from red_cli.edit.adapter_config import WEIGHTS_FILE
from red_cli.train import loop as train_module
from red_cli.train.checkpoint_folder import prune
from tests.conftest import Outcome
from tests.tiny import read_lines


def adapter_bytes(run: Path) -> bytes:
    return (run / "adapter" / WEIGHTS_FILE).read_bytes()


def training_log(run: Path) -> list[dict]:
    """The log without times and speeds, which differ between runs."""
    return [
        {key: value for key, value in line.items() if key not in ("examples_per_second", "time")}
        for line in read_lines(run / "log.jsonl")
    ]


@pytest.fixture
def whole(finished_once: tuple[Path, Outcome], tmp_path: Path) -> Path:
    """An uninterrupted run of the recipe."""
    return Path(shutil.copytree(finished_once[0], tmp_path / "whole"))


@pytest.mark.parametrize("stop_after", [1, 5, 6, 9, 12])
def test_interrupted_between_steps(
    red, recipe: Path, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    real_step = train_module.optimizer_step

    def step(session, rows):
        result = real_step(session, rows)
        if session.state.step + 1 == stop_after:
            os.kill(os.getpid(), signal.SIGINT)
        return result

    monkeypatch.setattr(train_module, "optimizer_step", step)
    outcome = red("train", recipe, "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (130, "interrupted")
    assert f"step {stop_after} of 12" in outcome.err
    assert str(tmp_path / "run" / "checkpoints" / f"step-{stop_after}") in outcome.err
    monkeypatch.setattr(train_module, "optimizer_step", real_step)
    resumed = red("train", recipe, "--json")
    assert resumed.code == 0
    assert f"from step {stop_after} of 12" in resumed.err
    assert adapter_bytes(tmp_path / "run") == adapter_bytes(whole)
    assert training_log(tmp_path / "run") == training_log(whole)


def test_interrupted_while_evaluating(
    red, recipe: Path, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_predict = train_module.predict

    def predict(*arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)
        return real_predict(*arguments, **options)

    monkeypatch.setattr(train_module, "predict", predict)
    assert red("train", recipe).code == 130
    monkeypatch.setattr(train_module, "predict", real_predict)
    assert not (tmp_path / "run" / "adapter").exists()
    assert red("train", recipe, "--resume").code == 0
    assert adapter_bytes(tmp_path / "run") == adapter_bytes(whole)


def test_a_changed_recipe_is_another_run(red, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_step = train_module.optimizer_step

    def step(session, rows):
        os.kill(os.getpid(), signal.SIGINT)
        return real_step(session, rows)

    monkeypatch.setattr(train_module, "optimizer_step", step)
    assert red("train", recipe).code == 130
    monkeypatch.setattr(train_module, "optimizer_step", real_step)
    outcome = red("train", recipe, "--resume", "train.seed=7", "train.learning_rate=0.5", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "different-recipe")
    assert "train.learning_rate: 0.01 -> 0.5" in outcome.err
    assert "train.seed: 42 -> 7" in outcome.err
    assert red("train", recipe, "--resume", "train.logging_steps=3").code == 0


def test_resuming_without_a_run_starts_from_the_beginning(red, recipe: Path, tmp_path: Path, whole: Path) -> None:
    assert red("train", recipe, "--resume").code == 0
    assert adapter_bytes(tmp_path / "run") == adapter_bytes(whole)


def test_from_a_named_checkpoint(red, recipe: Path, tmp_path: Path, whole: Path) -> None:
    named = f"train.resume_from_checkpoint={whole / 'checkpoints' / 'step-6'}"
    assert red("train", recipe, named).code == 0
    assert training_log(tmp_path / "run") == [
        line for line in training_log(whole) if line["step"] > 6 or (line["step"] == 6 and "loss" not in line)
    ]
    for keys, code in (
        (["train.resume_from_checkpoint=nowhere"], "checkpoint-not-found"),
        ([named, "train.learning_rate=1"], "different-recipe"),
    ):
        refused = red("train", recipe, f"output.dir={tmp_path / 'x'}", *keys, "--json")
        assert (refused.code, refused.json["error"]["code"]) == (2, code)


def test_from_the_last_checkpoint_of_another_run(red, recipe: Path, tmp_path: Path, whole: Path) -> None:
    named = f"train.resume_from_checkpoint={whole / 'checkpoints' / 'step-12'}"
    assert red("train", recipe, named).code == 0
    assert (tmp_path / "run" / "metrics.json").is_file()


def test_scoring_an_unfinished_run_does_not_end_it(
    red, recipe: Path, tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_step = train_module.optimizer_step

    def step(session, rows):
        if session.state.step == 8:
            os.kill(os.getpid(), signal.SIGINT)
        return real_step(session, rows)

    monkeypatch.setattr(train_module, "optimizer_step", step)
    assert red("train", recipe).code == 130
    monkeypatch.setattr(train_module, "optimizer_step", real_step)
    assert red("eval", tmp_path / "run").code == 0
    exported = red("export", tmp_path / "run", "-o", tmp_path / "merged")
    assert exported.code == 0
    assert "not finished" in exported.err
    assert red("train", recipe, "--resume").code == 0
    assert adapter_bytes(tmp_path / "run") == adapter_bytes(whole)


DAMAGES = {
    "state": ("state.json", b'{"step": "x"}'),
    "negative": ("state.json", b'{"step": -5, "micro_batch_size": 4}'),
    "optimizer": ("optimizer.pt", b"garbage"),
    "adapter": (WEIGHTS_FILE, b"garbage"),
}


@pytest.mark.parametrize(("file", "content"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_checkpoint_is_skipped(
    red, recipe: Path, tmp_path: Path, whole: Path, file: str, content: bytes
) -> None:
    expected, log = adapter_bytes(whole), training_log(whole)
    (whole / "metrics.json").unlink()
    (whole / "checkpoints" / "step-12" / file).write_bytes(content)
    named = red("train", recipe, f"train.resume_from_checkpoint={whole / 'checkpoints' / 'step-12'}", "--json")
    assert (named.code, named.json["error"]["code"]) == (2, "file-damaged")
    outcome = red("train", recipe, f"output.dir={whole}")
    assert outcome.code == 0
    assert "step-12 is damaged" in outcome.err
    assert "Resuming from step 6" in outcome.err
    assert adapter_bytes(whole) == expected
    assert training_log(whole) == log


def test_without_a_valid_checkpoint_a_run_starts_from_the_beginning(red, recipe: Path, whole: Path) -> None:
    expected = adapter_bytes(whole)
    (whole / "metrics.json").unlink()
    (whole / "log.jsonl").write_bytes(b"[]\n\xff\n{}\n")
    for checkpoint in (whole / "checkpoints").iterdir():
        (checkpoint / "optimizer.pt").write_bytes(b"garbage")
    outcome = red("train", recipe, f"output.dir={whole}")
    assert outcome.code == 0
    assert "the run starts from the beginning" in outcome.err
    assert adapter_bytes(whole) == expected
    assert not list(whole.glob(".*"))


def test_the_next_pruning_completes_an_interrupted_one(tmp_path: Path) -> None:
    left = {1: ["optimizer.pt"], 2: ["optimizer.pt", "state.json"], 3: ["state.json"], 10: ["state.json"]}
    for step, files in left.items():
        folder = tmp_path / f"step-{step}"
        folder.mkdir()
        for name in files:
            (folder / name).write_text("{}")
    (tmp_path / "notes").mkdir()
    prune(tmp_path, keep=2)
    assert {path.name for path in tmp_path.iterdir()} == {"step-3", "step-10", "notes"}
