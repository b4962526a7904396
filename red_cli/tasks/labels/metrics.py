"""Metrics of classification and regression, by scikit-learn and SciPy."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence


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
