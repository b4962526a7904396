"""Commonsense tasks through the command line: training, both scorings, the table, and errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from red_cli.tasks.presets.commonsense_protocol import COMMONSENSE
from tests.failures import assert_failed
from tests.questions import FORMATS, make_decoder, questions
from tests.tiny import make_language_model, read_lines


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commonsense")
    for seed, task in enumerate(FORMATS):
        for split, count in (("train", 80), ("test", 20)):
            (folder / task).mkdir(exist_ok=True)
            (folder / task / f"{split}.json").write_text(json.dumps(questions(task, count, seed)))
    return folder


@pytest.fixture
def recipe(tmp_path: Path, dataset: Path) -> Path:
    texts = [row["instruction"] + " " + row["output"] for task in FORMATS for row in questions(task, 80, 0)]
    path = tmp_path / "questions.yaml"
    path.write_text(
        f"""# Tiny questions. For tests.
task: {{name: commonsense, prompt_template: "{{instruction}} : "}}
model: {{name_or_path: {make_decoder(tmp_path / "base", [*texts, " : "])}}}
data: {{path: {dataset}, validation_share: 0.2}}
train: {{learning_rate: 1e-2, num_train_epochs: 8, batch_size: 16, micro_batch_size: 16, eval_steps: 96}}
eval: {{generation: {{max_new_tokens: 10}}}}
output: {{dir: {tmp_path / "run"}}}
"""
    )
    return path


def test_training_and_both_scorings(red, recipe: Path, tmp_path: Path) -> None:
    outcome = red("train", recipe, "method=full", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["task"] == "commonsense"
    assert outcome.json["metric"] == "accuracy"
    assert outcome.json["splits"]["validation"]["accuracy"] > 0.9
    scores = red("eval", tmp_path / "run", "--json").json["scores"]
    for name in ("accuracy", "likelihood_accuracy"):
        parts = [scores[f"{name}.{task}"] for task in FORMATS]
        assert scores[name] == pytest.approx(sum(parts) / 3)
        assert scores[name] > 0.9
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["splits"]["test"]["accuracy"] > 0.9
    rows = read_lines(tmp_path / "run" / "predictions" / "test.jsonl")
    for row in rows:
        assert row["prediction"] is None or row["prediction"] in row["text"]
        assert row["likeliest"] == max(row["log_likelihoods"], key=row["log_likelihoods"].get)
    right = sum(row["prediction"] == row["label"] for row in rows if row["task"] == "piqa")
    assert right / 20 == scores["accuracy.piqa"]
    shown = red("eval", tmp_path / "run").out.splitlines()
    heading = next(line.split() for line in shown if "BoolQ" in line)
    assert heading == [*(facts.title for facts in COMMONSENSE.values()), "avg", "of", "3"]
    assert max(len(line) for line in shown if "BoolQ" in line or line.startswith("likeliest")) <= 80


def test_one_scoring_and_one_task(red, recipe: Path, tmp_path: Path) -> None:
    keys = ["train.max_steps=2", "eval.metric=likelihood_accuracy", "task.scoring=likelihood", "task.subset=boolq"]
    outcome = red("train", recipe, *keys, "--json")
    assert outcome.code == 0, outcome.err
    assert (outcome.json["task"], outcome.json["metric"]) == ("commonsense/boolq", "likelihood_accuracy")
    result = red("eval", tmp_path / "run", "--json").json
    assert set(result["scores"]) == {"likelihood_accuracy"}
    assert result["examples"] == 20
    alone = red("eval", tmp_path / "run", "eval.metric=null", "task.scoring=likelihood", "--json").json
    assert (set(alone["scores"]), alone["metric"]) == ({"likelihood_accuracy"}, "likelihood_accuracy")
    other = red("eval", tmp_path / "run", "task.scoring=generation", "task.subset=piqa", "--json").json
    assert set(other["scores"]) == {"accuracy", "likelihood_accuracy", "no_answer"}  # the metric is always there


@pytest.mark.parametrize("metric", ["accuracy", "likelihood_accuracy", "loss"])
def test_each_metric_can_choose(red, recipe: Path, metric: str) -> None:
    outcome = red("train", recipe, "train.max_steps=1", f"eval.metric={metric}", "data.max_train_rows=16", "--json")
    assert outcome.code == 0, outcome.err
    assert metric in outcome.json["splits"]["validation"]


def test_a_batch_answers_as_each_row_alone(red, recipe: Path, tmp_path: Path) -> None:
    assert red("train", recipe, "train.max_steps=2").code == 0
    found = {}
    for size in (1, 32):
        assert red("eval", tmp_path / "run", f"eval.batch_size={size}", "--output", tmp_path / str(size)).code == 0
        found[size] = read_lines(tmp_path / str(size) / "predictions" / "test.jsonl")
    for alone, batched in zip(found[1], found[32], strict=True):
        assert alone["text"] == batched["text"]
        assert alone["log_likelihoods"] == pytest.approx(batched["log_likelihoods"], abs=1e-4)


def test_check_shows_what_is_trained_on(red, recipe: Path) -> None:
    example = red("check", recipe, "--json").json["plan"]["examples"][0]
    assert "".join(example["tokens"][: example["masked"]]).endswith("Answer format: true/false : ")
    assert "".join(example["tokens"][example["masked"] :]) == f"the correct answer is {example['label']}[END]"


FAULTS = {
    "no room for the answer": ("data.max_length=8", "too-long", "8 tokens; the first is row 1"),
    "no such subset": ("task.subset=bolq", "invalid-recipe", "task.subset"),
    "a metric of other tasks": ("eval.metric=f1", "invalid-recipe", "eval.metric"),
    "a column of other tasks": ("data.columns.text=x", "invalid-recipe", "data.columns.text"),
    "no such data": (
        "data.path=LLM-Adapters", "file-not-found", "git clone https://github.com/AGI-Edgerunners/LLM-Adapters",
    ),
    "no such column": ("data.columns.prompt=question", "column-not-found", "'question'"),
    "a template without columns": ("task.prompt_template=hello", "invalid-recipe", "task.prompt_template"),
    "both places of training rows": ("data.train=x.json", "invalid-recipe", "data.path"),
}  # fmt: skip


@pytest.mark.parametrize(("key", "code", "fact"), FAULTS.values(), ids=FAULTS.keys())
def test_faults(red, recipe: Path, tmp_path: Path, key: str, code: str, fact: str) -> None:
    assert_failed(red("train", recipe, key, "--json"), code, fact)
    assert not (tmp_path / "run").exists()


def test_encoder_decoders_are_refused(red, recipe: Path, tmp_path: Path) -> None:
    outcome = red("train", recipe, f"model.name_or_path={make_language_model(tmp_path / 't5', 't5')}", "--json")
    assert_failed(outcome, "unsupported-model", "t5")


def test_training_rows_of_the_hub(
    red, recipe: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    rows = datasets.Dataset.from_list(questions("piqa", 30, 7))
    monkeypatch.setattr(datasets, "load_dataset", lambda path, name, revision: datasets.DatasetDict(train=rows))
    keys = ["data.path=someone/commonsense_170k", f"data.test={dataset}", "train.max_steps=1"]
    outcome = red("train", recipe, *keys, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["splits"]["validation"]["examples"] == 6
    assert red("eval", tmp_path / "run", "--json").json["examples"] == 60


def test_rows_that_do_not_list_their_answers(red, recipe: Path, dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "test.json").write_text(json.dumps([{"instruction": "is it", "output": "true", "answer": "true"}]))
    assert red("train", recipe, "train.max_steps=1").code == 0
    keys = ["data.path=null", f"data.train={dataset}", f"data.test={tmp_path / 'test.json'}"]
    assert_failed(red("eval", tmp_path / "run", *keys, "--json"), "invalid-row", "row 1", "task.scoring=generation")
    assert red("eval", tmp_path / "run", *keys, "task.scoring=generation").code == 0


def test_on_the_fields_own_rows(red, shared: Path, tmp_path: Path) -> None:
    """Each task's real rows, in the protocol's own prompt; a few of them."""
    few = tmp_path / "few"
    texts = ["Below an instruction that describes a task. Write a response: ### Instruction Response completes request"]
    for task in ("boolq", "piqa", "social_i_qa", "winogrande", "arc_easy", "arc_challenge"):
        for path in (shared / "data" / "commonsense" / task).glob("*.json"):
            rows = json.loads(path.read_text())[:6]
            texts += [row["instruction"] + " " + row["output"] for row in rows]
            (few / task).mkdir(parents=True, exist_ok=True)
            (few / task / path.name).write_text(json.dumps(rows))
    recipe = tmp_path / "real.yaml"
    recipe.write_text(
        f"""# A few real rows. For tests.
task: {{name: commonsense}}
model: {{name_or_path: {make_decoder(tmp_path / "base", texts)}}}
data: {{path: {few}, validation_share: 0.2}}
train: {{learning_rate: 1e-2, num_train_epochs: 1, batch_size: 8, micro_batch_size: 8}}
eval: {{generation: {{max_new_tokens: 10}}}}
output: {{dir: {tmp_path / "run"}}}
"""
    )
    outcome = red("train", recipe, "--json")
    assert outcome.code == 0, outcome.err
    scores = red("eval", tmp_path / "run", "--json").json["scores"]
    tasks = {name.partition(".")[2] for name in scores if name.startswith("accuracy.")}
    assert tasks == {"boolq", "piqa", "social_i_qa", "winogrande", "arc_easy", "arc_challenge"}
    rows = read_lines(tmp_path / "run" / "predictions" / "test.jsonl")
    assert len(rows) == 36
    assert set(rows[0]["log_likelihoods"]) == {"true", "false"}
