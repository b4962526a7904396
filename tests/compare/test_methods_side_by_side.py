"""`red compare`: methods under the same seeds, each run in its own process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from red_cli.compare import comparison as compare_module
from red_cli.compare.comparison import plan_comparison
from red_cli.compare.comparison_table import tables_of
from red_cli.compare.grid import parse_grids, points_of
from red_cli.compare.paired_differences import PairedDifferences, paired, signed_difference
from red_cli.methods.method import method_named
from red_cli.recipe.methods import METHODS
from red_cli.subprocesses import run_red
from tests.extras import needs_extra


@needs_extra("baselines")
def test_the_table_is_that_of_the_runs(red, recipe: Path, tmp_path: Path, in_process: list[list[str]]) -> None:
    short = "train.max_steps=4"
    command = ["compare", recipe, "--methods", "red,red++,head,lora", "--seeds", "1,2", short, "lora:lora.rank=4"]
    result = red(*command, "lora:train.learning_rate=2e-3", "--json").json
    assert result["split"] == "test"
    assert result["chose_best"] == "none"
    assert result["examples"] == 40
    assert [row["method"] for row in result["rows"]] == ["red", "red++", "head", "lora"]
    assert [row["trained_parameters"] for row in result["rows"]] == [192, 960, 0, 3 * 2 * 4 * 64]
    assert {row["head_parameters"] for row in result["rows"]} == {66}
    # The recipe's rate is that of its own method; the rate of one method by name; else the usual ones
    rates = {"red": 1e-2, "red++": METHODS["red"].relative_rate, "head": method_named("head").rates.usual,
             "lora": 2e-3}  # fmt: skip
    sources = {row["method"]: row["rate_from"] for row in result["rows"]}
    assert sources == {"red": "recipe", "red++": "usual", "head": "usual", "lora": "override"}
    for row in result["rows"]:
        values = []
        for seed in ("1", "2"):
            run = tmp_path / "run" / row["method"] / f"seed{seed}"
            metrics = json.loads((run / "metrics.json").read_text())
            values.append(metrics["splits"]["test"]["accuracy"])
            assert row["scores"]["accuracy"]["seeds"][seed] == values[-1]
            assert row["learning_rates"][seed] == rates[row["method"]]
            assert row["peak_memory_bytes"] >= metrics["training"]["peak_memory_bytes"]
            assert not (run / "checkpoints").exists()
            tensors = next((run / "adapter").glob("*.safetensors"))
            assert row["file_bytes"] == tensors.stat().st_size
        score = row["scores"]["accuracy"]
        assert score["mean"] == statistics.fmean(values)
        assert score["std"] == statistics.stdev(values)
        assert row["seconds_per_step"] > 0
    assert json.loads((tmp_path / "run" / "comparison.json").read_text()) == result
    markdown = (tmp_path / "run" / "comparison.md").read_text()
    for row in result["rows"]:
        score = row["scores"]["accuracy"]
        both = " / ".join(f"{value * 100:.2f}" for value in score["seeds"].values())
        assert f"| {row['method']} | {both} |" in markdown
    assert len(in_process) == 8
    # The same command has nothing left to do
    outcome = red(*command, "lora:train.learning_rate=2e-3")
    assert outcome.code == 0
    assert len(in_process) == 8
    assert outcome.err.count("finished before") == 8
    assert max(len(line) for line in outcome.out.splitlines() if str(tmp_path) not in line) <= 80
    # One more method is added to the finished ones
    more = red("compare", recipe, "--methods", "red,bitfit", "--seeds", "1-2", short, "--json")
    assert len(in_process) == 10
    assert [row["method"] for row in more.json["rows"]] == ["red", "bitfit"]


def width(rows: list[list[str]]) -> int:
    """The width of a table in a terminal, in columns."""
    return sum(max(map(len, column)) for column in zip(*rows, strict=True)) + 2 * (len(rows[0]) - 1)


def test_the_table_fits_80_columns() -> None:
    score = {"mean": 0.9985, "std": 0.0123, "seeds": {"1": 0.9985 - 0.0123, "2": 0.9985, "3": 0.9985 + 0.0123}}
    row = {
        "method": "bitfit", "name": "bitfit", "point": {}, "best_of_grid": None, "scores": {"accuracy": score},
        "trained_parameters": 22_713_216, "head_parameters": 16_770, "learning_rates": {"1": 0.0018, "2": 0.0042},
        "seconds_per_step": 1.234, "peak_memory_bytes": 1292 << 20, "file_bytes": 88738 << 10,
    }  # fmt: skip
    other = {**row, "learning_rates": {"1": 1.5e-4}, "scores": {"accuracy": {**score, "seeds": {"1": 0.9985}}}}
    (cells,) = tables_of({"metrics": ["accuracy"], "rows": [row, other], "differences": []})
    assert width(cells) <= 80
    assert cells[1] == ["bitfit", "99.85 ± 1.23 (3)", "22,713,216", "16,770", "2e-3…4e-3", "1,234", "1,292M", "87M"]
    assert cells[2][1] == "99.85 (1)"
    assert cells[2][4] == "0.00015"
    texts = {"BLEU": 0.65, "NIST": 8.3934, "METEOR": 0.4503, "ROUGE_L": 0.6761, "CIDEr": 2.2333}
    scores = {
        name: {"seeds": {str(seed): value * (1 + (seed - 2) / 199) for seed in (1, 2, 3)}}
        for name, value in texts.items()
    }
    scored, costs = tables_of({"metrics": [*texts], "rows": [{**row, "scores": scores}], "differences": []})
    assert scored == [
        ["method", *texts],
        ["bitfit", "65.00 ± 0.33", "8.393 ± 0.042", "45.03 ± 0.23", "67.61 ± 0.34", "2.233 ± 0.011"],
    ]
    assert costs[1] == ["bitfit", *cells[1][2:]]
    assert max(width(scored), width(costs)) <= 80


@needs_extra("baselines")
def test_a_run_of_a_comparison_is_the_run_it_would_be_alone(
    red, recipe: Path, tmp_path: Path, in_process: list[list[str]]
) -> None:
    assert red("compare", recipe, "--methods", "red++,lora").code == 0  # the recipe's own seed
    usual = (
        ["red.positions=red++", f"train.learning_rate={METHODS['red'].relative_rate}"],
        ["method=lora", "train.learning_rate=0.002"],
    )
    for method, keys in zip(("red++", "lora"), usual, strict=True):
        assert red("train", recipe, *keys, f"output.dir={tmp_path / method}").code == 0
        name = Path("adapter") / "adapter_model.safetensors"
        assert (tmp_path / "run" / method / "seed42" / name).read_bytes() == (tmp_path / method / name).read_bytes()


def test_the_rate_of_a_method_fits_its_kind_of_rates(recipe: Path) -> None:
    """Relative and absolute rates are different units: neither takes the value of the other."""
    red = method_named("red")

    def planned(path: Path, options: list[str], grids: list[str]) -> list[tuple[object, str | None]]:
        plan = plan_comparison(str(path), None, options, ["red"], None, grids)
        return [(run.loaded.recipe.train.learning_rate, run.rate) for run in plan.runs]

    both, usual = ["train.rates=relative,absolute"], (METHODS["red"].relative_rate, "usual")
    assert planned(recipe, [], both) == [(0.01, "recipe"), (red.rates.usual, "usual")]
    assert planned(recipe, ["red:train.rates=absolute"], []) == [(red.rates.usual, "usual")]
    without = recipe.with_name("without.yaml")
    without.write_text(recipe.read_text().replace("learning_rate: 1e-2", "weight_decay: 0"))
    assert planned(without, [], both) == [usual, (red.rates.usual, "usual")]
    searched = recipe.with_name("searched.yaml")
    searched.write_text(recipe.read_text().replace("learning_rate: 1e-2", "learning_rate: auto"))
    assert planned(searched, [], both) == [(usual[0], "recipe"), ("auto", "search")]


def test_a_method_that_fails_does_not_stop_the_others(
    red, recipe: Path, tmp_path: Path, in_process: list[list[str]]
) -> None:
    options = ["red:train.learning_rate=1e25", "red:train.max_grad_norm=null"]
    outcome = red("compare", recipe, "--methods", "red,head", *options)
    assert outcome.code == 1
    assert "red with seed 42" in outcome.err
    written = json.loads((tmp_path / "run" / "comparison.json").read_text())
    assert [row["method"] for row in written["rows"]] == ["head"]
    assert [(run["method"], run["seed"]) for run in written["failed"]] == [("red", 42)]


def test_a_run_that_is_deleted_meanwhile_is_an_error(
    red, recipe: Path, tmp_path: Path, in_process: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = compare_module.run_red

    def delete_the_other(arguments, on_line):
        shutil.rmtree(tmp_path / "run" / "red", ignore_errors=True)
        return trained(arguments, on_line)

    command = ["compare", recipe, "--methods", "red,head"]
    with monkeypatch.context() as patch:
        patch.setattr(compare_module, "run_red", delete_the_other)
        outcome = red(*command, "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "folder-vanished")
    assert str(tmp_path / "run" / "red" / "seed42") in outcome.json["error"]["message"]
    in_process.clear()
    assert red(*command).code == 0
    assert len(in_process) == 1  # what was deleted, and no more


def test_without_a_labelled_test_split_the_selection_is_scored_and_noted(
    red, recipe: Path, data: Path, tmp_path: Path, in_process: list[list[str]]
) -> None:
    files = ["data.path=null", f"data.train={data / 'train.csv'}", f"data.validation={data / 'validation.csv'}"]
    outcome = red("compare", recipe, "--methods", "head", *files)
    assert "on validation, 40 rows, which" in outcome.out


# arguments -> code of the error, a fact in its message
FAULTS = {
    "no such method": (["--methods", "red,lara"], "unknown-name", "'lara'"),
    "twice": (["--methods", "red,red"], "invalid-option", "--methods red,red: red"),
    "prefix of none": (["--methods", "red", "lora:train.seed=1"], "unknown-name", "'lora'"),
    "seed of one": (["--methods", "red", "red:train.seed=1"], "invalid-option", "train.seed"),
    "data of one": (["--methods", "red", "red:data.path=x"], "invalid-option", "data.path"),
    "method by key": (["--methods", "red", "method=lora"], "invalid-option", "method=lora"),
    "seed by key": (["--methods", "red", "--seeds", "1", "train.seed=3"], "invalid-option", "train.seed"),
    "a grid without values": (["--grid", "train.learning_rate"], "invalid-option", "KEY=VALUE"),
    "a grid of nothing": (["--grid", "train.learning_rate="], "invalid-option", "KEY=VALUE"),
    "a grid of data": (["--grid", "data.path=a,b"], "invalid-option", "data.path"),
    "a grid of seeds": (["--grid", "train.seed=1,2"], "invalid-option", "train.seed"),
    "a grid of no method": (["--methods", "red", "--grid", "lora:lora.rank=1,2"], "unknown-name", "'lora'"),
    "a grid and a key": (
        ["--grid", "train.weight_decay=0,1", "train.weight_decay=0"],
        "invalid-option",
        "weight_decay",
    ),
    "a value twice": (["--grid", "train.weight_decay=1,1"], "invalid-option", "1 is given twice"),
    "a key twice": (["--grid", "train.weight_decay=1", "--grid", "train.weight_decay=2"], "invalid-option", "grid"),
    "an unknown key in a grid": (["--grid", "train.lerning_rate=1,2"], "invalid-recipe", "train.learning_rate?"),
    "a bad value in a grid": (["--grid", "train.batch_size=16,many"], "invalid-recipe", "train.batch_size"),
    "backwards": (["--methods", "red", "--seeds", "5-3"], "invalid-option", "5 is after 3"),
    "a range twice": (["--methods", "red", "--seeds", "1-3,2"], "invalid-option", "2 is given twice"),
    "half a range": (["--methods", "red", "--seeds", "3-"], "invalid-option", "''"),
    "too many": (["--methods", "red", "--seeds", "1-99999"], "invalid-option", "1,000"),
    "bad seeds": (["--methods", "red", "--seeds", "one"], "invalid-option", "'one'"),
    "a key": (["--methods", "red", "train.lerning_rate=3"], "invalid-recipe", "Did you mean train.learning_rate?"),
    "a key of one": (["--methods", "red,lora", "lora:lora.rnk=3"], "invalid-recipe", "Did you mean lora.rank?"),
    "unfit": (["--methods", "head,full", "model.dtype=bfloat16"], "invalid-recipe", "model.dtype"),
}


@pytest.mark.parametrize(("arguments", "code", "fact"), FAULTS.values(), ids=FAULTS.keys())
def test_faults(red, recipe: Path, tmp_path: Path, arguments: list[str], code: str, fact: str) -> None:
    outcome = red("compare", recipe, *arguments, "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, code)
    assert fact in outcome.json["error"]["message"]
    assert not (tmp_path / "run").exists()


def test_the_methods_have_to_be_given(red, recipe: Path) -> None:
    outcome = red("compare", recipe)
    assert (outcome.code, outcome.out) == (2, "")
    assert "--methods" in outcome.err


def test_a_missing_package_is_an_error_before_anything_trains(
    red, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: list[list[str]]
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "peft" else real(name, *rest))
    outcome = red("compare", recipe, "--methods", "red,lora", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "missing-dependency")
    assert "red-finetune[baselines]" in outcome.err
    assert in_process == []


def test_a_folder_of_another_run_stops_before_anything_trains(
    red, recipe: Path, tmp_path: Path, in_process: list[list[str]]
) -> None:
    assert red("compare", recipe, "--methods", "head").code == 0
    outcome = red("compare", recipe, "--methods", "red,head", "train.num_train_epochs=1", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "different-recipe")
    assert "train.num_train_epochs: 2.0 -> 1" in outcome.err
    assert len(in_process) == 1


def test_each_run_has_its_own_process_and_peak(red, recipe: Path, tmp_path: Path) -> None:
    """In real processes: the memory of the command itself does not count in the figures of its runs."""
    ballast = b"\1" * (800 << 20)
    result = red("compare", recipe, "--methods", "head", "train.max_steps=1", "--json").json
    assert psutil.Process().memory_info().rss > len(ballast) > result["rows"][0]["peak_memory_bytes"]


@pytest.mark.slow
def test_ctrl_c_is_passed_on_once_and_a_checkpoint_is_written(recipe: Path, tmp_path: Path) -> None:
    keys = ["--methods", "red", "train.num_train_epochs=400"]
    command = [sys.executable, "-m", "red_cli", "compare", str(recipe), *keys]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    log = tmp_path / "run" / "red" / "seed42" / "log.jsonl"
    deadline = time.monotonic() + 120
    while not log.is_file() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the same command" in errors
    assert "Traceback" not in errors
    assert list((log.parent / "checkpoints").iterdir())


def test_a_faulty_run_reports_its_reason(tmp_path: Path) -> None:
    said: list[str] = []
    code, asked = run_red(["train", str(tmp_path / "none.yaml")], said.append)
    assert (code, asked) == (2, False)
    assert said[0].startswith("error: ")
    assert str(tmp_path / "none.yaml") in said[0]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_request_to_end_is_noted_while_the_run_lasts(tmp_path: Path, name: str) -> None:
    number, asked_before = signal.Signals[name], []
    earlier = signal.signal(number, lambda *arguments: asked_before.append(number))
    own = signal.getsignal(number)
    try:
        _, asked = run_red(["train", str(tmp_path / "none.yaml")], lambda line: os.kill(os.getpid(), number))
        assert signal.getsignal(number) is own
    finally:
        signal.signal(number, earlier)
    assert asked
    assert not asked_before


def test_the_folder_is_named_after_recipe_and_variant(recipe: Path, tmp_path: Path) -> None:
    text = recipe.read_text()
    recipe.write_text(text[: text.index("output:")] + "variants: {small: {train: {num_train_epochs: 1}}}\n")
    planned = plan_comparison(str(recipe), "small", [], ["red", "red++"], [1, 2])
    assert planned.folder == Path("runs/compare-reviews-small")
    folders = [str(run.loaded.run_folder.relative_to(planned.folder)) for run in planned.runs]
    assert folders == ["red/seed1", "red++/seed1", "red/seed2", "red++/seed2"]
    assert {run.loaded.recipe.train.num_train_epochs for run in planned.runs} == {1}


def test_the_untuned_base_is_the_start_of_a_run(
    red, recipe: Path, tmp_path: Path, in_process: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a learning rate to speak of, a run ends where `none` stands: each seed has its own head."""
    still = ["red:train.learning_rate=1e-30", "train.max_steps=1"]
    command = ["compare", recipe, "--methods", "red,none", "--seeds", "1-3", *still]
    outcome = red(*command, "--json")
    trained, untuned = outcome.json["rows"]
    assert (trained["method"], untuned["method"]) == ("red", "none")
    assert untuned["scores"] == trained["scores"]
    assert len(set(untuned["scores"]["accuracy"]["seeds"].values())) > 1
    assert (untuned["rate_from"], untuned["trained_parameters"], untuned["seconds_per_step"]) == (None, 0, None)
    assert outcome.json["differences"][0]["interval"] == [0, 0]
    assert len(in_process) == 3
    shown = red(*command)
    assert len(in_process) == 3
    assert shown.err.count("finished before") == 6
    assert max(len(line) for line in shown.out.splitlines() if str(tmp_path) not in line) <= 80
    # The other commands know it
    states = red("runs", tmp_path / "run", "--json").json["runs"]
    assert [run["state"] for run in states] == ["finished"] * 6
    assert {run["next"] is None for run in states if "none" in run["folder"]} == {True}
    report = red("report", tmp_path / "run", "--output", tmp_path / "report", "--json")
    rows = {row["method"]: row for row in report.json["rows"]}
    [cell] = rows["untuned"]["tasks"]
    assert (len(cell["seeds"]), cell["mean"]) == (3, pytest.approx(100 * untuned["scores"]["accuracy"]["mean"]))


