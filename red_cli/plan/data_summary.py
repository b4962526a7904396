"""What a plan's rows look like: doubled and blank ones, the numbers to predict, and some as the model sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np

from red_cli.plan.prepare import Prepared
from red_cli.tasks.base import Encoded
from red_cli.tasks.text.encoded_texts import EncodedTexts

_SHOWN_NUMBERS = 3  # rows of a regression that are shown


@dataclass(frozen=True)
class Lengths:
    """The summary of a split's data by length: tokens per row."""

    rows: int
    shortest: int
    median: int
    percentile_95: int
    longest: int
    truncated: int
    ends_cut: int
    left_out: dict[str, int]  # reason -> number of rows that are skipped

    @classmethod
    def of(cls, encoded: Encoded, left_out: Mapping[str, int]) -> Lengths:
        lengths = encoded.lengths
        middle, high = np.percentile(lengths, [50, 95])
        return cls(len(encoded), int(lengths.min()), int(middle), int(high), int(lengths.max()),
                   encoded.truncated, encoded.ends_cut, {**left_out, **encoded.left_out})  # fmt: skip


@dataclass(frozen=True)
class Example:
    """A row in the summary of the data, as the model sees it.

    Attributes:
        masked: the number of tokens before the first that counts towards the loss.
        learnt: the loss mask; its name is the key of `red check --json`.
    """

    tokens: list[str]
    masked: int
    label: str | float | None
    learnt: list[bool]


@dataclass(frozen=True)
class ShownRow:
    """A row of the data summary of `red check`, as the model sees it.

    Attributes:
        label: of a label task; None if the answer is part of the text.
        spans: consecutive texts, each with whether its tokens count towards the loss.
    """

    label: str | float | None
    spans: tuple[tuple[bool, str], ...]

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(text for _, text in self.spans)


@dataclass(frozen=True)
class DataSummary:
    """What the rows of a plan look like; rows are equal if their tokens are.

    Attributes:
        doubled: split -> rows that are equal to an earlier row of the split.
        also_in_train: other split -> rows that are in the training split as well.
        contradictory: training rows that are equal to one with another label.
        blank: split -> rows without any text.
        numbers: least, mean and greatest number to predict; empty for other tasks.
        rows: one row of each class, or some rows.
    """

    doubled: dict[str, int]
    also_in_train: dict[str, int]
    contradictory: int
    blank: dict[str, int]
    numbers: tuple[float, ...]
    rows: tuple[ShownRow, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def summarise_data(prepared: Prepared) -> DataSummary:
    """What the training and validation rows of a run look like."""
    keys = {split: _keys(encoded) for split, encoded in prepared.encoded.items()}
    known = set(keys["train"])
    train = prepared.encoded["train"]
    of_labels = not isinstance(train, EncodedTexts) and train.labels is not None
    is_numeric = of_labels and prepared.label_names is None
    return DataSummary(
        doubled={split: len(found) - len(set(found)) for split, found in keys.items()},
        also_in_train={split: sum(key in known for key in found) for split, found in keys.items() if split != "train"},
        contradictory=_contradictory(keys["train"], train.labels) if of_labels and not is_numeric else 0,
        blank={split: _blank(prepared, encoded) for split, encoded in prepared.encoded.items()},
        numbers=_range(train) if is_numeric else (),
        rows=tuple(_shown(prepared, index) for index in _shown_rows(train, of_labels, prepared.label_names)),
    )


def _keys(encoded: Encoded) -> list[int]:
    """A key of each row, the same for rows of the same tokens."""
    return [hash(encoded.row(index).tobytes()) for index in range(len(encoded))]


def _contradictory(keys: Sequence[int], labels: Any) -> int:
    """The number of rows that are equal to one with another label."""
    seen: dict[int, set[int]] = {}
    for key, label in zip(keys, labels.tolist(), strict=True):
        seen.setdefault(key, set()).add(label)
    return sum(len(seen[key]) > 1 for key in keys)


def _blank(prepared: Prepared, encoded: Encoded) -> int:
    """The number of rows that have no token but special ones; an unknown token stands for some text."""
    tokenizer = prepared.base.tokenizer
    special = [token for token in tokenizer.all_special_ids if token != tokenizer.unk_token_id]
    is_text = ~np.isin(encoded.features["input_ids"], special)
    sums = np.concatenate([[0], np.cumsum(is_text)])
    return int((sums[encoded.offsets[1:]] == sums[encoded.offsets[:-1]]).sum())


def _range(encoded: Encoded) -> tuple[float, ...]:
    """The least, the mean and the greatest number to predict."""
    assert encoded.labels is not None
    return float(encoded.labels.min()), float(encoded.labels.mean()), float(encoded.labels.max())


def _shown_rows(train: Encoded, of_labels: bool, names: Sequence[str] | None) -> list[int]:
    """Indices of the training rows to show: the first of each class, else the first ones."""
    if not of_labels:
        return [0]
    if names is None:
        return list(range(min(_SHOWN_NUMBERS, len(train))))
    assert train.labels is not None
    _, first = np.unique(train.labels, return_index=True)
    return [int(index) for index in first]


def _shown(prepared: Prepared, index: int) -> ShownRow:
    """A training row as text, in spans that count towards the loss and spans that do not."""
    row = prepared.encoder.show(prepared.encoded["train"], index)
    mask = row.loss_mask or [place >= row.masked for place in range(len(row.ids))]
    spans = [
        (counts, prepared.base.tokenizer.decode([token for _, token in part], clean_up_tokenization_spaces=False))
        for counts, part in groupby(zip(mask, row.ids, strict=True), key=itemgetter(0))
    ]
    return ShownRow(row.label, tuple(spans))
