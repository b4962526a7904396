"""Runs in one table: who belongs together, mean and spread, the paper's figures, what is left out."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Callable
from pathlib import Path

import pytest

from red_cli.errors import UserError
from red_cli.report.draw_many_runs import draw_comparison
from red_cli.report.many_runs import Row, RunComparison, compare_runs
from red_cli.report.many_runs_cells import Cells, headings
from red_cli.report.many_runs_formats import terminal_lines
from red_cli.report.many_runs_report import comparison_data
from red_cli.runs.folder import RunFolder
from tests.extras import has_extra
from tests.report.finished import finished_run

PLUS_PLUS = "red.positions=[ffn, attn, query, key, value]"


def row(comparison: RunComparison, title: str) -> Row:
    return next(row for row in comparison.rows if row.title == title)


def means(row: Row) -> dict[str, float]:
    return {column.title: group.mean for column, group in row.cells.items()}


def test_mean_and_deviation_over_seeds_never_the_best(tmp_path: Path) -> None:
    scores = {42: 0.91, 43: 0.93, 44: 0.95}
    for seed, score in scores.items():
        finished_run(tmp_path / f"run{seed}", seed=seed, score=score)
    (found,) = compare_runs([tmp_path]).rows
    (group,) = found.cells.values()
    assert group.scores == {42: 91.0, 43: 93.0, 44: pytest.approx(95.0)}
    assert group.mean == pytest.approx(93.0)
    assert group.std == pytest.approx(2.0)
    assert Cells(compare_runs([tmp_path])).ours(group) == "93.00 ± 2.00"


def test_one_seed_has_no_deviation(tmp_path: Path) -> None:
    finished_run(tmp_path / "run")
    (group,) = compare_runs([tmp_path / "run"]).groups
    assert group.std is None
    assert Cells(compare_runs([tmp_path])).ours(group) == "90.00"


def test_columns_stand_as_in_the_paper(tmp_path: Path) -> None:
    for name in ("stsb", "rte", "qqp", "qnli", "cola", "mrpc", "sst2", "mnli"):
        finished_run(tmp_path / name, f"glue_{name}")
    finished_run(tmp_path / "own", "classification", f"data.path={tmp_path}")
    comparison = compare_runs([tmp_path])
    titles = [column.title for column in comparison.columns]
    assert titles[:8] == ["MNLI", "SST-2", "MRPC", "CoLA", "QNLI", "QQP", "RTE", "STS-B"]
    assert titles[8].startswith("classification")
    assert [column.metric for column in comparison.columns][3] == "matthews_correlation"
    assert comparison.columns[7].metric == "pearson"


def test_averages_are_over_the_tasks_present(tmp_path: Path) -> None:
    for seed, (mrpc, rte) in {42: (0.88, 0.70), 43: (0.90, 0.80)}.items():
        finished_run(tmp_path / f"mrpc{seed}", "glue_mrpc", seed=seed, score=mrpc)
        finished_run(tmp_path / f"rte{seed}", "glue_rte", seed=seed, score=rte)
    finished_run(tmp_path / "pp", "glue_mrpc", PLUS_PLUS, score=0.91)
    comparison = compare_runs([tmp_path])
    average = row(comparison, "RED").average
    assert (average.value, average.tasks) == (pytest.approx(82.0), 2)
    assert average.std == pytest.approx(statistics.stdev([79.0, 85.0]))
    paper = row(comparison, "RED").paper_average
    assert paper is not None
    assert (paper.value, paper.tasks) == (pytest.approx((89.2 + 78.0) / 2), 2)
    cells = Cells(comparison)
    assert cells.average(row(comparison, "RED++").average) == ""  # of one task: no average
    assert cells.average(average) == "79.00 / 85.00"


def test_an_average_over_fewer_tasks_says_so(tmp_path: Path) -> None:
    for name in ("mrpc", "rte", "sst2"):
        finished_run(tmp_path / name, f"glue_{name}", score=0.8)
    for name in ("mrpc", "rte"):
        finished_run(tmp_path / f"pp-{name}", f"glue_{name}", PLUS_PLUS, score=0.8)
    comparison = compare_runs([tmp_path])
    assert Cells(comparison).average(row(comparison, "RED++").average) == "80.00 (of 2)"
    assert any("Avg. of 2 tasks" in line for line in terminal_lines(comparison, 70))


def test_the_deviation_of_an_average_needs_the_same_seeds(tmp_path: Path) -> None:
    for seed in (42, 43):
        finished_run(tmp_path / f"mrpc{seed}", "glue_mrpc", seed=seed, score=seed / 100)
    finished_run(tmp_path / "rte", "glue_rte", seed=42)
    (found,) = compare_runs([tmp_path]).rows
    assert found.average.std is None
    assert Cells(compare_runs([tmp_path])).seeds is None


def test_what_differs_in_more_than_the_seed_is_not_averaged(tmp_path: Path) -> None:
    finished_run(tmp_path / "a", "glue_mrpc", "train.learning_rate=1e-2", seed=42, score=0.80)
    finished_run(tmp_path / "b", "glue_mrpc", "train.learning_rate=1e-2", seed=43, score=0.82)
    finished_run(tmp_path / "c", "glue_mrpc", "train.learning_rate=3e-3", seed=43, score=0.90)
    finished_run(tmp_path / "d", "glue_rte", "train.learning_rate=1e-2", seed=42, score=0.70)
    comparison = compare_runs([tmp_path])
    assert [found.title for found in comparison.rows] == ["RED, learning_rate 0.003", "RED, learning_rate 0.01"]
    assert means(comparison.rows[0]) == {"MRPC": pytest.approx(90.0)}
    assert means(comparison.rows[1]) == {"MRPC": pytest.approx(81.0), "RTE": pytest.approx(70.0)}
    assert any("learning_rate" in note for note in comparison.notes)


def test_keys_that_train_nothing_else_do_not_separate_seeds(tmp_path: Path) -> None:
    finished_run(tmp_path / "a", "glue_mrpc", "train.micro_batch_size=4", "train.logging_steps=3", seed=42)
    finished_run(tmp_path / "b", "glue_mrpc", "eval.metric=accuracy", "train.save_steps=7", seed=43)
    assert [len(group.runs) for group in compare_runs([tmp_path]).groups] == [2]


def test_rates_that_each_seed_searched_belong_together(tmp_path: Path) -> None:
    for seed, rate in ((42, "1e-2"), (43, "2e-2")):
        search = {"rate": float(rate), "steps": 10, "edges": [None]}
        changes = {"learning_rate_search": search, "learning_rate": float(rate)}
        finished_run(tmp_path / f"{seed}", "glue_mrpc", f"train.learning_rate={rate}", seed=seed, **changes)
    assert [len(group.runs) for group in compare_runs([tmp_path]).groups] == [2]


def both(test: float | None, validation: float) -> dict[str, dict[str, float]]:
    splits = {"validation": {"examples": 50, "accuracy": validation}}
    return splits if test is None else {**splits, "test": {"examples": 60, "accuracy": test}}


def test_the_test_split_counts_where_all_seeds_have_it(tmp_path: Path) -> None:
    for seed in (42, 43):
        finished_run(tmp_path / f"{seed}", seed=seed, splits=both(test=0.5 + seed / 1000, validation=0.9))
    (group,) = compare_runs([tmp_path]).groups
    assert (group.split, group.examples, group.chose_best) == ("test", 60, False)
    assert group.mean == pytest.approx(54.25)


def test_splits_are_never_mixed(tmp_path: Path) -> None:
    finished_run(tmp_path / "a", seed=42, splits=both(test=0.5, validation=0.9))
    finished_run(tmp_path / "b", seed=43, splits=both(test=None, validation=0.8))
    comparison = compare_runs([tmp_path])
    (group,) = comparison.groups
    assert (group.split, group.chose_best) == ("validation", True)
    assert group.mean == pytest.approx(85.0)
    assert any("test is scored for seed 42 alone" in note and str(tmp_path / "b") in note for note in comparison.notes)


def test_cells_on_different_splits_are_marked(tmp_path: Path) -> None:
    finished_run(tmp_path / "a", splits=both(test=0.5, validation=0.9))
    finished_run(tmp_path / "b", "glue_sst2", PLUS_PLUS, splits=both(test=None, validation=0.8))
    comparison = compare_runs([tmp_path])
    cells = Cells(comparison)
    assert len({cells.mark(group) for group in comparison.groups}) == 2
    assert cells.scored_on == "(a) test; (b) validation, which also chose the best evaluation"
    assert any(line.split() == ["scored", "b"] for line in terminal_lines(comparison, 20))


def test_selection_and_scored_rows_are_distinguished(tmp_path: Path) -> None:
    """As runs on the paper's cut record it."""
    used = {"examples": 436, "rows": "half of the validation split"}
    scoring = {
        "split": "paper",
        "selection": {"split": "paper_validation", **used},
        "scored": {"split": "paper_test", **used},
    }
    splits = {
        "paper_test": {"examples": 436, "accuracy": 0.91},
        "paper_validation": {"examples": 436, "accuracy": 0.95},
        "test": {"examples": 1821, "accuracy": 0.5},
    }
    finished_run(tmp_path / "run", splits=splits, scoring=scoring)
    (group,) = compare_runs([tmp_path]).groups
    assert (group.split, group.chose_best, group.mean) == ("paper_test", False, 91.0)


