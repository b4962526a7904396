"""`learning_rate: auto`: within its budget, the same for the same seed, recorded, and useful."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from red_cli.methods.method import method_named
from red_cli.plan.search_plan import plan_search
from red_cli.recipe.methods import METHODS
from red_cli.train import learning_rate_search as search_module
from red_cli.train import loop as train_module
from red_cli.train import start as start_module
from red_cli.train.learning_rate_record import Sweep
from red_cli.train.learning_rate_search import choose_rate, find_divergence_rate
from red_cli.train.session import Session
from tests.conftest import Outcome, run_red, write_recipe
from tests.tiny import read_lines, sentences, write_csv

AUTO = "train.learning_rate=auto"
ABSOLUTE = "train.rates=absolute"  # relative ones are not searched
LONG = ["train.max_steps=100", "train.eval_steps=50", ABSOLUTE]


@pytest.fixture
def search_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupt runs at their first step, when the search is recorded."""

    def interrupted(session: Session, rows: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(train_module, "optimizer_step", interrupted)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, base: Path, data: Path) -> tuple[Path, Outcome]:
    """The folder of a run that searched its rate, which no test may change, and the outcome of the command."""
    recipe = write_recipe(tmp_path_factory.mktemp("searched"), base, data)
    outcome = run_red("train", recipe, AUTO, *LONG, "--json")
    assert outcome.code == 0, outcome.err
    return recipe.parent / "run", outcome


ONE_A_LAYER = [f"model.layer.{layer}.output.dense" for layer in range(3)]
SEVERAL_A_LAYER = [f"model.layer.{layer}.{name}" for layer in range(3) for name in ("output.dense", "attention.query")]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("total", [1, 12, 95, 96, 100, 316, 640, 1000, 100_000])
def test_a_search_takes_at_most_a_quarter_of_the_run(method: str, total: int) -> None:
    plan = plan_search(method, ONE_A_LAYER, total)
    assert plan.total <= total / 4
    rates = method_named(method).rates_for(ONE_A_LAYER)
    assert rates.lowest < plan.usual < rates.highest
    assert (plan.sweeps > 0) == (total >= 96)
    if plan.sweeps:
        assert plan.rate(0) == pytest.approx(rates.lowest)
        assert plan.rate(plan.steps - 1) > rates.highest * plan.below_edge  # or its highest rate was never chosen
        assert 2 < plan.cycle <= 8  # each batch is taken some ten times


def curve(edge: float | None, falls_to: float, steps: int = 80) -> tuple[list[float], list[float]]:
    """A loss that falls from 0.7, and from `edge` on rises again."""
    rates = [float(rate) for rate in np.geomspace(1e-3, 1, steps)]
    fall = np.linspace(0.7, falls_to, steps)
    return rates, [float(loss) if edge is None or rate < edge else 0.9 for rate, loss in zip(rates, fall, strict=True)]


@pytest.mark.parametrize("falls_to", [0.7, 0.6, 0.1])
@pytest.mark.parametrize("edge", [0.01, 0.05, 0.3])
def test_the_divergence_rate_of_a_sweep(edge: float, falls_to: float) -> None:
    rates, losses = curve(edge, falls_to)
    found = find_divergence_rate(rates, losses, 8)
    assert found is not None
    assert edge / 2 < found < edge * 1.5
    assert find_divergence_rate(*curve(None, falls_to), 8) is None


def test_an_oscillating_loss_does_not_diverge() -> None:
    rates, losses = curve(None, 0.2)
    wobbling = [loss + 0.06 * math.sin(step / 2) for step, loss in enumerate(losses)]
    assert find_divergence_rate(rates, wobbling, 8) is None
    assert find_divergence_rate(rates[:5], losses[:5], 8) is None


def sweep_of(edge: float | None, falls_to: float = 0.3) -> Sweep:
    return Sweep(*curve(edge, falls_to), edge)


FLAT = sweep_of(None, falls_to=0.69)  # it neither falls nor diverges


@pytest.mark.parametrize(
    ("method", "sweeps", "rate"),
    [
        ("red", [sweep_of(0.06)], 0.02),  # the edge and the usual rate agree
        ("red", [sweep_of(0.24)], 0.04),  # half of the way (in the logarithm) from 0.02 to 0.24 / 3
        ("red", [sweep_of(0.03)], 0.014),
        ("red", [sweep_of(0.004)], 0.002),  # never nearer to the edge than half of it
        ("lora", [sweep_of(0.04)], 0.004),
        ("red", [sweep_of(0.01), sweep_of(0.06), sweep_of(0.2)], 0.02),  # the middle one of several
        ("red", [sweep_of(0.15), sweep_of(0.15), sweep_of(0.15)], 0.05),  # several agree: all of the way
        ("red", [sweep_of(0.12), sweep_of(0.03), sweep_of(0.12)], 0.028),  # between 0.02 and 0.04
        (
            "red",
            [sweep_of(None)] * 3,
            method_named("red").rates_for(ONE_A_LAYER).highest,
        ),  # it fell to the end of the range
        ("red", [sweep_of(1e-9)] * 3, 1e-3),
        ("red", [FLAT], 0.02),
        ("red", [FLAT, sweep_of(0.24)], 0.04),  # such a sweep has no vote
    ],
)
def test_sweeps_and_the_usual_rate_vote_within_the_methods_range(method: str, sweeps: list[Sweep], rate: float) -> None:
    assert choose_rate(sweeps, plan_search(method, ONE_A_LAYER, 320)) == rate


