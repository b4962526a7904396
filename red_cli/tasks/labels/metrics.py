"""Metrics of classification and regression; the scores of each class, the confusion matrix, the majority score.

Those of classification are a few sums over the confusion matrix. scikit-learn has them too, and tests compare with it;
its import would delay the start of every run.
"""

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
_TWO = 2


def _accuracy(counts: NDArray[np.int64]) -> float:
    """The share of rows whose class is predicted."""
    return float(counts.trace() / counts.sum())


def _f1(counts: NDArray[np.int64]) -> float:
    """F1 of the second of two labels (the positive one in GLUE); of more labels the mean over all."""
    return float(_f1_of_classes(counts)[1]) if len(counts) == _TWO else _macro_f1(counts)


def _macro_f1(counts: NDArray[np.int64]) -> float:
    """The mean F1 over the labels that occur in rows or predictions."""
    occur = counts.sum(axis=0) + counts.sum(axis=1) > 0
    return float(_f1_of_classes(counts)[occur].mean())


def _f1_of_classes(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """F1 of each class, (classes,); 0 for a class that does not occur."""
    return _ratio(2 * counts.diagonal(), counts.sum(axis=0) + counts.sum(axis=1))


def _matthews_correlation(counts: NDArray[np.int64]) -> float:
    """The Matthews correlation, for any number of classes (Gorodkin, 2004); 0 if rows or predictions have one class."""
    rows, predicted = (counts.sum(axis=axis, dtype=np.float64) for axis in (1, 0))
    total = rows.sum()
    covariance = counts.trace() * total - rows @ predicted
    spread = math.sqrt((total**2 - rows @ rows) * (total**2 - predicted @ predicted))
    return float(covariance / spread) if spread else 0.0


def _pearson(predicted: Sequence[float], actual: Sequence[float]) -> float:
    """The Pearson correlation metric of regression, by SciPy."""
    from scipy.stats import pearsonr

    return float(pearsonr(predicted, actual).statistic)


def _spearman(predicted: Sequence[float], actual: Sequence[float]) -> float:
    """The Spearman rank correlation metric of regression, by SciPy."""
    from scipy.stats import spearmanr

    return float(spearmanr(predicted, actual).statistic)


# name -> function of a confusion matrix in which every row has a column
_OF_LABELS: dict[str, Callable[[NDArray[np.int64]], float]] = {
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
    truths, guesses = (np.array([position[name] for name in texts], dtype=np.int64) for texts in (actual, predicted))
    counts = _counts(truths, guesses, len(label_names))
    return {name: _OF_LABELS[name](counts) for name in names}


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
    truths, guesses = _ids(predictions, label_names)
    counts = _counts(truths, guesses, len(label_names))
    rows, predicted = np.bincount(truths, minlength=len(label_names)), counts.sum(axis=0)
    right = counts.diagonal()
    columns = (rows, predicted, _ratio(right, predicted), _ratio(right, rows), _ratio(2 * right, rows + predicted))
    found = zip(label_names, *(column.tolist() for column in columns), strict=True)
    return [ClassScore(label, *scores) for label, *scores in found]


def confusion_matrix(predictions: Sequence[Prediction], label_names: Sequence[str]) -> NDArray[np.int64]:
    """Numbers of rows by true class (row) and predicted class (column), (classes, classes).

    A text that is no label has no column, so that the row of its class adds up to less than the class's rows.
    """
    return _counts(*_ids(predictions, label_names), len(label_names))


def majority_score(
    task: Task, metric: str, predictions: Sequence[Prediction], label_names: list[str]
) -> MajorityScore | None:
    """The class score of always predicting the commonest class; None if there is none."""
    label = Counter(str(answer.label) for answer in predictions).most_common(1)[0][0]
    value = task.score([replace(answer, prediction=label) for answer in predictions], label_names).get(metric)
    return None if value is None else MajorityScore(label, value)


def _counts(truths: NDArray[np.int64], guesses: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Numbers of rows by true and predicted class, (classes, classes); a row without a predicted class is left out."""
    counts = np.zeros((classes, classes), dtype=np.int64)
    given = guesses != _NO_CLASS
    np.add.at(counts, (truths[given], guesses[given]), 1)
    return counts


def _ratio(parts: NDArray[np.int64], wholes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Each part of its whole, (classes,); 0 where the whole is 0."""
    return np.divide(parts, wholes, out=np.zeros(len(parts)), where=wholes > 0)


def _ids(predictions: Sequence[Prediction], label_names: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The class ids of labels and of predictions, each (rows,)."""
    ids = {name: index for index, name in enumerate(label_names)}
    truths = [ids[str(answer.label)] for answer in predictions]
    guesses = [ids.get(str(answer.prediction), _NO_CLASS) for answer in predictions]
    return np.array(truths, dtype=np.int64), np.array(guesses, dtype=np.int64)
