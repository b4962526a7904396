"""Macro F1 selects where one class has more than half of the training rows and the recipe names no metric."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from sklearn.metrics import f1_score

from red_cli.recipe.metric_names import metric_name, stored_title
from red_cli.recipe.tasks.registry import Task
from red_cli.train import loop as train_module
from tests.tiny import read_lines, sentences, write_csv
from tests.train.started import adapter_bytes

CLASSIFICATION = {"name": "classification"}


@pytest.mark.parametrize(
    ("task", "counts", "metric"),
    [
        (CLASSIFICATION, [5, 5], "accuracy"),
        (CLASSIFICATION, [5, 6], "macro_f1"),
        (CLASSIFICATION, [5, 3, 2], "accuracy"),
        (CLASSIFICATION, [1, 6, 2, 2], "f1"),
        (CLASSIFICATION, [], "accuracy"),
        ({"name": "glue", "subset": "cola"}, [1, 9], "matthews_correlation"),
        ({"name": "glue", "subset": "mrpc"}, [1, 9], "accuracy"),
        ({"name": "regression"}, [], "pearson"),
        ({"name": "generation"}, [], "loss"),
    ],
)
def test_defaults(task: dict[str, str], counts: list[int], metric: str) -> None:
    settings = TypeAdapter(Task).validate_python(task)
    assert settings.default_metric({f"class {place}": count for place, count in enumerate(counts)}) == metric
    assert metric in settings.metrics


@pytest.mark.parametrize(
    ("metric", "labels", "name"),
    [
        ("f1", ["ham", "spam"], "f1 of spam"),
        ("f1", ["a", "b", "c"], "f1 (macro)"),
        ("macro_f1", ["ham", "spam"], "f1 (macro)"),
        ("accuracy", ["ham", "spam"], "accuracy"),
        ("f1", None, "f1"),
        ("loss", None, "loss"),
    ],
)
def test_f1_says_which(metric: str, labels: list[str] | None, name: str) -> None:
    assert metric_name(metric, labels) == name


@pytest.mark.parametrize(
    ("metric", "names", "title"),
    [
        ("f1", {"f1": "f1 of spam"}, "F1 of spam"),
        ("f1", {"f1": "f1 (macro)"}, "macro F1"),
        ("macro_f1", {"macro_f1": "f1 (macro)"}, "macro F1"),
        ("f1", {}, "F1"),
        ("exact_match", {}, "exact match"),
        ("accuracy.social_i_qa", {}, "accuracy of social_i_qa"),
    ],
)
def test_titles_say_which_f1(metric: str, names: dict[str, str], title: str) -> None:
    assert stored_title({"metric_names": names}, metric) == title


@pytest.fixture
def unnamed(recipe: Path, tmp_path: Path) -> Path:
    """A recipe without a metric for rows of which most are positive."""
    folder = tmp_path / "skewed"
    folder.mkdir()
    for seed, (split, positive, negative) in enumerate((("train", 40, 12), ("validation", 24, 8))):
        rows = sentences(200, seed)
        taken = [[row for row in rows if row["label"] == label] for label in ("positive", "negative")]
        write_csv(folder / f"{split}.csv", [*taken[0][:positive], *taken[1][:negative]])
    lines = [line for line in recipe.read_text().splitlines() if not line.startswith(("eval:", "data:"))]
    recipe.write_text("\n".join([*lines, f"data: {{path: {folder}}}"]) + "\n")
    return recipe


def test_most_rows_are_of_one_class(red, unnamed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    assert red("check", unnamed, "--json").json["plan"]["metric"] == "macro_f1"
    trained = red("train", unnamed, f"output.dir={whole}", "--json").json
    assert trained["metric"] == "macro_f1"
    assert trained["metric_names"] == {"f1": "f1 of positive", "macro_f1": "f1 (macro)"}
    assert "metric: macro_f1" in (whole / "recipe.yaml").read_text()
    answers = read_lines(whole / "predictions" / "validation.jsonl")
    pairs = [row["label"] for row in answers], [row["prediction"] for row in answers]
    scores = trained["splits"]["validation"]
    assert scores["macro_f1"] == trained["best"]["value"] == pytest.approx(f1_score(*pairs, average="macro"))
    assert scores["f1"] == pytest.approx(f1_score(*pairs, pos_label="positive"))
    # Scored again, the run keeps its metric
    assert red("eval", whole, "--json").json["metric"] == "macro_f1"
    assert json.loads((whole / "metrics.json").read_text())["metric"] == "macro_f1"
    assert red("train", unnamed, "eval.metric=accuracy", "train.max_steps=1", "--json",
               f"output.dir={tmp_path / 'named'}").json["metric"] == "accuracy"  # fmt: skip

    real_step = train_module.optimizer_step

    def step(session, rows):
        if session.state.step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return real_step(session, rows)

    monkeypatch.setattr(train_module, "optimizer_step", step)
    assert red("train", unnamed).code == 130
    monkeypatch.setattr(train_module, "optimizer_step", real_step)
    resumed = red("train", unnamed, "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.json["best"] == trained["best"]
    assert adapter_bytes(run) == adapter_bytes(whole)


def test_a_run_of_an_earlier_version_resumes_with_its_metric(
    red, unnamed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_step = train_module.optimizer_step

    def step(session, rows):
        if session.state.step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return real_step(session, rows)

    monkeypatch.setattr(train_module, "optimizer_step", step)
    assert red("train", unnamed, "eval.metric=accuracy").code == 130
    monkeypatch.setattr(train_module, "optimizer_step", real_step)
    written = tmp_path / "run" / "recipe.yaml"
    written.write_text(written.read_text().replace("  metric: accuracy\n", ""))
    resumed = red("train", unnamed, "--json")
    assert resumed.code == 0, resumed.err
    assert resumed.json["metric"] == "accuracy"
