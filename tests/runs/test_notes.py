"""Each note appears for the facts that it is on, and not for those next to them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from red_cli.runs.metrics_file import merged_metrics
from red_cli.runs.result_notes import FEW_ROWS, Facts, SplitFacts, correlation_interval, notes_on, share_interval

GOOD = SplitFacts("validation", 1000, value=0.9, predicted={"a": 500, "b": 500}, majority=("a", 0.6),
                  share=("accuracy", 0.9))  # fmt: skip
TRAIN = SplitFacts("train", 3000)
RUN = Facts("accuracy", 64, [GOOD], TRAIN, evaluations=[0.7, 0.92, 0.9], untuned=0.5)
WRITTEN = SplitFacts("test", 300, answers=300)


def split(**changes: object) -> Facts:
    return replace(RUN, splits=[replace(GOOD, **changes)])


def run(metric: str = "accuracy", **changes: object) -> Facts:
    return replace(RUN, metric=metric, **changes)


# code, facts with the note, what its text names, facts without it
NOTES = [
    ("never-predicted", split(predicted={"a": 999, "b": 1, "c": 0, "d": 0}), ["2 of 4", "c, d"],
     split(predicted={"a": 999, "b": 1})),
    ("majority-class", split(value=0.6), ["validation", "'a'"], split(value=0.61)),
    ("majority-class", split(value=0.5), ["'a'"], split(value=0.5, majority=None)),
    ("few-rows", split(rows=40, share=("accuracy", 0.5)), ["40 rows", "35.20 to 64.80", "29.60 wide"],
     split(rows=FEW_ROWS)),
    ("few-rows", replace(RUN, splits=[SplitFacts("test", 100, value=2.0, spread=1.0)], metric="loss"), ["0.1960"],
     replace(RUN, splits=[SplitFacts("test", 200, value=2.0, spread=1.0)], metric="loss")),
    ("few-rows", replace(RUN, splits=[SplitFacts("test", 50, value=0.8)], metric="pearson"), ["67.11 to 88.20"],
     replace(RUN, splits=[SplitFacts("test", 500, value=0.8)], metric="pearson")),
    ("empty-answers", replace(RUN, splits=[replace(WRITTEN, empty=3)]), ["3 of 300"], replace(RUN, splits=[WRITTEN])),
    ("rows-cut", split(truncated=7), ["7 of 1,000", "64 tokens", "validation"], RUN),
    ("rows-cut", run(train=replace(TRAIN, truncated=2, ends_cut=1)), ["2 of 3,000", "1 of them", "train"],
     run(train=None)),
    ("still-improving", run(evaluations=[0.7, 0.8, 0.9]), ["80.00 to 90.00"], run(evaluations=[0.7, 0.9, 0.9])),
    ("still-improving", run("loss", evaluations=[2.0, 1.5], untuned=3.0), ["2.0000 to 1.5000"],
     run("loss", evaluations=[2.0, 1.0, 0.99], untuned=3.0)),  # the last gain is a ripple
    ("still-improving", run(evaluations=[0.7, 0.9], untuned=None), [], run(evaluations=[0.9])),
    ("still-improving", run(evaluations=[0.9, 0.95]), [], run(evaluations=[0.9, 1.0])),  # nothing is left to gain
    ("rate-not-searched", run(unsearched="The rate is a guess"), ["The rate is a guess"], run(unsearched=None)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("code", "with_it", "facts", "without"), NOTES, ids=[f"{row[0]}-{n}" for n, row in enumerate(NOTES)]
)
def test_a_note_is_there_or_not(code: str, with_it: Facts, facts: list[str], without: Facts) -> None:
    [note] = [note for note in notes_on(with_it) if note.code == code]
    for fact in facts:
        assert fact in note.text
    assert code not in [note.code for note in notes_on(without)]


def test_a_good_run_has_no_notes() -> None:
    assert not notes_on(RUN)


def test_the_interval_is_that_of_wilson() -> None:
    """Figures of R: prop.test(x, n, correct = FALSE)."""
    assert share_interval(0.8, 10) == pytest.approx((0.4901625, 0.9433178), abs=2e-5)
    assert share_interval(1.0, 20) == pytest.approx((0.8388, 1.0), abs=1e-4)
    assert share_interval(0.0, 20)[0] == 0


def test_the_interval_of_a_correlation_is_that_of_fisher() -> None:
    """Figures of scipy: pearsonr(…).confidence_interval()."""
    import numpy as np
    from scipy.stats import pearsonr

    x = np.arange(12.0)
    y = x + 4 * np.sin(x)
    found = pearsonr(x, y)
    theirs = found.confidence_interval()
    assert correlation_interval(float(found.statistic), 12) == pytest.approx((theirs.low, theirs.high), abs=1e-4)


def test_an_evaluation_replaces_the_notes_and_errors_of_its_split_alone() -> None:
    there = {
        "splits": {"validation": {"examples": 9}},
        "errors": {"validation": [1]},
        "notes": [{"code": "a", "text": "", "split": "validation"}, {"code": "b", "text": ""}],
        "training": {},
    }
    changes = {
        "splits": {"test": {"examples": 3}},
        "errors": {"test": [2]},
        "notes": [{"code": "c", "text": "", "split": "test"}],
    }
    merged = merged_metrics(there, changes)
    assert sorted(note["code"] for note in merged["notes"]) == ["a", "b", "c"]
    assert (merged["errors"], list(merged["splits"])) == ({"validation": [1], "test": [2]}, ["validation", "test"])
    again = merged_metrics(merged, {**changes, "notes": []})
    assert sorted(note["code"] for note in again["notes"]) == ["a", "b"]
    other = merged_metrics(merged, {"splits": {"test": {"examples": 3}}, "mistakes": {"test": [3]}})
    assert (other["errors"], other["mistakes"]) == ({"validation": [1]}, {"test": [3]})
