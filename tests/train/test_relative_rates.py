"""Learning rates relative to the spread of outputs: what a step is, what resumes, and what old records mean."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from red_cli.plan.search_plan import plan_search
from red_cli.recipe.load import load_recipe
from red_cli.recipe.methods import METHODS
from red_cli.train.optimizer import set_units
from red_cli.train.output_spread import measure_output_spread
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
    vectors = {name: vector for name, vector in vectors_of(run).items() if ".red." in name}
    assert len(vectors) == 2 * len(spreads)
    for name, vector in vectors.items():
        path, _, kind = name.removeprefix("base_model.model.").rpartition(".red.")
        moved = (vector - float(kind == "scale")).abs().max()
        unit = (spreads[path] if kind == "bias" else 1) / 2 if rates == "relative" else 1  # two modules in a layer
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
    set_units(optimizer.param_groups, {"a": 1.0, "b": 2.0, "c": 4.0})
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5, 1.0, 2.0, 1.0]


def test_auto_is_the_usual_relative_rate_and_nothing_is_searched(recipe: Path) -> None:
    usual = METHODS["red"].relative_rate
    auto = ["train.learning_rate=auto"]
    assert load_recipe(str(recipe), None, auto).recipe.train.learning_rate == usual
    assert load_recipe(str(recipe), None, [*auto, "launch.strategy=zero2"]).recipe.train.learning_rate == usual
    for others in (["method=lora"], ["train.rates=absolute"]):
        assert load_recipe(str(recipe), None, [*auto, *others]).recipe.train.learning_rate == "auto"


@pytest.mark.parametrize("spread", [math.nan, math.inf, 0.0])
def test_an_output_without_a_usable_spread_has_the_median_of_the_others(spread: float) -> None:
    model = torch.nn.ModuleDict({name: torch.nn.Linear(4, 4) for name in "abc"})
    with torch.no_grad():
        model["a"].weight.fill_(spread)
    inputs = torch.randn(6, 4)
    spreads = measure_output_spread(model, list("abc"), lambda: [model[name](inputs) for name in "abc"])[1]
    groups = [{"params": [vector.bias], "lr": 1.0, "module": name, "unit": 1.0} for name, vector in model.items()]
    optimizer = torch.optim.AdamW(groups)
    set_units(optimizer.param_groups, spreads)
    assert optimizer.param_groups[0]["lr"] == sorted([spreads["b"], spreads["c"]])[1]


def test_methods_without_relative_rates_need_no_search_under_deepspeed(recipe: Path) -> None:
    """They have none: a sweep resets parameters, which DeepSpeed flattens. Their usual rate is named as such."""
    for keys in (["method=lora"], ["method=full"], ["train.rates=absolute"]):
        loaded = load_recipe(str(recipe), None, ["train.learning_rate=auto", "launch.strategy=zero2", *keys])
        plan = plan_search(loaded.recipe.method, ["model.layer.0.output.dense"], 10_000, "zero2")
        assert (plan.sweeps, plan.why_none) == (0, "zero2 has no search")
        assert loaded.recipe.train.rates == "absolute"
    alone = ["method=head", "train.learning_rate=auto", "train.head_learning_rate=0.01"]
    assert load_recipe(str(recipe), None, alone).recipe.train.learning_rate == 0.01


def test_a_record_of_version_0_1_of_another_method_is_the_same_recipe(red, recipe: Path, tmp_path: Path) -> None:
    keys = ["method=head", "train.max_steps=1"]
    assert red("train", recipe, *keys).code == 0
    content = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert content["train"].pop("rates") == "absolute"
    (tmp_path / "run" / "recipe.yaml").write_text(yaml.safe_dump(content))
    assert red("train", recipe, *keys).code == 0  # shows the finished run
    (tmp_path / "more.yaml").write_text("extends: run/recipe.yaml\nmethod: red\n")
    assert load_recipe(str(tmp_path / "more.yaml")).recipe.train.rates == "absolute"


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
