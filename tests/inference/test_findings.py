"""Scores of classes, the confusion matrix and the wrong rows of a split, worked out by hand."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from red_cli.finding_tables import MOST_CLASSES, class_table, finding_rows
from red_cli.inference.errors_file import shown_errors, write_errors, wrong_rows
from red_cli.inference.findings import find
from red_cli.recipe.sections import Data
from red_cli.tasks.base import Prediction
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.labels.metrics import class_scores, confusion_matrix
from red_cli.tasks.labels.targets import LabelTarget, RegressionTarget
from red_cli.tasks.labels.task import LabelTask

NAMES = ["bad", "good", "so-so"]
# label, prediction, probability
ANSWERS = [("bad", "bad", 0.9), ("bad", "good", 0.6), ("good", "bad", 0.8), ("good", "good", 0.7), ("good", None, None)]
PREDICTIONS = [Prediction(guess, label, probability, text="?") for label, guess, probability in ANSWERS]
CUT = SimpleNamespace(truncated=2, ends_cut=1)
ENCODER = SimpleNamespace(text_columns=lambda rows: ["text"])


def rows_of(texts: list[str]) -> Rows:
    return Rows(pa.table({"text": texts}), "reviews.csv", source_indices=np.arange(len(texts)) + 10)


def task_of(target: object, *metrics: str) -> LabelTask:
    return LabelTask(Data(path="x"), target, metrics, metrics[0])


def test_scores_and_confusion_of_classes() -> None:
    bad, good, third = class_scores(PREDICTIONS, NAMES)
    assert all(type(each.rows) is type(each.predicted) is int for each in (bad, good, third))
    assert (bad.rows, bad.predicted, bad.precision, bad.recall, bad.f1) == (2, 2, 0.5, 0.5, 0.5)
    assert (good.rows, good.predicted, good.precision, good.recall) == (3, 2, 0.5, pytest.approx(1 / 3))
    assert good.f1 == pytest.approx(0.4)
    assert (third.rows, third.predicted, third.precision, third.recall, third.f1) == (0, 0, 0, 0, 0)
    assert confusion_matrix(PREDICTIONS, NAMES).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]


def test_the_most_confident_error_comes_first() -> None:
    errors = wrong_rows(task_of(LabelTarget(NAMES), "accuracy"), ENCODER, NAMES, rows_of(list("abcde")), PREDICTIONS)
    assert [(error.row, error.texts["text"], error.prediction) for error in errors] == [
        (13, "c", "bad"),
        (12, "b", "good"),
        (15, "e", "?"),  # a text that is no label
    ]
    assert shown_errors(errors)[0] == {"row": 13, "text": "c", "label": "good", "prediction": "bad", "probability": 0.8}


def test_a_perfect_split_has_no_errors() -> None:
    right = [Prediction("bad", "bad", 0.9)]
    task = task_of(LabelTarget(NAMES), "accuracy")
    found = find(task, ENCODER, NAMES, rows_of(["a"]), CUT, right, {"accuracy": 1.0}, "test")
    assert (found.errors, found.content["errors"]) == ([], [])
    found = find(
        task, ENCODER, NAMES, rows_of(["a"]), CUT, [Prediction("bad", "bad", text="bad")], {"accuracy": 1.0}, "test"
    )
    assert (found.errors, found.content["mistakes"]) == ([], [])


def test_numbers_have_their_largest_residuals() -> None:
    numbers = [Prediction(2.0, 1.0), Prediction(1.0, 5.0), Prediction(3.0, 3.25)]
    task = task_of(RegressionTarget(), "pearson")
    errors = wrong_rows(task, ENCODER, None, rows_of(list("abc")), numbers)
    assert [(error.row, error.residual) for error in errors] == [(12, -4.0), (11, 1.0), (13, -0.25)]


@pytest.mark.parametrize(("metric", "rows"), [("exact_match", [12]), ("loss", None)])
def test_texts_are_wrong_only_where_the_metric_says_so(metric: str, rows: list[int] | None) -> None:
    """The second completion of a prompt is right for its first row as well."""
    texts = [
        Prediction("two", "one", prompt="a"),
        Prediction("x", "y", prompt="b"),
        Prediction("two", "two", prompt="a"),
    ]
    errors = wrong_rows(SimpleNamespace(metric=metric), ENCODER, None, rows_of(list("aba")), texts)
    assert (errors if errors is None else [error.row for error in errors]) == rows


def test_the_file_of_errors_keeps_other_splits(tmp_path: Path) -> None:
    path = tmp_path / "errors.csv"
    task = task_of(LabelTarget(NAMES), "accuracy")
    errors = wrong_rows(task, ENCODER, NAMES, rows_of(["a", 'say "b",\nand c', "c" * 200_000, "d", "e"]), PREDICTIONS)
    csv.field_size_limit(131_072)  # the library's own
    for split in ("validation", "test", "validation"):
        write_errors(path, split, errors)
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["split"] for line in lines] == ["test"] * 3 + ["validation"] * 3
    assert lines[1] == {"split": "test", "row": "12", "text": 'say "b",\nand c', "label": "bad", "prediction": "good",
                        "probability": "0.6"}  # fmt: skip
    write_errors(path, "test", [])
    assert len(path.read_text().splitlines()) == 1 + 4


@pytest.mark.parametrize(
    ("count", "limit", "named"), [(4, None, True), (3, None, False), (4, 9, False), (0, None, False)]
)
def test_the_file_of_errors_is_named_where_it_has_more(count: int, limit: int | None, named: bool) -> None:
    error = {"row": 1, "text": "a", "label": "good", "prediction": "bad", "probability": 0.9}
    result = {"folder": "run", "limit": limit, "errors": {"test": [error] * count}}
    assert ("errors.csv" in str(finding_rows(result))) == named


def test_the_facts_of_a_constant_answer() -> None:
    answers = [Prediction("bad", label, 0.6) for label in ("bad", "bad", "good")]
    task = task_of(LabelTarget(NAMES), "accuracy")
    found = find(task, ENCODER, NAMES, rows_of(list("abc")), CUT, answers, {"accuracy": 2 / 3}, "test")
    assert (found.facts.truncated, found.facts.ends_cut) == (2, 1)
    assert found.facts.majority == ("bad", pytest.approx(2 / 3))
    assert found.facts.predicted == {"bad": 3, "good": 0}  # so-so has no rows
    assert found.to_json()["confusion"] == {"test": [[2, 0, 0], [1, 0, 0], [0, 0, 0]]}


def test_a_split_without_labels_has_no_findings() -> None:
    answers = [Prediction("bad", None, 0.6)]
    found = find(task_of(LabelTarget(NAMES), "accuracy"), ENCODER, NAMES, rows_of(["a"]), CUT, answers, {}, "test")
    assert (found.content, found.errors) == ({}, None)


def classes_of(count: int) -> list[dict[str, object]]:
    return [
        {"label": f"class {n}", "rows": 9, "predicted": 9, "precision": n / count, "recall": n / count, "f1": n / count}
        for n in range(count)
    ]


@pytest.mark.parametrize("width", [80, 200])
def test_the_matrix_stands_beside_the_classes_where_it_fits(width: int) -> None:
    counts = [[8 if column == row else int(column == (row + 1) % 6) for column in range(6)] for row in range(6)]
    table = class_table(classes_of(6), counts, width)
    assert len(table) == 1 + 6
    assert (table[1][6:] == ["8", "1", "0", "0", "0", "0"]) == (width == 200)
    assert width == 200 or table[1][6:] == ["class 1 1"]


def test_of_many_classes_the_worst_are_shown() -> None:
    table = class_table(classes_of(57)[::-1], None, 200)
    assert [line[0] for line in table[1:]] == [f"class {number}" for number in range(MOST_CLASSES)]
