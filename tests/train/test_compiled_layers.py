"""Training with compiled layers: the same losses, and what a run says where layers are not compiled.

Graphs are run by torch's own operators, which takes no C++ compiler; the benchmark makes the real ones.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import fx

from red_cli.edit.adapter_config import WEIGHTS_FILE
from red_cli.edit.repeated_layers import blocks
from red_cli.train import compiled_layers, loop
from tests.failures import assert_failed
from tests.tiny import read_lines

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


def fails(graph: fx.GraphModule, inputs: list[Any]) -> Callable[..., Any]:
    raise RuntimeError("no such operator")


def test_layers_that_cannot_be_compiled_run_as_they_are(
    red, recipe: Path, tmp_path: Path, plain: Path, graphs: list[fx.GraphModule], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a line says so, and the run is the one without compilation, or nearly so if some forms are compiled."""
    with monkeypatch.context() as patch:
        patch.setattr(compiled_layers, "_OPTIONS", {"backend": fails})
        outcome = red("train", recipe, *KEYS, COMPILE, f"output.dir={tmp_path / 'fails'}")
    assert outcome.code == 0, outcome.err
    assert " ".join(outcome.err.split()).count("train.compile has no effect on BertLayer") == 1
    assert weights(tmp_path / "fails") == weights(plain)
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
