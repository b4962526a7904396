"""`--together`: runs that take turns on one base are the runs they would be alone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from red_cli.base_model import base_dtype, drawn_heads
from red_cli.distributed.process_group import SINGLE_PROCESS
from red_cli.distributed.step_numbers import NotFinite, StepNumbers
from red_cli.errors import RunFailed
from red_cli.plan.strategy import StrategyChoice
from red_cli.recipe.load import load_recipe
from red_cli.train import loop as train_module
from red_cli.train import shared_resources, step_reports
from red_cli.train import start as start_module
from red_cli.train import together as together_module
from red_cli.train.step import accumulate
from red_cli.train.together import raise_failures
from tests.conftest import Outcome, run_red, write_recipe
from tests.end_to_end.test_instruction_tuning import talk_data, talk_recipe, talking_base
from tests.failures import assert_failed, fails
from tests.tiny import read_lines
from tests.train.started import adapter_bytes

SEEDS = ("--seeds", "3,5")
OWN = ("time", "examples_per_second", "seconds", "peak_memory_bytes", "folder", "command")  # of a run, not its result


def short(recipe: Path) -> Path:
    """Four steps on a base with dropout, evaluated after every second."""
    recipe.write_text(recipe.read_text().replace("num_train_epochs: 2", "max_steps: 4\n  eval_steps: 2"))
    return recipe


@pytest.fixture
def recipe(recipe: Path) -> Path:
    return short(recipe)


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    """Instruction tuning of a decoder with dropout."""
    (tmp_path / "talks").mkdir()
    return talk_recipe(tmp_path, talking_base(tmp_path / "base"), talk_data(tmp_path / "talks"))


def content(value: object, place: Path) -> object:
    """What a file holds, without what is not the result of the run, and its place."""
    if isinstance(value, dict):
        return {key: content(each, place) for key, each in value.items() if key not in OWN}
    if isinstance(value, list):
        return [content(each, place) for each in value]
    return value.replace(str(place), "PLACE") if isinstance(value, str) else value


def assert_same_runs(alone: Path, together: Path) -> None:
    """The same files, with the same content: adapters bit for bit, metrics, logs, predictions, checkpoints."""
    names = sorted(path.relative_to(alone) for path in alone.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(together) for path in together.rglob("*") if path.is_file())
    assert any(name.name == "adapter_model.safetensors" for name in names)
    for name in names:
        one, other = alone / name, together / name
        if name.suffix == ".json":
            pair = [content(json.loads(path.read_text()), place) for path, place in ((one, alone), (other, together))]
            if name.name == "state.json":  # the digest of the optimiser's file: it is compared itself
                pair = [{key: each for key, each in part.items() if key != "digests"} for part in pair]
            assert pair[0] == pair[1], name
        elif name.suffix == ".jsonl":
            assert content(read_lines(one), alone) == content(read_lines(other), together), name
        elif name.suffix == ".pt":
            torch.testing.assert_close(state_of(one), state_of(other), rtol=0, atol=0)
        elif name.suffix in (".safetensors", ".csv"):
            assert one.read_bytes() == other.read_bytes(), name


def state_of(path: Path) -> dict:
    """A checkpoint's optimiser and torch's generator; no run draws from those of Python and NumPy."""
    stored = torch.load(path, weights_only=True)
    return {"optimizer": stored["optimizer"]["state"], "torch": stored["generators"][0]["torch"]}


CASES: dict[str, tuple[str, Sequence[str]]] = {
    "red, dropout": ("recipe", []),
    "red++, rows by seed": ("recipe", ["red.positions=red++", "data.max_train_rows=90"]),
    "micro-batch found, bf16, activations recomputed": (
        "recipe",
        ["train.micro_batch_size=null", "train.bf16=true", "train.gradient_checkpointing=true"],
    ),
    "instruction": ("talks", ["train.max_steps=2", "model.dropout=0.1", "eval.samples=1"]),
}
SEARCH = ["train.learning_rate=auto", "train.rates=absolute", "train.max_steps=96", "train.eval_steps=48"]


@pytest.mark.parametrize(("name", "keys"), CASES.values(), ids=CASES.keys())
def test_together_is_each_run_alone(
    red, request: pytest.FixtureRequest, tmp_path: Path, name: str, keys: Sequence[str]
) -> None:
    require_same(red, tmp_path, ("train", request.getfixturevalue(name), *SEEDS, *keys, "--json"))


@pytest.mark.slow
def test_each_run_searches_its_rate(red, recipe: Path, tmp_path: Path) -> None:
    text = recipe.read_text().replace("  eval_steps: 2", "").replace("max_steps: 4", "num_train_epochs: 1")
    recipe.write_text(text)
    require_same(red, tmp_path, ("train", recipe, *SEEDS, *SEARCH, "--json"))
    assert (tmp_path / "together" / "seed3" / "learning_rate_search.json").is_file()


def test_found_rates_outlive_an_interruption_and_a_failure(
    red, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All runs are planned before a base is loaded, whose memory would count twice."""
    events: list[object] = []
    real_plan, real_load, real_search = start_module.make_plan, drawn_heads.load_base, start_module.search_learning_rate
    ends: dict[int, BaseException] = {5: KeyboardInterrupt()}

    def search(loaded, *arguments):
        events.append(loaded.recipe.train.seed)
        found = real_search(loaded, *arguments)
        if loaded.recipe.train.seed in ends:
            raise ends[loaded.recipe.train.seed]
        return found

    monkeypatch.setattr(start_module, "make_plan", counted(real_plan, "plan", events))
    monkeypatch.setattr(drawn_heads, "load_base", counted(real_load, "load", events))
    monkeypatch.setattr(start_module, "search_learning_rate", search)
    command = ("train", recipe, *SEEDS, *SEARCH, "eval.untuned=false", "--together", "--json")
    assert red(*command).code == 130
    assert events == ["plan", "plan", 3, "load", 5]
    found = {seed: tmp_path / "run" / f"seed{seed}" / "learning_rate_search.json" for seed in (3, 5)}
    assert json.loads(found[3].read_text())["inputs"]["base"] is not None
    assert not found[5].parent.exists()
    before, ends[5] = found[3].read_bytes(), RunFailed("out-of-memory", "too long")
    events.clear()
    outcome = red(*command)
    assert (outcome.code, outcome.json["error"]["code"]) == (1, "out-of-memory")
    assert events == ["plan", "plan", 5, "load", "load"]
    assert "seed 5 failed: too long" in outcome.err
    assert found[3].read_bytes() == before
    metrics = json.loads((found[3].parent / "metrics.json").read_text())
    assert metrics["learning_rate"] == json.loads(before)["rate"]


