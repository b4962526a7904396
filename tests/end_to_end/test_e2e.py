"""E2E NLG and metrics of generated texts through the command line, on tiny models."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path

import pytest

from red_cli.tasks.text_metrics import coco
from red_cli.tasks.text_metrics import score as score_module
from red_cli.tasks.text_metrics.score import E2E_METRICS
from tests.extras import cases, needs_extra, needs_java
from tests.failures import assert_failed
from tests.tiny import NEUTRAL, make_language_model, read_lines

WITHOUT_JAVA = ["BLEU", "NIST"]
SMALL = ["eval.generation={num_beams: 2, max_new_tokens: 5}", "train.warmup_steps=0", "train.learning_rate=3e-2",
         "train.num_train_epochs=1"]  # fmt: skip


def write_split(path: Path, inputs: int, references: int) -> None:
    """`inputs` meanings of the tiny vocabulary's words, each with `references` texts."""
    words = NEUTRAL[: inputs + references]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["mr", "ref"])
        for number in range(inputs):
            for other in range(references):
                writer.writerow(
                    [f"name[{words[number]}], food[{words[number + 1]}]", f"{words[number]} {words[other]}"]
                )


@pytest.fixture(scope="module")
def meanings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("meanings")
    write_split(folder / "train.csv", 6, 4)
    write_split(folder / "validation.csv", 3, 2)
    write_split(folder / "test.csv", 4, 3)
    return folder


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return make_language_model(tmp_path / "gpt2-medium", "gpt2")


@pytest.fixture
def without_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_module, "find_java", lambda: None)