def test_several_edits_in_a_layer_stay_further_from_the_edge() -> None:
    one, many = (plan_search("red", modules, 320) for modules in (ONE_A_LAYER, SEVERAL_A_LAYER))
    assert many.usual < one.usual
    assert choose_rate([sweep_of(0.045)] * 3, many) == 0.01
    assert choose_rate([sweep_of(0.045)] * 3, one) == 0.015


def test_the_same_edits_have_the_same_rates_however_they_are_named(red, recipe: Path) -> None:
    by_position = red("check", recipe, AUTO, "--json", *LONG, "red.positions=red++").json["plan"]
    pattern = "|".join(path.replace(".", "\\.") for path in by_position["edited_modules"])
    by_pattern = red("check", recipe, AUTO, "--json", *LONG, f"red.target_modules='{pattern}'").json["plan"]
    assert by_pattern["edited_modules"] == by_position["edited_modules"]
    assert by_pattern["search"] == by_position["search"]
    assert by_position["search"] != red("check", recipe, AUTO, "--json", *LONG).json["plan"]["search"]


def test_a_loss_that_fell_and_stayed_is_taken_at_its_lowest() -> None:
    rates, losses = curve(None, 0.3)
    at = 40
    losses[at:] = [losses[at]] * (len(losses) - at)
    flat = Sweep(rates, losses, None)
    found = choose_rate([flat] * 2, plan_search("red", ONE_A_LAYER, 320))
    assert found == pytest.approx(rates[at] / 3, rel=0.1)