def test_each_metric_has_its_own_column(tmp_path: Path) -> None:
    finished_run(tmp_path / "a", "glue_mrpc", score=0.88)
    f1 = {"validation": {"examples": 10, "f1": 0.92, "accuracy": 0.88}}
    finished_run(tmp_path / "b", "glue_mrpc", "eval.metric=f1", seed=43, splits=f1)
    comparison = compare_runs([tmp_path])
    assert [(column.title, column.metric) for column in comparison.columns] == [("MRPC", "accuracy"), ("MRPC", "f1")]
    (found,) = comparison.rows
    assert [column.metric for column in found.paper] == ["accuracy"]  # the paper's figure is no F1
    assert found.paper_average is None


def test_bases_of_one_name_are_distinguished(tmp_path: Path) -> None:
    for place in ("here", "there"):
        finished_run(tmp_path / f"run-{place}", "glue_rte", f"model.name_or_path={tmp_path}/{place}/a/base")
    bases = [found.base for found in compare_runs([tmp_path]).rows]
    assert bases == [str(tmp_path / "here" / "a" / "base"), str(tmp_path / "there" / "a" / "base")]


# recipe keys -> the method's name in the table
METHODS = {
    "red.positions=[ffn]": "RED",
    PLUS_PLUS: "RED++",
    "red.positions=[qkv, ffn, attn]": "RED++",
    "red.positions=[attn]": "RED (attn)",
    "red.components=[bias]": "RED (bias only)",
    'red.layers="8:"': "RED (layers 8:)",
    "red.target_modules=.*dense": "RED (.*dense)",
}


