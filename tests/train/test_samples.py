"""`eval.samples`: the same prompts are answered at each evaluation, and the training is the same as without."""

from __future__ import annotations

import json
import os
import signal
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from red_cli.train import loop as train_module
from tests.end_to_end.test_instruction_tuning import talk_data, talk_recipe, talking_base
from tests.end_to_end.test_text_tasks import completions, write_jsonl
from tests.tiny import make_language_model, read_lines
from tests.train.started import adapter_bytes, train


@pytest.fixture
def generation(tmp_path: Path) -> Path:
    """A recipe for generation by a base with dropout."""
    for seed, (split, count) in enumerate({"train": 40, "validation": 10}.items()):
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", completions(count, seed))
    recipe = {
        "task": {"name": "generation"},
        "model": {"name_or_path": str(make_language_model(tmp_path / "base", "gpt2")), "dropout": 0.1},
        "data": {"path": str(tmp_path / "data")},
        "train": {"learning_rate": 3e-2, "num_train_epochs": 2, "batch_size": 16, "micro_batch_size": 16},
        "eval": {"generation": {"max_new_tokens": 4}},
    }
    path = tmp_path / "texts.yaml"
    path.write_text(json.dumps(recipe))  # JSON is YAML
    return path


def evaluations(run: Path) -> list[dict]:
    return [line for line in read_lines(run / "log.jsonl") if "validation_loss" in line]


@pytest.mark.parametrize("sampling", [[], ["eval.generation.do_sample=true"], ["eval.metric=exact_match"]])
def test_the_same_prompts_are_answered_and_training_stays_the_same(
    red, generation: Path, tmp_path: Path, sampling: list[str]
) -> None:
    runs = [tmp_path / "without", tmp_path / "with"]
    results = []
    for run, samples in zip(runs, (0, 3), strict=True):
        outcome = red("train", generation, f"eval.samples={samples}", *sampling, f"output.dir={run}", "--json")
        assert outcome.code == 0, outcome.err
        results.append({key: outcome.json[key] for key in ("best", "splits", "inputs")})
    assert adapter_bytes(runs[0]) == adapter_bytes(runs[1])
    assert results[0] == results[1]
    assert not any("samples" in line for line in evaluations(runs[0]))
    rows = [completions(10, 1)[row] for row in (0, 3, 6)]
    for line in evaluations(runs[1]):
        assert [(each["prompt"], each["label"]) for each in line["samples"]] == [
            (row["prompt"], row["completion"]) for row in rows
        ]
        assert all(each["answer"] and f"answer  {each['answer']}\n" in outcome.err for each in line["samples"])
    if not sampling:  # a batch of other size may be sampled otherwise
        final = red("eval", runs[1], "--split", "validation", "--json")
        assert final.code == 0, final.err
        texts = [row["prediction"] for row in read_lines(runs[1] / "predictions" / "validation.jsonl")]
        best = next(line for line in evaluations(runs[1]) if line["step"] == results[1]["best"]["step"])
        assert [each["answer"] for each in best["samples"]] == [texts[row] for row in (0, 3, 6)]


def test_a_resumed_run_answers_the_same(red, generation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_step = train_module.optimizer_step

    def step(session, rows):
        if session.state.step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return real_step(session, rows)

    assert red("train", generation, "eval.samples=2", f"output.dir={tmp_path / 'whole'}").code == 0
    monkeypatch.setattr(train_module, "optimizer_step", step)
    run = f"output.dir={tmp_path / 'run'}"
    assert red("train", generation, run).code == 130
    monkeypatch.setattr(train_module, "optimizer_step", real_step)
    assert red("train", generation, "eval.samples=2", run).code == 0  # the key may change
    assert evaluations(tmp_path / "run")[-1]["samples"] == evaluations(tmp_path / "whole")[-1]["samples"]
    assert adapter_bytes(tmp_path / "run") == adapter_bytes(tmp_path / "whole")


def test_every_event_has_its_time_in_utc(red, generation: Path, tmp_path: Path) -> None:
    before = datetime.now(timezone.utc) - timedelta(seconds=1)
    assert red("train", generation, f"output.dir={tmp_path / 'run'}").code == 0
    times = [datetime.fromisoformat(line["time"]) for line in read_lines(tmp_path / "run" / "log.jsonl")]
    assert times == sorted(times)
    assert before <= times[0] <= times[-1] <= datetime.now(timezone.utc)
    assert {(time.utcoffset(), time.microsecond) for time in times} == {(timedelta(0), 0)}


def test_samples_of_conversations(red, tmp_path: Path) -> None:
    recipe = talk_recipe(tmp_path, talking_base(tmp_path / "base"), talk_data(tmp_path / "data"))
    outcome = red("train", recipe, "train.max_steps=1", "eval.samples=1000")
    assert outcome.code == 0, outcome.err
    assert "eval.samples" in outcome.err
    (line,) = evaluations(tmp_path / "run")
    assert len(line["samples"]) == 12
    assert all(each["label"] for each in line["samples"])


@pytest.mark.slow  # starts several processes
def test_two_processes_answer_the_same(red, generation: Path, tmp_path: Path) -> None:
    keys = ["eval.samples=3", "model.dropout=0.0"]
    assert red("train", generation, *keys, f"output.dir={tmp_path / 'one'}").code == 0
    code, _, err = train(generation, tmp_path / "two", *keys, "launch.num_processes=2")
    assert code == 0, err
    one, two = evaluations(tmp_path / "one"), evaluations(tmp_path / "two")
    assert [line["samples"] for line in one] == [line["samples"] for line in two]
