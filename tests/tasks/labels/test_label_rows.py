"""Labels as people have them: empty ones, nearly equal ones, counts of classes, and what is left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from red_cli.recipe.sections import Data
from red_cli.tasks.labels.classes import nearly_equal
from red_cli.tasks.labels.targets import LabelTarget, RegressionTarget
from red_cli.tasks.labels.task import LabelTask
from tests.failures import fails

GOOD = [{"text": "good film", "label": "pos"}, {"text": "bad film", "label": "neg"}] * 2
WRITERS: dict[str, Callable[[Path, list[dict]], object]] = {
    "csv": lambda path, rows: path.write_text(
        "text,label\n" + "".join(f'"{row["text"]}","{row["label"] or ""}"\n' for row in rows)
    ),
    "tsv": lambda path, rows: path.write_text(
        "text\tlabel\n" + "".join(f"{row['text']}\t{row['label'] or ''}\n" for row in rows)
    ),
    "jsonl": lambda path, rows: path.write_text("".join(json.dumps(row) + "\n" for row in rows)),
    "json": lambda path, rows: path.write_text(json.dumps({"data": rows}, indent=1)),
    "parquet": lambda path, rows: pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path),
}


def task(folder: Path, regression: bool = False, **data: object) -> LabelTask:
    target = RegressionTarget() if regression else LabelTarget()
    return LabelTask(Data(path=str(folder), **data), target, ("accuracy",), "accuracy")


def write(folder: Path, kind: str = "jsonl", **splits: list[dict]) -> Path:
    for split, rows in splits.items():
        WRITERS[kind](folder / f"{split}.{kind}", rows)
    return folder


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("empty", ["", "   ", None])
def test_an_empty_label_is_refused_or_left_out(tmp_path: Path, kind: str, empty: str | None) -> None:
    folder = write(tmp_path, kind, train=[*GOOD, {"text": "the film", "label": empty}], validation=GOOD)
    with fails("invalid-label", f"train.{kind}, row 5", "empty", "data.bad_rows=drop"):
        task(folder).load(1, ("train", "validation"))
    splits = task(folder, bad_rows="drop").load(1, ("train", "validation"))
    assert splits.label_names == ["neg", "pos"]
    assert splits.rows["train"].column("text") == [row["text"] for row in GOOD]
    assert dict(splits.rows["train"].left_out) == {"an empty label": 1}
    assert not splits.rows["validation"].left_out


@pytest.mark.parametrize("kind", WRITERS)
def test_an_empty_label_of_validation_is_refused(tmp_path: Path, kind: str) -> None:
    folder = write(tmp_path, kind, train=GOOD, validation=[*GOOD, {"text": "the film", "label": ""}])
    with fails("invalid-label", f"validation.{kind}, row 5"):
        task(folder).load(1, ("train", "validation"))


@pytest.mark.parametrize("hidden", ["", None, "-1", -1])
def test_a_split_whose_labels_are_hidden_has_none(tmp_path: Path, hidden: str | int | None) -> None:
    folder = write(tmp_path, train=GOOD, test=[{"text": "so so", "label": hidden}] * 2)
    splits = task(folder).load(1, ("test",))
    assert not task(folder).has_labels(splits.rows["test"], splits.label_names)
    assert splits.rows["test"].table.num_rows == 2


def test_all_bad_rows_are_counted(tmp_path: Path) -> None:
    bad = [{"text": None, "label": "pos"}, {"text": "a", "label": ""}, {"text": "b", "label": None}]
    folder = write(tmp_path, train=[*GOOD, *bad], validation=[*GOOD, {"text": "c", "label": "Pos"}])
    with fails("invalid-row", "3 of 7", "1 with a null in column 'text' (row 5)", "2 with an empty label (rows 6, 7)"):
        task(folder).load(1, ("train",))
    with fails("invalid-label", "validation.jsonl, row 5", "'Pos'", "neg, pos", "Did you mean 'pos'?"):
        LabelTask(Data(path=str(folder)), LabelTarget(["neg", "pos"]), ("accuracy",), "accuracy").load(
            1, ("validation",)
        )
    splits = task(folder, bad_rows="drop").load(1, ("train", "validation"))
    assert {split: rows.table.num_rows for split, rows in splits.rows.items()} == {"train": 4, "validation": 4}
    assert list(splits.rows["validation"].left_out) == ["a label that is not one of the classes"]


def test_labels_that_are_no_numbers(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": 1.5}, {"text": "b", "label": None}, {"text": "c", "label": 2}]
    folder = write(tmp_path, train=rows)
    with fails("invalid-label", "train.jsonl, row 2"):
        task(folder, regression=True).load(1, ("train",))
    splits = task(folder, regression=True, bad_rows="drop").load(1, ("train",))
    assert RegressionTarget().encode(splits.rows["train"], "label").tolist() == [1.5, 2.0]
    (folder / "train.jsonl").unlink()
    write(folder, "csv", train=[{"text": "a", "label": "1.5"}, {"text": "b", "label": "high"}])
    with fails("invalid-label", "train.csv, row 2", "'high'"):
        task(folder, regression=True).load(1, ("train",))


@pytest.mark.parametrize(
    ("names", "alike"),
    [
        (["neg", "pos"], None),
        ([" pos", "pos"], "' pos' and 'pos'"),
        (["Negative", "negative", "positive"], "'Negative' and 'negative'"),
        (["two  words", "two\u00a0words"], "two  words"),
        (["caf\u00e9", "cafe\u0301"], "caf\u00e9"),
        (["C", "C++"], None),
    ],
)
def test_nearly_equal_names(names: list[str], alike: str | None) -> None:
    note = nearly_equal(names)
    assert note is None if alike is None else alike in str(note)


def test_validation_rows_are_drawn_by_class(tmp_path: Path) -> None:
    rows = [{"text": f"film {number}", "label": "rare" if number % 10 == 0 else "common"} for number in range(100)]
    folder = write(tmp_path, train=rows)
    splits = task(folder, validation_share=0.1).load(4, ("train", "validation"))
    assert task(folder).classes(splits.rows["validation"], splits.label_names) == {"common": 9, "rare": 1}
    assert task(folder).classes(splits.rows["train"], splits.label_names) == {"common": 81, "rare": 9}
    numbers = write(tmp_path, train=[{"text": "a", "label": number} for number in range(20)])
    drawn = task(numbers, regression=True, validation_share=0.25).load(4, ("train", "validation")).rows["validation"]
    assert drawn.column("label") == sorted(np.random.default_rng(4).permutation(20)[:5].tolist())
    assert task(numbers, regression=True).classes(drawn, None) == {}


def test_check_lists_classes_and_what_is_left_out(red, recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = [*GOOD * 5, {"text": "film", "label": " Pos"}, {"text": "film", "label": " "}]
    write(folder, "csv", train=rows, validation=GOOD)
    plan = red("check", recipe, f"data.path={folder}", "data.bad_rows=drop", "--json").json["plan"]
    assert plan["classes"] == {
        "train": {" Pos": 1, "neg": 10, "pos": 10},
        "validation": {" Pos": 0, "neg": 2, "pos": 2},
    }
    assert plan["lengths"]["train"]["left_out"] == {"an empty label": 1}
    [note] = [note for note in plan["notes"] if "' Pos'" in note]
    assert "'pos'" in note
    for split in ("train", "validation"):
        (folder / f"{split}.csv").write_text("text;label\n" + "good film;pos\nbad film;neg\n" * 9)
    plan = red("check", recipe, f"data.path={folder}", "--json").json["plan"]
    assert [note for note in plan["notes"] if "data.delimiter" in note and "';'" in note]
    shown = red("check", recipe, f"data.path={folder}", "data.delimiter=;").out
    classes = [line.split() for line in shown.splitlines() if line.startswith(("neg ", "pos "))]
    assert [(name, rows) for name, _, rows, *_ in classes] == [("neg", "9"), ("pos", "9")]
    assert "data.delimiter)" not in shown