def test_a_search_leaves_no_gradients_of_the_head(recipe: Path) -> None:
    loaded = load_recipe(str(recipe), None, []).recipe
    resources = shared_resources.SharedResources([loaded.train.seed])
    trained = resources.attach(loaded, resources.prepare(loaded), SINGLE_PROCESS, StrategyChoice("single"))
    assert trained.head
    for parameter in trained.parameters(trained.names):
        parameter.grad = torch.ones_like(parameter)
    resources.release(trained)
    assert all(parameter.grad is None for parameter in trained.model.parameters())


def require_same(red: Callable[..., Outcome], folder: Path, command: Sequence[object]) -> None:
    """Train seeds one after another and together, and compare all that they wrote."""
    alone = red(*command, f"output.dir={folder / 'alone'}")
    assert alone.code == 0, alone.err
    together = red(*command, f"output.dir={folder / 'together'}", "--together")
    assert together.code == 0, together.err
    assert together.json["splits"] == alone.json["splits"]
    for seed in (3, 5):
        assert_same_runs(folder / "alone" / f"seed{seed}", folder / "together" / f"seed{seed}")
    assert adapter_bytes(folder / "together" / "seed3") != adapter_bytes(folder / "together" / "seed5")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, base: Path, data: Path) -> Path:
    """The folder of the runs of `recipe` under both seeds, one after another, which no test may change."""
    folder = tmp_path_factory.mktemp("alone")
    outcome = run_red("train", short(write_recipe(folder, base, data)), *SEEDS)
    assert outcome.code == 0, outcome.err
    return folder / "run"


