"""What a sequence is answered with: one of several labels, or a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from red_cli.errors import UserError
from red_cli.tasks.base import Prediction
from red_cli.tasks.data import Rows
from red_cli.tasks.metrics import classification_metrics, regression_metrics

_SHOWN_LABELS = 10


class Answers(Protocol):
    """How labels become tensors and logits become answers."""

    @property
    def names(self) -> list[str] | None:
        """Label names in the order of class ids; None for numbers."""

    def learn(self, rows: Rows, column: str) -> None:
        """Find out from the training split what is not known yet."""

    def encode(self, rows: Rows, column: str) -> NDArray[Any]:
        """The column's values as class ids (int64) or numbers (float32), (rows,)."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Sum over rows; logits (rows, outputs) float32."""

    def predict(self, logits: Tensor, labels: Sequence[Any] | None) -> list[Prediction]:
        """One answer for each row of logits."""

    def score(self, names: Sequence[str], predicted: list[Any], actual: list[Any]) -> dict[str, float]:
        """The named metrics."""


@dataclass
class Labels:
    """One of several named labels; the names are learnt from the training split where they are not given."""

    names: list[str] | None = None

    def learn(self, rows: Rows, column: str) -> None:
        if self.names is None:
            self.names = rows.label_names or _label_names(rows, column)

    def encode(self, rows: Rows, column: str) -> NDArray[np.int64]:
        """Class ids of the column's values, which are names or, where no value is a name, ids.

        Raises:
            UserError: a value is neither (the row is named).
        """
        assert self.names is not None
        values = rows.column(column)
        ids: dict[Any, int] = {name: index for index, name in enumerate(self.names)}
        if not any(_label_name(value) in ids for value in values):
            ids = {str(index): index for index in range(len(self.names))}
        found = []
        for row, value in enumerate(values, start=1):
            label = ids.get(_label_name(value))
            if label is None:
                shown = ", ".join(self.names[:_SHOWN_LABELS]) + (", …" if len(self.names) > _SHOWN_LABELS else "")
                raise UserError(
                    f"{rows.source}, row {row}: label {value!r} is not one of: {shown}",
                    hint="The labels are those of the training split, or of task.labels.",
                )
            found.append(label)
        return np.array(found, dtype=np.int64)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits, labels, reduction="sum")

    def predict(self, logits: Tensor, labels: Sequence[int] | None) -> list[Prediction]:
        assert self.names is not None
        probabilities, best = logits.softmax(-1).max(-1)
        truths = [None] * len(logits) if labels is None else [self.names[label] for label in labels]
        return [
            Prediction(self.names[guess], truth, probability)
            for guess, truth, probability in zip(best.tolist(), truths, probabilities.tolist(), strict=True)
        ]

    def score(self, names: Sequence[str], predicted: list[str], actual: list[str]) -> dict[str, float]:
        assert self.names is not None
        return classification_metrics(names, predicted, actual, self.names)


@dataclass
class Numbers:
    """A number."""

    @property
    def names(self) -> None:
        """Numbers have no names."""
        return None

    def learn(self, rows: Rows, column: str) -> None:
        """Nothing to learn."""

    def encode(self, rows: Rows, column: str) -> NDArray[np.float32]:
        values = rows.column(column)
        for row, value in enumerate(values, start=1):
            if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
                raise UserError(f"{rows.source}, row {row}: label {value!r} is not a number")
        return np.array(values, dtype=np.float32)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.mse_loss(logits.squeeze(-1), labels, reduction="sum")

    def predict(self, logits: Tensor, labels: Sequence[float] | None) -> list[Prediction]:
        truths = [None] * len(logits) if labels is None else labels
        return [Prediction(number, truth) for number, truth in zip(logits.squeeze(-1).tolist(), truths, strict=True)]

    def score(self, names: Sequence[str], predicted: list[float], actual: list[float]) -> dict[str, float]:
        return regression_metrics(names, predicted, actual)


def _label_names(rows: Rows, column: str) -> list[str]:
    """The distinct values of a label column: numbers in their order, then words in theirs."""
    values = set(rows.column(column)) - {None}
    fractions = [value for value in values if isinstance(value, float) and not value.is_integer()]
    total = rows.table.num_rows
    if fractions or (len(values) > _SHOWN_LABELS and len(values) > total / 2):
        example = fractions[0] if fractions else f"{len(values)} different values in {total} rows"
        raise UserError(
            f"{rows.source}: column {column!r} does not look like labels: {example}",
            hint="Name the label's column with data.columns.label, or use  task: {name: regression}",
        )
    if len(values) < 2:
        raise UserError(f"{rows.source}: column {column!r} has fewer than two labels: {values or 'none'}")
    return [_label_name(value) for value in sorted(values, key=lambda value: (isinstance(value, str), value))]


def _label_name(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
