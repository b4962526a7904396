"""The texts of a split, of which few are in memory as Python strings: each takes several times its bytes there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import overload

import numpy as np
from numpy.typing import NDArray

from red_cli.errors import UserError, shown
from red_cli.recipe.template import template_fields
from red_cli.tasks.data.rows import Rows

TextMaker = Callable[[Rows, NDArray[np.int32]], list[str]]  # rows, which example of its row each text is -> texts


@dataclass(frozen=True)
class TextsOfRows(Sequence[str]):
    """Texts that are made from rows when they are read.

    Attributes:
        rows: the rows, one for each text; a row of several examples is repeated.
        make: makes the texts.
        numbers: (rows,), which example of its row each text is, from 0; None: each row has one.
    """

    rows: Rows
    make: TextMaker
    numbers: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return int(self.rows.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        places = range(len(self))[index]
        if isinstance(places, range):
            return self.make(self.rows.take(list(places)), self._numbers[places])
        return self.make(self.rows.slice(places, places + 1), self._numbers[places : places + 1])[0]

    def __iter__(self) -> Iterator[str]:
        start = 0
        for chunk in self.rows.chunks():
            end = start + chunk.table.num_rows
            yield from self.make(chunk, self._numbers[start:end])
            start = end

    @property
    def _numbers(self) -> NDArray[np.int32]:
        return np.zeros(len(self), np.int32) if self.numbers is None else self.numbers


def column_texts(rows: Rows, name: str) -> list[str]:
    """A column's values as texts; numbers are converted.

    Raises:
        UserError: there is no such column, or a value is neither text nor number.
    """
    texts = []
    for row, value in enumerate(rows.column(name)):
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            what = "is null" if value is None else f"is {shown(value)}, not text"
            raise UserError("invalid-row", f"{rows.place(row)}: column {shown(name)} {what}")
        texts.append(str(value))
    return texts


def filled_texts(rows: Rows, template: str) -> list[str]:
    """The template, filled with the columns that it names; the same errors."""
    columns = {name: column_texts(rows, name) for name in template_fields(template)}
    parts: list[list[str]] = []
    for text, name, _, _ in Formatter().parse(template):
        parts += [[text] * rows.table.num_rows, *([] if name is None else [columns[name]])]
    return ["".join(values) for values in zip(*parts, strict=True)]