def test_the_best_of_a_grid_is_chosen_on_the_selection_split(
    red, recipe: Path, tmp_path: Path, in_process: list[list[str]]
) -> None:
    command = ["compare", recipe, "--grid", "train.learning_rate=1e-30,1e-2", "--grid", "train.weight_decay=0,0.1",
               "--seeds", "1,2", "train.max_steps=6"]  # fmt: skip
    outcome = red(*command, "--json")
    result = outcome.json
    points = [(row["point"]["train.learning_rate"], row["point"]["train.weight_decay"]) for row in result["rows"]]
    assert points == [(1e-30, 0), (1e-30, 0.1), (1e-2, 0), (1e-2, 0.1)]
    assert {row["rate_from"] for row in result["rows"]} == {"grid"}
    for row in result["rows"]:
        folder = tmp_path / "run" / "red"
        rate, decay = row["point"].values()
        for seed, value in row["selection"]["seeds"].items():
            run = folder / f"learning_rate={rate:g},weight_decay={decay:g}" / f"seed{seed}"
            metrics = json.loads((run / "metrics.json").read_text())
            assert value == metrics["splits"]["validation"]["accuracy"] == metrics["best"]["value"]
            assert row["scores"]["accuracy"]["seeds"][seed] == metrics["splits"]["test"]["accuracy"]
            assert metrics["learning_rate"] == rate
    chosen = [row for row in result["rows"] if row["best_of_grid"]]
    assert len(chosen) == 1
    assert chosen[0]["selection"]["mean"] == max(row["selection"]["mean"] for row in result["rows"])
    assert len(in_process) == 8
    shown = red(*command)
    assert (shown.code, len(in_process)) == (0, 8)
    assert max(len(line) for line in shown.out.splitlines() if str(tmp_path) not in line) <= 80
    assert "on validation" in shown.out


