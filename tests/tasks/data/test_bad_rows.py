"""Rows that cannot be used: counted by reason with their first numbers, refused or left out."""

from __future__ import annotations

import pyarrow as pa
import pytest

from red_cli.tasks.data.bad_rows import Fault, text_faults, without_bad_rows
from red_cli.tasks.data.rows import Rows
from tests.failures import fails

EMPTY = Fault("an empty label", "label '' is empty", code="invalid-label")
NULL = Fault("a null in column 'text'")


def rows(count: int = 10) -> Rows:
    return Rows(pa.table({"text": [str(number) for number in range(count)]}), "train.csv")


def test_all_are_counted_by_reason() -> None:
    faults = {**dict.fromkeys(range(1, 8), EMPTY), 9: NULL}
    with fails("invalid-row", "train.csv", "8 of 10 rows", "7 with an empty label (rows 2, 3, 4, 5, 6, …)",
               "1 with a null in column 'text' (row 10)", "row 2: label ''", "data.bad_rows=drop"):  # fmt: skip
        without_bad_rows(rows(), "train", faults, "refuse")


def test_one_has_the_code_of_its_fault() -> None:
    with fails("invalid-label", "train.csv, row 4: label '' is empty", "data.bad_rows=drop"):
        without_bad_rows(rows(), "train", {3: EMPTY}, "refuse")
    with fails("invalid-label", "2 of 10 rows"):
        without_bad_rows(rows(), "train", {3: EMPTY, 4: EMPTY}, "refuse")


def test_dropped_rows_are_counted_and_described() -> None:
    kept = without_bad_rows(rows(), "train", {0: EMPTY, 3: EMPTY, 4: NULL}, "drop")
    assert kept.column("text") == ["1", "2", "5", "6", "7", "8", "9"]
    assert kept.number(2) == 6
    assert dict(kept.left_out) == {"an empty label": 2, "a null in column 'text'": 1}
    assert kept.selection is not None
    assert kept.selection.startswith("all of train, but 2 with an empty label (rows 1, 4) and 1 with a null")
    again = without_bad_rows(kept, "train", {1: EMPTY}, "drop")
    assert again.left_out["an empty label"] == 3
    assert "(row 3)" in str(again.selection)
    with fails("no-rows", "train.csv"):
        without_bad_rows(rows(2), "train", {0: EMPTY, 1: NULL}, "drop")
    assert without_bad_rows(rows(), "train", {}, "drop").selection is None


def test_rows_of_several_files_are_named_with_their_file() -> None:
    shards = Rows(
        pa.table({"text": list("abcd")}), "data/train-0.csv", files=((0, "data/train-0.csv"), (2, "data/b.csv"))
    )
    with fails("invalid-label", "rows 2 of train-0.csv, 1 of b.csv", "data/train-0.csv, row 2"):
        without_bad_rows(shards, "train", {1: EMPTY, 2: EMPTY}, "refuse")
    with fails("invalid-label", "data/b.csv, row 2: label"):
        without_bad_rows(shards, "train", {3: EMPTY}, "refuse")


@pytest.mark.parametrize(
    ("values", "bad"),
    [(["a", None, "b"], [1]), ([1, 2, None], [0, 1, 2]), ([True], [0]), ([["a"]], [0]), (["", "b"], [])],
)
def test_values_that_are_no_text(values: list, bad: list[int]) -> None:
    table = pa.table({"text": values})
    for made in (table, table.cast(pa.schema([("text", pa.large_string())])) if bad in ([1], []) else table):
        assert list(text_faults(Rows(made, "train.csv"), ["text"])) == bad
    numbers_too = text_faults(Rows(table, "train.csv"), ["text"], (str, int, float))
    assert list(numbers_too) == [row for row in bad if values[row] is None or isinstance(values[row], list | bool)]
