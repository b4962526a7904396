"""Rows of every format, and errors of files."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from red_cli.recipe.schema import Data
from red_cli.tasks.data.read_splits import find_splits
from red_cli.tasks.data.rows import Rows
from tests.failures import fails
from tests.tiny import write_csv

ROWS = [
    {"text": 'a "quoted", word', "label": "x"},
    {"text": "two\nlines", "label": "y"},
    {"text": "NA", "label": "x"},
    {"text": "null", "label": "y"},
    {"text": "", "label": "x"},
]


def write_text(path: Path, text: str) -> None:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def write_arrow(path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def load_splits(data: Data, label_column: str) -> dict[str, Rows]:
    return {split: read() for split, read in find_splits(data, label_column).items()}


WRITERS: dict[str, Callable[[Path], object]] = {
    "parquet": lambda path: pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), path),
    "csv": lambda path: write_csv(path, ROWS),
    "json": lambda path: write_text(path, json.dumps(ROWS, indent=2)),
    "jsonl": lambda path: write_text(path, "\n".join(json.dumps(row) for row in ROWS) + "\n"),
    "json.gz": lambda path: write_text(path, json.dumps({"version": 1, "data": ROWS}, indent=2)),
    "jsonl.gz": lambda path: write_text(path, "\r\n".join(json.dumps(row) for row in ROWS)),
    "feather": lambda path: pyarrow.feather.write_feather(pa.Table.from_pylist(ROWS), path),
    "arrow": write_arrow,
}


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    WRITERS[suffix](tmp_path / f"train.{suffix}")
    WRITERS[suffix](tmp_path / f"dev.{suffix}")
    WRITERS[suffix](tmp_path / f"validation_matched.{suffix}")
    (tmp_path / "notes.txt").write_text("not data")
    splits = load_splits(Data(path=str(tmp_path)), "label")
    assert splits.keys() == {"train", "validation", "validation_matched"}
    for rows in splits.values():
        assert rows.table.to_pylist() == ROWS
    single = load_splits(Data(train=str(tmp_path / f"train.{suffix}"), test=str(tmp_path / f"dev.{suffix}")), "label")
    assert single.keys() == {"train", "test"}
    assert load_splits(Data(path=str(tmp_path / f"train.{suffix}")), "label").keys() == {"train"}


def test_shards_of_one_split_are_joined(tmp_path: Path) -> None:
    WRITERS["parquet"](tmp_path / "train-00000-of-00002-0a1b2c.parquet")
    with fails("split-not-found", "1 of 2 files"):
        load_splits(Data(path=str(tmp_path)), "label")
    WRITERS["parquet"](tmp_path / "train-00001-of-00002-0a1b2c.parquet")
    assert load_splits(Data(path=str(tmp_path)), "label")["train"].table.num_rows == 2 * len(ROWS)


def test_files_that_are_not_asked_for_are_not_read(tmp_path: Path) -> None:
    WRITERS["csv"](tmp_path / "Train.CSV")
    (tmp_path / "dataset_info.json").write_text("{")
    splits = find_splits(Data(path=str(tmp_path)), "label")
    assert splits["train"]().table.num_rows == len(ROWS)


def test_csv_columns_are_text_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\n1,01\n2.50,NA\n,true\n")
    table = load_splits(Data(path=str(tmp_path)), "label")["train"].table
    assert table.to_pydict() == {"text": ["1", "2.50", ""], "label": ["01", "NA", "true"]}


FAULTS = {
    "no files": ({}, "split-not-found", ".parquet"),
    "empty file": ({"train.csv": ""}, "no-rows", "train.csv"),
    "only a header": ({"train.csv": "text,label\n"}, "no-rows", "train.csv"),
    "ragged": ({"train.csv": "text,label\na,b\na,b,c\n"}, "file-damaged", "train.csv, row 2: 3 cells"),
    "not Parquet": ({"train.parquet": "text"}, "file-damaged", "train.parquet"),
    "bad JSON line": ({"train.jsonl": '{"text": "a"}\n{"text": \n'}, "invalid-json", "train.jsonl, line 2"),
    "bad JSON": ({"train.json": '[{"text": "a"},\n'}, "invalid-json", "train.json, line 2"),
    "no object": ({"train.jsonl": '{"text": "a"}\n3\n'}, "invalid-json", "train.jsonl, line 2"),
    "twice": ({"train.csv": "text\na\n", "train.tsv": "text\na\n"}, "split-not-found", "train.csv and train.tsv"),
}


@pytest.mark.parametrize(("files", "code", "fact"), FAULTS.values(), ids=FAULTS.keys())
def test_faults_of_files(tmp_path: Path, files: dict[str, str], code: str, fact: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with fails(code, fact, str(tmp_path)):
        load_splits(Data(path=str(tmp_path)), "label")


def test_another_encoding_is_reported(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_bytes("text,label\ncafé,a\n".encode("latin-1"))
    with fails("file-damaged", "train.csv", "UTF-8"):
        load_splits(Data(path=str(tmp_path)), "label")


@pytest.mark.parametrize("path", ["./missing", "missing.csv", "/no/such/folder"])
def test_a_missing_path_is_named(path: str) -> None:
    with fails("file-not-found", path):
        load_splits(Data(path=path), "label")


def test_the_hub_out_of_reach_is_one_message() -> None:
    with fails("unavailable", "some/data (part)", "data.path"):
        load_splits(Data(path="some/data", name="part"), "label")


def test_a_missing_column_lists_those_there_are(tmp_path: Path) -> None:
    write_csv(tmp_path / "train.csv", ROWS)
    with fails("column-not-found", "'sentence'", "text, label"):
        load_splits(Data(path=str(tmp_path)), "label")["train"].column("sentence")


def test_splits_of_the_hub_by_other_names(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    stored = {name: datasets.Dataset.from_dict({"text": [name]}) for name in ("train_sft", "test_sft", "train_gen")}
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: datasets.DatasetDict(stored))
    data = Data(path="somebody/talks", splits={"train": "train_sft", "validation": "test_sft"})
    splits = find_splits(data, "text")
    assert {split: read().column("text") for split, read in splits.items()} == {
        "train": ["train_sft"],
        "validation": ["test_sft"],
        "train_gen": ["train_gen"],
    }
    with fails("split-not-found", "data.splits", "somebody/talks", "'eval'"):
        find_splits(Data(path="somebody/talks", splits={"validation": "eval"}), "text")


def test_no_row_may_be_taken() -> None:
    rows = Rows(pa.table({"text": ["a", "b"]}), "train.csv")
    assert rows.take([]).column("text") == []
    assert rows.take([1]).take([]).table.num_rows == 0
