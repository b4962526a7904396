"""Prediction targets: one of several labels, or a number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from red_cli.errors import UserError, one_line, shown
from red_cli.tasks.base import Prediction
from red_cli.tasks.data.bad_rows import Fault, without_bad_rows
from red_cli.tasks.data.rows import Rows
from red_cli.tasks.labels.classes import is_blank, is_hidden, nearly
from red_cli.tasks.labels.metrics import classification_metrics, regression_metrics

_SHOWN_LABELS = 10
EMPTY_LABEL = "an empty label"


class Target(Protocol):
    """How labels become tensors and logits become predictions."""

    @property
    def names(self) -> list[str] | None:
        """Label names in the order of class ids; None for numbers."""

    @property
    def needs_fit(self) -> bool:
        """Whether label names have to be found in the training split."""

    def fit(self, rows: Rows, column: str) -> Target:
        """A copy with the label names of the training split, if they are needed."""

    def named(self, names: list[str] | None) -> Target:
        """The same with these label names."""

    def faults(self, rows: Rows, column: str) -> dict[int, Fault]:
        """The rows whose label is empty or cannot be used: index -> fault."""

    def encode(self, rows: Rows, column: str) -> NDArray[Any]:
        """The column's values as class ids (int64) or numbers (float32), (rows,)."""

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Sum over rows; logits (rows, outputs) float32."""

    def predict(self, logits: Tensor, labels: Sequence[Any] | None) -> list[Prediction]:
        """One prediction for each row of logits."""

    def score(self, names: Sequence[str], predicted: list[Any], actual: list[Any]) -> dict[str, float]:
        """The named metrics."""


@dataclass(frozen=True)
class LabelTarget:
    """One of several named labels.

    Attributes:
        names: in the order of class ids; found in the training split if None.
        given: whether the names come from the task or the user, not from the data; the data may then hold class ids
            instead of names.
    """

    names: list[str] | None = None
    given: bool = False

    @property
    def needs_fit(self) -> bool:
        """Whether the names are unknown."""
        return self.names is None

    def fit(self, rows: Rows, column: str) -> LabelTarget:
        """A copy with the names of the training split, stored with the column or found in it, if names are unknown."""
        return self.named(rows.label_names or _label_names(rows, column)) if self.needs_fit else self

    def named(self, names: list[str] | None) -> LabelTarget:
        """The same with these label names."""
        return replace(self, names=names)

    def encode(self, rows: Rows, column: str) -> NDArray[np.int64]:
        """Class ids of the column's values.

        Raises:
            UserError: a value is not a label.
        """
        without_bad_rows(rows, column, self.faults(rows, column), "refuse")
        assert self.names is not None
        ids = {name: index for index, name in enumerate(self.names)}
        known: dict[Any, int | None] = {}
        for value in set(values := rows.column(column)):
            known[value] = self._label_id(value, ids, rows.label_names)
        return np.array([known[value] for value in values], dtype=np.int64)

    def faults(self, rows: Rows, column: str) -> dict[int, Fault]:
        """The rows whose label is empty or not one of the names: index -> fault."""
        keys = [_key(value) for value in rows.column(column)]
        judged = {key: self._fault(key, rows.label_names) for key in set(keys)}
        if not any(judged.values()):
            return {}
        return {index: fault for index, key in enumerate(keys) if (fault := judged[key]) is not None}

    def _fault(self, value: Any, stored_names: list[str] | None) -> Fault | None:
        assert self.names is not None
        if is_blank(value):
            return Fault(EMPTY_LABEL, f"label {shown(value)} is empty", code="invalid-label")
        if self._label_id(value, {name: index for index, name in enumerate(self.names)}, stored_names) is not None:
            return None
        names = [one_line(name) for name in self.names[:_SHOWN_LABELS]]
        listed = ", ".join(names) + (", …" if len(self.names) > _SHOWN_LABELS else "")
        near = next((name for name in self.names if nearly(name) == nearly(str(value))), None)
        meant = "" if near is None else f"Did you mean {shown(near)}? "
        return Fault(
            "a label that is not one of the classes",
            f"label {shown(value)} is not one of: {listed}",
            f"{meant}The labels are those of the training split, or of task.labels.",
            "invalid-label",
        )

    def _label_id(self, value: Any, ids: dict[str, int], stored_names: list[str] | None) -> int | None:
        if stored_names is not None and isinstance(value, int) and 0 <= value < len(stored_names):
            if stored_names[value] in ids:
                return ids[stored_names[value]]
            return value if self.given and len(stored_names) == len(ids) else None
        if str(value) in ids or _label_name(value) in ids:
            return ids.get(str(value), ids.get(_label_name(value)))
        by_id = self.given and _label_name(value).isdecimal() and int(_label_name(value)) < len(ids)
        return int(_label_name(value)) if by_id else None

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


@dataclass(frozen=True)
class RegressionTarget:
    """A number, which has no names and needs no fit."""

    @property
    def names(self) -> None:
        """Numbers have no names."""
        return None

    @property
    def needs_fit(self) -> bool:
        """Numbers are known."""
        return False

    def fit(self, rows: Rows, column: str) -> RegressionTarget:
        """Numbers are known."""
        return self

    def named(self, names: list[str] | None) -> RegressionTarget:
        """Numbers have no names."""
        return self

    def encode(self, rows: Rows, column: str) -> NDArray[np.float32]:
        without_bad_rows(rows, column, self.faults(rows, column), "refuse")
        return np.array([_number(value) for value in rows.column(column)], dtype=np.float32)

    def faults(self, rows: Rows, column: str) -> dict[int, Fault]:
        """The rows whose label is empty or not a number: index -> fault."""
        return {
            index: Fault(
                EMPTY_LABEL if is_blank(value) else "a label that is not a number",
                f"label {shown(value)} is not a number",
                code="invalid-label",
            )
            for index, value in enumerate(rows.column(column))
            if _number(value) is None
        }

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return functional.mse_loss(logits.squeeze(-1), labels, reduction="sum")

    def predict(self, logits: Tensor, labels: Sequence[float] | None) -> list[Prediction]:
        truths = [None] * len(logits) if labels is None else labels
        return [Prediction(number, truth) for number, truth in zip(logits.squeeze(-1).tolist(), truths, strict=True)]

    def score(self, names: Sequence[str], predicted: list[float], actual: list[float]) -> dict[str, float]:
        return regression_metrics(names, predicted, actual)


def _key(value: Any) -> Any:
    """The value, or its text if it cannot be a key of a dictionary."""
    return str(value) if isinstance(value, list | dict) else value


def _number(value: Any) -> float | None:
    """The finite number that a label is; None if it is none."""
    try:
        number = float("nan") if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _label_names(rows: Rows, column: str) -> list[str]:
    """The distinct values of a label column, numbers first, each kind in order."""
    listed = rows.column(column)
    for row, value in enumerate(listed):
        if not isinstance(value, str | int | float | None):
            raise UserError("invalid-label", f"{rows.place(row)}: label {shown(value)} is neither a word nor a number")
    values = {value for value in listed if not is_blank(value)}
    fractions = [value for value in values if isinstance(value, float) and not value.is_integer()]
    total = rows.table.num_rows
    if fractions or (len(values) > _SHOWN_LABELS and len(values) > total / 2):
        example = fractions[0] if fractions else f"{len(values)} different values in {total} rows"
        raise UserError(
            "invalid-label",
            f"{rows.source}: column {shown(column)} does not look like labels: {example}",
            hint="Set data.columns.label to the label column, or list the labels in task.labels; for numbers use"
            "  task={name: regression}",
        )
    if len(values) < 2:
        raise UserError(
            "invalid-label", f"{rows.source}: column {shown(column)} has fewer than two labels: {values or 'none'}"
        )
    return [_label_name(value) for value in sorted(values, key=_numbers_first)]


def _numbers_first(value: Any) -> tuple[bool, float, str]:
    """Sort key of label targets: numbers by size, also if written as text; then words."""
    text = str(value)
    is_number = not isinstance(value, str) or text.lstrip("+-").isdecimal()
    return (not is_number, float(value) if is_number else 0.0, text)


def _label_name(value: Any) -> str:
    """The name of a label value for a target: whole floats without decimals, booleans in lower case."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def has_targets(rows: Rows, column: str, names: list[str] | None) -> bool:
    """Whether rows have targets that are not hidden: null, empty, or -1 as in the Hub's GLUE."""
    if column not in rows.table.column_names:
        return False
    return not all(is_hidden(value, names) for part in rows.chunks() for value in part.column(column))
