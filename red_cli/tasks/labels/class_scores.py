"""Scores of each class, the confusion matrix, and the score of always predicting the commonest class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from red_cli.tasks.base import Prediction, Task

_NO_CLASS = -1  # the id of a text that is no label


@dataclass(frozen=True)
class ClassScore:
    """The scores of one class, as fractions.

    Attributes:
        rows: rows of the class.
        predicted: rows that were predicted to be of the class.
    """

    label: str
    rows: int
    predicted: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class MajorityScore:
    """The score to set class scores against: a constant answer's, always the class of most rows."""

    label: str
    value: float


def class_scores(predictions: Sequence[Prediction], label_names: Sequence[str]) -> list[ClassScore]:
    """The scores of each class over labelled predictions, in the order of class ids; 0 where one is not defined."""
    from sklearn.metrics import precision_recall_fscore_support

    truths, guesses = _ids(predictions, label_names)
    count = len(label_names)
    precisions, recalls, scores, _ = precision_recall_fscore_support(
        truths, guesses, labels=np.arange(count), zero_division=0
    )
    rows, predicted = (np.bincount(ids[ids != _NO_CLASS], minlength=count) for ids in (truths, guesses))
    columns = zip(label_names, rows.tolist(), predicted.tolist(), precisions, recalls, scores, strict=True)
    return [
        ClassScore(label, total, guessed, float(precision), float(recall), float(f1))
        for label, total, guessed, precision, recall, f1 in columns
    ]


def confusion_matrix(predictions: Sequence[Prediction], label_names: Sequence[str]) -> NDArray[np.int64]:
    """Numbers of rows by true class (row) and predicted class (column), (classes, classes).

    A text that is no label has no column, so that the row of its class adds up to less than the class's rows.
    """
    truths, guesses = _ids(predictions, label_names)
    counts = np.zeros((len(label_names), len(label_names)), dtype=np.int64)
    given = guesses != _NO_CLASS
    np.add.at(counts, (truths[given], guesses[given]), 1)
    return counts


def majority_score(
    task: Task, metric: str, predictions: Sequence[Prediction], label_names: list[str]
) -> MajorityScore | None:
    """The class score of always predicting the commonest class; None if there is none."""
    label = Counter(str(answer.label) for answer in predictions).most_common(1)[0][0]
    value = task.score([replace(answer, prediction=label) for answer in predictions], label_names).get(metric)
    return None if value is None else MajorityScore(label, value)


def _ids(predictions: Sequence[Prediction], label_names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The class ids of labels and of predictions, each (rows,)."""
    ids = {name: index for index, name in enumerate(label_names)}
    truths = [ids[str(answer.label)] for answer in predictions]
    guesses = [ids.get(str(answer.prediction), _NO_CLASS) for answer in predictions]
    return np.array(truths, dtype=np.int64), np.array(guesses, dtype=np.int64)
