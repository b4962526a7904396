"""Training with compiled layers: the same losses, and what a run says where layers are not compiled.

Graphs are run by torch's own operators, which takes no C++ compiler; the benchmark makes the real ones.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from functorch.compile import make_boxed_func
from torch import fx
from torch._dynamo.backends.common import aot_autograd

from red_cli.edit.adapter_config import WEIGHTS_FILE
from red_cli.edit.repeated_layers import blocks
from red_cli.plan import schedule
from red_cli.train import compiled_layers, loop
from tests.end_to_end.test_instruction_tuning import talking_base
from tests.failures import assert_failed
from tests.tiny import make_base, read_lines
from tests.train.test_prefix_cache import SHORT, rows, talks, text_base, texts

COMPILE = "train.compile=true"
KEYS = ["train.logging_steps=1", "train.micro_batch_size=8", "train.max_steps=6", "eval.untuned=false"]


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_lines(run / "log.jsonl") if "loss" in line]


def weights(run: Path) -> bytes:
    return (run / "adapter" / WEIGHTS_FILE).read_bytes()


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[fx.GraphModule]:
    """The graphs that are made from here on."""
    found: list[fx.GraphModule] = []

    def keep(graph: fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        found.append(graph)
        return graph.forward

    monkeypatch.setattr(compiled_layers, "_OPTIONS", {"backend": keep})
    return found


@pytest.fixture
def plain(red, recipe: Path, tmp_path: Path) -> Path:
    """A run without compilation. The base has dropout."""
    assert red("train", recipe, *KEYS, f"output.dir={tmp_path / 'plain'}").code == 0
    return tmp_path / "plain"


def test_one_set_of_graphs_serves_all_layers_and_lengths(
    red, recipe: Path, tmp_path: Path, plain: Path, graphs: list[fx.GraphModule], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses are the same with dropout, a resumed run ends the same, and the layers are as before afterwards."""
    sessions, lengths, real = [], set(), loop.optimizer_step

    def step(session, batches):
        sessions.append(session)
        lengths.update(batch.inputs["input_ids"].shape for _, batch in batches.micro_batches)
        return real(session, batches)

    monkeypatch.setattr(loop, "optimizer_step", step)
    outcome = red("train", recipe, *KEYS, COMPILE)
    assert outcome.code == 0, outcome.err
    assert "train.compile" not in outcome.err
    assert "compile: true" in (tmp_path / "run" / "recipe.yaml").read_text()
    assert losses(tmp_path / "run") == pytest.approx(losses(plain), rel=1e-5)
    assert len(lengths) > 4
    assert 2 <= len(graphs) <= 4  # with and without a mask, with and without gradients of the input
    assert not any("forward" in vars(block) for block in blocks(sessions[0].model))
    (tmp_path / "run" / "metrics.json").unlink()
    again = red("train", recipe, *KEYS, COMPILE, "train.save_steps=3", f"output.dir={tmp_path / 'again'}")
    assert again.code == 0
    assert weights(tmp_path / "again") == weights(tmp_path / "run")


