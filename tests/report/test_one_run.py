"""What the report of one run shows of its metrics.json, its log and its other files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from red_cli.errors import UserError
from red_cli.export.card import Use, run_card
from red_cli.recipe.load import load_recipe
from red_cli.report.adapter_changes import bias_shares, read_adapter_changes
from red_cli.report.document import Section
from red_cli.report.many_runs import compare_runs
from red_cli.report.one_run_report import report_on, run_document
from red_cli.runs.folder import RunFolder
from red_cli.runs.output_spread_file import OutputSpread, read_output_spread
from tests.report.finished import finished_run
from tests.report.full_run import CONFUSION, LABELS, NASTY, full_run, layered_adapter
from tests.report.test_adapter_changes import adapter


def sections(run: Path) -> dict[str, Section]:
    return {section.heading: section for section in run_document(report_on(run)).sections}


def test_everything_recorded_is_shown(tmp_path: Path) -> None:
    report = report_on(full_run(tmp_path / "run", layers=3))
    shown = run_document(report).sections
    found = {section.heading: section for section in shown}
    headings = list(found)
    assert headings.index("Learning curve") < headings.index("Scores") < headings.index("What training changed")
    facts = {fact.label: (fact.value, fact.remark) for section in shown for fact in section.facts}
    assert facts["accuracy, validation"] == ("84.17", "120 rows")
    assert facts["untuned"] == ("26.67", "validation, before training, with a new head")
    assert facts["commonest class alone"] == ("46.67", "always billing")
    assert found["To bear in mind"].items == ["The class praise (7 rows) is never predicted."]
    scores = found["Scores"].table
    assert scores.header == ["metric", "validation, untuned", "validation, 120 rows", "test, 120 rows"]
    assert scores.rows[0] == ["accuracy, percent", "26.67", "84.17", "82.50"]
    classes = found["Classes of validation"].table
    assert [row[0] for row in classes.rows] == LABELS
    assert classes.rows[2] == ["praise", "7", "0", "0.00", "0.00", "0.00"]
    matrix = found["What validation rows are taken for"].table
    assert [[int(cell) for cell in row[1:]] for row in matrix.rows] == CONFUSION
    assert matrix.shades[0][1] == pytest.approx(52 / 56)
    (first, second) = found["Most confident errors of validation"].quotes
    assert first.title == "Predicted billing, 99.1% sure"
    assert ("right", "complaint") in first.parts
    assert ("text", NASTY) in second.parts
    (sample, _) = found["Samples"].quotes
    assert sample.parts[0] == ("prompt", NASTY)
    assert [part for part in sample.parts if part[0].startswith("step")] == [
        ("step 30", "answer of step 30\nin two lines"), ("step 150", "answer of step 150\nin two lines"),
    ]  # fmt: skip
    settings = dict(found["Settings"].table.rows)
    assert (settings["method"], settings["chosen by"]) == ("RED", "accuracy on validation")
    assert settings["epochs"] == f"{report.run.recipe.train.num_train_epochs:g}"
    data = dict(found["Data"].table.rows)
    assert (data["rows of train"], data["rows of validation"]) == ("480", "120")
    assert data["classes"].startswith("4: billing, complaint")
    for rows in (settings, data):
        assert not [name for name in rows if "_" in name or "." in name]


def test_the_errors_say_how_many_there_are(tmp_path: Path) -> None:
    run = full_run(tmp_path / "run", layers=2)
    heading, file = "Most confident errors of validation", RunFolder(run).errors
    assert sections(run)[heading].text == ""
    file.parent.mkdir()
    rows = ["split,row,text,label,prediction,probability", 'validation,17,"a\nb",x,y,0.9', "validation,4,c,x,y,0.8"]
    file.write_text("\n".join([*rows, "test,1,d,x,y,0.7"]))
    assert "all" in sections(run)[heading].text
    file.write_text("\n".join([*rows, "validation,5,d,x,y,0.7"]))
    assert "2 of 3 in predictions/errors.csv" in sections(run)[heading].text


def test_the_metric_is_named_in_full(red: Callable, tmp_path: Path) -> None:
    for seed in (1, 2):
        scores = {"validation": {"examples": 100, "accuracy": 0.9, "f1": 0.8}}
        run = finished_run(tmp_path / "runs" / str(seed), "glue_mrpc", "eval.metric=f1", seed=seed, splits=scores,
                           score=0.8, metric_names={"f1": "f1 of equivalent"})  # fmt: skip
    layered_adapter(run / "adapter", layers=2)
    (run / "log.jsonl").write_text(json.dumps({"step": 20, "epoch": 2.0, "loss": 0.5, "validation_f1": 0.8}) + "\n")
    found = sections(run)
    labels = [fact.label for section in found.values() for fact in section.facts]
    assert labels[0] == "F1 of equivalent, validation"
    assert "F1 of equivalent, percent" in [row[0] for row in found["Scores"].table.rows]
    assert dict(found["Settings"].table.rows)["chosen by"] == "F1 of equivalent on validation"
    assert "validation F1 of equivalent, percent" in found["Every evaluation"].table.header
    (column,) = compare_runs([tmp_path / "runs"]).columns
    assert column.metric_title == "F1 of equivalent"
    assert "F1 of equivalent" in red("report", tmp_path / "runs", "--format", "md").out
    metrics = json.loads((run / "metrics.json").read_text())
    assert "| F1 of equivalent |" in run_card("run", load_recipe("glue_mrpc").recipe.model_dump(), metrics, Use())


def test_many_classes_show_their_largest_confusions(tmp_path: Path) -> None:
    run = full_run(tmp_path / "run", layers=2)
    metrics = json.loads((run / "metrics.json").read_text())
    labels = [f"class {number}" for number in range(30)]
    entry = metrics["classes"]["validation"][0]
    metrics["classes"]["validation"] = [{**entry, "label": label} for label in labels]
    counts = [[0] * 30 for _ in labels]
    counts[3][7], counts[8][2] = 5, 9
    metrics["confusion"]["validation"] = counts
    (run / "metrics.json").write_text(json.dumps(metrics))
    table = sections(run)["What validation rows are taken for"].table
    assert table.rows == [["class 8", "class 2", "9"], ["class 3", "class 7", "5"]]


def test_a_bias_in_percent_of_its_modules_output(tmp_path: Path) -> None:
    changes = read_adapter_changes(adapter(tmp_path))
    spread = OutputSpread(8, 100, {module.path: 2.0 for module in changes.modules[:2]})
    assert bias_shares(changes, spread) == {
        module.path: module.changes["bias"].rms / 2 for module in changes.modules[:2]
    }  # fmt: skip


def test_an_older_run_has_no_spread(tmp_path: Path) -> None:
    run = full_run(tmp_path / "run", layers=2)
    assert sections(run)["Bias against the output it is added to"].table is not None
    (run / "output_spread.json").unlink()
    section = sections(run)["Bias against the output it is added to"]
    assert section.table is None
    assert "not recorded" in section.text


def test_an_untuned_base_shows_its_scores_alone(red, tmp_path: Path) -> None:
    nothing = {"steps": 0, "seconds": 0.0, "examples_per_second": 0.0, "peak_memory_bytes": 0, "device": "none"}
    run = finished_run(tmp_path / "run", method="none", score=0.5, learning_rate=None, training={**nothing, "seed": 42})
    outcome = red("report", run)
    assert outcome.code == 0, outcome.err
    assert "50.00" in outcome.out
    assert "learning rate" not in outcome.out
    assert "learning rate" not in (run / "report" / "report.md").read_text()


DAMAGE: dict[str, Callable[[dict[str, object]], object]] = {
    "not an object": lambda content: [1],
    "no tokens": lambda content: {key: value for key, value in content.items() if key != "tokens"},
    "a text": lambda content: {**content, "modules": {"a": "b"}},
    "modules": lambda content: {**content, "modules": 3},
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_spread(tmp_path: Path, damage: Callable[[dict[str, object]], object]) -> None:
    path = tmp_path / "output_spread.json"
    path.write_text(json.dumps(damage({"rows": 1, "tokens": 2, "modules": {"a": 1.0}})))
    with pytest.raises(UserError) as caught:
        read_output_spread(path)
    assert caught.value.code == "file-damaged"
