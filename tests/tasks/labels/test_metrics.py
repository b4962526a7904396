"""Metrics that are computed without scikit-learn are scikit-learn's, to the last bit."""

from __future__ import annotations

import warnings

from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from red_cli.tasks.labels.metrics import classification_metrics

IDS = st.integers(2, 5).flatmap(
    lambda labels: st.tuples(
        st.just(labels),
        st.lists(st.tuples(st.integers(0, labels - 1), st.integers(0, labels - 1)), min_size=1, max_size=40),
    )
)


@settings(max_examples=40)
@given(IDS)
def test_metrics_are_those_of_scikit_learn(found: tuple[int, list[tuple[int, int]]]) -> None:
    labels, rows = found
    names = [f"label {index}" for index in range(labels)]
    truths, guesses = map(list, zip(*rows, strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        macro = f1_score(truths, guesses, average="macro", zero_division=0)
        correlation = matthews_corrcoef(truths, guesses)
        binary = f1_score(truths, guesses, labels=[1], average="macro", zero_division=0)
    predicted, actual = [names[guess] for guess in guesses], [names[truth] for truth in truths]
    assert classification_metrics(["accuracy", "f1", "macro_f1", "matthews_correlation"], predicted, actual, names) == {
        "accuracy": accuracy_score(truths, guesses),
        "f1": binary if labels == 2 else macro,
        "macro_f1": macro,
        "matthews_correlation": correlation,
    }
