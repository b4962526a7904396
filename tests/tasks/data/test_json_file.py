"""JSON files: lines, lists, objects around the rows; mixed columns; numbers of rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from red_cli.tasks.data.file_rows import read_file_rows
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.data.texts import column_texts
from tests.failures import fails

ROWS = [{"text": "a", "label": 1}, {"text": "b\u2028c", "label": None}]
TALK = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo", "weight": 0}]}
SHARED = {"id": 3, "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}]}


def read(path: Path, content: str) -> Rows:
    path.write_text(content, encoding="utf-8")
    return read_file_rows([path])


def rows_of(rows: Rows) -> list[dict]:
    columns = [rows.column(name) for name in rows.table.column_names]
    return [dict(zip(rows.table.column_names, values, strict=True)) for values in zip(*columns, strict=True)]


# name -> file, content, rows
FORMS = {
    "lines": ("a.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS), ROWS),
    "lines in .json": ("a.json", "".join(json.dumps(row) + "\n" for row in ROWS), ROWS),
    "a list": ("a.json", json.dumps(ROWS), ROWS),
    "a list in .jsonl": ("a.jsonl", json.dumps(ROWS, indent=1), ROWS),
    "rows in an object": ("a.json", json.dumps({"version": "1", "data": ROWS}, indent=2), ROWS),
    "rows in an object of one line": ("a.json", json.dumps({"data": ROWS}), ROWS),
    "one conversation": ("a.jsonl", json.dumps(TALK), [TALK]),
    "one conversation in .json": ("a.json", json.dumps(TALK), [TALK]),
    "one conversation on several lines": ("a.json", json.dumps(SHARED, indent=2), [SHARED]),
    "a list of conversations": ("a.json", json.dumps([SHARED, SHARED], indent=2), [SHARED, SHARED]),
}


@pytest.mark.parametrize(("name", "content", "expected"), FORMS.values(), ids=FORMS.keys())
def test_forms_of_rows(tmp_path: Path, name: str, content: str, expected: list[dict]) -> None:
    assert rows_of(read(tmp_path / name, content)) == expected


SCALAR = st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False) | st.text(max_size=5)
VALUES = SCALAR | st.lists(SCALAR, max_size=3) | st.dictionaries(st.text(max_size=3), SCALAR, max_size=2)


@given(st.lists(VALUES, min_size=1, max_size=5))
def test_a_column_that_is_not_used_may_hold_anything(tmp_path_factory: pytest.TempPathFactory, values: list) -> None:
    path = tmp_path_factory.mktemp("json") / "train.jsonl"
    lines = [
        json.dumps({"text": "a", "other": value, **({"late": 1} if row else {})}) for row, value in enumerate(values)
    ]
    rows = read(path, "\n".join(lines))
    assert rows.column("text") == ["a"] * len(values)
    taken = rows.take(list(range(len(values)))[::-1])
    assert taken.column("text") == ["a"] * len(values)
    kinds = {float if isinstance(value, int) and not isinstance(value, bool) else type(value)
             for value in values if not isinstance(value, list | dict | None)}  # fmt: skip
    if len(kinds) < 2:
        assert rows.column("other") == values
    else:
        with fails("invalid-row", "column 'other'"):
            rows.column("other")


# values of a used column -> facts of the refusal
MIXED = {
    "a text among numbers": ([1, 2, "b7"], ("row 3", "'b7'", "row 1")),
    "a number among texts": (["a", None, 2], ("row 3", "is 2")),
    "a truth value among texts": (["a", True], ("row 2", "True")),
    "half a surrogate pair": (["a", "\ud83d"], ("row 2", "surrogate")),
    "a list among texts": (["a", ["b"]], ("row 2", "['b']")),
    "an object": (["a", {"b": 1}], ("row 2", "{'b': 1}")),
}


@pytest.mark.parametrize(("values", "facts"), MIXED.values(), ids=MIXED.keys())
def test_a_mixed_column_that_is_used_is_refused(tmp_path: Path, values: list, facts: tuple[str, ...]) -> None:
    rows = read(tmp_path / "train.jsonl", "\n".join(json.dumps({"text": value}) for value in values))
    with fails("invalid-row", "train.jsonl", "'text'", *facts):
        column_texts(rows, "text")


def test_columns_are_of_one_type_across_parts_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("red_cli.tasks.data.file_rows._PART", 2)
    values = [1, 2, 2.5, None, None, None, 4]
    rows = read(tmp_path / "train.jsonl", "\n".join(json.dumps({"n": value, "m": str(value)}) for value in values))
    assert rows.column("n") == values
    mixed = read(tmp_path / "train.jsonl", "\n".join(json.dumps({"n": value}) for value in [1, 2, 3, "x"]))
    with fails("invalid-row", "row 4"):
        mixed.column("n")


def test_a_row_of_a_jsonl_file_has_the_number_of_its_line(tmp_path: Path) -> None:
    rows = read(tmp_path / "train.jsonl", '{"text": "a"}\n\n{"text": "b"}\n  \r\n{"text": "c"}\n')
    assert [rows.place(index).removeprefix(f"{tmp_path}/") for index in range(3)] == [
        f"train.jsonl, row {number}" for number in (1, 3, 5)
    ]
    assert rows.take([2]).number(0) == 5


def test_a_row_of_several_files_has_the_name_and_the_number_of_its_own(tmp_path: Path) -> None:
    paths = [tmp_path / f"train-0000{number}-of-00002.jsonl" for number in range(2)]
    for path in paths:
        path.write_text('{"text": "a"}\n\n{"text": "b"}\n')
    rows = read_file_rows(paths)
    assert [rows.place(index) for index in (1, 2, 3)] == [
        f"{paths[0]}, row 3",
        f"{paths[1]}, row 1",
        f"{paths[1]}, row 3",
    ]
    assert rows.take([3]).place(0) == f"{paths[1]}, row 3"
    assert rows.source_indices is not None
    assert rows.source_indices.tolist() == [0, 2, 3, 5]


FAULTS = {
    "a bad line": ("a.jsonl", '{"text": "a"}\n{"text": \n', ("line 2",)),
    "a bad first line": ("a.jsonl", '{"text": "a"\n{"text": "b"}\n', ("line 1",)),
    "a bad list": ("a.json", '[{"text": "a"},\n{"text"}]', ("line 2",)),
    "a bad object": ("a.json", '{\n"data": [\n{"text" "a"}]}', ("line 3",)),
    "objects of several lines": ("a.json", '{\n"text": "a"\n}\n{\n"text": "b"\n}\n', ("line 4", "line of its own")),
    "a number": ("a.jsonl", '{"text": "a"}\n3\n', ("line 2",)),
    "a list of texts": ("a.json", '["a", "b"]', ("element 1",)),
    "columns": ("a.json", '{"text": ["a", "b"],\n "label": [1, 2]}', ("each column",)),
    "endless digits": ("a.jsonl", '{"n": ' + "1" * 5000 + "}\n", ("line 1",)),
    "too deep": ("a.jsonl", '{"n": ' + "[" * 100_000 + "}\n", ("line 1",)),
}


@pytest.mark.parametrize(("name", "content", "facts"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_named_with_its_place(tmp_path: Path, name: str, content: str, facts: tuple[str, ...]) -> None:
    with fails("invalid-json", name, *facts):
        read(tmp_path / name, content)