def test_values_and_combinations_of_a_grid() -> None:
    grids = parse_grids(["red.positions=[ffn],[ffn, query],red++", "lora:lora.rank=4,8"], ["red", "lora"], [])
    assert grids[0].values == [["ffn"], ["ffn", "query"], "red++"]
    overrides = [[setting.override for setting in point] for point in points_of("lora", grids)]
    assert overrides[0] == ['red.positions=["ffn"]', "lora.rank=4"]
    assert len(overrides) == 6
    assert len(points_of("red", grids)) == 3
    assert points_of("red", []) == [()]


def test_the_interval_is_that_of_students_t() -> None:
    """The example of Student's paper (1908): ten patients' hours of sleep; t is 2.262 for nine degrees of freedom."""
    extra = [1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4]
    reach = 2.262157 * statistics.stdev(extra) / 10**0.5
    found = PairedDifferences(dict(enumerate(extra)))
    assert found.interval == pytest.approx((1.58 - reach, 1.58 + reach), abs=1e-6)
    assert PairedDifferences({1: 1.0, 2: 2.0}).interval is None


def test_differences_have_the_sign_of_the_first_of_two_rows() -> None:
    found = paired({1: 0.5, 2: 0.75, 3: 0.0}, {1: 0.25, 2: 1.0})
    assert found is not None
    assert (found.by_seed, found.mean) == ({1: 0.25, 2: -0.25}, 0)
    assert paired({1: 0.5}, {2: 0.5}) is None
    assert [signed_difference("accuracy", 1.234), signed_difference("NIST", -0.5), signed_difference("loss", 0.0)] == [
        "+1.23",
        "−0.500",
        "+0.0000",
    ]


def test_planned_runs_that_never_started_are_listed(
    red, recipe: Path, tmp_path: Path, in_process: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from red_cli.errors import Interrupted

    trained, calls = compare_module.run_red, []

    def stop_at_the_second(arguments, on_line):
        calls.append(arguments)
        return trained(arguments, on_line) if len(calls) == 1 else (Interrupted.exit_code, True)

    monkeypatch.setattr(compare_module, "run_red", stop_at_the_second)
    assert red("compare", recipe, "--methods", "head", "--seeds", "1-3").code == 130
    runs = red("runs", tmp_path / "run", "--json").json["runs"]
    assert [(Path(run["folder"]).name, run["state"]) for run in runs] == [
        ("seed1", "finished"), ("seed2", "never started"), ("seed3", "never started")
    ]  # fmt: skip
    assert runs[1]["next"] == f"red compare {recipe} --methods head --seeds 1-3"
