"""The rows of a split, and the texts that its columns hold."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from red_cli.errors import UserError, shown
from red_cli.tasks.data.arrow_columns import first_broken, first_kept_as_json, is_doubled, is_json, values_of

_SHOWN_ROWS = 5
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
        files: the files of a source that has several: the index of the first row in the source, and the file's path.
        left_out: reason -> number of rows that cannot be used and were left out.
        notes: what was guessed in reading, for the user.
    """

    table: pa.Table
    source: str
    label_names: list[str] | None = None
    source_indices: NDArray[np.int64] | None = None
    selection: str | None = None
    files: tuple[tuple[int, str], ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def number(self, index: int) -> int:
        """The row's number in its file, from 1, for messages."""
        return 1 + self._source_index(index) - self._file(index)[0]

    def place(self, index: int) -> str:
        """The row's file and its number there, for messages: "train.csv, row 7"."""
        return f"{self._file(index)[1]}, row {self.number(index)}"

    def numbers(self, indices: Iterable[int]) -> str:
        """The rows' numbers, for messages; with the name of the file where a source has several."""
        if not self.files:
            return ", ".join(str(self.number(index)) for index in indices)
        return ", ".join(f"{self.number(index)} of {Path(self._file(index)[1]).name}" for index in indices)

    def first_numbers(self, indices: Sequence[int]) -> str:
        """The numbers of the first of these rows, for messages: "row 7", "rows 1, 2, 3, 4, 5, …"."""
        more = ", …" if len(indices) > _SHOWN_ROWS else ""
        return f"row{'s' if len(indices) > 1 else ''} {self.numbers(indices[:_SHOWN_ROWS])}{more}"

    def _source_index(self, index: int) -> int:
        return index if self.source_indices is None else int(self.source_indices[index])

    def _file(self, index: int) -> tuple[int, str]:
        """The row's file: the index of its first row in the source, and its path."""
        starts = [start for start, _ in self.files]
        return self.files[bisect_right(starts, self._source_index(index)) - 1] if self.files else (0, self.source)

    def column(self, name: str) -> list[Any]:
        """A column's values.

        Raises:
            UserError: there is no such column, or several; or it has texts as well as numbers.
        """
        there = self.table.column_names
        if name not in there:
            raise column_not_found(self.source, name, there)
        stored = self.table.field(name)
        if is_doubled(stored):
            raise UserError(
                "file-damaged", f"{self.source} has two columns named {shown(name)}", hint="Rename one of them."
            )
        column = self.table.column(name)
        if (broken := first_broken(column, stored)) is not None:
            raise UserError(
                "invalid-row", f"{self.place(broken)}: column {shown(name)} has half of a surrogate pair (\\ud83d…)"
            )
        values = values_of(column, stored)
        if is_json(stored) and (other := first_kept_as_json(values)) is not None:
            first = next(index for index, value in enumerate(values) if value is not None)
            raise UserError(
                "invalid-row",
                f"{self.place(other)}: column {shown(name)} is {shown(values[other])}, but {shown(values[first])} in "
                f"row {self.number(first)}",
                hint="Give all values of the column one type: text in quotation marks, or numbers.",
            )
        return values

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
        places = source_indices = np.array(indices, dtype=np.int64)  # typed, also without any
        if self.source_indices is not None:
            source_indices = self.source_indices[places]
        return replace(
            self,
            table=self.table.take(places),
            source_indices=source_indices,
            selection=selection or self.selection,
        )


@dataclass(frozen=True)
class RowsUsed:
    """Which rows were used; `rows` says in words how to draw the same rows again."""

    split: str
    examples: int
    rows: str

    @classmethod
    def of(cls, split: str, rows: Rows) -> RowsUsed:
        return cls(split, rows.table.num_rows, rows.selection or f"all of {split}")


def plain_column_name(name: str) -> str:
    """The name of a column of rows without case, with an underscore for everything but letters and digits."""
    return re.sub(r"[\W_]+", "_", name.casefold()).strip("_")


def column_not_found(source: str, name: str, there: Sequence[str]) -> UserError:
    """The error for a column that a source does not have; it lists those that are there."""
    near = [other for other in there if plain_column_name(other) == plain_column_name(name)]
    meant = f"Did you mean {shown(near[0])}? " if near else ""
    return UserError(
        "column-not-found",
        f"{source} has no column {shown(name)}",
        hint=f"{meant}It has: {', '.join(there)}. Map names with data.columns.",
    )