@pytest.mark.parametrize(("keys", "name"), METHODS.items())
def test_methods_by_name(tmp_path: Path, keys: str, name: str) -> None:
    finished_run(tmp_path / "run", "glue_rte", keys)
    (found,) = compare_runs([tmp_path]).rows
    assert found.method == name
    assert bool(found.paper) == (name == "RED")  # the recipe's figure is RED's alone
    missing = [note for note in compare_runs([tmp_path]).notes if "no figure of the paper" in note]
    assert bool(missing) == (name != "RED")


def test_the_papers_figures_and_their_caveats(tmp_path: Path) -> None:
    note = 'paper={model: roberta-base, table: "1", score: 78.0, std: 2.06, note: "best 5 of 15 seeds"}'
    finished_run(tmp_path / "a", "glue_rte", note)
    comparison = compare_runs([tmp_path])
    (found,) = comparison.rows
    assert Cells(comparison).paper(found, comparison.columns[0]) == "78.0 ± 2.06"
    assert found.paper_title == "paper: roberta-base, Table 1"
    assert any("best 5 of 15 seeds (RTE)" in line for line in comparison.notes)


def test_figures_of_another_base_are_not_shown(tmp_path: Path) -> None:
    finished_run(tmp_path / "a", "glue_rte", "model.name_or_path=some/encoder")
    comparison = compare_runs([tmp_path])
    (found,) = comparison.rows
    assert Cells(comparison).paper(found, comparison.columns[0]) == ""
    assert any("the base is encoder, the paper's is roberta-base" in line for line in comparison.notes)


