"""The rows of a split, and the texts that its columns hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from string import Formatter
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from red_cli.errors import UserError, shown
from red_cli.recipe.template import fields

CHUNK_ROWS = 2000  # rows that are read at once: many enough for a tokenizer, and their texts take little memory


@dataclass(frozen=True)
class Rows:
    """The rows of one split.

    Attributes:
        table: the columns.
        source: the file or data set, for messages.
        label_names: names of the class ids, if the label column is stored as ids with names (Hub data sets).
        source_indices: (rows,), index of each row in the source, from 0; None if the split is all of its source.
        selection: the rule by which rows were selected, in words; None if the split is all of its source.
    """

    table: pa.Table
    source: str
    label_names: list[str] | None = None
    source_indices: NDArray[np.int64] | None = None
    selection: str | None = None

    def number(self, index: int) -> int:
        """The row's number in the source, from 1, for messages."""
        return 1 + (index if self.source_indices is None else int(self.source_indices[index]))

    def column(self, name: str) -> list[Any]:
        """A column's values.

        Raises:
            UserError: there is no such column.
        """
        if name not in self.table.column_names:
            raise UserError(
                "column-not-found",
                f"{self.source} has no column {shown(name)}",
                hint=f"It has: {', '.join(self.table.column_names)}. Map names with data.columns.",
            )
        return self.table.column(name).to_pylist()

    def chunks(self) -> Iterator[Rows]:
        """The rows in their order, some at a time, so that few of their values are in memory as Python objects."""
        for start in range(0, self.table.num_rows, CHUNK_ROWS):
            yield self.slice(start, start + CHUNK_ROWS)

    def slice(self, start: int, stop: int) -> Rows:
        """The rows `start:stop`; nothing is copied."""
        table = self.table.slice(start, max(stop - start, 0))
        if self.source_indices is None:
            source_indices = np.arange(start, start + table.num_rows, dtype=np.int64)
        else:
            source_indices = self.source_indices[start:stop]
        return replace(self, table=table, source_indices=source_indices)

    def take(self, indices: list[int], selection: str | None = None) -> Rows:
        """Some of the rows; `selection` is the rule by which they were selected, in words."""
        source_indices = np.array(indices, dtype=np.int64)
        if self.source_indices is not None:
            source_indices = self.source_indices[source_indices]
        return Rows(
            self.table.take(indices), self.source, self.label_names, source_indices, selection or self.selection
        )


@dataclass(frozen=True)
class Splits:
    """Some splits of a task's data.

    Attributes:
        rows: by the split's name.
        label_names: in the order of class ids; None if answers are numbers or texts.
    """

    rows: dict[str, Rows]
    label_names: list[str] | None = None


@dataclass(frozen=True)
class RowsUsed:
    """Which rows were used; `rows` says in words how to draw the same rows again."""

    split: str
    examples: int
    rows: str

    @classmethod
    def of(cls, split: str, rows: Rows) -> RowsUsed:
        return cls(split, rows.table.num_rows, rows.selection or f"all of {split}")


def column_texts(rows: Rows, name: str) -> list[str]:
    """A column's values as texts; numbers are converted.

    Raises:
        UserError: there is no such column, or a value is neither text nor number.
    """
    texts = []
    for row, value in enumerate(rows.column(name)):
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            what = "is null" if value is None else f"is {shown(value)}, not text"
            raise UserError("invalid-row", f"{rows.source}, row {rows.number(row)}: column {shown(name)} {what}")
        texts.append(str(value))
    return texts


def filled_texts(rows: Rows, template: str) -> list[str]:
    """The template, filled with the columns that it names; the same errors."""
    columns = {name: column_texts(rows, name) for name in fields(template)}
    parts: list[list[str]] = []
    for text, name, _, _ in Formatter().parse(template):
        parts += [[text] * rows.table.num_rows, *([] if name is None else [columns[name]])]
    return ["".join(values) for values in zip(*parts, strict=True)]


def first_blank(rows: Rows, names: list[str]) -> int | None:
    """The index of the first row in which all columns `names` are blank; None if there is no such row."""
    columns = [column_texts(rows, name) for name in names]
    blank = (row for row, values in enumerate(zip(*columns, strict=True)) if not "".join(values).strip())
    return next(blank, None)