def runs(graph: fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
    return make_boxed_func(graph.forward)


def with_backward(graphs: list[fx.GraphModule]) -> Callable[..., Any]:
    """A backend that makes a forward and a backward graph, and keeps the forward ones."""

    def keep(graph: fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
        graphs.append(graph)
        return runs(graph, inputs)

    return aot_autograd(fw_compiler=keep, bw_compiler=runs)


ENCODER = (make_base, rows, "classification")
GPT2 = (text_base("gpt2"), texts, "generation")
LLAMA = (talking_base, talks, "instruction")
T5 = (text_base("t5", letters=True), rows, "classification")
CACHED = ["red.layers='1:'", "model.dropout=0", "train.cache_prefix=true"]
RECOMPUTED = "train.gradient_checkpointing=true"
# name -> base, data, task; keys; how far losses may be apart
ROUNDED, HALF = 1e-5, 2e-2
CASES = {
    "edits above the first layer": (ENCODER, ["red.layers='1:'"], ROUNDED),
    "a cached prefix": (ENCODER, CACHED, ROUNDED),
    "head": (ENCODER, ["method=head"], ROUNDED),
    "bitfit": (ENCODER, ["method=bitfit"], ROUNDED),
    "full": (ENCODER, ["method=full", "train.learning_rate=1e-4"], ROUNDED),
    "lora": (ENCODER, ["method=lora"], ROUNDED),
    "ia3": (ENCODER, ["method=ia3"], ROUNDED),
    "bfloat16": (ENCODER, ["train.bf16=true"], HALF),
    "gpt2": (GPT2, SHORT, ROUNDED),
    "packed": (LLAMA, [*SHORT, "train.packing=true"], ROUNDED),
    "llama, a cached prefix": (LLAMA, [*SHORT, *CACHED], ROUNDED),
    "activations recomputed": (ENCODER, [RECOMPUTED], ROUNDED),
    "t5": (T5, ["task.text_to_text=true", "red.layers='1:'"], ROUNDED),
}
QUICK = ("edits above the first layer", "a cached prefix")


@pytest.mark.parametrize("case", [pytest.param(case, marks=[pytest.mark.slow] * (case not in QUICK)) for case in CASES])
def test_losses_are_those_without_compilation(
    red, tmp_path: Path, graphs: list[fx.GraphModule], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Also where layers of a class differ, which must not share a graph."""
    (base, data, task), keys, apart = CASES[case]
    if case in ("lora", "ia3"):
        pytest.importorskip("peft")
    if RECOMPUTED in keys:  # graphs whose backward pass is one too, as the real ones
        monkeypatch.setattr(compiled_layers, "_OPTIONS", {"backend": with_backward(graphs)})
    named = [f"model.name_or_path={base(tmp_path / 'base')}", f"data.path={data(tmp_path / 'data')}"]
    usual = ["train.learning_rate=1e-2", "train.batch_size=16", "launch.strategy=single"]
    for name, own in (("without", []), ("with", [COMPILE])):
        assert not graphs
        outcome = red("train", task, *named, *KEYS, *usual, *keys, *own, f"output.dir={tmp_path / name}")
        assert outcome.code == 0, outcome.err
        assert "has no effect" not in outcome.err
    assert graphs
    assert losses(tmp_path / "with") == pytest.approx(losses(tmp_path / "without"), rel=apart)


def test_check_says_where_there_is_nothing_to_compile(red, recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached = ["method=head", "model.dropout=0", "train.cache_prefix=true"]
    notes = red("check", recipe, *cached, COMPILE, "--json").json["plan"]["notes"]
    assert [note for note in notes if "train.compile has no effect: train.cache_prefix" in note]
    monkeypatch.setattr(schedule, "blocks", lambda model: [])
    notes = red("check", recipe, COMPILE, "--json").json["plan"]["notes"]
    assert [note for note in notes if "train.compile has no effect: a Bert" in note]


def fails(graph: fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
    raise RuntimeError("no such operator")


BACKENDS = {"a graph": fails, "its backward graph": aot_autograd(fw_compiler=runs, bw_compiler=fails)}


@pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS.keys())
def test_layers_whose_graph_cannot_be_made_run_as_they_are(
    red, recipe: Path, tmp_path: Path, plain: Path, monkeypatch: pytest.MonkeyPatch, backend: Callable[..., Any]
) -> None:
    """Once a line says so, and the run is the one without compilation."""
    monkeypatch.setattr(compiled_layers, "_OPTIONS", {"backend": backend})
    outcome = red("train", recipe, *KEYS, COMPILE)
    assert outcome.code == 0, outcome.err
    lines = " ".join(outcome.err.split())
    assert lines.count("train.compile has no effect on BertLayer") == 1
    assert "no such operator" in lines
    assert weights(tmp_path / "run") == weights(plain)


def test_forms_beyond_the_limit_run_as_they_are(
    red, recipe: Path, tmp_path: Path, plain: Path, graphs: list[fx.GraphModule], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a line says so, and the run is nearly the one without compilation, since other forms are compiled."""
    monkeypatch.setattr(compiled_layers, "_MOST_FORMS", 1)
    outcome = red("train", recipe, *KEYS, COMPILE)
    assert outcome.code == 0, outcome.err
    assert " ".join(outcome.err.split()).count("BertLayer takes too many forms") == 1
    assert len(graphs) == 1
    assert losses(tmp_path / "run") == pytest.approx(losses(plain), rel=1e-5)


@pytest.mark.parametrize(
    ("keys", "code", "fact"),
    [
        (["launch.strategy=zero2"], "invalid-recipe", "launch.strategy=zero2"),
        (["model.quantization=nf4"], "invalid-recipe", "model.quantization"),
        ([], "missing-dependency", "no /nowhere/c++"),
    ],
)
def test_what_is_refused_before_anything_starts(
    red, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: list[str], code: str, fact: str
) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++ -O1")
    for command in ("check", "train"):
        assert_failed(red(command, recipe, COMPILE, *keys, "--json"), code, fact)
    assert not (tmp_path / "run").exists()