def test_a_sweep_drops_nothing_and_the_run_does(
    red, recipe: Path, search_alone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped: list[set[float]] = []
    for module in (search_module, start_module):
        monkeypatch.setattr(module, "build_session", _dropouts_noted(module.build_session, dropped))
    assert red("train", recipe, AUTO, *LONG, "model.classifier_dropout=0.3").code == 130
    assert dropped == [{0.0}, {0.1, 0.3}]


def _dropouts_noted(build_session: Callable[..., Session], dropped: list[set[float]]) -> Callable[..., Session]:
    def noted(*arguments: Any) -> Session:
        session = build_session(*arguments)
        dropped.append({module.p for module in session.model.modules() if isinstance(module, torch.nn.Dropout)})
        return session

    return noted


def test_a_run_finds_its_rate_and_shows_it(red, recipe: Path, tmp_path: Path, searched: tuple[Path, Outcome]) -> None:
    run, outcome = searched
    planned = red("check", recipe, AUTO, *LONG)
    assert "auto: a sweep from 0.001 to 1, 25 steps before the run" in planned.out
    metrics = outcome.json
    rate = metrics["learning_rate"]
    assert 1e-3 <= rate <= 1e-1
    assert f"learning rate {rate:g}: " in outcome.err
    search = json.loads((run / "learning_rate_search.json").read_text())
    assert search["rate"] == rate
    assert search["run_steps"] == 100
    assert search["steps"] == sum(len(sweep["losses"]) for sweep in search["sweeps"]) <= 25
    assert metrics["learning_rate_search"] == {
        "rate": rate, "steps": search["steps"], "edges": [sweep["edge"] for sweep in search["sweeps"]]
    }  # fmt: skip
    log = read_lines(run / "log.jsonl")
    assert log[0] == {
        "step": 0, "epoch": 0.0, "learning_rate_search": metrics["learning_rate_search"], "time": log[0]["time"]
    }  # fmt: skip
    assert max(line.get("learning_rate", 0) for line in log) == rate
    text = (run / "recipe.yaml").read_text()
    assert "found by a search, learning_rate_search.json" in text
    # The run is the same as with the given rate
    assert red("train", recipe, f"train.learning_rate={rate}", *LONG, f"output.dir={tmp_path / 'given'}").code == 0
    again = red("train", run / "recipe.yaml", f"output.dir={tmp_path / 'again'}", "--json").json
    assert again["learning_rate_search"] is None
    weights = [(path / "adapter" / "adapter_model.safetensors").read_bytes() for path in (run, tmp_path / "given")]
    assert weights[0] == weights[1] == (tmp_path / "again" / "adapter" / "adapter_model.safetensors").read_bytes()


def test_the_same_seed_finds_the_same_and_only_training_rows_are_looked_at(
    red, recipe: Path, data: Path, tmp_path: Path, search_alone: None
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.csv").write_bytes((data / "train.csv").read_bytes())
    other = {"positive": "negative", "negative": "positive"}
    write_csv(folder / "validation.csv", [{**row, "label": other[str(row["label"])]} for row in sentences(20, 99)])
    found = []
    for number, options in enumerate(([], [], [f"data.path={folder}"], ["train.seed=7"])):
        where = f"output.dir={tmp_path / str(number)}"
        assert red("train", recipe, AUTO, *LONG, *options, where).code == 130
        found.append(json.loads((tmp_path / str(number) / "learning_rate_search.json").read_text())["sweeps"])
    assert found[0] == found[1] == found[2]
    assert found[0] != found[3]


def test_a_resumed_run_does_not_search_again(
    red, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, searched: tuple[Path, Outcome]
) -> None:
    real_step = train_module.optimizer_step

    def step(session, rows):
        if session.state.step == 60:
            os.kill(os.getpid(), signal.SIGINT)
        return real_step(session, rows)

    def no_search(*arguments):
        raise AssertionError("searched again")

    monkeypatch.setattr(train_module, "optimizer_step", step)
    assert red("train", recipe, AUTO, *LONG).code == 130
    monkeypatch.setattr(train_module, "optimizer_step", real_step)
    monkeypatch.setattr(start_module, "search_learning_rate", no_search)
    for keys, key in (([AUTO, "train.seed=1"], "train.seed: 42 -> 1"), (["train.learning_rate=0.7"], "learning_rate")):
        error = red("train", recipe, *LONG, *keys, "--resume", "--json").json["error"]
        assert (error["code"], key in error["message"]) == ("different-recipe", True)
    assert red("train", recipe, AUTO, *LONG, "--resume").code == 0
    whole, run = searched[0], tmp_path / "run"
    name = Path("adapter") / "adapter_model.safetensors"
    assert (run / name).read_bytes() == (whole / name).read_bytes()
    first, same = (read_lines(folder / "log.jsonl")[0] for folder in (run, whole))
    assert {**first, "time": ""} == {**same, "time": ""}
    # Also from another run's checkpoint, into a new folder
    checkpoint = f"train.resume_from_checkpoint={whole / 'checkpoints' / 'step-50'}"
    assert red("train", recipe, AUTO, *LONG, checkpoint, f"output.dir={tmp_path / 'named'}").code == 0
    assert (tmp_path / "named" / "learning_rate_search.json").is_file()


def test_killed_while_the_record_is_written(red, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from red_cli.train.learning_rate_record import LearningRateSearch

    real_write = LearningRateSearch.write

    def killed_before(search, folder):
        raise KeyboardInterrupt

    def killed_after(search, folder):
        real_write(search, folder)
        raise KeyboardInterrupt

    for killed in (killed_before, killed_after):
        monkeypatch.setattr(LearningRateSearch, "write", killed)
        assert red("train", recipe, AUTO, *LONG, "--resume").code == 130
    monkeypatch.setattr(LearningRateSearch, "write", real_write)
    assert red("train", recipe, AUTO, *LONG, "--resume").code == 0
    (tmp_path / "run" / "metrics.json").unlink()
    (tmp_path / "run" / "learning_rate_search.json").write_text('{"rate": "x"}')
    outcome = red("train", recipe, AUTO, *LONG, "--resume", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (2, "file-damaged")
    assert str(tmp_path / "run" / "learning_rate_search.json") in outcome.err


def test_an_interrupted_search_leaves_nothing(
    red, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(search_module, "accumulate", interrupted)
    assert red("train", recipe, AUTO, *LONG).code == 130
    assert not (tmp_path / "run").exists()


def test_a_run_too_short_for_a_search_uses_the_usual_rate(red, recipe: Path) -> None:
    assert "auto: 0.02, " in red("check", recipe, AUTO, ABSOLUTE).out
    assert red("train", recipe, AUTO, ABSOLUTE, "--json").json["learning_rate"] == 0.02


def test_a_separate_rate_of_the_head_is_not_swept(
    red, recipe: Path, search_alone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_module, "build_optimizer", spied := _Spy(search_module.build_optimizer))
    assert red("train", recipe, AUTO, *LONG, "train.head_learning_rate=0.004").code == 130
    assert [group["lr"] for group in spied.made[0].param_groups][-1] == 0.004
    assert spied.made[0].param_groups[0]["lr"] > 0.004


class _Spy:
    """Records the results of a function."""

    def __init__(self, function):
        self.function, self.made = function, []

    def __call__(self, *arguments):
        self.made.append(self.function(*arguments))
        return self.made[-1]


@pytest.mark.slow
def test_the_quickstart_needs_no_rate(red, tmp_path: Path) -> None:
    """On a pretrained base: at most one point worse than the recipe's own rate."""
    scores = []
    for rate in ("auto", "3e-2"):
        run = tmp_path / rate
        keys = (f"train.learning_rate={rate}", "train.num_train_epochs=4", "eval.untuned=false")
        trained = red("train", "quickstart", *keys, f"output.dir={run}", "--json")
        assert trained.code == 0, trained.err
        scores.append(trained.json["splits"]["validation"]["accuracy"])
    assert scores[1] > 0.9
    assert scores[0] >= scores[1] - 0.01