def test_the_base_and_the_rows_are_read_once(
    red, recipe: Path, tmp_path: Path, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    optimizers: list[weakref.ref] = []
    real_finish = together_module.finish

    def finish(run):
        assert [each() for each in optimizers] == [None] * len(optimizers)  # those of finished runs are gone
        optimizers.append(weakref.ref(run.session.optimisation.optimizer))
        return real_finish(run)

    monkeypatch.setattr(together_module, "finish", finish)
    monkeypatch.setenv("FSDP_OF_LATER", "1")
    for module, name in (
        (drawn_heads, "load_base"),
        (shared_resources, "prepare"),
        (shared_resources, "take_digest"),
    ):
        monkeypatch.setattr(module, name, counted(getattr(module, name), name, calls))
    outcome = red("train", recipe, *SEEDS, "--together")
    assert outcome.code == 0, outcome.err
    assert sorted(calls) == ["load_base", "prepare", "take_digest"]
    assert len(optimizers) == 2
    assert outcome.err.count("FSDP_OF_LATER=1") == 1
    assert "FSDP_OF_LATER" not in os.environ
    lines = [line for line in outcome.err.splitlines() if "(best)" in line]
    assert {line.split("seed ")[1][0] for line in lines} == {"3", "5"}
    assert "by seed  3: " in outcome.out
    again = red("train", recipe, *SEEDS, "--together")
    assert again.out == outcome.out
    assert again.err.count("finished before") == 2
    assert len(calls) == 3


def counted(function: Callable[..., Any], name: str, calls: list) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        calls.append(name)
        return function(*arguments)

    return call


@pytest.mark.parametrize("what", ["another head", "a buffer"])
def test_a_base_whose_head_cannot_be_drawn_again_is_loaded_for_every_seed(
    red, recipe: Path, tmp_path: Path, alone: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    real_load, real_redrawn = drawn_heads.load_base, drawn_heads._redrawn
    seeds: list[int] = []

    def load_base(model, config, kind, seed, device):
        seeds.append(seed)
        return real_load(model, config, kind, seed, device)

    def redrawn(model, head, fresh, seed):
        if what == "another head":
            return real_redrawn(model, head, fresh, seed + 1)
        values = real_redrawn(model, head, fresh, seed)
        next(model.buffers()).add_(1)
        return values

    monkeypatch.setattr(drawn_heads, "load_base", load_base)
    monkeypatch.setattr(drawn_heads, "_redrawn", redrawn)
    assert red("train", recipe, *SEEDS, "--together").code == 0
    assert seeds == [3, 3, 5]
    assert [adapter_bytes(tmp_path / "run" / f"seed{seed}") for seed in (3, 5)] == [
        adapter_bytes(alone / f"seed{seed}") for seed in (3, 5)
    ]


def test_ctrl_c_leaves_a_checkpoint_of_each_run(
    red, recipe: Path, tmp_path: Path, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them then resumes by itself, the other together with it; both end as if nothing had stopped them."""
    real_step = train_module.optimizer_step

    def step(session, rows):
        if session.settings.seed == 5 and session.state.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return real_step(session, rows)

    monkeypatch.setattr(train_module, "optimizer_step", step)
    outcome = red("train", recipe, *SEEDS, "--together", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (130, "interrupted")
    runs = {seed: tmp_path / "run" / f"seed{seed}" for seed in (3, 5)}
    for run in runs.values():
        assert (run / "checkpoints" / "step-3").is_dir()
        assert not (run / "metrics.json").exists()
        assert not (run / ".lock").exists()
    monkeypatch.setattr(train_module, "optimizer_step", real_step)
    assert red("train", recipe, "--resume", "train.seed=3", f"output.dir={runs[3]}").code == 0
    resumed = red("train", recipe, *SEEDS, "--together")
    assert resumed.code == 0, resumed.err
    assert "seed 3: finished before" in resumed.err
    assert "seed 5: Resuming from step 3 of 4" in resumed.err
    for seed, run in runs.items():
        assert adapter_bytes(run) == adapter_bytes(alone / f"seed{seed}")
        assert scores(run) == scores(alone / f"seed{seed}")


def test_a_run_that_fails_leaves_the_others_alone(
    red, recipe: Path, tmp_path: Path, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails after its backward pass: its gradients of the head, whose parameters all runs train, are dropped."""
    real_step = train_module.optimizer_step
    held: list[weakref.ref] = []

    def diverge(session, rows):
        share = accumulate(session, rows)
        held.extend(map(weakref.ref, (share.loss, session.optimisation.optimizer)))
        raise NotFinite("loss nan")

    def step(session, rows):
        if session.settings.seed == 3 and session.state.step == 2:
            try:
                diverge(session, rows)
            except NotFinite:
                raise RunFailed("run-not-finite", "step 3: loss nan") from None
        if session.settings.seed == 5 and session.state.step == 3:
            assert [each() for each in held] == [None, None]  # its error is kept, and no memory with it
        return real_step(session, rows)

    monkeypatch.setattr(train_module, "optimizer_step", step)
    outcome = red("train", recipe, *SEEDS, "--together", "--json")
    assert (outcome.code, outcome.json["error"]["code"]) == (1, "run-not-finite")
    assert len(held) == 2
    failed, other = (tmp_path / "run" / f"seed{seed}" for seed in (3, 5))
    assert json.loads((failed / "failure.json").read_text())["code"] == "run-not-finite"
    assert "seed 3 failed: step 3" in outcome.err
    assert adapter_bytes(other) == adapter_bytes(alone / "seed5")
    assert scores(other) == scores(alone / "seed5")
    monkeypatch.setattr(train_module, "optimizer_step", real_step)
    assert red("train", recipe, *SEEDS, "--together").code == 0
    assert adapter_bytes(failed) == adapter_bytes(alone / "seed3")


def test_ctrl_c_reads_the_steps_that_are_not_read_yet(
    red, recipe: Path, tmp_path: Path, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where a step is read when the next one is launched. One of them turns out not to be finite."""
    real_step, real_read = train_module.optimizer_step, StepNumbers.read
    not_finite: list[StepNumbers] = []

    def step(session, rows):
        numbers = real_step(session, rows)
        if session.state.step == 2:
            if session.settings.seed == 3:
                not_finite.append(numbers)
            else:
                os.kill(os.getpid(), signal.SIGINT)
        return numbers

    def read(numbers):
        if numbers in not_finite:
            raise NotFinite("loss nan")
        return real_read(numbers)

    monkeypatch.setattr(step_reports, "reads_later", lambda device: True)
    monkeypatch.setattr(train_module, "optimizer_step", step)
    monkeypatch.setattr(StepNumbers, "read", read)
    outcome = red("train", recipe, *SEEDS, "--together")
    assert outcome.code == 130
    assert "seed 3 failed: step 3" in outcome.err
    lines = [
        [content(line, run) for line in read_lines(run / "log.jsonl") if "loss" in line]
        for run in (alone / "seed5", tmp_path / "run" / "seed5")
    ]
    assert lines[1] == lines[0][:3]


def test_several_failures_are_one_error() -> None:
    raise_failures({})
    with fails("run-failed", "seed 3, seed 5", kind=RunFailed):
        raise_failures({"seed 3": ValueError("a"), "seed 5": ValueError("b")})
    with pytest.raises(ValueError, match="a"):
        raise_failures({"seed 3": ValueError("a")})


@pytest.mark.slow
def test_runs_train_further_together(red, recipe: Path, tmp_path: Path) -> None:
    further = ("train", recipe, *SEEDS, "--more-epochs", "1")
    assert red("train", recipe, *SEEDS, "--together").code == 0
    assert red(*further).code == 0
    for seed in (3, 5):
        (tmp_path / "run" / f"seed{seed}-more1").rename(tmp_path / f"alone{seed}")
    assert red(*further, "--together").code == 0
    for seed in (3, 5):
        assert adapter_bytes(tmp_path / "run" / f"seed{seed}-more1") == adapter_bytes(tmp_path / f"alone{seed}")


def scores(run: Path) -> dict[str, Any]:
    metrics = json.loads((run / "metrics.json").read_text())
    return {key: metrics[key] for key in ("best", "splits", "inputs")}


def test_a_comparison_of_edits(red, recipe: Path, tmp_path: Path, in_process: list[list[str]]) -> None:
    """Other positions, rates and lengths; the untuned base is scored as ever."""
    command = ["compare", recipe, "--methods", "none,red,red++", "red++:train.max_steps=3", "--json"]
    grid = ["--grid", "red:train.learning_rate=1e-2,1e-3"]
    together = red(*command, *grid, f"output.dir={tmp_path / 'together'}", "--together")
    assert together.code == 0, together.err
    assert not in_process
    alone = red(*command, *grid, f"output.dir={tmp_path / 'alone'}")
    assert len(in_process) == 3
    machine = ("seconds_per_step", "peak_memory_bytes")
    rows = [
        [{key: value for key, value in row.items() if key not in machine} for row in outcome.json["rows"]]
        for outcome in (alone, together)
    ]
    assert len(rows[0]) == 4
    assert rows[0] == rows[1]
    for adapter in (tmp_path / "alone").rglob("*.safetensors"):
        assert adapter.read_bytes() == (tmp_path / "together" / adapter.relative_to(tmp_path / "alone")).read_bytes()


# command, arguments -> a fact in the message
REFUSED = {
    "one run": ("train", ["--together"], "several runs"),
    "another method": ("train", [*SEEDS, "--together", "method=head"], "linear probe"),
    "the base trains": ("train", [*SEEDS, "--together", "method=full"], "full fine-tuning"),
    "a sharded base": ("train", [*SEEDS, "--together", "launch.strategy=fsdp"], "fsdp"),
    "several processes": ("train", [*SEEDS, "--together", "launch.num_processes=2"], "one process, not 2"),
    "a cache": ("train", [*SEEDS, "--together", "train.cache_prefix=true"], "train.cache_prefix"),
    "graphs": ("train", [*SEEDS, "--together", "train.compile=true"], "train.compile"),
    "a tracker": ("train", [*SEEDS, "--together", "train.report_to=wandb"], "wandb"),
    "methods": ("compare", ["--together", "--methods", "red,lora", "lora:train.learning_rate=1e-3"], "LoRA"),
    "dtypes": ("compare", ["--together", "--grid", "model.dtype=float32,bfloat16"], "model.dtype float32 and bfloat16"),
    "precision": ("compare", ["--together", "--grid", "train.bf16=true,false"], "train.bf16 True and False"),
}


@pytest.mark.parametrize(("command", "arguments", "fact"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_train_together_is_refused_first(
    red, recipe: Path, tmp_path: Path, command: str, arguments: list[str], fact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start_module, "make_plan", None)  # nothing gets as far
    outcome = red(command, recipe, *arguments, "--json")
    assert_failed(outcome, "invalid-option", fact)
    assert not (tmp_path / "run").exists()


# settings by seed -> a fact in the message
OTHER_BASES = {
    "labels": (lambda seed: {"kind": "same", "config.id2label": f"{seed}" * 30}, "different bases: config.id2label"),
    "a value": (lambda seed: {"config.dropout": f"0.{seed}"}, "different bases: config.dropout 0.3 and 0.5"),
    "a key": (lambda seed: {"model.length": "64"} if seed == 3 else {}, "different bases: model.length 64 and None"),
}


@pytest.mark.parametrize(("settings", "fact"), OTHER_BASES.values(), ids=OTHER_BASES.keys())
def test_rows_that_need_other_bases_are_refused_before_one_is_loaded(
    red, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Callable[[int], dict], fact: str
) -> None:
    monkeypatch.setattr(together_module, "base_settings", lambda recipe, prepared: settings(recipe.train.seed))
    monkeypatch.setattr(drawn_heads, "load_base", None)
    assert_failed(red("train", recipe, *SEEDS, "--together", "--json"), "invalid-option", "seed 3 and seed 5", fact)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["train", "compare"])
def test_a_run_started_in_another_dtype_is_named(
    red, recipe: Path, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """As by a version that loaded every base in float32, whatever its files have."""
    halved = shutil.copytree(base, tmp_path / "halved")
    AutoModel.from_pretrained(base).to(torch.bfloat16).save_pretrained(halved)
    monkeypatch.setattr(base_dtype, "computes_well_in", lambda device, dtype: True)
    recipe.write_text(recipe.read_text().replace(str(base), str(halved)))
    seeds = SEEDS if command == "train" else ("--methods", "red", *SEEDS)
    started = tmp_path / "run" / ("seed3" if command == "train" else "red/seed3")
    real_step = train_module.optimizer_step

    def step(session, rows):
        os.kill(os.getpid(), signal.SIGINT)
        return real_step(session, rows)

    with monkeypatch.context() as patch:
        patch.setattr(train_module, "optimizer_step", step)
        assert red("train", recipe, "model.dtype=float32", "train.seed=3", f"output.dir={started}").code == 130
    facts = ("model.dtype float32 and bfloat16", "model.dtype=float32 trains both as", "seed 3 was started")
    assert_failed(red(command, recipe, *seeds, "--together", "--json"), "invalid-option", *facts)
    resumed = red(command, recipe, *seeds, "--together", "model.dtype=float32")
    assert resumed.code == 0, resumed.err
    assert "Resuming from step 1 of 4" in resumed.err
