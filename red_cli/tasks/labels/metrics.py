"""Metrics of classification and regression; the scores of each class, the confusion matrix, the majority score."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from red_cli.tasks.base import Prediction, Task

_NO_CLASS = -1  # the id of a text that is no label


def _accuracy(truths: list[int], guesses: list[int], labels: int) -> float:
    """The accuracy metric of classification, by scikit-learn."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(truths, guesses))


def _f1(truths: list[int], guesses: list[int], labels: int) -> float:
    """F1 of the second of two labels (the positive one in GLUE); of more labels the mean over all."""
    from sklearn.metrics import f1_score

    return float(f1_score(truths, guesses, average="binary" if labels == 2 else "macro", zero_division=0))


def _macro_f1(truths: list[int], guesses: list[int], labels: int) -> float:
    """The mean F1 over all labels, by scikit-learn."""
    from sklearn.metrics import f1_score

    return float(f1_score(truths, guesses, average="macro", zero_division=0))


def _matthews_correlation(truths: list[int], guesses: list[int], labels: int) -> float:
    """The Matthews correlation metric of classification, by scikit-learn."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(truths, guesses))


def _pearson(predicted: Sequence[float], actual: Sequence[float]) -> float:
    """The Pearson correlation metric of regression, by SciPy."""
    from scipy.stats import pearsonr

    return float(pearsonr(predicted, actual).statistic)


def _spearman(predicted: Sequence[float], actual: Sequence[float]) -> float:
    """The Spearman rank correlation metric of regression, by SciPy."""
    from scipy.stats import spearmanr

    return float(spearmanr(predicted, actual).statistic)


# name -> function of the rows' labels and predictions, as ids, and the number of labels
_OF_LABELS: dict[str, Callable[[list[int], list[int], int], float]] = {
    "accuracy": _accuracy,
    "f1": _f1,
    "matthews_correlation": _matthews_correlation,
    "macro_f1": _macro_f1,
}
# name -> function of predicted and actual numbers; NaN if either is constant
_OF_NUMBERS: dict[str, Callable[[Sequence[float], Sequence[float]], float]] = {
    "pearson": _pearson,
    "spearman": _spearman,
}


def classification_metrics(
    names: Sequence[str],
    predicted: Sequence[str],
    actual: Sequence[str],
    label_names: Sequence[str],
) -> dict[str, float]:
    """Metrics of label predictions, at most 1; the Matthews correlation of a constant prediction is 0."""
    position = {name: index for index, name in enumerate(label_names)}
    guesses, truths = [position[name] for name in predicted], [position[name] for name in actual]
    return {name: _OF_LABELS[name](truths, guesses, len(label_names)) for name in names}


def regression_metrics(names: Sequence[str], predicted: Sequence[float], actual: Sequence[float]) -> dict[str, float]:
    """Metrics of predicted numbers; 0 if a side is constant and the correlation is not defined."""
    values: dict[str, float] = {}
    for name in names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            value = _OF_NUMBERS[name](predicted, actual) if len(actual) > 1 else math.nan
        values[name] = 0.0 if math.isnan(value) else value
    return values


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
