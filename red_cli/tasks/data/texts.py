"""The texts of a split, of which few are in memory as Python strings: each takes several times its bytes there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import overload

import pyarrow as pa

from red_cli.errors import UserError, shown
from red_cli.recipe.template import fields
from red_cli.tasks.data.rows import CHUNK_ROWS, Rows


@dataclass(frozen=True)
class TextsOfRows(Sequence[str]):
    """Texts that are made from rows when they are read.

    Attributes:
        rows: the rows.
        make: rows -> their texts, one for each.
    """

    rows: Rows
    make: Callable[[Rows], list[str]]

    def __len__(self) -> int:
        return int(self.rows.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        places = range(len(self))[index]
        if isinstance(places, range):
            return self.make(self.rows.take(list(places)))
        return self.make(self.rows.slice(places, places + 1))[0]

    def __iter__(self) -> Iterator[str]:
        for chunk in self.rows.chunks():
            yield from self.make(chunk)


class ArrowTexts(Sequence[str]):
    """Texts in Arrow's memory, which may be a file's."""

    def __init__(self, chunks: Sequence[Sequence[str]] | Sequence[pa.Array]) -> None:
        self.array = pa.chunked_array([pa.array(chunk, pa.large_string()) for chunk in chunks], pa.large_string())

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        places = range(len(self))[index]
        return [self[place] for place in places] if isinstance(places, range) else str(self.array[places].as_py())

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), CHUNK_ROWS):
            yield from self.array.slice(start, CHUNK_ROWS).to_pylist()


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
    columns = {name: column_texts(rows, name) for name in fields(template)}
    parts: list[list[str]] = []
    for text, name, _, _ in Formatter().parse(template):
        parts += [[text] * rows.table.num_rows, *([] if name is None else [columns[name]])]
    return ["".join(values) for values in zip(*parts, strict=True)]
