"""Rows of a stream: as many as a run needs, and the same for the same seed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from red_cli.recipe.sections import Data
from red_cli.tasks.data import streaming
from red_cli.tasks.data.streaming import read_stream
from tests.failures import fails


def talk(number: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": f"{number}?"}, {"role": "assistant", "content": f"{number}."}]}


def numbers(rows: Any) -> list[int]:
    return [int(messages[1]["content"].rstrip(".")) for messages in rows.column("messages")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, count in {"train": 50, "validation": 5}.items():
        lines = "".join(json.dumps(talk(number)) + "\n" for number in range(count))
        (tmp_path / f"{split}.jsonl").write_text(lines)
    return tmp_path


def test_as_many_rows_as_a_run_takes(folder: Path) -> None:
    data = Data(path=str(folder), streaming=True)
    first, again, other = (read_stream(data, ("train", "validation"), 12, seed) for seed in (1, 1, 2))
    assert len(set(numbers(first["train"]))) == 12
    assert numbers(first["train"]) == numbers(again["train"]) != numbers(other["train"])
    assert numbers(first["validation"]) == list(range(5))
    assert first["train"].selection == "the first 12 of the stream, shuffled by seed 1 among 10,000"


def test_validation_rows_are_taken_besides(folder: Path) -> None:
    data = Data(path=str(folder / "train.jsonl"), streaming=True, validation_share=0.25)
    assert len(numbers(read_stream(data, ("train", "validation"), 12, 1)["train"])) == 16


def test_a_short_stream_is_read_whole(folder: Path) -> None:
    data = Data(path=str(folder), streaming=True)
    assert sorted(numbers(read_stream(data, ("train",), 80, 1)["train"])) == list(range(50))


def test_a_data_set_on_the_hub_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    read, asked = [], []

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(10_000):
            read.append(number)
            yield talk(number)

    def load_dataset(**arguments: Any) -> datasets.IterableDataset:
        asked.append(arguments)
        return datasets.IterableDataset.from_generator(rows)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(streaming, "_BUFFER", 20)
    data = Data(path="somebody/talks", revision="v1", splits={"train": "train_sft"}, streaming=True)
    assert len(numbers(read_stream(data, ("train",), 12, 1)["train"])) == 12
    expected = {"path": "somebody/talks", "name": None, "revision": "v1", "split": "train_sft", "streaming": True}
    assert asked == [expected]
    assert len(read) < 40


@pytest.mark.parametrize(
    ("options", "code", "fact"),
    [
        (
            {"path": "{folder}", "needed": "test"},
            "split-not-found",
            "available: broken, train, validation",
        ),
        ({"path": "{folder}/nothing.jsonl"}, "file-not-found", "nothing.jsonl"),
        ({"path": "somebody/talks"}, "unavailable", "somebody/talks"),
        ({"path": "{folder}/broken.jsonl"}, "invalid-json", "broken.jsonl, line 1"),
    ],
)
def test_bad_streams(folder: Path, options: dict[str, str], code: str, fact: str) -> None:
    (folder / "broken.jsonl").write_text('{"messages": [}\n')
    data = Data(path=options["path"].format(folder=folder), streaming=True)
    with fails(code, fact):
        read_stream(data, (options.get("needed", "train"),), 4, 1)