@needs_extra("nlg")
def test_train_eval_and_score(
    red, base: Path, meanings: Path, tmp_path: Path, without_java: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    outcome = red(
        "train", "e2e_nlg", f"model.name_or_path={base}", f"data.path={meanings}", f"output.dir={run}",
        "train.eval_steps=2", *SMALL,
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert "BLEU 64.86 ± 0.4, NIST 8.36 ± 0.03" in outcome.out  # the paper's, before ours are computed
    steps = [line["step"] for line in read_lines(run / "log.jsonl") if "validation_loss" in line]
    assert steps == [2, 3]  # 24 rows, 10 a step; and the last one
    shown = red("eval", run).out
    assert "(paper: 64.86 ± 0.4)" in shown
    assert "not computed: Java is missing; install it: apt-get install" in shown
    result = red("eval", run, "--json").json
    assert (result["split"], result["examples"], result["inputs"]) == ("test", 12, 4)
    assert [name for name in result["scores"] if name in E2E_METRICS] == WITHOUT_JAVA
    assert list(result["not_computed"]) == ["METEOR", "ROUGE_L", "CIDEr"]
    texts, references = (run / "predictions" / name for name in ("test.txt", "test.references.txt"))
    assert len(texts.read_text().splitlines()) == 4
    assert [len(group.split("\n")) for group in references.read_text().strip().split("\n\n")] == [3] * 4
    scored = red("score", "-p", texts, "-r", references, "--json").json
    assert {name: scored["scores"][name] for name in WITHOUT_JAVA} == {
        name: result["scores"][name] for name in WITHOUT_JAVA
    }
    table = red("report", run, run.parent, "--output", tmp_path / "report", "--json").json
    shown = {task["metric"]: task["mean"] for task in table["rows"][0]["tasks"]}
    assert shown == pytest.approx({"BLEU": 100 * result["scores"]["BLEU"], "NIST": result["scores"]["NIST"]})
    # other metrics are a matter of scoring alone
    others = red("eval", run, "eval.metrics=[loss, chrF, rougeL]", "--json").json
    assert others["scores"].keys() == {"loss", "perplexity", "chrF", "rougeL", "unfinished"}
    without = red("eval", run, "eval.metrics=[chrF]", "--json").json
    assert without["scores"].keys() == {"chrF", "unfinished"}
    assert "loss" not in read_lines(Path(without["predictions"]))[0]
    assert red("eval", run, "eval.metrics=[]", "--json").json["scores"].keys() == {"loss", "perplexity", "unfinished"}


@needs_extra("nlg")
@needs_java
def test_a_metric_that_fails_loses_no_text(
    red, base: Path, meanings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    metrics = ["BLEU", "ROUGE_L"]  # METEOR would take its time
    options = [f"model.name_or_path={base}", f"data.path={meanings}", f"output.dir={run}", *SMALL]
    assert red("train", "e2e_nlg", *options, f"eval.metrics=[{', '.join(metrics)}]").code == 0
    real = coco._TOKENIZER_OPTIONS
    monkeypatch.setattr(coco, "_TOKENIZER_OPTIONS", ("no.such.Class",))
    failed = red("eval", run, "--json")
    assert_failed(failed, "metric-failed", "ROUGE_L", "code 1", "eval.metrics=[BLEU,NIST]", exit_code=1)
    monkeypatch.setattr(coco, "_TOKENIZER_OPTIONS", real)
    again = red("eval", run, "--json")
    assert again.code == 0, again.err
    assert "4 of 4 prompts" in again.err
    assert [name for name in again.json["scores"] if name in E2E_METRICS] == metrics
    assert again.json["not_computed"] == {}
    assert not list(run.rglob("*.partial.jsonl"))


@needs_extra("nlg")
@pytest.mark.parametrize("metric", ["BLEU", "chrF"])
def test_texts_may_choose_the_best(red, base: Path, tmp_path: Path, metric: str) -> None:
    rows = [{"prompt": f"{word} is", "completion": f"{word} {word}"} for word in NEUTRAL[:8] for _ in range(2)]
    for split in ("train", "validation"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    outcome = red(
        "train", "generation", f"model.name_or_path={base}", f"data.path={tmp_path}", f"output.dir={tmp_path / 'run'}",
        f"eval.metric={metric}", "eval.metrics=[rouge1]", "eval.generation={max_new_tokens: 4}",
        "train.learning_rate=3e-2", "train.num_train_epochs=3", "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    values = [line[f"validation_{metric}"] for line in read_lines(tmp_path / "run" / "log.jsonl") if "epoch" in line
              and f"validation_{metric}" in line]  # fmt: skip
    assert len(values) == 3
    assert outcome.json["best"]["value"] == max(values)
    scores = outcome.json["splits"]["validation"]
    assert {metric, "rouge1", "exact_match"} <= scores.keys()
    assert "loss" not in scores  # neither listed nor selecting


@needs_extra("nlg")
def test_an_evaluation_without_loss_keeps_the_loss_that_chose_the_best(red, base: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"{word} is", "completion": f"{word} {word}"} for word in NEUTRAL[:8]]
    for split in ("train", "validation", "test"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = tmp_path / "run"
    outcome = red(
        "train", "generation", f"model.name_or_path={base}", f"data.path={tmp_path}", f"output.dir={run}",
        "eval.metrics=[rouge1]", "eval.generation={max_new_tokens: 4}", "train.num_train_epochs=1", "--json",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    chose = outcome.json["splits"]["validation"]["loss"]
    for split in ("validation", "test"):
        result = red("eval", run, "--split", split, "--json").json
        assert "rouge1" in result["scores"]
        assert "loss" not in result["scores"]
    splits = json.loads((run / "metrics.json").read_text())["splits"]
    assert splits["validation"]["loss"] == chose
    reported = red("report", run, "--output", tmp_path / "report", "--json")
    assert reported.code == 0, reported.err
    (row,) = red("report", tmp_path, "--output", tmp_path / "reports", "--json").json["rows"]
    assert [(task["metric"], task["split"]) for task in row["tasks"]] == [("rouge1", "test")]


FAULTS = {
    "no such metric": ("eval.metrics=[BLUE]", "invalid-recipe", "BLUE"),
    "key of another task": ("task.name=classification", "invalid-recipe", "task.linearization"),
    "no such form": ("task.linearization=tabular", "invalid-recipe", "task.linearization"),
    "column of a text": ("data.columns.text=mr", "invalid-recipe", "data.columns.text"),
    "no meaning": ("data.columns={prompt: ref, completion: mr}", "invalid-row", "row 1"),
    "no column": ("data.columns.prompt=meaning", "column-not-found", "'meaning'"),
    "figures without a score": ("paper.std={chrF: 1.0}", "invalid-recipe", "paper"),
    "another metric's figure": ("paper.score={F7: 1.0}", "invalid-recipe", "paper.score"),
}


@pytest.mark.parametrize(("option", "code", "fact"), cases(FAULTS, {"no meaning": "nlg", "no column": "nlg"}))
def test_faults(red, base: Path, meanings: Path, tmp_path: Path, option: str, code: str, fact: str) -> None:
    run = tmp_path / "run"
    keys = [f"model.name_or_path={base}", f"data.path={meanings}", f"output.dir={run}", *SMALL]
    assert_failed(red("train", "e2e_nlg", *keys, option, "--json"), code, fact)
    assert not run.exists()


@needs_extra("nlg")
def test_what_metrics_need_is_checked_before_training(
    red, base: Path, meanings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_java: None
) -> None:
    run = tmp_path / "run"
    keys = [f"model.name_or_path={base}", f"data.path={meanings}", f"output.dir={run}", *SMALL]
    for command in ("train", "check"):
        outcome = red(command, "e2e_nlg", *keys, "eval.metric=METEOR", "--json")
        assert_failed(outcome, "missing-dependency", "METEOR", "Java")
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sacrebleu" else real(name))
    for command in ("train", "check"):
        outcome = red(command, "e2e_nlg", *keys, "--json")
        assert_failed(outcome, "missing-dependency", "BLEU", "sacrebleu", "pip install 'red-finetune[nlg]'")
    assert not run.exists()
    assert red("check", "e2e_nlg", *keys, "eval.metrics=[NIST]").code == 0
