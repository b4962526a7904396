"""The untuned score: that of the model before the first step, computed once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from red_cli.recipe.score_format import format_untuned_remark
from red_cli.train import untuned as module
from tests.tiny import read_lines


def metrics_of(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that no other test has written to."""
    monkeypatch.setenv("RED_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of rows of the untuned evaluations that were computed."""
    rows, score = [], module._score

    def counting(*arguments: object) -> module.UntunedScores:
        found = score(*arguments)
        rows.append(found.rows)
        return found

    monkeypatch.setattr(module, "_score", counting)
    return rows


def test_it_is_the_score_of_a_run_that_has_not_moved(red: Callable, recipe: Path, own_cache: Path) -> None:
    """An independent evaluation of the same weights: by the loop, after a step of no size."""
    red("train", recipe, "train.max_steps=1", "train.learning_rate=1e-30", "--json")
    metrics = metrics_of(recipe.parent / "run")
    assert metrics["untuned"] == {"split": "validation", **metrics["splits"]["validation"]}


def test_it_is_computed_once(
    red: Callable, recipe: Path, tmp_path: Path, own_cache: Path, scored: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = ("train.max_steps=1", "--json")
    first = red("train", recipe, *short, f"output.dir={tmp_path / 'first'}").json["untuned"]
    other = red("train", recipe, *short, "train.learning_rate=2e-2", f"output.dir={tmp_path / 'other'}").json
    by_full = red("train", recipe, *short, "method=full", f"output.dir={tmp_path / 'full'}").json
    assert (scored, other["untuned"], by_full["untuned"]) == ([40], first, first)
    red("train", recipe, *short, "train.seed=7", f"output.dir={tmp_path / 'seed'}")
    assert len(scored) == 2  # another head
    (cached,) = sorted(own_cache.glob("untuned/*.json"))[:1]
    for path in own_cache.glob("untuned/*.json"):
        path.write_bytes(b"damaged")
    assert red("train", recipe, *short, f"output.dir={tmp_path / 'again'}").json["untuned"] == first
    assert len(scored) == 3
    monkeypatch.setenv("RED_CACHE_GIB", "0")
    red("train", recipe, *short, f"output.dir={tmp_path / 'uncached'}")
    assert (len(scored), cached.parent.name) == (4, "untuned")


def test_a_resumed_run_has_it_from_its_checkpoint(
    red: Callable, finished: Path, recipe: Path, own_cache: Path, scored: list[int]
) -> None:
    before = metrics_of(finished)
    (finished / "metrics.json").unlink()
    assert red("train", recipe).code == 0
    after = metrics_of(finished)
    assert not scored
    assert after["untuned"] == before["untuned"]
    assert [after[name] for name in ("classes", "confusion", "errors", "notes")] == [
        before[name] for name in ("classes", "confusion", "errors", "notes")
    ]


def test_it_can_be_left_out(red: Callable, recipe: Path, scored: list[int]) -> None:
    assert red("train", recipe, "train.max_steps=1", "eval.untuned=false", "--json").json["untuned"] is None
    assert not scored


def test_an_evaluation_of_the_same_split_shows_it(red: Callable, finished: Path) -> None:
    untuned = metrics_of(finished)["untuned"]
    assert red("eval", finished, "--split", "validation", "--json").json["untuned"] == untuned
    assert red("eval", finished, "--json").json["untuned"] is None  # the test split was not scored before
    shown = red("eval", finished, "--split", "validation").out
    assert format_untuned_remark(untuned, untuned["examples"], metrics_of(finished)["parameters"]["head"]) in shown
    assert metrics_of(finished)["untuned"] == untuned
    assert metrics_of(finished)["classes"].keys() == {"validation", "test"}


def test_few_texts_are_generated(
    red: Callable, tmp_path: Path, own_cache: Path, scored: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.end_to_end.test_text_tasks import completions, write_jsonl
    from tests.tiny import make_language_model

    monkeypatch.setattr(module, "MOST_GENERATED", 5)
    make_language_model(tmp_path / "base")
    for split, count in (("train", 8), ("validation", 12)):
        write_jsonl(tmp_path / "data" / f"{split}.jsonl", completions(count, 3))
    recipe = {
        "task": {"name": "generation"},
        "model": {"name_or_path": str(tmp_path / "base")},
        "data": {"path": str(tmp_path / "data")},
        "train": {"max_steps": 1, "batch_size": 4},
        "eval": {"metric": "exact_match", "generation": {"max_new_tokens": 4}},
        "output": {"dir": str(tmp_path / "run")},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    found = red("train", tmp_path / "recipe.yaml", "--json").json
    assert (scored, found["untuned"]["examples"], found["splits"]["validation"]["examples"]) == ([5], 5, 12)
    assert len(read_lines(tmp_path / "run" / "predictions" / "validation.jsonl")) == 12
    assert "5 of 12 rows" in red("eval", tmp_path / "run").out
    assert red("report", tmp_path / "run", "--output", tmp_path / "page").code == 0
    assert "5 of 12 rows" in (tmp_path / "page" / "report.html").read_text()


@pytest.mark.parametrize(("examples", "head", "facts"), [(9, 0, []), (20, 0, ["9 of 20"]), (9, 5, ["head"])])
def test_the_remark_has_only_what_applies(examples: int, head: int, facts: list[str]) -> None:
    remark = format_untuned_remark({"split": "validation", "examples": 9, "accuracy": 0.5}, examples, head)
    assert [fact for fact in ("9 of 20", "head") if fact in remark] == facts


def test_taken_rows_are_the_rows() -> None:
    """`take` gives each row's tokens, mask, prompt and completion."""
    import pyarrow as pa

    from red_cli.tasks.data.rows import Rows
    from red_cli.tasks.text.encoded_texts import EncodedTexts

    lengths = [3, 1, 4, 2]
    encoded = EncodedTexts(
        features={"input_ids": np.arange(10, dtype=np.int32)},
        offsets=np.cumsum([0, *lengths]),
        labels=np.array([1, 1, 2, 1]),
        truncated=0,
        prompt_lengths=np.array([2, 0, 2, 1]),
        rows=Rows(pa.table({"n": range(4)}), "x.csv"),
        prompts=list("abcd"),
        completions=list("ABCD"),
        loss_mask=np.arange(10) % 3 == 0,
    )
    chosen = [3, 0, 2]
    taken = encoded.take(chosen)
    for place, index in enumerate(chosen):
        assert taken.row(place).tolist() == encoded.row(index).tolist()
        assert taken.targets(place, False).tolist() == encoded.targets(index, False).tolist()
    assert (taken.prompts, taken.completions, taken.rows.column("n")) == (["d", "a", "c"], ["D", "A", "C"], chosen)
    assert taken.labels.tolist() == [1, 1, 2]
