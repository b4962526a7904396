"""Validation rows drawn from the training rows: by class where there are classes, else from all alike."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pyarrow as pa
from hypothesis import assume, given
from hypothesis import strategies as st

from red_cli.recipe.sections import Data
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.data.splits import split_validation
from tests.failures import fails


def split(classes: list | None, share: float, seed: int = 1, total: int = 0) -> tuple[list[int], list[int]]:
    """The indices that stay for training, and those of the validation rows."""
    count = total or len(classes or ())
    rows = {"train": Rows(pa.table({"row": list(range(count))}), "train.csv")}
    made = split_validation(rows, Data(validation_share=share), seed, classes)
    return made["train"].column("row"), made["validation"].column("row")


@given(st.lists(st.sampled_from("abc"), min_size=4, max_size=60), st.floats(0.05, 0.95), st.integers(0, 5))
def test_every_class_gives_its_share(classes: list[str], share: float, seed: int) -> None:
    counts = Counter(classes)
    assume(any(count * share >= 1 and count > 1 for count in counts.values()))
    train, validation = split(classes, share, seed)
    assert sorted(train + validation) == list(range(len(classes)))
    assert train == sorted(train)
    drawn = Counter(classes[index] for index in validation)
    for name, count in counts.items():
        assert drawn[name] <= max(count - 1, 0)  # some of each class is left to train on
        assert abs(min(count * share, count - 1) - drawn[name]) <= 1
    assert split(classes, share, seed) == (train, validation)


def test_rare_classes_are_in_both_parts() -> None:
    classes = ["common"] * 90 + ["rare"] * 10
    for seed in range(20):
        train, validation = split(classes, 0.1, seed)
        assert Counter(classes[index] for index in validation) == {"common": 9, "rare": 1}
        assert len(train) == 90
    assert len({tuple(split(classes, 0.1, seed)[1]) for seed in range(5)}) == 5


def test_rows_without_classes_are_drawn_alike() -> None:
    expected = sorted(np.random.default_rng(3).permutation(20)[:5].tolist())
    assert split(None, 0.25, 3, total=20)[1] == expected


def test_too_few_rows() -> None:
    with fails("too-few-rows", "train.csv", "3 rows"):
        split(["a", "a", "b"], 0.1)
    with fails("too-few-rows", "train.csv"):
        split(["a", "b"], 0.5)  # each is the only row of its class
