"""Parquet and Arrow files: every type that holds text or numbers reads as the same values."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from red_cli.tasks.data.arrow_columns import plain
from red_cli.tasks.data.file_rows import read_file_rows
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.data.texts import column_texts
from tests.failures import fails

WORDS = ["good", "bad", None]
TALK = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
STRUCT = pa.struct([("role", pa.string()), ("content", pa.string())])

# name -> column, its values
COLUMNS: dict[str, tuple[pa.Array, list[Any]]] = {
    **{str(kind): (pa.array(WORDS, kind), WORDS) for kind in (pa.string(), pa.large_string(), pa.string_view())},
    "dictionary": (pa.array(WORDS).dictionary_encode(), WORDS),
    "large dictionary": (pa.array(WORDS, pa.large_string()).dictionary_encode(), WORDS),
    "bytes": (pa.array([b"good", "né".encode(), None], pa.binary()), ["good", "né", None]),
    "large bytes": (pa.array([b"good", b"bad", None], pa.large_binary()), WORDS),
    "bytes that are no text": (pa.array([b"\xff", None], pa.binary()), [b"\xff", None]),
    "whole decimals": (pa.array([Decimal(3), None], pa.decimal128(10, 0)), [3, None]),
    "decimals": (pa.array([Decimal("2.50"), None], pa.decimal128(10, 2)), [2.5, None]),
    "large decimals": (pa.array([Decimal("2.5")], pa.decimal256(50, 2)), [2.5]),
    "half precision": (pa.array([np.float16(1.5), None], pa.float16()), [1.5, None]),
    "small numbers": (pa.array([1, None], pa.uint8()), [1, None]),
    "truth values": (pa.array([True, None]), [True, None]),
    "nulls": (pa.nulls(2), [None, None]),
    "a list": (pa.array([TALK, None], pa.list_(STRUCT)), [TALK, None]),
    "a large list": (pa.array([TALK, []], pa.large_list(STRUCT)), [TALK, []]),
    "a list of a fixed size": (pa.array([TALK], pa.list_(STRUCT, 2)), [TALK]),
    "a list of views": (pa.array([["a"], None], pa.large_list(pa.string_view())), [["a"], None]),
}
# types that no file of this version holds
IN_MEMORY: dict[str, tuple[pa.Array, list[Any]]] = {
    "a list view": (pa.array([TALK, TALK], pa.list_view(STRUCT)), [TALK, TALK]),
    "a large list view": (pa.array([TALK, None], pa.large_list_view(STRUCT)), [TALK, None]),
    "run-end encoding": (pa.RunEndEncodedArray.from_arrays([2, 3], ["a", "b"]), ["a", "a", "b"]),
}


@pytest.mark.parametrize(("column", "values"), [*COLUMNS.values(), *IN_MEMORY.values()], ids=[*COLUMNS, *IN_MEMORY])
def test_values_are_the_same_in_memory(column: pa.Array, values: list) -> None:
    rows = Rows(plain(pa.table({"a": pa.chunked_array([column, column])})), "hub")
    assert rows.column("a") == values * 2
    backwards = rows.take(list(range(2 * len(values)))[::-1])
    assert backwards.column("a") == (values * 2)[::-1]


@pytest.mark.parametrize(("column", "values"), COLUMNS.values(), ids=COLUMNS.keys())
def test_values_are_the_same_in_files(tmp_path: Path, column: pa.Array, values: list) -> None:
    table = pa.table({"a": column})
    pyarrow.feather.write_feather(table, tmp_path / "train.feather", compression="uncompressed")
    try:
        pyarrow.parquet.write_table(table, tmp_path / "train.parquet")
    except pa.ArrowNotImplementedError as error:
        pytest.skip(f"this pyarrow writes no such file: {error}")
    for name in ("train.parquet", "train.feather"):
        assert read_file_rows([tmp_path / name]).column("a") == values, name


def test_extension_types_are_what_they_are_stored_as() -> None:
    if not hasattr(pa, "json_"):
        pytest.skip("this pyarrow has no JSON type")
    column = pa.ExtensionArray.from_storage(pa.json_(pa.string()), pa.array(['{"a": 1}']))
    assert plain(pa.table({"a": column})).to_pydict() == {"a": ['{"a": 1}']}


def test_columns_that_nobody_asks_for_do_no_harm(tmp_path: Path) -> None:
    pair = pa.table([pa.array(["a"]), pa.array([1]), pa.array(["x"])], names=["text", "id", "id"])
    paths = [tmp_path / "train-00000-of-00002.parquet", tmp_path / "train-00001-of-00002.parquet"]
    pyarrow.parquet.write_table(pa.table({"text": ["a"], "id": [1]}), paths[0])
    pyarrow.parquet.write_table(pa.table({"text": ["b"], "id": [b"\xff"], "new": [1]}), paths[1])
    rows = read_file_rows(paths)
    assert column_texts(rows, "text") == ["a", "b"]
    assert rows.column("new") == [None, 1]
    with fails("invalid-row", str(paths[1]), "row 1: column 'id'"):
        rows.column("id")
    doubled = Rows(plain(pair), "hub")
    assert doubled.column("text") == ["a"]
    with fails("file-damaged", "'id'"):
        doubled.column("id")


@pytest.mark.parametrize("name", ["train.parquet", "train.arrow", "train.feather"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"text")
    with fails("file-damaged", name):
        read_file_rows([tmp_path / name])