def test_runs_in_subfolders_are_found_and_unfinished_ones_are_named(tmp_path: Path) -> None:
    finished_run(tmp_path / "a" / "b" / "run42", seed=42)
    finished_run(tmp_path / "a" / "again", seed=42)
    unfinished = finished_run(tmp_path / "unfinished", seed=43)
    (unfinished / "metrics.json").unlink()
    damaged = finished_run(tmp_path / "damaged", seed=44)
    (damaged / "metrics.json").write_text("{")
    exported = finished_run(tmp_path / "exported", seed=45)
    (exported / "config.json").write_text("{}")
    (finished_run(tmp_path / "odd", seed=46) / "recipe.yaml").write_text("task: {name: nonsense}")
    inside = tmp_path / "a" / "b" / "run42" / "evaluations" / "1"
    shutil.copytree(damaged, inside)  # nothing inside a run is looked at
    (tmp_path / "recipe.yaml").write_text("task: {name: glue}")  # a user's own recipe in a folder of runs
    comparison = compare_runs([tmp_path, tmp_path / "a"])
    assert [run.path for group in comparison.groups for run in group.runs] == [tmp_path / "a" / "again"]
    reasons = {left.path.relative_to(tmp_path).as_posix(): left.reason for left in comparison.left_out}
    assert reasons.keys() == {"a/b/run42", "unfinished", "damaged", "exported", "odd"}
    assert reasons["unfinished"] == "is not finished"
    assert "the same recipe and seed" in reasons["a/b/run42"]
    assert "not valid JSON" in reasons["damaged"]
    assert "line 1: task: expected" in reasons["odd"]


def drop(key: str) -> Callable[[dict], object]:
    return lambda metrics: metrics.pop(key)


METRICS_FAULTS: dict[str, Callable[[dict], object]] = {
    "no splits": drop("splits"),
    "no best": drop("best"),
    "no parameters": drop("parameters"),
    "another metric": lambda metrics: metrics.update(metric="f1"),
    "not finite": lambda metrics: metrics["splits"]["validation"].update(accuracy=float("nan")),
    "no number": lambda metrics: metrics["splits"]["validation"].update(accuracy="high"),
    "no count": lambda metrics: metrics["splits"]["validation"].pop("examples"),
    "a split that is a number": lambda metrics: metrics["splits"].update(validation=5),
    "a list of splits": lambda metrics: metrics.update(splits=[]),
    "a metric that is a list": lambda metrics: metrics.update(metric=[]),
    "no base": drop("base"),
    "a base that is a number": lambda metrics: metrics.update(base=3),
    "an unknown method": lambda metrics: metrics.update(method="magic"),
    "the best as text": lambda metrics: metrics["best"].update(value="0.9"),
    "a step below 0": lambda metrics: metrics["best"].update(step=-1),
    "rows that are no record": lambda metrics: metrics["scoring"].update(scored="validation"),
    "a share as text": lambda metrics: metrics["parameters"].update(share="tiny"),
    "a rate as text": lambda metrics: metrics.update(learning_rate="fast"),
    "a search without edges": lambda metrics: metrics.update(learning_rate_search={"rate": 1.0, "steps": 2}),
    "no steps": lambda metrics: metrics["training"].update(steps=0),
    "seconds as text": lambda metrics: metrics["training"].update(seconds="long"),
    "no device": lambda metrics: metrics["training"].pop("device"),
    "the paper as a list": lambda metrics: metrics.update(paper=[]),
    "suites as a list": lambda metrics: metrics.update(suites=[]),
}


@pytest.mark.parametrize("change", METRICS_FAULTS.values(), ids=METRICS_FAULTS.keys())
def test_damaged_metrics_are_left_out(tmp_path: Path, change: Callable[[dict], object]) -> None:
    finished_run(tmp_path / "good")
    file = finished_run(tmp_path / "bad", seed=43) / "metrics.json"
    metrics = json.loads(file.read_text())
    change(metrics)
    file.write_text(json.dumps(metrics))
    comparison = compare_runs([tmp_path])
    assert [left.path.name for left in comparison.left_out] == ["bad"]
    assert "damaged" in comparison.left_out[0].reason
    with pytest.raises(UserError) as caught:
        compare_runs([tmp_path / "bad"])
    assert caught.value.code == "not-a-run"
    with pytest.raises(UserError, match=r"metrics\.json") as caught:  # what eval, compare, --seeds and export read
        RunFolder(tmp_path / "bad").read_results()
    assert caught.value.code == "file-damaged"


def test_where_there_is_nothing(tmp_path: Path) -> None:
    for path, code in ((tmp_path / "nothing", "folder-not-found"), (tmp_path, "not-a-run")):
        with pytest.raises(UserError) as caught:
            compare_runs([path])
        assert caught.value.code == code
        assert str(path) in caught.value.message


