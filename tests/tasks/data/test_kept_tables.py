"""Tables are read once: a second start maps what the first has parsed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from red_cli.recipe.sections import Data
from red_cli.tasks.data import kept_tables
from red_cli.tasks.data import read_splits as tables
from red_cli.tasks.data.disk_cache import FOLDER_VARIABLE, SIZE_VARIABLE
from red_cli.tasks.data.kept_tables import read_once
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.data.splits import Source
from tests.failures import fails

FILES = {
    "train.jsonl": '{"text": "é 日本", "label": "a", "turns": [{"role": "user"}]}\n{"text": null, "label": "b"}\n' * 3,
    "train.json": '[{"text": "xa", "number": 1}, {"text": "y", "number": 2.5}]',
    "train.csv": 'text,label\none,a\n"two\nlines",b\n',
    "train.tsv": "text\tlabel\none\ta\ntwo\tNA\n",
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, which takes files of any size."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(SIZE_VARIABLE, "1")
    monkeypatch.setattr(kept_tables, "SMALLEST", 0)
    return tmp_path / "cache" / "rows"


def entries(cache: Path) -> int:
    return len(list(cache.glob("*.arrow")))


def load(path: Path) -> Rows:
    return Source.of(Data(train=str(path), validation=str(path)), "label").load(0, ["train"])["train"]


def assert_same(found: Rows, expected: Rows) -> None:
    assert found.table.equals(expected.table, check_metadata=True)
    for field in fields(expected):
        if field.name != "table":
            assert np.array_equal(getattr(found, field.name), getattr(expected, field.name)), field.name


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_once(name: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    path.write_text(FILES[name], encoding="utf-8")
    monkeypatch.setenv(SIZE_VARIABLE, "0")
    expected = load(path)
    assert not cache.exists()
    monkeypatch.setenv(SIZE_VARIABLE, "1")
    assert_same(load(path), expected)
    assert entries(cache) == 1
    found = tables.find_splits(Data(train=str(path), validation=str(path)), "label")["train"]
    calls: list[int] = []
    data, _, paths = found.args
    assert_same(read_once(paths, data.delimiter_character, lambda: (calls.append(1), found())[1]), expected)
    assert not calls
    path.write_text(FILES[name].replace("a", "c"), encoding="utf-8")
    assert not load(path).table.equals(expected.table)
    assert entries(cache) == 2


def test_rows_keep_their_numbers_names_and_files(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(FILES["train.jsonl"])
    read = load(path).take([4, 2])
    for _ in range(2):
        found = read_once([path], "some", lambda: read)
        assert_same(found, read)
        assert [found.number(row) for row in range(2)] == [5, 3]


def test_other_files_settings_and_damage_are_read_again(tmp_path: Path, cache: Path) -> None:
    paths = [tmp_path / name for name in ("a.jsonl", "b.jsonl")]
    for path in paths:
        path.write_text(FILES["train.jsonl"])
    rows = load(paths[0])
    kept = entries(cache)
    calls: list[int] = []

    def read() -> Rows:
        calls.append(1)
        return rows

    def read_again(given: list[Path], settings: object, expected: int) -> None:
        calls.clear()
        for _ in range(2):
            assert_same(read_once(given, settings, read), rows)
        assert len(calls) == expected

    read_again(paths[:1], ";", 1)
    read_again(paths[:1], ",", 1)
    read_again(paths[1:], ";", 1)
    read_again(paths, ";", 1)
    assert entries(cache) == kept + 4
    for entry in cache.glob("*.arrow"):
        entry.write_bytes(entry.read_bytes()[:-9])
    read_again(paths, ";", 1)
    read_again(paths, ";", 0)


def test_small_files_columns_and_a_missing_cache(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(FILES["train.jsonl"])
    rows = load(path)
    before = entries(cache)

    def is_read(given: Path, read: Callable[[], Rows] = lambda: rows) -> None:
        assert read_once([given], "new", read) is rows

    is_read(tmp_path / "train.parquet")
    is_read(tmp_path / "missing.jsonl")
    with monkeypatch.context() as patch:
        patch.setattr(kept_tables, "SMALLEST", 10_000)
        is_read(path)
        patch.setattr(kept_tables, "SMALLEST", 0)
        patch.setenv(FOLDER_VARIABLE, str(path))
        is_read(path)
        patch.setenv(SIZE_VARIABLE, "1e-9")
        patch.setenv(FOLDER_VARIABLE, str(tmp_path / "tiny"))
        is_read(path)
    assert entries(cache) == before
    path.write_text("{")
    with fails("invalid-json", "line 1"):
        load(path)
    assert not list(cache.glob("*.lock"))
