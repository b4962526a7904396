"""`red train --seeds`: one run for each seed, finished ones unchanged, mean and spread at the end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
from pathlib import Path

import pytest

from red_cli.recipe.score_format import mean_score
from red_cli.train import loop as train_module
from tests.failures import assert_failed


@pytest.fixture
def recipe(recipe: Path) -> Path:
    """Four steps, evaluated after the second and the last."""
    recipe.write_text(recipe.read_text().replace("num_train_epochs: 2", "max_steps: 4\n  eval_steps: 2"))
    return recipe


def test_mean_and_sample_standard_deviation() -> None:
    assert mean_score([1.0, 2.0, 4.0]) == (pytest.approx(7 / 3), pytest.approx(statistics.stdev([1, 2, 4])))
    assert mean_score([3.0]) == (3.0, None)


def test_each_seed_is_the_run_it_would_be_alone(red, recipe: Path, tmp_path: Path) -> None:
    result = red("train", recipe, "--seeds", "3,1, 2", "--json").json
    assert result["folders"] == {str(seed): str(tmp_path / "run" / f"seed{seed}") for seed in (3, 1, 2)}
    values = {}
    for seed, folder in result["folders"].items():
        metrics = json.loads((Path(folder) / "metrics.json").read_text())
        assert metrics["training"]["seed"] == int(seed)
        values[seed] = metrics["splits"]["validation"]["accuracy"]
    score = result["splits"]["validation"]["accuracy"]
    assert score["seeds"] == values
    assert score["mean"] == statistics.fmean(values.values())
    assert score["std"] == statistics.stdev(values.values())
    assert red("train", recipe, "train.seed=1", f"output.dir={tmp_path / 'alone'}").code == 0
    name = Path("adapter") / "adapter_model.safetensors"
    assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "run" / "seed1" / name).read_bytes()


def test_each_seed_is_trained_further(red, recipe: Path, tmp_path: Path) -> None:
    further = ("train", recipe, "--seeds", "1,2", "--more-epochs", "1", "--json")
    assert red("train", recipe, "train.seed=1", f"output.dir={tmp_path / 'run' / 'seed1'}").code == 0
    assert_failed(red(*further), "run-unfinished", "seed2")
    assert not (tmp_path / "run" / "seed1-more1").exists()
    assert red("train", recipe, "--seeds", "1,2").code == 0
    outcome = red(*further)
    assert outcome.code == 0, outcome.err
    assert outcome.json["folders"] == {seed: str(tmp_path / "run" / f"seed{seed}-more1") for seed in ("1", "2")}
    for seed, folder in outcome.json["folders"].items():
        metrics = json.loads((Path(folder) / "metrics.json").read_text())
        assert metrics["init_from"] == str(tmp_path / "run" / f"seed{seed}")
    assert "finished before" in red(*further).err


def test_the_default_folders_are_those_of_single_runs(
    red, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = recipe.read_text()
    recipe.write_text(text[: text.index("output:")])
    outcome = red("train", recipe, "--seeds", "1")
    assert outcome.code == 0
    assert (tmp_path / "runs" / "reviews-seed1" / "metrics.json").is_file()
    assert "±" not in outcome.out  # one value has no spread


def test_the_same_command_resumes(red, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_step = train_module.optimizer_step

    def step(session, rows):
        if session.settings.seed == 2 and session.state.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return real_step(session, rows)

    monkeypatch.setattr(train_module, "optimizer_step", step)
    outcome = red("train", recipe, "--seeds", "1,2,3")
    assert outcome.code == 130
    monkeypatch.setattr(train_module, "optimizer_step", real_step)
    first = (tmp_path / "run" / "seed1" / "metrics.json").stat().st_mtime_ns
    resumed = red("train", recipe, "--seeds", "1,2,3")
    assert resumed.code == 0
    assert f"seed 1: finished before ({tmp_path / 'run' / 'seed1'})" in resumed.err
    assert "step 3 of 4" in resumed.err
    assert (tmp_path / "run" / "seed1" / "metrics.json").stat().st_mtime_ns == first
    assert "±" in resumed.out
    assert all(f"{seed}: " in resumed.out for seed in (1, 2, 3))
    assert len(resumed.out.splitlines()) < 24
    # Nothing is left to do: the same figures again
    assert red("train", recipe, "--seeds", "1,2,3").out == resumed.out


def test_a_run_that_is_deleted_meanwhile_is_an_error(
    red, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_step = train_module.optimizer_step

    def step(session, rows):
        if session.settings.seed == 2:
            shutil.rmtree(tmp_path / "run" / "seed1", ignore_errors=True)
        return real_step(session, rows)

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "optimizer_step", step)
        outcome = red("train", recipe, "--seeds", "1,2", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "folder-vanished")
    assert str(tmp_path / "run" / "seed1") in outcome.json["error"]["message"]
    assert red("train", recipe, "--seeds", "1,2").code == 0


def test_the_papers_figure_is_shown(red, recipe: Path) -> None:
    paper = "paper={model: bert, table: '1', score: 61.0, std: 2.96}"
    outcome = red("train", recipe, "--seeds", "1,2", paper)
    assert "61.0 ± 2.96" in outcome.out


# arguments -> code of the error, a fact in its message
FAULTS = {
    "no number": (["--seeds", "1,x"], "invalid-option", "'x'"),
    "negative": (["--seeds", "-1"], "invalid-option", "'-1'"),
    "empty": (["--seeds", "1,,2"], "invalid-option", "''"),
    "too large": (["--seeds", "4294967296"], "invalid-option", "'4294967296'"),
    "twice": (["--seeds", "1,2,01"], "invalid-option", "01"),
    "also by key": (["--seeds", "1,2", "train.seed=3"], "invalid-option", "train.seed"),
    "a key": (["--seeds", "1,2", "train.lerning_rate=3"], "invalid-recipe", "Did you mean train.learning_rate?"),
}


@pytest.mark.parametrize(("arguments", "code", "fact"), FAULTS.values(), ids=FAULTS.keys())
def test_faults(red, recipe: Path, tmp_path: Path, arguments: list[str], code: str, fact: str) -> None:
    outcome = red("train", recipe, *arguments, "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, code)
    assert fact in outcome.json["error"]["message"]
    assert len(outcome.err.splitlines()) <= 4
    assert not (tmp_path / "run").exists()


def test_a_folder_of_another_run_stops_before_anything_trains(red, recipe: Path, tmp_path: Path) -> None:
    other = ["train.seed=2", "train.learning_rate=0.5", f"output.dir={tmp_path / 'run' / 'seed2'}"]
    assert red("train", recipe, *other).code == 0
    outcome = red("train", recipe, "--seeds", "1,2", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "different-recipe")
    assert "train.learning_rate: 0.5 -> 0.01" in outcome.err
    assert not (tmp_path / "run" / "seed1").exists()
    (tmp_path / "run" / "seed3").mkdir()
    (tmp_path / "run" / "seed3" / "notes.txt").touch()
    assert red("train", recipe, "--seeds", "3", "--json").json["error"]["code"] == "output-exists"