def eight_tasks(folder: Path) -> Path:
    for name in ("mnli", "sst2", "mrpc", "cola", "qnli", "qqp", "rte", "stsb"):
        for seed in (42, 43):
            finished_run(folder / f"{name}-{seed}", f"glue_{name}", seed=seed, score=0.8 + seed / 1000)
            finished_run(folder / f"{name}-{seed}-large", f"glue_{name}", variant="roberta-large", seed=seed)
    return folder


@pytest.mark.parametrize("width", [80, 200, 40])
def test_the_table_fits_the_terminal(tmp_path: Path, width: int) -> None:
    comparison = compare_runs([eight_tasks(tmp_path)])
    lines = terminal_lines(comparison, width)
    assert max(map(len, lines)) <= width
    assert len(lines) <= (24 if width >= 80 else 60)
    text = "\n".join(lines)
    for figure in ("84.20", "84.30", "83.9", "2.06", "96.0"):
        assert figure in text
    heading = lines[0].split()
    assert heading[-1] == "Avg." or width == 40


def test_the_data_hold_every_seed(tmp_path: Path) -> None:
    data = comparison_data(compare_runs([eight_tasks(tmp_path)]))
    assert json.loads(json.dumps(data)) == data
    first = data["rows"][0]["tasks"][0]
    assert first["task"] == "MNLI"
    assert first["seeds"].keys() == {"42", "43"}
    assert first["mean"] == pytest.approx(statistics.fmean(first["seeds"].values()))
    assert first["paper"]["score"] in (83.9, 89.5)
    assert len(data["rows"]) == 2


def test_texts_have_a_column_for_each_metric_of_the_paper(tmp_path: Path) -> None:
    ours = {"BLEU": 0.65, "NIST": 8.4, "METEOR": 0.45, "ROUGE_L": 0.67, "CIDEr": 2.25}
    for seed in (42, 43):
        scores = {name: value * (1 + (seed - 42) / 100) for name, value in ours.items()}
        splits = {"validation": {"examples": 9, "loss": 1.1}, "test": {"examples": 9, "loss": 1.2, **scores}}
        finished_run(tmp_path / str(seed), "e2e_nlg", seed=seed, splits=splits, metric="loss")
    finished_run(tmp_path / "sst2", score=0.93)
    comparison = compare_runs([tmp_path])
    assert [column.metric for column in comparison.columns] == ["accuracy", *ours]
    found = next(row for row in comparison.rows if row.base == "openai-community/gpt2-medium")
    means = {column.metric: group.mean for column, group in found.cells.items()}
    unit = {"NIST": 1, "CIDEr": 1}
    assert means == pytest.approx({name: value * 1.005 * unit.get(name, 100) for name, value in ours.items()})
    figures = {column.metric: (figure.score, figure.std) for column, figure in found.figures.items()}
    assert figures == {
        "BLEU": (64.86, 0.4), "NIST": (8.36, 0.03), "METEOR": (44.99, 0.02), "ROUGE_L": (67.62, 0.22),
        "CIDEr": (2.28, 0.01),
    }  # fmt: skip
    assert found.average is None  # the metrics have different units
    assert [column.title for column in comparison.averaged] == ["SST-2"]
    lines = terminal_lines(comparison, 80)
    assert max(map(len, lines)) <= 80
    assert "Avg." not in "\n".join(lines)
    tasks = comparison_data(comparison)["rows"][comparison.rows.index(found)]["tasks"]
    assert [(task["metric"], task["paper"]["score"]) for task in tasks] == [(name, figures[name][0]) for name in ours]
    if has_extra("plot"):
        assert draw_comparison(comparison).png.startswith(b"\x89PNG")


def test_losses_are_not_percentages(tmp_path: Path) -> None:
    splits = {"validation": {"examples": 9, "loss": 1.1}}
    finished_run(tmp_path / "a", "e2e_nlg", splits=splits, metric="loss", score=1.1)
    comparison = compare_runs([tmp_path])
    (group,) = comparison.groups
    assert group.mean == pytest.approx(1.1)
    assert headings(comparison) == ["e2e loss"]
    assert any(f"red eval {tmp_path / 'a'}" in note for note in comparison.notes)
    assert not comparison.rows[0].paper
