"""Learning rates relative to the spread of outputs: what a step is, what resumes, and what old records mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from red_cli.recipe.load import load_recipe
from red_cli.recipe.methods import METHODS
from red_cli.train.optimizer import set_units
from tests.tiny import read_lines

RATE = 0.01  # of the recipe
ONE_STEP = ["train.max_steps=1", "train.warmup_ratio=0"]


def vectors_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(next((run / "adapter").glob("*.safetensors")))


@pytest.mark.parametrize("rates", ["relative", "absolute"])
def test_the_first_step_moves_a_bias_by_the_rate_times_the_spread(
    red, recipe: Path, tmp_path: Path, rates: str
) -> None:
    """Adam's first step is the learning rate, whatever the gradient."""
    assert red("train", recipe, *ONE_STEP, f"train.rates={rates}", "red.positions=[ffn,attn]").code == 0
    run = tmp_path / "run"
    spreads = json.loads((run / "output_spread.json").read_text())["modules"]
    assert len(set(spreads.values())) == len(spreads) > 2
    for name, vector in vectors_of(run).items():
        if name.endswith((".scale", ".bias")) and ".red" not in name and name.rpartition(".")[0] in spreads:
            path, _, kind = name.rpartition(".")
            moved = (vector - (kind == "scale")).abs().max()
            unit = spreads[path] if kind == "bias" and rates == "relative" else 1
            assert float(moved) == pytest.approx(RATE * unit, rel=1e-3), name
    log = read_lines(run / "log.jsonl")
    assert max(line.get("learning_rate", 0) for line in log) == pytest.approx(RATE)
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["learning_rate"], metrics["relative_rates"]) == (RATE, rates == "relative")


@pytest.mark.parametrize("components", [["scale", "bias"], ["bias"], ["scale"]])
def test_a_resumed_run_is_the_same_run(red, recipe: Path, tmp_path: Path, components: list[str]) -> None:
    keys = [f"red.components=[{','.join(components)}]", "train.max_steps=4", "train.save_steps=2", "train.eval_steps=4"]
    assert red("train", recipe, *keys, f"output.dir={tmp_path / 'straight'}").code == 0
    straight = tmp_path / "straight"
    for path in [*straight.glob("checkpoints/step-4"), *straight.glob("adapter"), straight / "metrics.json"]:
        path.rename(tmp_path / path.name)
    (straight / "output_spread.json").rename(tmp_path / "output_spread.json")  # as if resumed from another folder
    assert red("train", recipe, *keys, "--resume", f"output.dir={straight}").code == 0
    assert read_lines(straight / "log.jsonl")[-1]["step"] == 4
    before, after = load_file(next((tmp_path / "adapter").glob("*.safetensors"))), vectors_of(straight)
    assert all(torch.equal(before[name], after[name]) for name in before | after)
    assert (straight / "output_spread.json").read_text() == (tmp_path / "output_spread.json").read_text()


def test_a_module_that_no_row_reached_has_the_median_spread() -> None:
    groups = [
        {"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.5, "module": name, "unit": 1.0} for name in "abcd"
    ]
    optimizer = torch.optim.AdamW([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.5}, *groups])
    set_units(optimizer, {"a": 1.0, "b": 2.0, "c": 4.0})
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5, 1.0, 2.0, 1.0]


def test_auto_is_the_usual_relative_rate_and_nothing_is_searched(recipe: Path) -> None:
    usual = METHODS["red"].relative_rate
    auto = ["train.learning_rate=auto"]
    assert load_recipe(str(recipe), None, auto).recipe.train.learning_rate == usual
    assert load_recipe(str(recipe), None, [*auto, "launch.strategy=zero2"]).recipe.train.learning_rate == usual
    for others in (["method=lora"], ["train.rates=absolute"]):
        assert load_recipe(str(recipe), None, [*auto, *others]).recipe.train.learning_rate == "auto"


def test_a_record_of_version_0_1_keeps_its_absolute_rates(red, recipe: Path, tmp_path: Path) -> None:
    keys = ["train.max_steps=2", "train.save_steps=1", "train.rates=absolute"]
    assert red("train", recipe, *keys).code == 0
    run = tmp_path / "run"
    content = yaml.safe_load((run / "recipe.yaml").read_text())
    assert content["train"].pop("rates") == "absolute"
    (run / "recipe.yaml").write_text(yaml.safe_dump(content))
    (run / "metrics.json").unlink()
    outcome = red("train", recipe, "--resume", "--json", *keys[:2])
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "different-recipe")
    assert "train.rates: absolute -> relative" in outcome.err
    assert red("train", recipe, "--resume", *keys).code == 0
    again = ["train", run / "recipe.yaml", "--json", f"output.dir={tmp_path / 'again'}"]
    assert red(*again).json["relative_rates"] is False
